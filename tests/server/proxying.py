"""What the tests of proxies share: applications that tell what they see, and headers of the PROXY protocol.

As a file of its own name, `hello.py` say, this is also an application for the command.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Awaitable, Callable, Iterable
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
    received = environ["wsgi.input"].read(length)
    fields = [name for name in environ if name.startswith(("HTTP_X_", "HTTP_FORWARDED"))]
    facts = {name: environ[name] for name in (*FACTS, *fields) if name in environ}
    body = json.dumps({**facts, "digest": hashlib.sha256(received).hexdigest()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def asgi_app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Says back what a WebSocket says, streams without end at `/events`, and tells the digest of a body elsewhere."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        facts = {"client": scope["client"][0], "scheme": scope["scheme"], "path": scope["path"]}
        await send({"type": "websocket.send", "text": json.dumps(facts)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
    elif scope["type"] == "http":
        digest = hashlib.sha256()
        more = True
        while more:
            message = await receive()
            digest.update(message["body"])
            more = message["more_body"]
        is_stream = scope["path"].endswith("/events")
        fields = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")] if is_stream else []
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        body = b"data: 1\n\n" if is_stream else json.dumps({"digest": digest.hexdigest()}).encode()
        await send({"type": "http.response.body", "body": body, "more_body": is_stream})
        while is_stream and (await receive())["type"] != "http.disconnect":
            pass


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
