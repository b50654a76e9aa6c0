"""What the probe does below `/app/`: applications that are right, odd and wrong, each under its own name.

They run in the server's interpreter, so they need nothing but the standard library. Each takes what PEP 3333 says, and
`tell`, which logs a line.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]
Tell = Callable[[str], None]
Behaviour = Callable[[Environ, Start, Tell], Any]

LARGE = b"x" * (1 << 20)
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(name: str) -> Callable[[Behaviour], Behaviour]:
    """Enters a behaviour under a name."""

    def enter(function: Behaviour) -> Behaviour:
        assert name not in BEHAVIOURS
        BEHAVIOURS[name] = function
        return function

    return enter


def says(name: str, content: Callable[[], Any], *headers: tuple[Any, Any], status: Any = "200 OK") -> None:
    """Enters a behaviour that answers with the same each time."""

    def answer(environ: Environ, start_response: Start, tell: Tell) -> Any:
        start_response(status, list(headers))
        return content()

    behaviour(name)(answer)


class Content:
    """An iterable that tells when it is closed; an exception among its items is raised."""

    def __init__(self, tell: Tell, *items: Any) -> None:
        self.tell = tell
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self.tell("close")


def generated(*items: Any) -> Callable[[], Iterator[Any]]:
    """Makes a generator of the items; an exception among them is raised."""
    return lambda: iter(Content(lambda line: None, *items))


# -- Framing and content -----------------------------------------------------------------------------------------------

says("list", lambda: [b"hello"])
says("list-of-many", lambda: [b"he", b"", b"llo"])
says("empty", list)
says("length", lambda: [b"hello"], ("Content-Length", "5"))
says("generator", generated(b"he", b"llo"))
says("generator-with-empty", generated(b"", b"he", b"", b"llo", b""))
says("generator-of-nothing", generated())
says("generator-large", generated(*[LARGE] * 4))
says("generator-with-length", generated(b"he", b"llo"), ("Content-Length", "5"))
says("tuple", lambda: (b"he", b"llo"))
says("too-short", generated(b"123456789"), ("Content-Length", "10"))
says("too-long", lambda: [b"helloHTTP/1.1 200 OK\r\n\r\n"], ("Content-Length", "5"))
says("too-long-generator", generated(b"hel", b"lo", b"HTTP/1.1 200 OK\r\n\r\n"), ("Content-Length", "5"))
says("no-content", lambda: [b"hello"], ("Content-Length", "5"), status="204 No Content")
says("no-content-generator", generated(b"hello"), status="204 No Content")
says("reset-content", lambda: [b"hello"], status="205 Reset Content")
says("not-modified", lambda: [b"hello"], ("Content-Length", "5"), ("ETag", '"a"'), status="304 Not Modified")
says("not-modified-generator", generated(b"hello"), status="304 Not Modified")
says("reason", lambda: [b"hello"], status="299 Rather \xe9t\xe9")
says("reason-empty", lambda: [b"hello"], status="200 ")
says("status-599", lambda: [b"hello"], status="599 Odd")
says("fields", lambda: [b""], ("Set-Cookie", "a=1"), ("X-Odd", "v\xe9"), ("Set-Cookie", "b=2"), ("x-lower", "1"))
says("date", lambda: [b"hello"], ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"))
says("server", lambda: [b"hello"], ("Server", "mine"))

# -- Time --------------------------------------------------------------------------------------------------------------


@behaviour("slow")
def slow(environ: Environ, start_response: Start, tell: Tell) -> Any:
    time.sleep(0.3)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"slow"]


@behaviour("in-two-steps")
def in_two_steps(environ: Environ, start_response: Start, tell: Tell) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"one"
    time.sleep(1.5)
    tell("second step")
    yield b"two"


@behaviour("gone")
def gone(environ: Environ, start_response: Start, tell: Tell) -> Any:
    time.sleep(0.3)
    start_response("200 OK", [])
    return Content(tell, *[LARGE] * 16)


# -- The environ -------------------------------------------------------------------------------------------------------


def json_answer(start_response: Start, value: Any) -> Iterable[bytes]:
    content = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


@behaviour("environ")
def environ_as_json(environ: Environ, start_response: Start, tell: Tell) -> Any:
    shown = {key: value if isinstance(value, (str, bool)) else repr(type(value)) for key, value in environ.items()}
    facts = {
        "is dict": type(environ) is dict,
        "version": list(environ.get("wsgi.version", ())),
        "input": all(hasattr(environ["wsgi.input"], name) for name in ("read", "readline", "readlines", "__iter__")),
        "errors": all(hasattr(environ["wsgi.errors"], name) for name in ("write", "writelines", "flush")),
        "marked": "probe.mark" in environ,
        "not latin-1": [key for key, value in shown.items() if isinstance(value, str) and not is_latin1(value)],
    }
    environ["probe.mark"] = "1"
    return json_answer(start_response, {"environ": shown, "facts": facts})


def is_latin1(value: str) -> bool:
    return all(ord(letter) < 256 for letter in value)


@behaviour("errors")
def errors(environ: Environ, start_response: Start, tell: Tell) -> Any:
    stream = environ["wsgi.errors"]
    stream.write("\u2603 caf\xe9\n")
    stream.writelines(["a\n", "b\n"])
    stream.flush()
    return json_answer(start_response, "written")


@behaviour("input")
def read_input(environ: Environ, start_response: Start, tell: Tell) -> Any:
    """Does what the query says, such as `read,2;readline;readlines`, and answers with what each step gave."""
    stream = environ["wsgi.input"]
    given: list[Any] = []
    for step in unquote(environ["QUERY_STRING"]).split(";"):
        name, *numbers = step.split(",")
        found = list(stream) if name == "iterate" else getattr(stream, name)(*map(int, numbers))
        parts = found if isinstance(found, list) else [found]
        given.append([part.decode("latin-1") for part in parts] if isinstance(found, list) else found.decode("latin-1"))
    return json_answer(start_response, given)


@behaviour("reads-partly")
def reads_partly(environ: Environ, start_response: Start, tell: Tell) -> Any:
    tell(f"read {len(environ['wsgi.input'].read(3))}")
    return json_answer(start_response, "read")


@behaviour("ignores")
def ignores(environ: Environ, start_response: Start, tell: Tell) -> Any:
    return json_answer(start_response, "ignored")


@behaviour("reads")
def reads(environ: Environ, start_response: Start, tell: Tell) -> Any:
    try:
        size = len(environ["wsgi.input"].read())
    except BaseException as error:
        tell(f"failed {type(error).__name__}")
        raise
    tell(f"read {size}")
    return json_answer(start_response, size)


@behaviour("validated")
def validated(environ: Environ, start_response: Start, tell: Tell) -> Any:
    """Reads and answers inside `wsgiref.validate`, which tells what is wrong."""

    def inner(inner_environ: Environ, inner_start: Start) -> Iterable[bytes]:
        size = len(inner_environ["wsgi.input"].read(1 << 16))
        content = b"" if inner_environ["REQUEST_METHOD"] == "HEAD" else b"read %d" % size
        inner_start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
        return [content]

    wrapped: Any = validator(inner)
    try:
        return wrapped(environ, start_response)
    except AssertionError as error:
        tell(f"assertion {error}")
        raise


# -- Files -------------------------------------------------------------------------------------------------------------


def temporary(content: bytes) -> Any:
    opened = tempfile.TemporaryFile()  # noqa: SIM115 (the server closes it)
    opened.write(content)
    opened.seek(0)
    return opened


def wrapped_file(environ: Environ, file: Any, tell: Tell) -> Any:
    """The file in the server's wrapper, or in one of the library's where it has none; it tells of its close."""

    class Told:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def close(self) -> None:
            file.close()
            tell("close")

    wrapper: Any = environ.get("wsgi.file_wrapper", FileWrapper)
    return wrapper(Told(), 4096)


@behaviour("file")
def file(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("Content-Length", "100000")])
    return wrapped_file(environ, temporary(b"f" * 100_000), tell)


@behaviour("file-at-offset")
def file_at_offset(environ: Environ, start_response: Start, tell: Tell) -> Any:
    opened = temporary(b"0123456789")
    opened.seek(4)
    start_response("200 OK", [("Content-Length", "6")])
    return wrapped_file(environ, opened, tell)


@behaviour("file-part")
def file_part(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("Content-Length", "4")])
    return wrapped_file(environ, temporary(b"0123456789"), tell)


@behaviour("file-in-memory")
def file_in_memory(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("Content-Length", "5")])
    return wrapped_file(environ, io.BytesIO(b"hello"), tell)


@behaviour("file-iterated")
def file_iterated(environ: Environ, start_response: Start, tell: Tell) -> Any:
    start_response("200 OK", [("Content-Length", "5")])
    return (piece.upper() for piece in wrapped_file(environ, io.BytesIO(b"hello"), tell))


@behaviour("file-cut")
def file_cut(environ: Environ, start_response: Start, tell: Tell) -> Any:
    opened = temporary(b"f" * 100_000)
    start_response("200 OK", [("Content-Length", "100000")])
    opened.truncate(50_000)
    opened.seek(0)
    return wrapped_file(environ, opened, tell)
