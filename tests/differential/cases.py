"""What is sent: the files of the corpus, and what can be made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus"
LARGEST = 2000
"""Bytes of a seed. Larger ones are about limits, which every parser has of its own."""

TEMPLATES = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a?b=c HTTP/1.0\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"PUT /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a:80/f?g HTTP/1.1\r\nHost: a\r\n\r\n",
]
# Each for a row of docs/differential.md that the corpus has no file for.
EXAMPLES = [
    b"\rGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \t\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 24 + b"\r\n\r\n",
    b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS *0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
]
STRAY = [
    b"\r", b"\n", b"\r\n", b"\0", b"\t", b" ", b"\x0b", b"\x7f", b"\xe9", b"\xff", b":", b",", b";", b"0", b"_", b"+",
]  # fmt: skip
FRAMING = [
    b"Content-Length: 5",
    b"Content-Length: 05",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 0",
    b"Content-Length : 5",
    b"content-length:5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\tchunked\t",
    b"Transfer-Encoding: xchunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Expect: 100-continue",
    b"Host: b",
    b"Host:",
    b" folded",
]
SIZES = [
    b"5", b"05", b"0000000000000005", b"5 ", b" 5", b"5;a", b"5;a=\"b\"", b"0x5", b"+5", b"-5", b"5_", b"", b"g", b"F",
    b"ffffffffffffffff", b"10000000000000005", b"000000000000000000000000000000005",
]  # fmt: skip

Mutator = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << drawn.randrange(8)]) + data[at + 1 :]


def insert(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data) + 1)
    return data[:at] + drawn.choice(STRAY) + data[at:]


def replace(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    return data[:at] + drawn.choice(STRAY) + data[at + 1 :]


def remove(data: bytes, drawn: random.Random) -> bytes:
    at = drawn.randrange(len(data))
    return data[:at] + data[at + drawn.randint(1, 3) :]


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    head, empty, body = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), empty + body


def duplicate_field(data: bytes, drawn: random.Random) -> bytes:
    lines, rest = _lines(data)
    lines.insert(drawn.randint(1, len(lines)), drawn.choice(lines[1:] or [b"Host: a"]))
    return b"\r\n".join(lines) + rest


def add_framing(data: bytes, drawn: random.Random) -> bytes:
    lines, rest = _lines(data)
    lines.insert(drawn.randint(1, len(lines)), drawn.choice(FRAMING))
    return b"\r\n".join(lines) + rest


def swap_fields(data: bytes, drawn: random.Random) -> bytes:
    lines, rest = _lines(data)
    fields = lines[1:]
    drawn.shuffle(fields)
    return b"\r\n".join([lines[0], *fields]) + rest


def change_chunk_size(data: bytes, drawn: random.Random) -> bytes:
    sizes = list(re.finditer(rb"(?<=\r\n)[0-9a-fA-F]+(?=[;\r])", data))
    if not sizes:
        return add_framing(data, drawn)
    found = drawn.choice(sizes)
    return data[: found.start()] + drawn.choice(SIZES) + data[found.end() :]


def pipeline(data: bytes, drawn: random.Random) -> bytes:
    return data + drawn.choice(TEMPLATES)


def truncate(data: bytes, drawn: random.Random) -> bytes:
    return data[: drawn.randrange(len(data)) + 1]


MUTATORS: list[Mutator] = [
    flip, insert, insert, replace, remove, duplicate_field, add_framing, add_framing, swap_fields,
    change_chunk_size, pipeline, truncate,
]  # fmt: skip


def seeds() -> list[bytes]:
    files = [path.read_bytes() for path in sorted(CORPUS.glob("*.http"))]
    return TEMPLATES + EXAMPLES + [content for content in files if 0 < len(content) <= LARGEST]


def generated(count: int, seed: int) -> Iterator[bytes]:
    """The seeds, and as many of their mutants as make `count` cases."""
    drawn = random.Random(seed)
    given = seeds()
    yield from given[:count]
    for _ in range(count - len(given)):
        data = drawn.choice(given if drawn.random() < 0.5 else TEMPLATES)
        for _ in range(drawn.choice([1, 1, 1, 2, 3])):
            data = drawn.choice(MUTATORS)(data, drawn) or b"G"
        yield data
