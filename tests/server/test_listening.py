"""Where a server listens: addresses and names, Unix sockets, descriptors that somebody else opened."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients import curl, needs_curl
from tests.support import PATIENCE, Command, RawClient, connect, has_ipv6, run, serve
from wsgi import _core
from wsgi.errors import BindError, WSGIServerError
from wsgi.server import WSGIServer
from wsgi.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROOT = Path(__file__).parents[2]


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract Unix sockets exist on Linux only")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with what the environ says of the two ends."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")
    return [" ".join(environ[name] or "-" for name in names).encode()]


def ask(address: str) -> str:
    """What `app` answers at an address."""
    with RawClient(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        (response,) = client.responses("GET")
    assert response.status == 200
    return response.body.decode()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def is_refused(family: socket.AddressFamily, address: tuple[str, int]) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == errno.ECONNREFUSED


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, empty and with a short name: a Unix socket's path has little room."""
    with tempfile.TemporaryDirectory(prefix="w") as name:
        monkeypatch.chdir(name)
        yield Path(name)


# -- IP addresses -----------------------------------------------------------------------------------------------------


def test_ipv4_address_is_listened_on() -> None:
    with serve(app, host="127.0.0.1") as server:
        assert server.addresses == (f"http://127.0.0.1:{server.server_port}",)
        assert ask(server.addresses[0]) == f"127.0.0.1 {server.server_port} 127.0.0.1"


@needs_ipv6
def test_ipv6_address_is_listened_on() -> None:
    with serve(app, host="::1") as server:
        assert server.server_address == ("::1", server.server_port)
        assert server.addresses == (f"http://[::1]:{server.server_port}",)
        assert ask(server.addresses[0]) == f"::1 {server.server_port} ::1"


@needs_ipv6
def test_localhost_is_both_loopbacks_on_one_port() -> None:
    # Whichever of them a client's resolver gives first.
    with serve(app, host="localhost") as server:
        port = server.server_port
        assert server.addresses == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
        assert ask(server.addresses[0]) == f"127.0.0.1 {port} 127.0.0.1"
        assert ask(server.addresses[1]) == f"::1 {port} ::1"
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        assert is_refused(family, (host, port))


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_every_ipv4_interface_is_listened_on(host: str) -> None:
    with serve(app, host=host) as server:
        # PEP 3333: SERVER_NAME is never empty; "every interface" is no name that a client could use.
        name, port, remote = ask(f"http://127.0.0.1:{server.server_port}").split()
        assert name not in ("", "0.0.0.0")
        assert (port, remote) == (str(server.server_port), "127.0.0.1")
        # 127.0.0.2 is an address of the loopback as well.
        assert sys.platform != "linux" or ask(f"http://127.0.0.2:{server.server_port}")


@needs_ipv6
def test_every_interface_is_listened_on_with_both_families() -> None:
    with serve(app, host="::") as server:
        assert ask(f"http://[::1]:{server.server_port}").endswith(" ::1")
        # An IPv4 client is shown as what it is, and not as ::ffff:127.0.0.1.
        assert ask(f"http://127.0.0.1:{server.server_port}").endswith(" 127.0.0.1")


@needs_ipv6
def test_several_addresses_are_listened_on_side_by_side(folder: Path) -> None:
    with serve(app, bind=["127.0.0.1:0", "[::1]:0", "unix:a.sock", "127.0.0.1:0"]) as server:
        assert len(set(server.addresses)) == 4
        answers = [ask(address) for address in server.addresses]
        assert answers[0] == f"127.0.0.1 {server.server_port} 127.0.0.1"
        assert answers[1].startswith("::1 ")
        assert answers[3] != answers[0]
        assert server.server_address == ("127.0.0.1", server.server_port)


