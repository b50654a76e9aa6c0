"""What the applications of this directory have in common, so that one table of requests fits all of them.

Each of them answers:

    GET    /                 a page of HTML that names the framework
    GET    /greet?name=…     "Hello, …!"
    GET    /pages/<title>    the title
    POST   /form             the fields of a form, as JSON
    POST   /json             {"received": …}
    GET    /cookies          the cookies that came, as JSON
    POST   /cookies          sets the cookies `theme` and `session`
    GET    /old              302 to /new
    POST   /old              303 to /new
    GET    /new              "here now"
    POST   /upload           of multipart fields `note` and `file`: the note, the file's name, size and SHA-256, as JSON
    PUT    /raw              of the body itself: size, SHA-256 and the announced length, as JSON
    POST   /raw              the same
    GET    /lines/<count>    that many lines from a generator
    GET    /download         the file that the variable DOWNLOAD names, in the framework's own way
    GET    /where            the absolute URL of /new, the scheme and the client's address, as JSON
    DELETE /things/<name>    204
    GET    /boom             fails
    GET    /late             fails after the first line of a generator
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

SECRET = "the password is swordfish"
"""The message of every failure: what must not reach a client."""

LINE = "line %d of a text that is made while it is sent\n"

BLOCK = 64 * 1024


def download() -> str:
    """The path of the file to be given away."""
    return os.environ["DOWNLOAD"]


def digest(read: Callable[[int], bytes]) -> dict[str, object]:
    """Size and SHA-256 of everything that `read` gives, without holding it."""
    found, size = hashlib.sha256(), 0
    while block := read(BLOCK):
        found.update(block)
        size += len(block)
    return {"size": size, "sha256": found.hexdigest()}


def lines(count: int) -> Iterator[bytes]:
    """A text in pieces."""
    for number in range(count):
        yield (LINE % number).encode()


def failing() -> Iterator[bytes]:
    """A text that never ends well."""
    yield (LINE % 0).encode()
    raise RuntimeError(SECRET)
