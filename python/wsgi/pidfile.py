"""The file with the number of the server's process: the option `pidfile`."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from wsgi.errors import ConfigError
from wsgi.logging import report

__all__ = ["PidFile"]

# More than any process has as its number, in bytes.
_MAX_BYTES = 32
# The start of a process is known to a hundredth of a second, the time of a file in clock ticks of the kernel.
_SLACK_SECONDS = 1.0


class PidFile:
    """A pidfile, which belongs to the process that made this object.

    Parameters:
        path: where it is; a relative path is that of the directory of this moment.
        owner: the process that may have it already; default: this one. Only the owner writes and removes it.

    Raises:
        ConfigError: a live process has the file, or it cannot be written there.
    """

    def __init__(self, path: str, owner: int | None = None) -> None:
        self.path = os.path.abspath(path)
        self._shown = path
        # A forked child leaves the file to its parent.
        self._process = os.getpid() if owner is None else owner
        self._is_written = False
        self._refuse_live()
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise ConfigError(f"pidfile: the directory of {path!r} does not exist; make it, or choose another path")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"pidfile: {path!r} cannot be written: its directory is not writable; choose one of the server's own"
            )

    def write(self) -> None:
        """Writes the file, which appears whole or not at all; does nothing if it is written.

        Raises:
            ConfigError: a live process has the file by now, or it cannot be written.
        """
        if self._is_written or os.getpid() != self._process:
            return
        self._refuse_live()
        temporary = f"{self.path}.{self._process}"
        try:
            # One that is left there was written by a process with this number, which has ended.
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, f"{self._process}\n".encode())
                # Others stop and reload the server by it, whatever the umask is.
                os.fchmod(descriptor, 0o644)
            finally:
                os.close(descriptor)
            os.replace(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise ConfigError(f"pidfile: cannot write {self._shown!r}: {error.strerror}") from None
        self._is_written = True

    def remove(self) -> None:
        """Removes the file if it has still the number of this process."""
        if not self._is_written or os.getpid() != self._process:
            return
        self._is_written = False
        try:
            if _read(self.path) == self._process:
                os.unlink(self.path)
        except OSError as error:
            report(logging.WARNING, f"pidfile: cannot remove {self._shown!r}: {error.strerror}")

    def _refuse_live(self) -> None:
        try:
            number = _read(self.path)
            written = os.stat(self.path).st_mtime
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"pidfile: cannot read {self._shown!r}: {error.strerror}") from None
        if number is None:
            raise ConfigError(
                f"pidfile: {self._shown!r} exists and holds no process number; remove it, or choose another path"
            )
        # After a restart of the machine, or in a container, a number may be another process's, or this one's.
        if number not in (0, self._process) and _has_lived_since(number, written):
            raise ConfigError(
                f"pidfile: {self._shown!r} belongs to process {number}, which runs; stop it, or choose another path"
            )


def _read(path: str) -> int | None:
    """The number in a pidfile, 0 for an empty file; None if the file holds something else."""
    # Not blocked by a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _MAX_BYTES).strip()
    finally:
        os.close(descriptor)
    if not content:
        return 0
    return int(content) if content.isdigit() else None


def _has_lived_since(number: int, written: float) -> bool:
    """Whether the process runs, and did when the file was written."""
    try:
        os.kill(number, 0)
    except PermissionError:
        pass  # It is another user's.
    except (OSError, OverflowError):
        return False
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        # Only Linux tells when a process began.
        return True
    if fields[0] in (b"Z", b"X"):
        return False
    # In ticks since the machine was started.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    began = time.time() - age
    return began <= written + _SLACK_SECONDS
