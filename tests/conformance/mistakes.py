"""Section `response`: what no application can break, whatever it does wrong."""

from __future__ import annotations

from tests.conformance.exchanges import (
    body,
    closed_or_failed,
    cut_short,
    discreet,
    either,
    failed,
    in_step,
    lacks,
    refuses_or,
    status,
    told,
    values,
    without,
)
from tests.conformance.responses import BUFFERING, HELLO, START, case

HANDLING = "PEP 3333, Error Handling"
FIELDS = "PEP 3333, Other HTTP Features"

CASES = [
    *(
        case(f"response-value-{name}", START, sentence, f"value-{number}", refuses_or())
        for number, (name, sentence) in enumerate(
            {
                "crlf": "CR LF in a value injects no field.",
                "lf": "LF in a value injects no field.",
                "cr": "CR in a value injects no field.",
                "nul": "NUL in a value does not reach the client.",
                "crlf-twice": "CR LF CR LF in a value injects no content.",
            }.items()
        )
    ),
    *(
        case(f"response-name-{name}", START, sentence, f"name-{number}", refuses_or())
        for number, (name, sentence) in enumerate(
            {
                "crlf": "CR LF in a name injects no field.",
                "colon": "A colon in a name does not reach the client.",
                "space": "A space in a name does not reach the client.",
                "empty": "An empty name does not reach the client.",
                "latin1": "A letter above ASCII in a name does not reach the client.",
            }.items()
        )
    ),
    *(
        case(f"response-status-{name}", START, sentence, f"status-{number}", refuses_or())
        for number, (name, sentence) in enumerate(
            {
                "crlf": "CR LF in the status injects no field.",
                "letter": "A letter in the code makes no malformed status line.",
                "four-digits": "A code of four digits makes no malformed status line.",
                "without-reason": "A code without a reason makes no malformed status line.",
                "int": "A number as status is an error, or well-formed.",
                "bytes": "Bytes as status are an error, or well-formed.",
                "empty": "An empty status makes no malformed status line.",
                "word": "A word as status makes no malformed status line.",
            }.items()
        )
    ),
    *(
        case(
            f"response-interim-{code}",
            "RFC 9110 §15.2",
            f"{code} as the final status is an error of the application.",
            f"interim-{code}",
            failed,
        )
        for code in (100, 101, 103)
    ),
    *(
        case(f"response-length-{name}", "RFC 9110 §8.6", sentence, f"length-{number}", refuses_or())
        for number, (name, sentence) in enumerate(
            {
                "letters": "A length of letters is not sent.",
                "negative": "A negative length is not sent.",
                "plus": "A length with a sign is not sent.",
                "underscore": "A length with an underscore is not sent.",
                "blank": "A blank length is not sent.",
                "twice": "Two different lengths are not sent.",
            }.items()
        )
    ),
    *(
        case(
            f"response-hop-{name.lower()}",
            FIELDS,
            f"{name} of the application's is refused or left out.",
            f"hop-{name.lower()}",
            refuses_or(without(name, value)),
            promise=True,
        )
        for name, value in {
            "Connection": "x-odd",
            "Keep-Alive": "timeout=99",
            "Upgrade": "x-odd",
            "TE": "trailers",
            "Trailer": "X-T",
            "Proxy-Authenticate": "Basic",
            "Proxy-Connection": "x-odd",
        }.items()
    ),
    case(
        "response-hop-transfer-encoding",
        FIELDS,
        "Content that the application has chunked is never chunked again beside that.",
        "hop-transfer-encoding",
        either([failed], [in_step]),
    ),
    case(
        "response-hop-transfer-encoding-gzip",
        FIELDS,
        "A transfer coding of the application's never leaves beside a length.",
        "hop-transfer-encoding-gzip",
        either([failed], [in_step]),
    ),
    case(
        "response-headers-tuple-of-three",
        START,
        "A header that is no pair does no harm.",
        "headers-tuple-of-three",
        failed,
        promise=True,
    ),
    case(
        "response-header-value-int",
        START,
        "A value that is a number is an error, or well-formed.",
        "header-value-int",
        refuses_or(),
    ),
    case(
        "response-header-value-bytes",
        START,
        "A value that is bytes is an error, or well-formed.",
        "header-value-bytes",
        refuses_or(),
    ),
    # Errors.
    case(
        "response-raises-before",
        HANDLING,
        "An error before start_response is a 500 without details.",
        "raises-before",
        failed,
    ),
    case(
        "response-raises-after-start",
        HANDLING,
        "An error after start_response is a 500.",
        "raises-after-start",
        failed,
        lacks("X-Early"),
    ),
    case(
        "response-raises-first",
        HANDLING,
        "An error in the first step of the iterable is a 500.",
        "raises-first",
        failed,
    ),
    case(
        "response-raises-after-empty", HANDLING, "An error behind an empty item is a 500.", "raises-after-empty", failed
    ),
    case(
        "response-raises-midway",
        HANDLING,
        "An error midway breaks the response off visibly.",
        "raises-midway",
        cut_short,
        discreet,
    ),
    case(
        "response-raises-midway-length",
        HANDLING,
        "An error midway leaves the content short of its length.",
        "raises-midway-length",
        cut_short,
        discreet,
    ),
    case("response-no-start", START, "An application that never calls start_response fails.", "no-start", failed),
    case(
        "response-start-twice",
        START,
        "start_response without exc_info cannot be called twice.",
        "start-twice",
        either([body(b"raised"), in_step], [failed]),
    ),
    case(
        "response-start-late",
        START,
        "start_response may be called within the first step.",
        "start-late",
        *HELLO,
        values("X-Late", "1"),
    ),
    case(
        "response-replaced",
        START,
        "exc_info replaces what was not sent yet.",
        "replaces",
        status(503),
        body(b"sorry"),
        values("X-New", "1"),
        lacks("X-Old"),
        in_step,
    ),
    case(
        "response-replaced-after-empty",
        BUFFERING,
        "Empty items send no head, so it can still be replaced.",
        "replaces-after-empty",
        status(503),
        body(b"sorry"),
        lacks("X-Old"),
        in_step,
    ),
    case(
        "response-replaced-too-late",
        START,
        "exc_info that comes too late raises the error again, and the response breaks off.",
        "replaces-too-late",
        told("raised again"),
        cut_short,
    ),
    *(
        case(
            f"response-raises-{name.lower()}",
            HANDLING,
            f"{name} in the application ends in a 500 or a close, not in a hang.",
            f"raises-{name.lower()}",
            closed_or_failed,
        )
        for name in ("SystemExit", "KeyboardInterrupt", "MemoryError", "GeneratorExit")
    ),
    *(
        case(f"response-{name}", "PEP 3333, Specification Details", sentence, name, either([failed], [cut_short]))
        for name, sentence in {
            "yields-str": "An item that is text is an error.",
            "yields-int": "An item that is a number is an error.",
            "returns-none": "None is no iterable.",
            "returns-int": "A number is no iterable.",
            "returns-str": "Text is no iterable of bytes.",
        }.items()
    ),
    case(
        "response-yields-bytes-then-str",
        "PEP 3333, Specification Details",
        "Text behind bytes breaks the response off visibly.",
        "yields-bytes-then-str",
        either([failed], [cut_short]),
    ),
]