@pytest.mark.parametrize("taken_at", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_name_of_which_one_address_is_taken_is_refused_as_a_whole(taken_at: str) -> None:
    family = socket.AF_INET6 if ":" in taken_at else socket.AF_INET
    with socket.create_server((taken_at, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError):
            WSGIServer("localhost", port, app)
        other = (socket.AF_INET, "127.0.0.1") if family == socket.AF_INET6 else (socket.AF_INET6, "::1")
        assert is_refused(other[0], (other[1], port))


def test_one_address_that_fails_leaves_none_of_the_others_open(folder: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BindError):
        WSGIServer(app=app, bind=[f"127.0.0.1:{port}", "unix:a.sock", f"127.0.0.1:{taken.getsockname()[1]}"])
    assert is_refused(socket.AF_INET, ("127.0.0.1", port))
    assert not Path("a.sock").exists()


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_busy_port_is_refused_with_a_line_that_helps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError) as caught:
            WSGIServer("127.0.0.1", port, app)
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "in use" in message
    assert "another port" in message
    assert "\n" not in message
    # Programs that know OSError, or this package's own, or the number, find what they look for.
    assert isinstance(caught.value, (OSError, WSGIServerError))
    assert caught.value.errno == errno.EADDRINUSE


def test_port_of_another_server_of_this_kind_is_refused_as_well() -> None:
    with serve(app) as server, pytest.raises(BindError, match="in use"):
        WSGIServer("127.0.0.1", server.server_port, app)


REFUSED = {
    "foreign address": ("192.0.2.1:0", r"192\.0\.2\.1:0.*no such address"),
    "unknown name": ("no-such-host.invalid:0", r"no-such-host\.invalid:0"),
    "missing folder": ("unix:no/such/folder/a.sock", r"no/such/folder/a\.sock"),
    "path too long": (f"unix:{'x' * 200}", r"x{200}"),
    "closed descriptor": ("fd://9999", r"fd://9999"),
}


@pytest.mark.parametrize(("bind", "pattern"), REFUSED.values(), ids=REFUSED)
def test_address_that_cannot_be_listened_on_is_refused_by_its_name(bind: str, pattern: str, folder: Path) -> None:
    with pytest.raises(BindError, match=pattern) as caught:
        WSGIServer(app=app, bind=[bind])
    assert str(caught.value).startswith("cannot listen on ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    os.geteuid() == 0 or sys.platform != "linux", reason="root may listen everywhere, and other systems let everybody"
)
def test_privileged_port_is_refused_with_the_reason() -> None:
    with pytest.raises(BindError, match=r"1024"):
        WSGIServer("127.0.0.1", 1, app)


# -- SO_REUSEPORT -----------------------------------------------------------------------------------------------------


def test_reused_port_is_shared_and_stays_with_those_that_remain() -> None:
    with serve(app, reuse_port=True) as first:
        port = first.server_port
        with WSGIServer(port=port, app=app, reuse_port=True):
            for _ in range(20):
                assert ask(f"http://127.0.0.1:{port}").startswith("127.0.0.1")
        for _ in range(20):
            assert ask(f"http://127.0.0.1:{port}").startswith("127.0.0.1")


def test_port_is_shared_only_by_those_who_say_so() -> None:
    with serve(app, reuse_port=True) as first, pytest.raises(BindError, match="in use"):
        WSGIServer(port=first.server_port, app=app)


def test_reused_port_is_shared_between_processes() -> None:
    target = "tests.server.test_listening:app"
    with Command(target, "--reuse-port", cwd=ROOT) as first:
        port = first.address.rpartition(":")[2]
        with Command(target, "--reuse-port", "--port", port, cwd=ROOT) as second:
            assert second.addresses == first.addresses
            for _ in range(20):
                assert ask(first.address).startswith("127.0.0.1")
            assert first.stop() == 0
            for _ in range(5):
                assert ask(second.address).startswith("127.0.0.1")


# -- Unix sockets -----------------------------------------------------------------------------------------------------


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("path", ["a.sock", "with space.sock", "größe.sock", "./b.sock"])
def test_unix_socket_is_served_and_removed_at_the_end(path: str, folder: Path) -> None:
    with serve(app, bind=[f"unix:{path}"]) as server:
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        # Its clients have no address, and it has no name and port, which PEP 3333 wants nevertheless.
        assert ask(server.addresses[0]) == "localhost 80 -"
        assert server.server_address == path
    assert not Path(path).exists()


@needs_curl
def test_unix_socket_is_served_to_curl(folder: Path) -> None:
    with serve(app, bind=[f"unix:{folder}/a.sock"]):
        answer = curl("--unix-socket", f"{folder}/a.sock", "http://shop.example/")
        assert (answer.status, answer.body) == (200, b"localhost 80 -")


@pytest.mark.parametrize("given", [0o600, 0o660, 0o666, "777"])
def test_unix_socket_has_the_mode_that_was_asked_for(given: int | str, folder: Path) -> None:
    # Whatever the umask says.
    before = os.umask(0o077)
    try:
        with serve(app, bind=["unix:a.sock"], socket_mode=given):
            assert mode("a.sock") == (int(given, 8) if isinstance(given, str) else given)
    finally:
        os.umask(before)


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666), (0o117, 0o660)])
def test_unix_socket_without_a_mode_follows_the_umask(umask: int, expected: int, folder: Path) -> None:
    before = os.umask(umask)
    try:
        with serve(app, bind=["unix:a.sock"]):
            assert mode("a.sock") & 0o666 == expected
    finally:
        os.umask(before)


