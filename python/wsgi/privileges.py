"""The user and group that an application runs as: the options `user` and `group`.

A supervisor stays as it was started, and its workers give up their privileges before they import the application. A
single process gives them up when it listens, before the import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from wsgi.errors import ConfigError, StartupError

__all__ = ["Identity", "Need", "find_identity", "give_file", "require_access"]


# The number above it stands for "unchanged" in system calls.
_MAX_ID = (1 << 32) - 2


@dataclass(frozen=True)
class Identity:
    """A user with its groups.

    Parameters:
        uid: the user; None: as the process has it.
        gid: the primary group.
        groups: the supplementary groups, the primary one included.
        name: the user's and the group's names, for messages.
        environment: HOME, LOGNAME and USER, of a user in the system's database.
    """

    uid: int | None
    gid: int
    groups: tuple[int, ...]
    name: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether this process has this user and group already, and no right to change them."""
        uid = os.getuid() if self.uid is None else self.uid
        return 0 not in (os.getuid(), os.geteuid()) and (uid, uid, self.gid, self.gid) == (
            os.getuid(),
            os.geteuid(),
            os.getgid(),
            os.getegid(),
        )

    def assume(self) -> None:
        """Changes this process to the user and the groups, for good. The environment's HOME, LOGNAME and USER follow.

        Raises:
            StartupError: the system refuses it, or the process could go back.
        """
        if self.is_current:
            return
        try:
            # In this order: each step needs the rights that a later one takes away.
            os.setgroups(self.groups)
            _set_all("gid", self.gid)
            if self.uid is not None:
                _set_all("uid", self.uid)
        except OSError as error:
            raise StartupError(
                f"cannot run as {self.name}: {error.strerror}; start the server as root, or leave out user and group "
                "and set them in the service manager"
            ) from None
        self._verify()
        os.environ.update(self.environment)

    def _verify(self) -> None:
        has_changed = (os.getgid(), os.getegid()) == (self.gid, self.gid) and set(os.getgroups()) <= {
            self.gid,
            *self.groups,
        }
        if self.uid is not None:
            has_changed = has_changed and (os.getuid(), os.geteuid()) == (self.uid, self.uid)
        if has_changed and os.geteuid() != 0:
            # With the capabilities CAP_SETUID or CAP_SETGID the process could become what it was.
            with suppress(OSError):
                os.seteuid(0)
                has_changed = False
            with suppress(OSError):
                os.setgroups(self.groups)
                has_changed = False
        if not has_changed:
            raise StartupError(
                f"cannot run as {self.name}: the process keeps rights of the user that started it; start the server as "
                "root, without inherited capabilities"
            )


def _set_all(kind: str, number: int) -> None:
    """Sets the real, the effective and the saved id."""
    if hasattr(os, f"setres{kind}"):
        getattr(os, f"setres{kind}")(number, number, number)
    else:
        # Root's call changes all three.
        getattr(os, f"set{kind}")(number)


def find_identity(user: str | None, group: str | None, origin: Callable[[str], str]) -> Identity | None:
    """Finds a user and a group, each by name or number; None if neither is given.

    Parameters:
        origin: tells where the option of a name came from.

    Raises:
        ConfigError: there is no such user or group.
    """
    if user is None and group is None:
        return None
    # Imported here, because most starts have neither. Unix only.
    import grp
    import pwd

    gid: int | None = None
    if group is not None:
        try:
            gid = _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigError(
                f"group: there is no group {group!r} (from {origin('group')}); make it, or give its number"
            ) from None
    if user is None:
        assert gid is not None
        return Identity(None, gid, (gid,), f"group {group!r}")
    try:
        entry = pwd.getpwuid(_number(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdecimal() or int(user) > _MAX_ID:
            raise ConfigError(
                f"user: there is no user {user!r} (from {origin('user')}); make it, or give its number and group"
            ) from None
        if gid is None:
            raise ConfigError(
                f"user: {user} has no entry in the system's database of users (from {origin('user')}); give group too"
            ) from None
        return Identity(int(user), gid, (gid,), f"user {user}")
    gid = entry.pw_gid if gid is None else gid
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    environment = (("HOME", entry.pw_dir), ("LOGNAME", entry.pw_name), ("USER", entry.pw_name))
    return Identity(entry.pw_uid, gid, groups, f"user {entry.pw_name!r}", environment)


def _number(text: str) -> int:
    """The number of a user or a group.

    Raises:
        KeyError: there can be none with it.
    """
    number = int(text)
    if number > _MAX_ID:
        raise KeyError(text)
    return number


def give_file(path: str, identity: Identity, kind: Callable[[int], bool]) -> None:
    """Gives a file that this process has made to another user. Does nothing for a file of another kind or owner, and
    for one with several names: an owner of the directory could have put it there.

    Parameters:
        path: the file.
        identity: who gets it.
        kind: `stat.S_ISREG` or `stat.S_ISSOCK`.

    Raises:
        OSError: the system refuses it.
    """
    uid = -1 if identity.uid is None else identity.uid
    if not hasattr(os, "O_PATH"):
        found = os.lstat(path)
        if _is_ours(found, kind):
            os.chown(path, uid, identity.gid, follow_symlinks=False)
        return
    # Checked and changed by one descriptor: the path may lead elsewhere a moment later.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_ours(os.fstat(descriptor), kind):
            os.chown(f"/proc/self/fd/{descriptor}", uid, identity.gid)
    finally:
        os.close(descriptor)


def _is_ours(found: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return kind(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


@dataclass(frozen=True)
class Need:
    """What a user must be allowed to do with a path.

    Parameters:
        option: the option that named the path, for messages.
        path: a file or a directory.
        mode: bits of `os.access`.
    """

    option: str
    path: str
    mode: int

    def __str__(self) -> str:
        return "write" if self.mode & os.W_OK else "read"


def require_access(identity: Identity, needs: Iterable[Need]) -> None:
    """Checks what the user needs later, in a child process that has become this user. No thread may run yet.

    Raises:
        StartupError: the process may not become this user, or the user may not use a path.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _check(writing, identity, needs)
    os.close(writing)
    with open(reading, "rb") as pipe:
        problem = pipe.read().decode("utf-8", "surrogateescape")
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
    if problem:
        raise StartupError(problem)


def _check(writing: int, identity: Identity, needs: Iterable[Need]) -> NoReturn:
    """The child: sends the first problem and ends."""
    try:
        try:
            identity.assume()
            problem = next((_described(need, identity) for need in needs if not os.access(need.path, need.mode)), "")
        except StartupError as error:
            problem = str(error)
        except BaseException as error:
            problem = f"cannot check the rights of {identity.name}: {type(error).__name__}: {error}"
        os.write(writing, problem.encode("utf-8", "surrogateescape"))
    finally:
        os._exit(0)


def _described(need: Need, identity: Identity) -> str:
    return (
        f"{need.option}: {identity.name} may not {need} {need.path!r}; change its owner or mode, or that of a "
        "directory above it"
    )
