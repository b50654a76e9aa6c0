"""Whatever an application does costs its own request, and not the process, other requests or the end of the server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import PATIENCE, environment

PROGRAM = """
import resource, socket, sys, threading, time
from wsgi.server import WSGIServer

inside = threading.Semaphore(0)

def ask(path, length=0, block=bytes(1 << 20)):
    client = socket.create_connection(server.server_address)
    client.sendall(f"POST {path} HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: {length}\\r\\n\\r\\n".encode())
    try:
        for _ in range(length // len(block)):
            client.sendall(block)
    except ConnectionError:
        pass  # Refused while it was sent: the answer is there all the same.
    return client

def status(client):
    return client.recv(1000)[:12].decode()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of its own to its end, which must be one that it chose."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, "fatal" in done.stderr.lower()) == (0, False), done.stderr
    return done


# -- the end of the program -------------------------------------------------------------------------------------------

PLACES = {
    "a call": "spin()",
    "a piece": "start_response('200 OK', []); return Pieces()",
    "a file": "start_response('200 OK', []); return environ['wsgi.file_wrapper'](Slow())",
    "a close": "start_response('200 OK', []); return Closed()",
    "a read": "Slow().spin_on(environ['wsgi.input'].read)",
    "a write": "Slow().spin_on(start_response('204 No Content', []), b'x')",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_program_ends_as_it_wants_while_the_application_computes(place: str) -> None:
    program = f"""
def spin():
    inside.release()
    while True:
        time.sleep(0.0001)

class Slow:
    def read(self, size):
        spin()

    def spin_on(self, call, *arguments):
        inside.release()
        while True:
            try:
                call(*arguments)
            except OSError:
                pass  # The request was cut, which this application does not want to know.

class Pieces:
    def __iter__(self):
        return self

    def __next__(self):
        spin()

class Closed(list):
    def close(self):
        spin()

def app(environ, start_response):
    {place}

server = WSGIServer(port=0, app=app, threads=3, graceful_timeout=0)
server.__enter__()
clients = [ask("/") for _ in range(2)]
for _ in clients:
    inside.acquire()
"""
    done = run(program)
    assert "gave up waiting for requests that are still running: wsgi-worker-" in done.stderr


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by what /proc says is in use")
@pytest.mark.parametrize("call", ["read()", "read(1 << 29)", "readline()", "readlines()"])
def test_body_that_memory_has_no_room_for_costs_its_request(call: str) -> None:
    program = f"""
def app(environ, start_response):
    if environ["PATH_INFO"] == "/large":
        environ["wsgi.input"].{call}
    start_response("200 OK", [])
    return []

with WSGIServer(port=0, app=app, threads=2) as server:
    print(status(ask("/")))
    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (150 << 20), resource.RLIM_INFINITY))
    print(status(ask("/large", 200 << 20)))
    print(status(ask("/")))
"""
    done = run(program)
    assert done.stdout.split("\n") == ["HTTP/1.1 200", "HTTP/1.1 500", "HTTP/1.1 200", ""]
    assert done.stderr.count("MemoryError") == 1


# -- processes --------------------------------------------------------------------------------------------------------

RETURNS = {
    "returns": "return [b'child']",
    "raises": "raise OSError('there is no such program')",
    "exits": "sys.exit()",
    "iterates": "return iter([b'child'])",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("what", RETURNS.values(), ids=RETURNS)
@pytest.mark.parametrize("where", ["call", "iteration", "close"])
def test_child_that_comes_back_from_the_application_is_ended_and_answers_nobody(where: str, what: str) -> None:
    program = f"""
import os, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks among threads.
children = []

def fork():
    child = os.fork()
    if child:
        children.append(child)
        # It is not there any more when the parent answers.
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    return not child

class Content(list):
    def __iter__(self):
        if {where!r} == "iteration":
            if fork():
                {what}
        yield b"parent"

    def close(self):
        if {where!r} == "close" and fork():
            {what}

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/fork":
        if {where!r} == "call" and fork():
            {what}
        return Content()
    return [b"parent"]

with WSGIServer(port=0, app=app, threads=2) as server:
    for path in ["/fork", "/", "/fork", "/"]:
        answer = ask(path).recv(1000)
        print(answer.startswith(b"HTTP/1.1 200 "), answer.count(b"parent"), answer.count(b"child"))
print(len(children))
"""
    done = run(program)
    assert done.stdout.split("\n") == [*["True 1 0"] * 4, "2", ""]
    assert done.stderr.count("a process that the application forked returned to the server") == 2