def test_stale_unix_socket_is_replaced(folder: Path) -> None:
    # What a server that was killed leaves behind.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("a.sock")
    assert Path("a.sock").exists()
    with serve(app, bind=["unix:a.sock"]) as server:
        assert ask(server.addresses[0]) == "localhost 80 -"


def test_living_unix_socket_is_refused_and_lives_on(folder: Path) -> None:
    with serve(app, bind=["unix:a.sock"]) as first:
        with pytest.raises(BindError, match=r"a\.sock.*in use") as caught:
            WSGIServer(app=app, bind=["unix:a.sock"])
        assert caught.value.errno == errno.EADDRINUSE
        assert ask(first.addresses[0]) == "localhost 80 -"


def test_living_unix_socket_with_a_full_queue_is_refused_as_well(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
        busy.bind("a.sock")
        busy.listen(0)
        for _ in range(100):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex("a.sock") == errno.EAGAIN:
                break
        with pytest.raises(BindError):
            WSGIServer(app=app, bind=["unix:a.sock"])
        assert Path("a.sock").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file", "pipe"])
def test_path_that_is_no_socket_is_refused_and_left_alone(kind: str, folder: Path) -> None:
    path = Path("a.sock")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        Path("target").write_text("precious")
        path.symlink_to("target")
    before = os.lstat(path)
    with pytest.raises(BindError, match=r"a\.sock.*not a socket"):
        WSGIServer(app=app, bind=["unix:a.sock"])
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)


def test_unix_socket_of_a_successor_is_not_removed(folder: Path) -> None:
    with serve(app, bind=["unix:a.sock"]):
        # Somebody cleared the path away and put a socket of his own there.
        os.unlink("a.sock")
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind("a.sock")
            inode = os.stat("a.sock").st_ino
    assert os.stat("a.sock").st_ino == inode


def test_unix_socket_is_removed_after_a_change_of_directory(folder: Path) -> None:
    Path("elsewhere").mkdir()
    with serve(app, bind=["unix:a.sock"]):
        # As daemons do.
        os.chdir("elsewhere")
    assert not (folder / "a.sock").exists()


def test_unix_socket_is_there_again_for_a_second_server(folder: Path) -> None:
    for _ in range(3):
        with serve(app, bind=["unix:a.sock"]) as server:
            assert ask(server.addresses[0]) == "localhost 80 -"


