"""The attacks: what the hostile clients do, at what scale, and what they must not bring about."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.asgi.frames import BINARY, CONTINUATION, PING, TEXT, frame, handshake
from tests.attacks.swarm import Habit

BOTH = ("wsgi", "asgi")
ASGI = ("asgi",)

HOST = b"Host: a\r\n"
GET = b"GET /page HTTP/1.1\r\n" + HOST
POST = b"POST /read HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ONE_BYTE_CHUNKS = b"1\r\nx\r\n" * 5000


def deflated(size: int, *, is_whole: bool) -> bytes:
    """A compressed frame that inflates to `size` bytes, of a message that may end with it (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    payload = packed.removesuffix(b"\0\0\xff\xff") if is_whole else packed
    return frame(BINARY, payload, final=is_whole, reserved=0x40, mask=UNMASKED)


UNMASKED = bytes(4)
"""A mask that changes nothing."""
LONGEST = 16 << 20
"""The longest message that is taken by default."""
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


@dataclass(frozen=True)
class Attack:
    """One attack."""

    name: str
    explanation: str
    """One sentence for the page: what the clients do, and what stands against it."""
    habit: Habit
    count: int
    """Clients in the long form."""
    few: int
    """Clients in the short form: enough to win against a server without defence."""
    bound: int = 64
    """MiB by which the server's memory may grow in the long form."""
    interfaces: tuple[str, ...] = BOTH
    """Those of the applications that are attacked."""
    asks: str = "page"
    """What the other client asks for, one of `probe.PAGES`."""
    served: float = 1.0
    """The least share of the other client's requests that must be answered."""
    delay: float = 0.5
    """Seconds in which half of them must be answered."""
    shortest: float = 1.5
    """Seconds that the short form lasts: more than twice `delay`, because half of what is asked meanwhile comes in its
    second half."""
    options: tuple[str, ...] = ()
    """The server's, beside its defaults."""
    files: int | None = None
    """The server's limit of open files, if it is lower than usual."""
    spool: int = 0
    """MiB that temporary files may take."""

    @property
    def item(self) -> str:
        """What the page's list says of it."""
        options = f" Options: `{' '.join(self.options)}`." if self.options else ""
        files = f" The server may open {self.files} files." if self.files else ""
        allowed = f" Up to {100 * (1 - self.served):.0f} % of the others' requests may fail." if self.served < 1 else ""
        delay = f" Half of them may take {self.delay:g} s." if self.delay != Attack.delay else ""
        return f"- **{self.name}**: {self.explanation}{options}{files}{allowed}{delay}"


ATTACKS = [
    Attack(
        "slow heads",
        "Slowloris: each client sends a field a second and never the end of its head. A head has one deadline for the "
        "whole.",
        Habit(start=GET, drip=b"X-A: b\r\n"),
        count=2000,
        few=500,
    ),
    Attack(
        "slow heads on every place",
        "The same with more clients than places. A client that has held one for a quarter of a "
        "second without a whole head makes room.",
        Habit(start=GET, drip=b"X-A: b\r\n"),
        count=1500,
        few=300,
        options=("--max-connections", "200"),
        delay=1.3,
        shortest=3.0,
    ),
    Attack(
        "silent connections on every place",
        "More clients than places connect and say nothing. A client that has not begun within a quarter of a "
        "second makes room.",
        Habit(),
        count=1500,
        few=300,
        options=("--max-connections", "200"),
        delay=1.3,
        shortest=3.0,
    ),
    Attack(
        "slow bodies",
        "Each client announces 100,000 bytes and sends one a second. Bodies are complete before a thread is taken.",
        Habit(start=POST + b"Content-Length: 100000\r\n\r\n", drip=b"x"),
        count=1000,
        few=1000,
    ),
    Attack(
        "slow large bodies",
        "Each client sends all but the last byte of 2 MiB. Some of them are kept in memory, up to a bound for all, and "
        "the others in files.",
        Habit(start=POST + b"Content-Length: 2097152\r\n\r\n" + b"x" * 2_097_151),
        count=200,
        few=50,
        bound=100,
        spool=400,
    ),
    Attack(
        "slow chunked bodies",
        "The same in chunks of a byte.",
        Habit(start=CHUNKED, drip=b"1\r\nx\r\n"),
        count=1000,
        few=1000,
    ),
    Attack(
        "expectations that are never met",
        "Each client waits for 100 Continue, gets it, and sends nothing.",
        Habit(start=POST + b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n"),
        count=1000,
        few=1000,
    ),
    Attack(
        "slow readers",
        "Each client asks for 8 MiB and takes 1 KiB a second. What the socket does not take waits without a thread; "
        "the application's bytes are sent from where they lie, once for all clients.",
        Habit(start=b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n", sip=1024),
        count=1000,
        few=100,
        delay=1.3,
    ),
    Attack(
        "slow readers of pieces",
        "Each client asks for 5 MiB that the application makes piece by piece, and takes 1 KiB a second. While others "
        "wait for a thread, the pieces go to a temporary file and the thread is free.",
        Habit(start=b"GET /pieces HTTP/1.1\r\n" + HOST + b"\r\n", sip=1024),
        count=500,
        few=60,
        # A MiB and a piece in memory for those that come while threads are free.
        bound=1000,
        spool=4096,
        delay=10.0,
    ),
    Attack(
        "more connections than descriptors",
        "A server that may open few files, and a thousand clients that stay. Connections get five eighths of the "
        "descriptors, so that the application can still open its own.",
        Habit(start=GET, drip=b"X-A: b\r\n"),
        count=1000,
        few=300,
        files=256,
        delay=1.3,
        shortest=3.0,
    ),
    Attack(
        "connect and reset",
        "Each client resets its connection as soon as it stands, again and again.",
        Habit(resets=True),
        count=100,
        few=50,
    ),
    Attack(
        "half-closed requests",
        "Each client closes its sending side behind its request, and is still answered.",
        Habit(start=GET + b"\r\n", ends=True, reads=True),
        count=100,
        few=50,
    ),
    Attack(
        "TLS to a plain port",
        "Each client begins a TLS handshake, which is refused at its first byte.",
        Habit(start=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), reads=True),
        count=100,
        few=50,
    ),
    Attack(
        "endless lines",
        "Each client sends empty lines without end; one is skipped, the second refused.",
        Habit(flood=b"\r\n" * 10_000, reads=True),
        count=100,
        few=20,
    ),
    Attack(
        "pipelined flood, not read",
        "Each client sends requests as fast as they are taken and reads no answer. The next request is looked at when "
        "the last answer has left.",
        Habit(flood=(GET + b"\r\n") * 500),
        count=50,
        few=10,
    ),
    Attack(
        "chunk extensions",
        "Chunks of a byte with extensions of 8 KiB. Extensions have a bound of their own.",
        Habit(start=CHUNKED, flood=b"1;%s\r\nx\r\n" % (b"e" * 8192), reads=True),
        count=50,
        few=10,
    ),
    Attack(
        "chunks of a byte",
        "A body of one-byte chunks without end, as fast as it is taken. The work for a byte is the same however it "
        "comes.",
        Habit(start=CHUNKED, flood=ONE_BYTE_CHUNKS, reads=True),
        count=20,
        few=5,
        spool=1024,
    ),
    Attack(
        "large heads",
        "Each client sends 60 KiB of fields and holds the rest back. Heads are bounded, and so are connections.",
        Habit(start=GET + (b"X-%s: y\r\n" % (b"a" * 700)) * 85, drip=b"z"),
        count=1000,
        few=100,
        bound=200,
    ),
    Attack(
        "one field a hundred times",
        "Whole requests with a field repeated up to the limit, as fast as they are answered.",
        Habit(flood=GET + b"X-A: %s\r\n" % (b"v" * 500) * 99 + b"\r\n", reads=True),
        count=20,
        few=5,
    ),
    Attack(
        "many ranges",
        "Each client asks for a file of the framework in thousands of overlapping ranges, none of which is served.",
        Habit(
            flood=b"GET /framework/file HTTP/1.1\r\n" + HOST + b"Range: bytes=0-" + b",0-" * 2000 + b"\r\n\r\n",
            reads=True,
        ),
        count=20,
        few=5,
        interfaces=("wsgi",),
    ),
    Attack(
        "idle keep-alives",
        "Ten thousand clients that were served once and stay. An idle connection keeps no buffer.",
        Habit(start=GET + b"\r\n", reads=True),
        count=10_000,
        few=1500,
        options=("--max-connections", "10100"),
    ),
    Attack(
        "temporary files",
        "Each client sends chunks without end, which are kept in files. All files together have a bound; who comes "
        "over it is told to try later.",
        Habit(start=CHUNKED, flood=b"10000\r\n%s\r\n" % (b"x" * 65_536), reads=True),
        count=50,
        few=10,
        options=("--max-spool-size", "64M"),
        spool=64,
    ),
    Attack(
        "slow bodies on every place",
        "More clients than places send a large body at 1000 bytes a second, twice the least rate. The client that is "
        "furthest behind makes room.",
        Habit(start=POST + b"Content-Length: 10000000\r\n\r\n", drip=b"x" * 1000),
        count=220,
        few=220,
        delay=2.0,
        options=("--max-connections", "200"),
        shortest=5.0,
    ),
    Attack(
        "slow readers on every place",
        "More clients than places take 1 KiB a second of a response in pieces. The client that is furthest behind "
        "makes room.",
        Habit(start=b"GET /pieces HTTP/1.1\r\n" + HOST + b"\r\n", sip=1024),
        bound=256,
        spool=2048,
        count=220,
        few=220,
        delay=2.0,
        options=("--max-connections", "200"),
        shortest=5.0,
    ),
    Attack(
        "stalled uploads in all temporary files",
        "Clients fill the temporary files, 128 KiB at once from each, and go on with a byte a second; the other client "
        "sends a body that needs such a file. An upload that is three seconds behind a brisk one loses its file to it; "
        "until then the answer is 503.",
        Habit(start=CHUNKED + b"20000\r\n%s\r\n" % bytes(131_072), drip=b"1\r\nx\r\n", returns=False),
        count=100,
        few=100,
        asks="upload",
        # Refused in the first three of ten seconds: mobile networks are as silent as that from time to time.
        served=0.6,
        shortest=10.0,
        options=("--max-spool-size", "8M"),
        spool=8,
    ),
    Attack(
        "pipelined flood",
        "Each client sends requests as fast as they are taken and reads the answers.",
        Habit(flood=(GET + b"\r\n") * 500, reads=True),
        count=50,
        few=10,
    ),
    Attack(
        "endless bodies for a deaf application",
        "Each client sends one-byte chunks without end to an application that reads on after the connection has ended. "
        "`receive` yields to the event loop, whether a message has come or not.",
        Habit(start=CHUNKED.replace(b"/read", b"/deaf"), flood=ONE_BYTE_CHUNKS),
        count=20,
        few=5,
        interfaces=ASGI,
    ),
    Attack(
        "endless responses",
        "Each client asks for a response without end and takes it as fast as it comes. `send` yields to the event "
        "loop, too.",
        Habit(start=b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n", reads=True),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "WebSocket handshakes and reset",
        "Each client asks for a WebSocket and resets its connection, again and again.",
        Habit(start=handshake(b"/echo"), resets=True),
        count=100,
        few=50,
        interfaces=ASGI,
    ),
    Attack(
        "WebSocket messages",
        "Each client sends small messages to an echo as fast as they are taken. A connection has its share of "
        "each turn of the loop.",
        Habit(opening=handshake(b"/echo"), flood=frame(TEXT, b"hello") * 5000, reads=True),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "WebSocket messages, echo not read",
        "The same, and nothing of the echo is taken. `send` waits for the client, and what it sends meanwhile is not "
        "read beyond a bound.",
        Habit(opening=handshake(b"/echo"), flood=frame(TEXT, b"hello") * 5000),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "endless WebSocket messages",
        "Each client takes compressed messages of an application that sends them without end.",
        Habit(opening=handshake(b"/talk", DEFLATE), reads=True),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "WebSocket pings",
        "Each client sends pings as fast as they are taken.",
        Habit(opening=handshake(b"/echo"), flood=frame(PING) * 5000, reads=True),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "empty continuation frames",
        "Each client begins a message and goes on with frames that hold nothing.",
        Habit(
            opening=handshake(b"/echo"),
            start=frame(TEXT, b"x", final=False),
            flood=frame(CONTINUATION, final=False) * 5000,
            reads=True,
        ),
        count=20,
        few=3,
        interfaces=ASGI,
    ),
    Attack(
        "idle WebSockets on every place",
        "More clients than places open WebSockets and say nothing. WebSockets hold seven eighths of the places at "
        "most; beyond that a handshake is answered 503.",
        Habit(opening=handshake(b"/echo"), reads=True),
        count=220,
        few=220,
        options=("--max-connections", "200"),
        interfaces=ASGI,
    ),
    Attack(
        "unfinished messages on every place",
        "More clients than places begin a message and do not go on with it. WebSockets leave an eighth of the places "
        "to others.",
        Habit(opening=handshake(b"/echo"), start=frame(TEXT, b"x", final=False)),
        count=220,
        few=220,
        options=("--max-connections", "200"),
        interfaces=ASGI,
    ),
    Attack(
        "WebSockets that are not read on every place",
        "More clients than places take nothing of what the application sends.",
        Habit(opening=handshake(b"/talk")),
        count=220,
        few=220,
        options=("--max-connections", "200"),
        interfaces=ASGI,
    ),
    Attack(
        "messages that inflate",
        "Each client sends messages of 16 KiB, which inflate to 16 MiB, as fast as they are taken.",
        Habit(opening=handshake(b"/sink", DEFLATE), flood=deflated(LONGEST, is_whole=True), reads=True),
        count=4,
        few=3,
        bound=200,
        interfaces=ASGI,
    ),
    Attack(
        "unfinished messages that inflate",
        "Each client sends a frame of 16 KiB, which inflates to 16 MiB, of a message that does not end. All such "
        "messages share a bound of 256 MiB.",
        Habit(opening=handshake(b"/sink", DEFLATE), start=deflated(LONGEST, is_whole=False)),
        count=60,
        few=30,
        bound=450,
        interfaces=ASGI,
    ),
    Attack(
        "messages that queue",
        "Each client sends 32 messages that inflate to 16 MiB to an application that does not read. Messages that wait "
        "share a bound.",
        Habit(opening=handshake(b"/mute", DEFLATE), start=deflated(LONGEST, is_whole=True) * 32),
        count=4,
        few=2,
        bound=200,
        interfaces=ASGI,
    ),
    Attack(
        "idle compression",
        "Each client sends one compressed message and stays. The state of compression does not stay with it.",
        Habit(opening=handshake(b"/echo", DEFLATE), start=deflated(1000, is_whole=True), reads=True),
        count=2000,
        few=600,
        interfaces=ASGI,
    ),
]


def attacks(interfaces: Iterable[str] = BOTH, only: Sequence[str] = ()) -> list[tuple[Attack, str]]:
    """The attacks on applications of these interfaces whose names hold one of `only`, each with its interface."""
    return [
        (attack, interface)
        for interface in interfaces
        for attack in ATTACKS
        if interface in attack.interfaces and (not only or any(words in attack.name for words in only))
    ]
