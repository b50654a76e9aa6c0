"""A chat over WebSockets, with the page to it, and no framework. Run it with `wsgi examples/chat.py`.

Open http://127.0.0.1:8000 in two windows and write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<style>
  body { font: 16px/1.5 sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }
  input { box-sizing: border-box; width: 100% }
</style>
<h1>Chat</h1>
<ul id="lines"></ul>
<form><input placeholder="Say something" autofocus></form>
<script>
  const address = new URL("/chat", location)
  address.protocol = address.protocol.replace("http", "ws")
  const socket = new WebSocket(address)
  const input = document.querySelector("input")
  const show = text => {
    const line = document.createElement("li")
    line.textContent = text
    document.querySelector("#lines").append(line)
  }
  socket.onmessage = event => show(event.data)
  socket.onclose = event => show(`(closed: ${event.code} ${event.reason})`)
  document.querySelector("form").onsubmit = event => {
    event.preventDefault()
    socket.send(input.value)
    input.value = ""
  }
</script>
"""


class Room:
    """The connected clients, each with a queue of lines to send."""

    def __init__(self) -> None:
        self.guests: set[asyncio.Queue[str]] = set()

    def broadcast(self, text: str) -> None:
        for guest in self.guests:
            # A client with a full queue misses the line, and does not delay the others.
            if not guest.full():
                guest.put_nowait(text)

    async def serve(self, receive: Receive, send: Send) -> None:
        lines: asyncio.Queue[str] = asyncio.Queue(100)
        await receive()
        await send({"type": "websocket.accept"})
        self.guests.add(lines)
        sender = asyncio.create_task(self.send_lines(lines, send))
        self.broadcast(f"* a guest joined ({len(self.guests)} here)")
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self.broadcast(message.get("text") or "")
        finally:
            self.guests.discard(lines)
            sender.cancel()
            self.broadcast(f"* a guest left ({len(self.guests)} here)")

    async def send_lines(self, lines: asyncio.Queue[str], send: Send) -> None:
        try:
            while True:
                await send({"type": "websocket.send", "text": await lines.get()})
        except OSError:
            pass  # The client has disconnected.


room = Room()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and scope["path"] == "/chat":
        await room.serve(receive, send)
    elif scope["type"] == "http":
        found = scope["path"] == "/"
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE if found else b"<p>There is nothing here.</p>"})