@needs_linux
def test_abstract_unix_socket_is_served_without_a_file(folder: Path) -> None:
    name = f"wsgi-test-{os.getpid()}"
    with serve(app, bind=[f"unix:@{name}"]) as server:
        assert server.addresses == (f"unix:@{name}",)
        assert server.server_address == f"@{name}"
        assert ask(server.addresses[0]) == "localhost 80 -"
        assert list(folder.iterdir()) == []
        with pytest.raises(BindError, match="in use"):
            WSGIServer(app=app, bind=[f"unix:@{name}"])
    # It is gone with its server.
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(f"\0{name}") == errno.ECONNREFUSED


@needs_linux
@needs_curl
def test_abstract_unix_socket_is_served_to_curl() -> None:
    name = f"wsgi-test-curl-{os.getpid()}"
    with serve(app, bind=[f"unix:@{name}"]):
        assert curl("--abstract-unix-socket", name, "http://a/").body == b"localhost 80 -"


def test_unix_socket_of_the_command_is_removed_when_it_is_stopped(folder: Path) -> None:
    arguments = ("--app-dir", str(ROOT), "--bind", "unix:a.sock", "--socket-mode", "600")
    with Command("tests.server.test_listening:app", *arguments, cwd=folder) as command:
        assert command.banner.startswith("WSGIServer: Serving HTTP on unix:")
        assert mode("a.sock") == 0o600
        assert ask("unix:a.sock") == "localhost 80 -"
        assert command.stop() == 0
    assert not Path("a.sock").exists()


# -- descriptors ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(kind: str) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket of a kind, and its address."""
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind("a.sock")
            listener.listen()
            yield listener, "unix:a.sock"
            return
        family = socket.AF_INET6 if kind == "IPv6" else socket.AF_INET
        host = "::1" if kind == "IPv6" else "127.0.0.1"
        listener = stack.enter_context(socket.create_server((host, 0), family=family))
        shown = f"[{host}]" if kind == "IPv6" else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"


KINDS = ["IPv4", pytest.param("IPv6", marks=needs_ipv6), "unix"]


@pytest.mark.parametrize("kind", KINDS)
def test_descriptor_is_served_and_stays_its_owners(kind: str, folder: Path) -> None:
    with listening(kind) as (listener, address):
        for _ in range(2):
            with serve(app, bind=[f"fd://{listener.fileno()}"]) as server:
                assert server.addresses == (address,)
                assert ask(address).split()[0] in ("127.0.0.1", "::1", "localhost")
            # Neither closed nor removed: it can be served again, or accepted from by hand.
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert kind != "unix" or Path("a.sock").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptor_is_inherited_by_the_command(kind: str, folder: Path) -> None:
    with listening(kind) as (listener, address), RawClient(address) as early:
        # As with socket activation: who comes before the server is up is answered when it is.
        early.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        bind = f"fd://{listener.fileno()}"
        arguments = ("--app-dir", str(ROOT), "--bind", bind)
        with Command(
            "tests.server.test_listening:app", *arguments, cwd=folder, pass_fds=[listener.fileno()]
        ) as command:
            assert command.addresses == [address]
            assert early.receive().status == 200
            assert ask(address)
            assert command.stop() == 0
        assert kind != "unix" or Path("a.sock").exists()


HELD_UP = """
import os, time

def app(environ, start_response):
    open("inside", "w").close()
    end = time.monotonic() + 20
    while not os.path.exists("go") and time.monotonic() < end:
        time.sleep(0.005)
    start_response("200 OK", [])
    # What another program would inherit of this process.
    return [str(os.system(f"test -S /proc/self/fd/{environ['QUERY_STRING']}")).encode()]
"""


