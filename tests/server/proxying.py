"""What the tests of proxies share: an application that tells what it sees, and headers of the PROXY protocol.

As a file of its own name, `hello.py` say, this is also an application for the command.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

FACTS = (
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "wsgi.url_scheme",
    "HTTP_HOST",
    "SERVER_NAME",
    "SERVER_PORT",
    "SCRIPT_NAME",
    "PATH_INFO",
)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answers with the variables that proxies can change, and those of their fields, as JSON."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"].read(length)
    fields = [name for name in environ if name.startswith(("HTTP_X_", "HTTP_FORWARDED"))]
    body = json.dumps({name: environ[name] for name in (*FACTS, *fields) if name in environ}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source: str, port: int = 4711) -> bytes:
    """A header of version 1 for a client at this address."""
    family = f"TCP{ip_address(source).version}"
    return f"PROXY {family} {source} {source} {port} 80\r\n".encode()


def v2(source: str | None, port: int = 4711, *, command: int = 0x21, extensions: bytes = b"") -> bytes:
    """A header of version 2 for a client at this address; None is one of which nothing is told."""
    if source is None:
        family, addresses = 0x00, b""
    else:
        ip = ip_address(source)
        family = 0x11 if ip.version == 4 else 0x21
        addresses = ip.packed * 2 + struct.pack("!HH", port, 80)
    payload = addresses + extensions
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


def extension(kind: int, value: bytes) -> bytes:
    """A TLV of version 2."""
    return struct.pack("!BH", kind, len(value)) + value
