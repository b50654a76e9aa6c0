"""What cases that are a conversation share: the client, the entry, and the steps that recur."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.conformance.catalogue import Entry
from tests.conformance.exchanges import Complaint, demand
from tests.conformance.judge import ANY_STATUS_LINE, CRASH, HANG, MALFORMED, STAYS_OPEN, WRONG, Miss, says_close
from tests.conformance.replay import Subject
from tests.support import ProtocolError, RawClient, Response

PIECE = b"x" * 65_536


@dataclass
class Talk:
    """A conversation with a server."""

    subject: Subject

    @contextlib.contextmanager
    def client(self, patience: float = 1.0) -> Iterator[RawClient]:
        """A connection whose reads take this many times the subject's patience at most."""
        with RawClient(self.subject.address, patience * self.subject.patience, ANY_STATUS_LINE) as client:
            yield client

    def still_serves(self) -> None:
        """A new connection is answered."""
        with self.client(3.0) as client:
            client.send(b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            demand(client.receive().status == 200, "a later connection is not served", CRASH)

    def wait_for(self, line: str, what: str) -> None:
        """The probe tells a line that begins so."""
        came = self.subject.journal.wait_for(
            lambda lines: any(each.startswith(line) for each in lines), self.subject.patience
        )
        demand(came, what)

    def count(self, line: str) -> int:
        """How often the probe told this line since the case began."""
        return self.subject.journal.lines.count(line)


@dataclass(frozen=True)
class ScriptCase(Entry):
    """A conversation."""

    steps: Callable[[Talk], None]
    needs: str = ""
    """The option that the server must have for it, set to a short time or a low limit."""
    linux: bool = False
    """Whether it looks into /proc."""

    def run(self, subject: Subject) -> Miss | None:
        """Holds the conversation and gives how it was missed."""
        subject.revive()
        subject.journal.take()
        try:
            self.steps(Talk(subject))
        except Complaint as complaint:
            missed: Miss | None = complaint.miss
        except TimeoutError:
            missed = Miss(HANG, "neither an answer nor an end")
        except ProtocolError as error:
            missed = Miss(MALFORMED, str(error)[:300])
        except OSError as error:
            missed = Miss(WRONG, f"{type(error).__name__}: {error}")
        else:
            missed = None
        if subject.revive():
            return Miss(CRASH, "the server ended")
        return missed


SCRIPTS: list[ScriptCase] = []


def script(
    name: str,
    section: str,
    rule: str,
    sentence: str,
    *,
    needs: str = "",
    promise: bool = False,
    linux: bool = False,
) -> Callable[[Callable[[Talk], None]], Callable[[Talk], None]]:
    """Enters a conversation under its name."""

    def enter(steps: Callable[[Talk], None]) -> Callable[[Talk], None]:
        SCRIPTS.append(ScriptCase(name, section, rule, promise, sentence, steps, needs, linux))
        return steps

    return enter


def send_what_is_taken(client: RawClient, data: bytes) -> bool:
    """Sends, and gives whether the server was still there to take it."""
    try:
        client.send(data)
    except (ConnectionError, TimeoutError):
        return False
    return True


def refuses(client: RawClient, *statuses: int) -> Response | None:
    """The server answers with one of the statuses, or with nothing, and closes."""
    if client.has_ended():
        return None
    response = client.receive()
    demand(response.status in statuses, f"status {response.status}, expected {' or '.join(map(str, statuses))}")
    ends(client)
    return response


def ends(client: RawClient) -> None:
    """The stream ends without another byte."""
    try:
        client.expect_end()
    except TimeoutError:
        raise Complaint(STAYS_OPEN, "the connection is still open") from None


def in_step(client: RawClient, response: Response, *, may_close: bool = False) -> None:
    """The next request is answered as such, or the connection closes, which the response has announced.

    Parameters:
        may_close: whether it may do so unannounced, because a body was left unread.
    """
    if not says_close(response):
        took = send_what_is_taken(client, b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        if may_close and (not took or client.has_ended()):
            return
        following = client.receive()
        demand(following.body.startswith(b"GET /last"), f"the next answer was {following.body[:80]!r}", MALFORMED)
    ends(client)


def reset(client: RawClient) -> None:
    """Closes so that the server gets RST instead of FIN."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
