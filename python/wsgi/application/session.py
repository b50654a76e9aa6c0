"""The session of a client: a mapping that is loaded when it is first used. `SessionMiddleware` stores it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

__all__ = ["Session"]


class Session(MutableMapping[str, Any]):
    """The data of one client, kept from one request to the next.

    Keys are `str`; values are JSON values, and are returned as JSON gives them: a tuple as a list. The client can read
    them (they are signed, not encrypted) and can send an older cookie again. The session is loaded when it is first
    used, and stored if it was changed. After a change inside a value, set `session.modified = True`, which also
    restarts `max_age`. A login should begin with `session.clear()`.
    """

    def __init__(self, load: Callable[[], dict[str, Any] | None]) -> None:
        self._load = load
        self._values: dict[str, Any] | None = None
        self._new = False
        self.modified = False
        """Whether the cookie has to be written."""

    @property
    def accessed(self) -> bool:
        """Whether the session was read or changed, so that the response depends on the cookie."""
        return self._values is not None or self.modified

    @property
    def new(self) -> bool:
        """Whether the request brought no session, or none that is valid."""
        self._stored()
        return self._new

    def _stored(self) -> dict[str, Any]:
        if self._values is None:
            loaded = self._load()
            self._new = loaded is None
            self._values = loaded or {}
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._stored()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"the keys of a session must be str, not {type(key).__name__}")
        self._stored()[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._stored()[key]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored())

    def __len__(self) -> int:
        return len(self._stored())

    def __repr__(self) -> str:
        # The names alone: a repr ends up in logs.
        return f"<Session {', '.join(self._values or ())}>"