def test_descriptor_is_the_commands_alone_and_refuses_once_it_stops(folder: Path) -> None:
    (folder / "held.py").write_text(HELD_UP)
    listener = socket.create_server(("127.0.0.1", 0))
    number, place = listener.fileno(), listener.getsockname()
    with Command("held:app", "--bind", f"fd://{number}", cwd=folder, pass_fds=[number]) as command:
        listener.close()
        with RawClient(command.address) as client:
            client.send(f"GET /?{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            until((folder / "inside").exists)
            command.process.send_signal(signal.SIGTERM)
            until(lambda: is_refused(socket.AF_INET, place))
            (folder / "go").touch()
            assert client.receive().body != b"0"
        # A second signal could meet the interpreter's last steps, and end the process with its own status.
        assert command.process.wait(PATIENCE) == 0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@needs_linux
def test_descriptor_of_an_abstract_socket_is_shown_by_its_name() -> None:
    name = f"wsgi-test-fd-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        with serve(app, bind=[f"fd://{listener.fileno()}"]) as server:
            assert server.addresses == (f"unix:@{name}",)
            assert ask(server.addresses[0]) == "localhost 80 -"


@pytest.mark.parametrize("kind", ["not listening", "datagrams", "file", "pipe"])
def test_descriptor_that_is_no_listener_is_refused_and_stays_open(kind: str, folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "not listening":
            descriptor = stack.enter_context(socket.socket()).fileno()
        elif kind == "datagrams":
            datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            datagrams.bind(("127.0.0.1", 0))
            descriptor = datagrams.fileno()
        elif kind == "file":
            descriptor = stack.enter_context(Path("file").open("wb")).fileno()
        else:
            descriptor, other = os.pipe()
            stack.callback(os.close, descriptor)
            stack.callback(os.close, other)
        with pytest.raises(BindError, match=rf"fd://{descriptor}\b"):
            WSGIServer(app=app, bind=[f"fd://{descriptor}"])
        os.fstat(descriptor)


def test_descriptor_that_was_not_passed_is_refused_in_one_line() -> None:
    done = run("tests.server.test_listening:app", "--bind", "fd://77", cwd=ROOT)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("wsgi: cannot listen on fd://77: ")
    assert done.stderr.count("\n") == 1


def test_descriptors_of_listeners_are_not_inherited_by_programs_that_are_started() -> None:
    # A child that outlives the server would keep its port.
    with serve(app) as server:
        assert not os.get_inheritable(server.fileno())
        with RawClient(server.addresses[0]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.receive()
            if Path("/proc/self/fd").exists():
                inheritable = [int(name) for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))]
                assert [number for number in inheritable if number > 2 and is_socket(number)] == []


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


def test_server_shares_the_sockets_of_another(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first = _core.Server(Settings.from_keywords(bind=["127.0.0.1:0", f"unix:{old}"]))
    second = _core.Server(Settings.from_keywords(bind=[f"unix:{new}", "127.0.0.1:0"]), inherit=[first, first])
    assert second.places[1] == first.places[0]
    assert os.path.samestat(os.fstat(second.filenos()[1]), os.fstat(first.filenos()[0]))
    first.close()
    assert not old.exists()
    connect(second.addresses[1], 5).close()
    connect(second.addresses[0], 5).close()
    second.close()
    assert not new.exists()


def test_server_takes_over_sockets_that_were_passed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    settings = Settings.from_keywords(bind=["127.0.0.1:0", f"unix:{path}"])
    first = _core.Server(settings)
    second = _core.Server(settings, passed=first.sockets())
    assert second.places == first.places
    # Each of them would remove the file.
    assert [file is None for _, _, file in second.sockets()] == [True, False]
    second.close()
    assert not path.exists()
    with pytest.raises(BindError, match=r"cannot listen on 127\.0\.0\.1:1"):
        _core.Server(settings, passed=[("127.0.0.1:1", 1 << 20, None)])
    first.close()


def test_server_that_cannot_listen_leaves_the_sockets_of_another(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = _core.Server(Settings.from_keywords(bind=["127.0.0.1:0", f"unix:{path}"]))
    with pytest.raises(BindError):
        _core.Server(Settings.from_keywords(bind=["127.0.0.1:0", "192.0.2.1:1"]), inherit=[first])
    connect(first.addresses[0], 5).close()
    connect(first.addresses[1], 5).close()
    first.close()
