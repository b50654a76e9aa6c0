"""What an application keeps of a request is that request's for ever: the server uses such objects again only where
nobody can notice.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinMethodType
from typing import Any

import pytest

from tests.server.recording import Environ, Start, answer
from tests.support import RawClient, serve

REQUESTS = 5
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

KEPT: dict[str, Callable[[Environ, Start], Any]] = {
    "environ": lambda environ, start_response: environ,
    "input": lambda environ, start_response: environ["wsgi.input"],
    "a method of the input": lambda environ, start_response: environ["wsgi.input"].read,
    "start_response": lambda environ, start_response: start_response,
    "early_hints": lambda environ, start_response: environ["wsgi.early_hints"],
    "client_disconnected": lambda environ, start_response: environ["wsgi.client_disconnected"],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_serves_no_other_request(name: str) -> None:
    kept: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        kept.append(KEPT[name](environ, start_response))
        return answer(start_response, environ["wsgi.input"].read(3))

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for number in range(REQUESTS):
            http.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%d..%d" % (number, number))
            assert http.receive("POST").body == b"%d.." % number
        assert len({id(thing) for thing in kept}) == REQUESTS
        for number, thing in enumerate(kept):
            if name == "environ":
                assert thing["wsgi.input"].read() == b"%d" % number
            elif name == "input":
                assert thing.read() == b"%d" % number
            elif name == "a method of the input":
                assert thing() == b"%d" % number
            elif name == "start_response":
                # The first call was answered long ago.
                with pytest.raises(AssertionError, match="called before"):
                    thing("200 OK", [])
            elif name == "early_hints":
                thing([("Link", "</a>")])
            else:
                assert thing() is False
        # Nothing of that reached the client, for whom another request is answered.
        http.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert http.receive().body == b""


def test_write_that_is_kept_speaks_to_no_other_request() -> None:
    kept: list[Callable[[bytes], object]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        for write in kept:
            with pytest.raises(RuntimeError, match="complete"):
                write(b"of an earlier response")
        kept.append(start_response("200 OK", [("Content-Length", "2")]))
        return [b"ok"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert http.receive().body == b"ok"


def test_nothing_of_one_body_is_left_to_the_next_request() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, environ["wsgi.input"].read() if environ["QUERY_STRING"] else b"unread")

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for size in (10, 100_000, 10_000_000):
            http.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, b"x" * size)
            assert http.receive("POST").body == b"unread"
            http.send(b"GET /?read HTTP/1.1\r\nHost: a\r\n\r\n")
            assert http.receive().body == b""


# -- Ways to what a request was given that count as no reference while the server looks ------------------------------


Reach = Callable[[], Any]


def by_weak_reference(thing: Any) -> Reach:
    return weakref.ref(thing)


def by_weak_proxy(thing: Any) -> Reach:
    proxy = weakref.proxy(thing)

    def reach() -> Any:
        try:
            return proxy.__self__
        except ReferenceError:
            return None

    return reach


def by_weak_mapping(thing: Any) -> Reach:
    mapping = weakref.WeakValueDictionary({"kept": thing})
    return lambda: mapping.get("kept")


def by_weak_set(thing: Any) -> Reach:
    kept = weakref.WeakSet([thing])
    return lambda: next(iter(kept), None)


def by_finalizer(thing: Any) -> Reach:
    finalizer = weakref.finalize(thing, int)
    finalizer.atexit = False

    def reach() -> Any:
        found = finalizer.peek()
        return found and found[0]

    return reach


WEAKLY = [by_weak_reference, by_weak_proxy, by_weak_mapping, by_weak_set, by_finalizer]
METHODS = ["start_response", "write", "early_hints", "client_disconnected"]


def methods(environ: Environ, start_response: Start) -> dict[str, Any]:
    """The methods that a call is given; begins the response."""
    write = start_response("200 OK", [("Content-Length", "2")])
    hints, gone = environ["wsgi.early_hints"], environ["wsgi.client_disconnected"]
    return dict(zip(METHODS, [start_response, write, hints, gone], strict=True))


@pytest.mark.parametrize("reaching", WEAKLY, ids=lambda reaching: reaching.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_weak_reference_leads_to_no_later_request(name: str, reaching: Callable[[Any], Reach]) -> None:
    kept: list[Reach] = []
    found: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        found.extend(reach() for reach in kept)
        kept.append(reaching(methods(environ, start_response)[name]))
        return [b"ok"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(GET)
            assert http.receive().body == b"ok"
    assert len(found) == REQUESTS * (REQUESTS - 1) // 2
    assert set(found) == {None}


def test_weak_reference_that_is_gone_costs_nothing() -> None:
    seen: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(id(start_response.__self__))  # type: ignore[attr-defined]
        assert weakref.ref(start_response)() is start_response
        return answer(start_response, b"ok")

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(GET)
            assert http.receive().body == b"ok"
    # It is used again, as without the weak reference.
    assert len(set(seen)) == 1


@pytest.mark.parametrize("name", METHODS)
def test_attribute_that_is_set_is_seen_by_no_later_request(name: str) -> None:
    seen: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        method = methods(environ, start_response)[name]
        seen.append(method.__module__)
        method.__module__ = f"of request {len(seen)}"
        return [b"ok"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(GET)
            assert http.receive().body == b"ok"
    assert seen == [None] * REQUESTS


def test_objects_of_a_call_can_carry_nothing_else() -> None:
    # What can is looked for before an object is used again: these would have to be, too.
    checked: list[str] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        given = methods(environ, start_response)
        call = start_response.__self__  # type: ignore[attr-defined]
        for thing in (call, environ["wsgi.input"]):
            with pytest.raises(TypeError):
                weakref.ref(thing)
        for thing in (call, environ["wsgi.input"], *given.values()):
            assert not hasattr(thing, "__dict__")
            for attribute in dir(thing):
                if attribute not in ("__module__", "__class__"):
                    with pytest.raises((AttributeError, TypeError)):
                        setattr(thing, attribute, getattr(thing, attribute))
            with pytest.raises(AttributeError):
                thing.user = "secret"
            checked.append(type(thing).__name__)
        return [b"ok"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        http.send(GET)
        assert http.receive().body == b"ok"
    assert len(checked) == 6


def in_traceback(start_response: Start) -> Any:
    def fail(start_response: Start) -> None:
        raise LookupError

    try:
        fail(start_response)
    except LookupError as error:
        return error


def in_context(start_response: Start) -> Any:
    VARIABLE.set(start_response)
    return contextvars.copy_context()


def in_generator(start_response: Start) -> Any:
    def frame(start_response: Start) -> Iterator[None]:
        yield

    generator = frame(start_response)
    next(generator)
    return generator


def in_profiler(start_response: Start) -> Any:
    kept: list[Any] = []
    sys.setprofile(lambda frame, event, argument: kept.append((frame, argument)))
    try:
        start_response("200 OK", [("Content-Length", "2")])
    finally:
        sys.setprofile(None)
    return kept


def in_cycle(start_response: Start) -> Any:
    cycle: list[Any] = [start_response]
    cycle.append(cycle)
    return None


def in_thread(start_response: Start) -> Any:
    # Waits inside a call that was handed it.
    opened = threading.Event()
    thread = threading.Thread(
        target=max, args=([start_response, start_response],), kwargs={"key": lambda _: opened.wait(10)}
    )
    thread.start()
    return opened, thread


VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE")
STRONGLY = [in_traceback, in_context, in_generator, in_profiler, in_cycle, in_thread]


@pytest.mark.parametrize("keep", STRONGLY, ids=lambda keep: keep.__name__)
def test_what_holds_a_reference_anywhere_serves_no_later_request(keep: Callable[[Start], Any]) -> None:
    kept: list[Any] = []
    calls: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        calls.append(id(start_response.__self__))  # type: ignore[attr-defined]
        kept.append(keep(start_response))
        if keep is not in_profiler:
            start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    gc.collect()
    gc.disable()
    try:
        with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
            for _ in range(REQUESTS):
                http.send(GET)
                assert http.receive().body == b"ok"
    finally:
        gc.enable()
        for each in kept:
            if keep is in_thread:
                each[0].set()
                each[1].join()
    assert len(set(calls)) == REQUESTS


def test_objects_that_the_collector_lists_between_requests_serve_no_other() -> None:
    calls: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        calls.append(id(start_response.__self__))  # type: ignore[attr-defined]
        return answer(start_response, environ["HTTP_X_SECRET"].encode())

    def is_of_the_worker(thing: Any) -> bool:
        if type(thing) is BuiltinMethodType:  # A lazy object of another package may fail to tell its class.
            return id(thing.__self__) in calls
        return type(thing) is dict and str(thing.get("HTTP_X_SECRET")).startswith("of the test")

    def ask(http: RawClient, secret: str) -> None:
        http.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Secret: %b\r\n\r\n" % secret.encode())
        assert http.receive().body == secret.encode()

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for number in range(4):
            ask(http, f"of the test {number}")
        # The worker waits, and keeps these for its next request.
        kept = [thing for thing in gc.get_objects() if is_of_the_worker(thing)]
        before = set(calls)
        environs = [thing for thing in kept if isinstance(thing, dict)]
        assert len(before) == 1
        assert (len(environs), len(kept)) == (1, 1 + len(METHODS))
        # What is written there is not what others read, and what others send is not read there.
        environs[0]["HTTP_X_SECRET"] = "forged"
        for number in range(4):
            ask(http, f"of another test {number}")
        assert not before & set(calls[4:])
        assert environs[0]["HTTP_X_SECRET"] == "forged"
        assert environs[0]["wsgi.input"] is environs[0]["wsgi.early_hints"] is None


def test_dicts_that_refer_to_the_input_lead_to_no_later_request() -> None:
    kept: list[Any] = []
    inputs: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        inputs.append(id(environ["wsgi.input"]))
        if len(inputs) == 4:
            # What later environs are copied from.
            referrers = gc.get_referrers(environ["wsgi.input"])
            kept.extend(each for each in referrers if isinstance(each, dict) and each is not environ)
        return answer(start_response, environ["wsgi.input"].read() + environ["PATH_INFO"].encode())

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for number in range(8):
            http.send(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % number)
            assert http.receive("POST").body == b"x/%d" % number
    assert len(set(inputs[:4])) == 1
    (environ,) = kept
    assert environ["PATH_INFO"] == "/3"
    assert environ["wsgi.input"] is None


def test_objects_serve_again_where_nothing_leads_to_them() -> None:
    # Else the tests above would show nothing.
    calls: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        calls.append(id(start_response.__self__))  # type: ignore[attr-defined]
        return answer(start_response, environ["wsgi.input"].read())

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(GET)
            assert http.receive().body == b""
    assert len(set(calls)) == 1
