"""The Rust core. Programs use `wsgi.server`; nothing here is public."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, BinaryIO, final

from wsgi.settings import Settings

__all__ = [
    "ASGIReceive",
    "ASGISend",
    "FileWrapper",
    "InputStream",
    "LoopDriver",
    "Page",
    "Run",
    "Server",
    "access_log_directives",
    "adopt_orphans",
    "fork_quietly",
    "forked",
]

def access_log_directives() -> list[tuple[str, str]]:
    """The directives of the option `access_log_format`, each with its description."""

def adopt_orphans() -> bool:
    """Makes this process the parent of each descendant whose parent ends (prctl(2), PR_SET_CHILD_SUBREAPER). False: the
    system cannot, as only Linux can."""

def fork_quietly() -> int:
    """Forks without the handlers of `os.register_at_fork`; returns 0 in the child, which is killed if its parent ends
    first. The child must fork by `os.fork()` and end by `os._exit()`. To be called while no other thread runs.

    Raises:
        OSError: the system has no more processes or memory.
    """

def forked() -> None:
    """Tells the core in a child process that the process was forked (`os.register_at_fork`): requests that return from
    the application there are ended."""

@final
class Server:
    """Listening sockets and options. Stays bound between runs.

    Parameters:
        settings: the options; `addresses`, the limits, the times (seconds) and the access log are read.
        inherit: servers of this process. Their listening sockets are shared where `settings` wants the same address;
            such a socket is closed, and its file removed, with the last of the servers.
        passed: what `sockets` gave in the program that has executed the present one. Sockets that `settings` wants are
            taken over. Every number stays open.

    Raises:
        BindError: an address cannot be listened on; nothing stays open, and nothing of the others is closed.
        ValueError: the access log cannot be opened, or `access_log_format` has an unknown directive (also where no log
            is written).

    Thread-safety: every method may be called from any thread.
    """

    def __new__(
        cls,
        settings: Settings,
        /,
        *,
        inherit: Sequence[Server] = ...,
        passed: Sequence[tuple[str, int, tuple[int, int] | None]] = ...,
    ) -> Server: ...
    @property
    def places(self) -> list[tuple[str, int] | str]:
        """The bound addresses: `(host, port)` for IP, a path or `@name` for Unix sockets."""

    @property
    def schemes(self) -> list[str]:
        """`http` or `https` for each of `places`."""

    @property
    def warnings(self) -> list[str]:
        """What the operator is to be told of the certificates."""

    @property
    def addresses(self) -> list[str]:
        """The same as URLs: `http://127.0.0.1:8000`, `http://[::1]:8000`, `unix:/run/app.sock`."""

    def sockets(self) -> list[tuple[str, int, tuple[int, int] | None]]:
        """Each listening socket as (what it was opened for, descriptor, device and inode of its file), for a program
        that this process executes."""

    def filenos(self) -> list[int]:
        """The listening descriptors. The server keeps their ownership."""

    def start(
        self,
        app: Any,
        environs: list[dict[str, Any]],
        *,
        shards: int = 1,
        single_request: bool = False,
        external_loop: bool = False,
        multiprocess: bool = False,
        page: Page | None = None,
        slot: int = 0,
        handover: tuple[int, int] | None = None,
        request_limit: tuple[int, int] | None = None,
        successor: tuple[int, bytes] | None = None,
    ) -> Run:
        """Begins a run.

        Parameters:
            app: a WSGI application, or an ASGI 3 one if the run is `external_loop`.
            environs: the shared part of the environ of each listener, in the order of `places`.
            shards: how many pollers share the connections; each needs a worker.
            single_request: accept one connection, serve one request on it, and end.
            external_loop: an event loop drives the run, by `Run.drive`, instead of worker threads.
            multiprocess: `wsgi.multiprocess` of each environ that has none.
            page: where the run publishes its counters and reads those of other workers, with which it shares
                `max_connections`, `queue_limit` and `max_spool_size`; None: the process is alone.
            slot: its place on the page, by `Page.take_slot`.
            handover: the sending and the receiving descriptor of the socket pair through which worker processes hand
                connections over (`Run.retire`); the run keeps duplicates. None: there are no other processes.
            request_limit: a number of responses and a descriptor that does not block: after so many responses one byte
                is written to it. The descriptor stays the caller's.
            successor: the descriptor of a socket, and the message that is sent there when this process is to be
                replaced, because a request takes too long; None: there is no supervisor. The core uses a duplicate.

        Raises:
            RuntimeError: the server is closed.
            OSError: the system has no more descriptors or threads.
            ValueError: the page has no such slot, or fewer shards; or the access log cannot be opened again, for a
                second run.
        """

    def reopen_logs(self) -> None:
        """Reopens the file of the access log by its path, after it was moved. If that fails, the old file stays in use
        and the reason is logged."""

    def close_listeners(self) -> None:
        """Closes the listening sockets; those of a current run are closed when it stops."""

    def close(self) -> None:
        """Closes the listening sockets, and writes what a run that goes on has logged so far."""

@final
class Page:
    """Counters of all processes of a server, in memory that they share (a memfd named `wsgi-counters`). Forked
    processes have it as it is. Reading it needs no other process to run.

    Parameters:
        slots: workers that there can be at the same time, 1 to 4096.
        shards: pollers of each worker, 1 to 4096.

    Raises:
        ValueError: a number is out of range.
        OSError: the system has no memory or descriptors left.

    Thread-safety: every method may be called from any thread; `take_slot`, `release_slot` and `set` in one process
    only, the supervisor.
    """

    def __new__(cls, slots: int, *, shards: int = 1) -> Page: ...
    @staticmethod
    def open(source: int | str, /) -> Page:
        """Maps a page that another process made, or this one before it executed a program.

        Parameters:
            source: a descriptor, which stays open and stays the caller's; or a path such as `/proc/4242/fd/5`.

        Raises:
            OSError: there is no such descriptor or file, or no permission for it.
            ValueError: it is not a page, or that of another version of the server.
        """

    def fileno(self) -> int:
        """The descriptor of the page, which is closed when a program is executed (`os.set_inheritable`)."""

    @property
    def slots(self) -> int:
        """Workers that there can be at the same time."""

    def take_slot(self, generation: int, /) -> int:
        """Takes the lowest free slot for a worker that is about to start.

        Parameters:
            generation: that of the worker's application.

        Raises:
            RuntimeError: every slot is taken.
        """

    def release_slot(self, slot: int, /) -> None:
        """Frees the slot of a worker that has ended, and with it the worker's share of the limits."""

    def set(self, name: str, value: int, /) -> None:
        """Sets a cell of the supervisor.

        Parameters:
            name: `pid` (of the supervisor), `target` (workers that are wanted), `generation` (the one that serves),
                `reloads_begun`, `reloads_done` (those whose generation serves), `reloads_failed` (or given up).

        Raises:
            ValueError: no cell has this name.
        """

    def get(self, name: str, /) -> int:
        """The value of a cell of the supervisor, by the names of `set`."""

    def workers(self) -> list[dict[str, int]]:
        """The cells of each worker whose slot is taken, by name: `slot`, `pid` (0 before it serves), `generation`,
        `is_accepting`, `connections`, `websockets`, `threads`, `running` (requests inside the application), `queued`
        (requests that wait), `spooled_bytes`, `heartbeat_ms` (when its poller was last served, by `time.monotonic()`),
        `is_waiting` (the poller waits for the kernel, so that its heartbeat may be old), `accepted`. Each is read on
        its own: they need not fit together.
        """

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
        """Whether the run has ended; a worker may still be inside the application."""

    def work(self, index: int, /) -> None:
        """The body of worker thread `index`, from 0; returns when the run is over."""

    def drive(
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
        """Returns the driver that an event loop calls.

        Parameters:
            event_loop: the running loop.
            servers: the `server` value of the scopes of each listener.
            state: the state of the application's lifespan, copied into each scope; None leaves it out.
            context: the context that each call of the application runs in a copy of.
            create_task: makes a task of a coroutine; called in that copy.
            over: called once when the run is over.
        """

    def requests(self) -> list[str]:
        """Method and path of each request that is inside the application."""

    @property
    def connections(self) -> int:
        """Connections that a stop still waits for; 0 before one."""

    def stop(self) -> None:
        """Requests a graceful stop and returns at once. New connections are not accepted, idle ones are closed, running
        requests are finished within `graceful_timeout`. Responses unfinished after half of it are cut off; requests
        unanswered at its end get 503."""

    def retire(self) -> None:
        """Leaves the clients to other worker processes and returns at once. New connections are not accepted; the
        listening sockets stay open. Each connection goes to the process that takes it from the `handover` queue as soon
        as it waits for a request, so that its client sees no close. WebSockets are closed with 1012 and event streams
        end. Requests have all of `graceful_timeout`; the run is over when no connection is left. Connections that no
        process takes for half of that time are closed as in a stop; without a queue that is at once. `stop` ends the
        handing over."""

    def wake(self) -> None:
        """Has every poller served for a moment, also an idle one, which renews its heartbeat by that."""

    def abort(self) -> None:
        """Requests an immediate stop, which drops unfinished requests. Returns at once."""

    def finish(self) -> None:
        """Ends the run's own threads, after the workers have returned or the wait for them has ended, and writes the
        last lines of the access log. Waits a few seconds at most."""

@final
class LoopDriver:
    """Drives a run from an event loop. Made by `Run.drive`.

    Thread-safety: may be used in the loop's thread only.
    """

    def fileno(self) -> int:
        """The descriptor that the loop has to watch for reading."""

    def turn(self) -> None:
        """Handles ready connections and makes a task of each complete request. Never blocks."""

    def settle(self) -> None:
        """The same at the end of the current iteration of the loop; scheduled with `call_soon`."""

    def alarm(self) -> None:
        """The same at a deadline; scheduled with `call_later`."""

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The unfinished tasks of the application."""

    def dismiss(self) -> None:
        """From now on the cancellation of a task is not logged."""

@final
class ASGIReceive:
    """The `receive` of an ASGI application. asyncio and inspect treat it as a coroutine function.

    Thread-safety: may be used in the loop's thread only.
    """

    @property
    def __name__(self) -> str:
        """`receive`."""

    __call__: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
    """Waits for the next message to the application."""

@final
class ASGISend:
    """The `send` of an ASGI application. asyncio and inspect treat it as a coroutine function.

    Thread-safety: may be used in the loop's thread only.
    """

    @property
    def __name__(self) -> str:
        """`send`."""

    def __call__(self, message: dict[str, Any], /) -> Coroutine[Any, Any, None]:
        """Sends a message, and waits while the client is far behind.

        Raises:
            TypeError, ValueError, RuntimeError: the message violates the specification, or is out of order.
            OSError: the client has disconnected.
        """

@final
class InputStream:
    """`environ["wsgi.input"]` (PEP 3333): the request body, up to its end (`wsgi.input_terminated`).

    The methods read like those of a buffered binary file. If the body is still arriving they wait for it, without the
    interpreter lock.

    Raises:
        ClientDisconnected: the client disconnected before the body was complete.
        BodyTimeout: it arrived too slowly.
        MalformedBody: the framing of a streamed chunked body is malformed, or a limit is exceeded.
    """

    def read(self, size: int | None = None, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; all if negative or None."""

    def readline(self, size: int | None = None, /) -> bytes:
        """Up to and with the next line feed, at most `size` bytes."""

    def readlines(self, hint: int | None = None, /) -> list[bytes]:
        """The remaining lines; no more once they have `hint` bytes together."""

    def __iter__(self) -> InputStream: ...
    def __next__(self) -> bytes: ...

@final
class FileWrapper:
    """`environ["wsgi.file_wrapper"]` (PEP 3333): sends a file from its current position.

    A regular file that the application returns unchanged is sent by sendfile(2), without occupying a thread; any other
    object with `read`, and a file whose size is not that of its content (as in /proc and /sys), is read. If the
    application sets a Content-Length, no more bytes than that are read and sent.

    Parameters:
        filelike: an object with `read(size)`, and optionally `close()`.
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
        """Closes the file if it has `close()`."""
