"""The Rust core. `wsgi.server` is its public face; nothing here is meant to be imported by programs."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, BinaryIO, final

from wsgi.settings import Settings

__all__ = [
    "ASGIReceive",
    "ASGISend",
    "FileWrapper",
    "InputStream",
    "LoopDriver",
    "Run",
    "Server",
    "access_log_directives",
    "forked",
]

def access_log_directives() -> list[tuple[str, str]]:
    """What the option `access_log_format` may hold: each directive, and what it stands for in a line."""

def forked() -> None:
    """Tells the core, in the child, that the process was forked (`os.register_at_fork`): what comes back from the
    application there is ended."""

@final
class Server:
    """Listening sockets and options. Stays bound while runs come and go.

    Parameters:
        settings: every option; `addresses`, the limits, the times (seconds) and the access log are read.

    Raises:
        BindError: an address cannot be listened on; nothing stays open.
        ValueError: the access log cannot be opened, or `access_log_format` has an unknown directive (also where no log
            is written).

    Thread-safety: every method may be called from any thread.
    """

    def __new__(cls, settings: Settings, /) -> Server: ...
    @property
    def places(self) -> list[tuple[str, int] | str]:
        """Where the server really listens: `(host, port)` for IP, a path or `@name` for Unix sockets."""

    @property
    def addresses(self) -> list[str]:
        """The same as URLs: `http://127.0.0.1:8000`, `http://[::1]:8000`, `unix:/run/app.sock`."""

    def filenos(self) -> list[int]:
        """The listening descriptors. They stay the server's."""

    def start(
        self,
        app: Any,
        environs: list[dict[str, Any]],
        *,
        shards: int = 1,
        once: bool = False,
        external_loop: bool = False,
    ) -> Run:
        """Begins a run.

        Parameters:
            app: a WSGI application, or an ASGI 3 one if the run is `external_loop`.
            environs: what every environ of a listener begins with, one for each of `places`.
            shards: how many pollers share the connections; each needs a worker.
            once: take one connection, serve one request on it, and end.
            external_loop: an event loop drives the run, by `Run.attend`, instead of worker threads.

        Raises:
            RuntimeError: the server is closed.
            OSError: the system has no more descriptors or threads.
        """

    def reopen_logs(self) -> None:
        """Opens the access log's file anew by its path, after it was moved away. If that fails, the old file stays in
        use and the reason is logged."""

    def close_listeners(self) -> None:
        """Closes the listening sockets; those of a run that is still going close when it stops."""

    def close(self) -> None:
        """Closes the listening sockets and the access log, whose last lines are written first."""

@final
class Run:
    """One run of a server. Made by `Server.start`.

    Thread-safety: every method may be called from any thread; each index of `work` by one thread.
    """

    @property
    def workers(self) -> int:
        """How many threads are to call `work`."""

    @property
    def is_over(self) -> bool:
        """Whether everything has ended, though a worker may still be inside the application."""

    def work(self, index: int, /) -> None:
        """The body of worker thread `index`, from 0; returns when the run is over."""

    def attend(
        self,
        event_loop: asyncio.AbstractEventLoop,
        servers: list[Any],
        state: dict[str, Any] | None,
        /,
        *,
        context: Context,
        create_task: Callable[..., object],
        over: Callable[[], object],
    ) -> LoopDriver:
        """Gives an event loop what it is to call.

        Parameters:
            event_loop: the running loop.
            servers: what scopes say of each listener.
            state: what the application's lifespan left; copied into each scope. None leaves it out.
            context: the context variables with which each call of the application begins, in a copy of its own.
            create_task: makes a task of a coroutine; called in that copy.
            over: called once when the run is over.
        """

    def requests(self) -> list[str]:
        """Method and path of each request that is inside the application."""

    @property
    def connections(self) -> int:
        """Connections that a stop still waits for; 0 before one."""

    def stop(self) -> None:
        """Asks for a graceful end and returns at once: nobody new, idle connections close, what runs is finished within
        `graceful_timeout`. Responses that are unfinished after half of it are cut; requests that are unanswered at
        its end get 503."""

    def abort(self) -> None:
        """Asks for an end at once, dropping what is unfinished. Returns at once."""

    def finish(self) -> None:
        """Tidies up, after the workers have come home or were given up."""

@final
class LoopDriver:
    """A loop's side of a run. Made by `Run.attend`.

    Thread-safety: for the loop's thread alone.
    """

    def fileno(self) -> int:
        """The descriptor that the loop is to watch for reading."""

    def turn(self) -> None:
        """Looks after the connections and makes a task of each complete request. Never waits."""

    def settle(self) -> None:
        """The same at the end of the loop's turn; asked for by `call_soon`."""

    def alarm(self) -> None:
        """The same at a deadline; asked for by `call_later`."""

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks of applications that have not come to their end."""

    def dismiss(self) -> None:
        """From now on the cancellation of an application is no news."""

@final
class ASGIReceive:
    """What an ASGI application is given as `receive`. asyncio and inspect take it for a coroutine function.

    Thread-safety: for the loop's thread alone.
    """

    @property
    def __name__(self) -> str:
        """`receive`."""

    __call__: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
    """Waits for the next message to the application."""

@final
class ASGISend:
    """What an ASGI application is given as `send`. asyncio and inspect take it for a coroutine function.

    Thread-safety: for the loop's thread alone.
    """

    @property
    def __name__(self) -> str:
        """`send`."""

    def __call__(self, message: dict[str, Any], /) -> Coroutine[Any, Any, None]:
        """Sends a message, and waits as long as the client is far behind.

        Raises:
            TypeError, ValueError, RuntimeError: the message breaks the specification, or is not due.
            OSError: the client has gone.
        """

@final
class InputStream:
    """`environ["wsgi.input"]` (PEP 3333): the request body, ending at its true end (`wsgi.input_terminated`).

    Every method reads like that of a buffered binary file. Where the body is still arriving it waits for it, without
    holding the interpreter.

    Raises:
        ClientDisconnected: the client left before the body was complete.
        BodyTimeout: it came too slowly.
        MalformedBody: a streamed chunked body broke a rule or a limit.
    """

    def read(self, size: int | None = None, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; all of them if negative or None."""

    def readline(self, size: int | None = None, /) -> bytes:
        """Up to and with the next line feed, at most `size` bytes."""

    def readlines(self, hint: int | None = None, /) -> list[bytes]:
        """The remaining lines; no more once they have `hint` bytes together."""

    def __iter__(self) -> InputStream: ...
    def __next__(self) -> bytes: ...

@final
class FileWrapper:
    """`environ["wsgi.file_wrapper"]` (PEP 3333): sends a file from its present position.

    A regular file returned by the application as it is leaves by sendfile(2), without holding a thread; any other
    object with `read`, and a file whose size is not that of its content (as in /proc and /sys), is read. Where the
    application announces a Content-Length, the response ends with it, and no more is asked of `read`.

    Parameters:
        filelike: an object with `read(size)`, and `close()` if it wants to be closed.
        block_size: bytes of each block when it is iterated.

    Raises:
        ValueError: `block_size` is 0.
    """

    def __new__(cls, filelike: BinaryIO | Any, block_size: int = 8192) -> FileWrapper: ...
    @property
    def filelike(self) -> Any:
        """The file."""

    @property
    def block_size(self) -> int:
        """Bytes of each block."""

    def __iter__(self) -> FileWrapper: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None:
        """Closes the file, if it can be closed."""
