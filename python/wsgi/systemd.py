"""Talks to systemd: takes the sockets that it passes, and tells it what the server does.

Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3), systemd.service(5).
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from contextlib import suppress

from wsgi.errors import ConfigError
from wsgi.logging import escaped, report

__all__ = ["Notifier", "close_unused", "forget", "take_sockets", "watchdog_seconds"]

_FIRST_DESCRIPTOR = 3
# sd_listen_fds(3): what a socket without a name is called.
_UNNAMED = "unknown"
_SOCKET_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
_MESSAGE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
# A shorter interval than this passes while a busy machine runs other processes.
_MIN_WATCHDOG_SECONDS = 1.0
# How long a message may wait for a manager that does not read. A supervisor must go on meanwhile.
_SEND_SECONDS = 1.0


def take_sockets(environ: Mapping[str, str], warn: Callable[[str], object]) -> list[tuple[str, int]]:
    """Gives name and descriptor of each socket that systemd has passed to this process.

    Parameters:
        environ: the process's environment.
        warn: called with one line if the sockets are another process's.

    Raises:
        ConfigError: the variables are malformed, or a descriptor is not open.
    """
    count, pid, names = (environ.get(name) for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"))
    if not count:
        return []
    if pid is None or pid != str(os.getpid()):
        owner = "no process: LISTEN_PID is not set" if pid is None else f"process {pid} (LISTEN_PID)"
        warn(
            f"LISTEN_FDS is ignored: it is for {owner}, and this is process {os.getpid()}; let the service start the "
            "server itself, or by exec"
        )
        return []
    if not (count.isdecimal() and count.isascii() and len(count) < 8):
        raise ConfigError("LISTEN_FDS must be a number of sockets; let systemd set it, or remove it")
    numbers = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    labels = names.split(":") if names else []
    sockets = []
    for index, number in enumerate(numbers):
        try:
            # Programs that the application starts must not hold the server's sockets.
            os.set_inheritable(number, False)
        except OSError as error:
            raise ConfigError(
                f"LISTEN_FDS: descriptor {number} is not open ({error.strerror}), though {count} were passed; start "
                "the server without a wrapper that closes descriptors"
            ) from None
        label = labels[index] if index < len(labels) else ""
        sockets.append((label or _UNNAMED, number))
    return sockets


def close_unused(sockets: Iterable[tuple[str, int]], used: Collection[int], warn: Callable[[str], object]) -> None:
    """Closes the sockets that the server does not listen on: clients would wait there for ever.

    Parameters:
        sockets: as `take_sockets` gave them.
        used: descriptors that the server has taken.
    """
    unused = [(name, number) for name, number in sockets if number not in used]
    if not unused:
        return
    for _, number in unused:
        with suppress(OSError):
            os.close(number)
    names = ", ".join(f"{name} (descriptor {number})" for name, number in unused)
    warn(
        f"sockets of systemd are not used, because other addresses were given: {names}; leave out bind, host and port, "
        "or name them by --bind fd://NAME"
    )


def forget(environ: MutableMapping[str, str]) -> None:
    """Removes the variables by which systemd is told something: programs that an application starts must not speak for
    the server."""
    for name in (*_SOCKET_VARIABLES, *_MESSAGE_VARIABLES):
        environ.pop(name, None)


def watchdog_seconds(environ: Mapping[str, str], warn: Callable[[str], object]) -> float | None:
    """The interval within which the watchdog must be fed; None without a watchdog.

    Parameters:
        warn: called with one line if the watchdog waits for another process.

    Raises:
        ConfigError: the interval is malformed, or too short to be kept.
    """
    text, pid = environ.get("WATCHDOG_USEC"), environ.get("WATCHDOG_PID")
    if text is None:
        return None
    if pid is not None and pid != str(os.getpid()):
        warn(
            f"WATCHDOG_USEC is ignored: the watchdog waits for process {pid} (WATCHDOG_PID), and this is process "
            f"{os.getpid()}; let the service start the server itself, or by exec"
        )
        return None
    if not environ.get("NOTIFY_SOCKET"):
        warn("WATCHDOG_USEC is ignored: NOTIFY_SOCKET is not set; set Type=notify or NotifyAccess=main in the service")
        return None
    if not (text.isdecimal() and text.isascii() and len(text) < 20 and int(text) > 0):
        raise ConfigError("WATCHDOG_USEC must be a number of microseconds; set WatchdogSec= in the service")
    seconds = int(text) / 1e6
    if seconds < _MIN_WATCHDOG_SECONDS:
        raise ConfigError(
            f"WATCHDOG_USEC: a watchdog interval of {seconds:g} s is too short to be kept; set WatchdogSec= to "
            f"{_MIN_WATCHDOG_SECONDS:g} s or more in the service"
        )
    return seconds


class Notifier:
    """Sends messages to the service manager; none if there is no socket for them.

    Parameters:
        address: the value of NOTIFY_SOCKET; None: there is no manager.
        main_pid: the process that the manager has started, if it is known.

    Thread-safety: every method may be called from any thread.
    """

    def __init__(self, address: str | None = None, main_pid: str | None = None) -> None:
        self._address: str | None = address or None
        self._status = ""
        self._is_stopping = False
        # Said once, until a message is taken again.
        self._has_failed = False
        # The manager takes messages of the process that it has started; one behind a wrapper tells its number.
        self._main = "" if main_pid in (None, str(os.getpid())) else f"\nMAINPID={os.getpid()}"
        if self._address is not None and self._address[0] not in "/@":
            report(
                logging.WARNING,
                "NOTIFY_SOCKET is ignored: it is neither an absolute path nor an abstract name; messages to the "
                "service manager need a Unix socket",
            )
            self._address = None

    def ready(self, status: str) -> None:
        """The server serves, for the first time or after a reload."""
        self._status = status
        self._send(f"READY=1{self._main}\nSTATUS={escaped(status)}")

    def reloading(self, status: str) -> None:
        """A reload has begun."""
        self._status = status
        # systemd holds it against the time at which it asked for the reload.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS={escaped(status)}")

    def stopping(self, status: str) -> None:
        """A stop has begun, or goes on."""
        if self._is_stopping:
            self.status(status)
            return
        self._is_stopping, self._status = True, status
        self._send(f"STOPPING=1\nSTATUS={escaped(status)}")

    def status(self, status: str) -> None:
        """What the server does now; the same line is sent once."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={escaped(status)}")

    def feed_watchdog(self) -> None:
        """The server is alive."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        address = self._address
        if address is None:
            return
        name = os.fsencode(f"\0{address[1:]}" if address.startswith("@") else address)
        try:
            # One socket for each message, because an application may close descriptors that are not its own.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                # Of a connected socket the kernel knows when the manager has room for the message.
                sender.connect(name)
                sender.send(message.encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                reason = error.strerror or str(error)
                report(logging.WARNING, f"cannot send a message to the service manager (NOTIFY_SOCKET): {reason}")
        else:
            self._has_failed = False
