"""The process of the command: its environment, directory, user and name."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from wsgi.errors import ConfigError, StartupError
from wsgi.logging import report
from wsgi.pidfile import PidFile
from wsgi.service import Service
from wsgi.settings import Settings
from wsgi.systemd import Notifier, forget, watchdog_seconds

if TYPE_CHECKING:
    from wsgi.privileges import Identity, Need

__all__ = ["Process"]


class Process:
    """What the options of the group "Process" make of a process. Changes its environment, umask and directory at once.

    Parameters:
        settings: the options.

    Raises:
        ConfigError: there is no such user or group, or the directory cannot be entered.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.start_environ = dict(os.environ)
        """The environment without the variables of `env_file`, to read the options again."""
        self._of_file: set[str] = set()
        self._set_environment(settings)
        self._identity: Identity | None = None
        if settings.user is not None or settings.group is not None:
            # Imported late, because most starts change no user.
            from wsgi.privileges import find_identity

            self._identity = find_identity(settings.user, settings.group, settings.origin)
        if settings.umask is not None:
            os.umask(settings.umask)
        if settings.chdir != os.curdir:
            try:
                os.chdir(settings.chdir)
            except OSError as error:
                origin = settings.origin("chdir")
                raise ConfigError(
                    f"chdir: cannot change to {settings.chdir!r} (from {origin}): {error.strerror}"
                ) from None

    def _set_environment(self, settings: Settings) -> None:
        for name in self._of_file - settings.environment.keys():
            os.environ.pop(name, None)
        self._of_file = set(settings.environment)
        for name, value in settings.environment.items():
            # The bytes of the file, whatever the locale is.
            os.environb[name.encode()] = value.encode()

    @property
    def listens_first(self) -> bool:
        """Whether a single process must listen before it imports the application, which may not be able to."""
        return self._identity is not None and not self._identity.is_current

    def make_service(self, owner: int | None = None) -> Service:
        """What tells the system about the server.

        Parameters:
            owner: the process that may have the pidfile already; default: this one.

        Raises:
            ConfigError: a live process has the pidfile, or the watchdog's interval cannot be kept.
        """

        def warn(text: str) -> None:
            report(logging.WARNING, text)

        environ = os.environ
        pidfile = None if self._settings.pidfile is None else PidFile(self._settings.pidfile, owner)
        notifier = Notifier(environ.get("NOTIFY_SOCKET"), environ.get("SYSTEMD_EXEC_PID"))
        return Service(notifier, pidfile, watchdog_seconds(environ, warn))

    def give_files(self, addresses: Iterable[str], settings: Settings) -> None:
        """Gives the user the files that the server has made, and checks that the user may use what it needs later.

        Parameters:
            addresses: those of the server.
            settings: its options; after a reload they may be others than those of the start.

        Raises:
            StartupError: the user may not, or the process may not become this user.
        """
        identity = self._identity
        if identity is None or identity.is_current:
            return
        from wsgi.privileges import require_access

        for address in addresses:
            path = address.removeprefix("unix:")
            if path != address and not path.startswith("@"):
                self._give(identity, "bind", path)
        self.give_logs(settings)
        # All found before the user is changed.
        require_access(identity, list(self._needs(settings)))

    def give_logs(self, settings: Settings) -> None:
        """Gives the user the access log of these options; makes it first if it was moved. To be called before this
        process opens it.

        Raises:
            StartupError: the log cannot be opened, or is a symbolic link of another user's, which may lead anywhere.
        """
        path = settings.access_log
        if self._identity is None or self._identity.is_current or path is None or path == "-":
            return
        with suppress(FileNotFoundError):
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and found.st_uid != os.geteuid():
                raise StartupError(f"access_log: {path!r} is a symbolic link that another user made: remove it")
        if os.path.exists(path) and not os.path.isfile(path):
            # A pipe or a terminal, which is not opened again.
            return
        # A link of our own is followed, unless it was made just now.
        link = 0 if os.path.islink(path) else os.O_NOFOLLOW
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            os.close(os.open(path, flags | link, 0o666))
        except OSError as error:
            raise StartupError(f"access_log: cannot open {path!r}: {error.strerror}") from None
        self._give(self._identity, "access_log", path)

    def _give(self, identity: Identity, option: str, path: str) -> None:
        from wsgi.privileges import give_file

        try:
            give_file(path, identity, stat.S_ISSOCK if option == "bind" else stat.S_ISREG)
        except OSError as error:
            raise StartupError(f"{option}: cannot give {path!r} to {identity.name}: {error.strerror}") from None

    def _needs(self, settings: Settings) -> Iterator[Need]:
        from wsgi.privileges import Need

        yield Need("Python", os.__file__, os.R_OK)
        yield Need("wsgi", __file__, os.R_OK)
        yield Need("chdir", os.getcwd(), os.X_OK)
        yield Need("app_dir", os.path.abspath(settings.app_dir), os.R_OK | os.X_OK)
        # Opened again after it was moved. Other kinds of files, such as pipes, are not.
        if settings.access_log is not None and os.path.isfile(settings.access_log):
            yield Need("access_log", settings.access_log, os.W_OK)
        if settings.pidfile is not None and settings.workers is None:
            yield Need("pidfile", os.path.dirname(os.path.abspath(settings.pidfile)), os.W_OK | os.X_OK)

    def become_application(self, settings: Settings) -> None:
        """Makes this process the one that imports the application: gives up its privileges for good.

        Parameters:
            settings: its options; after a reload they may be others than those of the start.

        Raises:
            StartupError: the process may not become the user.
        """
        self._set_environment(settings)
        forget(os.environ)
        if self._identity is not None:
            self._identity.assume()
        if self._settings.workers is not None:
            self.set_title(is_worker=True)

    def set_title(self, *, is_worker: bool = False) -> None:
        """Sets the name that ps and top show, if there is one."""
        name = self._settings.process_name
        if name is None:
            return
        try:
            import setproctitle
        except ImportError:
            if not is_worker:
                text = "process_name has no effect without the package setproctitle: pip install setproctitle"
                report(logging.WARNING, text)
            return
        setproctitle.setproctitle(f"{name} worker" if is_worker else name)
