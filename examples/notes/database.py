"""The database: users, their keys, notes and attachments. All SQL of the example is here.

Every statement binds its values, and every statement about notes names the user they must belong to: a note of somebody
else is simply not found.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    folded_name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    kind TEXT NOT NULL,
    label TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    created TEXT NOT NULL,
    changed TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS notes_of_user ON notes (user_id, changed);
CREATE TABLE IF NOT EXISTS attachments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    note_id INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE,
    filename TEXT NOT NULL,
    size INTEGER NOT NULL,
    stored_as TEXT NOT NULL UNIQUE
);
CREATE INDEX IF NOT EXISTS attachments_of_note ON attachments (note_id);
"""

PAGE_SIZE = 12
"""Notes on one page of a list."""

SEARCH_WORDS = 8
"""Maximum number of words in a search: each is compared with all notes of the user."""

LOGIN_DAYS = 14
"""How long a browser stays logged in."""

KeyKind = Literal["browser", "token"]


class NameTaken(Exception):
    """Another user has the name already."""


@dataclass(frozen=True)
class User:
    id: int
    name: str


@dataclass(frozen=True)
class Token:
    id: int
    label: str
    created: str


@dataclass(frozen=True)
class Note:
    id: int
    title: str
    text: str
    created: str
    changed: str
    attachments: int


@dataclass(frozen=True)
class Attachment:
    id: int
    filename: str
    size: int
    stored_as: str


@dataclass(frozen=True)
class NotePage:
    """One page of a list of notes, counted from 1."""

    notes: list[Note]
    number: int
    pages: int
    total: int


class Database:
    """The SQLite file and the folder of attachments in the directory `data`. Safe to use from many threads."""

    def __init__(self, data: Path) -> None:
        self._path = data / "notes.sqlite3"
        self._folder = data / "attachments"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._idle: list[sqlite3.Connection] = []
        with self._connection() as connection:
            # With it, readers do not wait for the writer, nor the writer for readers.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)

    def close(self) -> None:
        """Closes unused connections."""
        while self._idle:
            self._idle.pop().close()

    # Users and keys

    def add_user(self, name: str, password: str) -> User:
        """Adds a user; `password` is a hash.

        Raises:
            NameTaken: another user has the name, regardless of case.
        """
        with self._transaction() as connection:
            try:
                cursor = connection.execute(
                    "INSERT INTO users (name, folded_name, password) VALUES (?, ?, ?)",
                    (name, name.casefold(), password),
                )
            except sqlite3.IntegrityError:
                raise NameTaken(name) from None
            return User(_new_id(cursor), name)

    def user_and_password(self, name: str) -> tuple[User, str] | None:
        """Returns the user of that name and the hash of their password."""
        row = self._row("SELECT id, name, password FROM users WHERE folded_name = ?", name.casefold())
        return (User(row["id"], row["name"]), row["password"]) if row else None

    def add_key(self, user: User, kind: KeyKind, label: str = "") -> str:
        """Makes a key of the user and returns it. Only its digest is stored."""
        key = secrets.token_urlsafe(32)
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM keys WHERE user_id = ? AND kind = 'browser' AND created < ?", (user.id, _oldest_login())
            )
            connection.execute(
                "INSERT INTO keys (user_id, kind, label, digest, created) VALUES (?, ?, ?, ?, ?)",
                (user.id, kind, label, _digest(key), _now()),
            )
        return key

    def user_of_key(self, kind: KeyKind, key: str) -> User | None:
        """Returns the user of a key."""
        row = self._row(
            "SELECT users.id, users.name FROM keys JOIN users ON users.id = keys.user_id"
            " WHERE keys.digest = ? AND keys.kind = ? AND (keys.kind = 'token' OR keys.created >= ?)",
            *(_digest(key), kind, _oldest_login()),
        )
        return User(row["id"], row["name"]) if row else None

    def tokens(self, user: User) -> list[Token]:
        """Lists the API tokens of a user, the oldest first."""
        rows = self._rows(
            "SELECT id, label, created FROM keys WHERE user_id = ? AND kind = 'token' ORDER BY id", user.id
        )
        return [Token(**row) for row in rows]

    def remove_token(self, user: User, token_id: int) -> None:
        """Revokes an API token."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM keys WHERE id = ? AND user_id = ? AND kind = 'token'", (_bounded(token_id), user.id)
            )

    def remove_key(self, key: str) -> None:
        """Deletes a key."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM keys WHERE digest = ?", (_digest(key),))

    # Notes

    def notes(self, user: User, search: str = "", page: int = 1) -> NotePage:
        """Lists the notes that contain every word of `search`, the last changed first.

        A page beyond the last is the last.
        """
        # SQLite reads a pattern up to its first NUL.
        where, values = "notes.user_id = ?", [user.id]
        patterns = [f"%{_escaped(word.casefold())}%" for word in search.replace("\0", " ").split()[:SEARCH_WORDS]]
        for _ in patterns:
            where += r" AND folded(notes.title || char(10) || notes.text) LIKE ? ESCAPE '\'"
        found = self._row(f"SELECT count(*) AS total FROM notes WHERE {where}", *values, *patterns)
        total = int(found["total"]) if found else 0
        pages = max(1, -(-total // PAGE_SIZE))
        page = min(max(1, page), pages)
        rows = self._rows(
            f"{_SELECT_NOTE} WHERE {where} ORDER BY notes.changed DESC, notes.id DESC LIMIT ? OFFSET ?",
            *(*values, *patterns, PAGE_SIZE, (page - 1) * PAGE_SIZE),
        )
        return NotePage([Note(**row) for row in rows], page, pages, total)

    @contextlib.contextmanager
    def every_note(self, user: User) -> Iterator[Iterator[Note]]:
        """Yields an iterator over all notes of the user, the oldest first, which reads them one by one."""
        with self._connection() as connection:
            rows = connection.execute(f"{_SELECT_NOTE} WHERE notes.user_id = ? ORDER BY notes.id", (user.id,))
            try:
                yield (Note(**row) for row in rows)
            finally:
                rows.close()

    def note(self, user: User, note_id: int) -> Note | None:
        """Returns a note of the user."""
        row = self._row(f"{_SELECT_NOTE} WHERE notes.id = ? AND notes.user_id = ?", _bounded(note_id), user.id)
        return Note(**row) if row else None

    def add_note(self, user: User, title: str, text: str) -> int:
        """Adds a note and returns its number."""
        with self._transaction() as connection:
            now = _now()
            cursor = connection.execute(
                "INSERT INTO notes (user_id, title, text, created, changed) VALUES (?, ?, ?, ?, ?)",
                (user.id, title, text, now, now),
            )
            return _new_id(cursor)

    def change_note(self, user: User, note_id: int, title: str, text: str) -> None:
        """Updates title and text of a note of the user."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE notes SET title = ?, text = ?, changed = ? WHERE id = ? AND user_id = ?",
                (title, text, _now(), _bounded(note_id), user.id),
            )

    def remove_note(self, user: User, note_id: int) -> None:
        """Removes a note of the user with its attachments."""
        files = [self.path(attachment) for attachment in self.attachments(user, note_id)]
        with self._transaction() as connection:
            connection.execute("DELETE FROM notes WHERE id = ? AND user_id = ?", (_bounded(note_id), user.id))
        for file in files:
            file.unlink(missing_ok=True)

    # Attachments

    def attachments(self, user: User, note_id: int) -> list[Attachment]:
        """Lists the attachments of a note, in the order of upload."""
        rows = self._rows(f"{_SELECT_ATTACHMENT} ORDER BY attachments.id", user.id, _bounded(note_id))
        return [Attachment(**row) for row in rows]

    def attachment(self, user: User, note_id: int, attachment_id: int) -> Attachment | None:
        """Returns an attachment of a note of the user."""
        row = self._row(
            f"{_SELECT_ATTACHMENT} AND attachments.id = ?", user.id, _bounded(note_id), _bounded(attachment_id)
        )
        return Attachment(**row) if row else None

    def add_attachment(self, note: Note, filename: str, size: int, save: Callable[[Path], object]) -> None:
        """Stores a file under a random name; `save` writes it to a path."""
        stored_as = secrets.token_hex(16)
        path = self._folder / stored_as
        try:
            save(path)
            with self._transaction() as connection:
                connection.execute(
                    "INSERT INTO attachments (note_id, filename, size, stored_as) VALUES (?, ?, ?, ?)",
                    (note.id, filename, size, stored_as),
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def remove_attachment(self, attachment: Attachment) -> None:
        """Removes an attachment."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM attachments WHERE id = ?", (attachment.id,))
        self.path(attachment).unlink(missing_ok=True)

    def path(self, attachment: Attachment) -> Path:
        """Returns the path of an attachment."""
        return self._folder / attachment.stored_as

    # Connections

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection; there are at most as many as threads that use one at the same time."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        finally:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # SQLite itself folds the case of ASCII only.
        connection.create_function("folded", 1, str.casefold, deterministic=True)
        return connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection in a write transaction."""
        with self._connection() as connection:
            # A transaction that begins with a read may fail to upgrade to a write.
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    def _rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with self._connection() as connection:
            return [dict(row) for row in connection.execute(statement, values)]

    def _row(self, statement: str, *values: object) -> dict[str, Any] | None:
        return next(iter(self._rows(statement, *values)), None)


_SELECT_NOTE = (
    "SELECT notes.id, notes.title, notes.text, notes.created, notes.changed,"
    " (SELECT count(*) FROM attachments WHERE attachments.note_id = notes.id) AS attachments FROM notes"
)
_SELECT_ATTACHMENT = (
    "SELECT attachments.id, attachments.filename, attachments.size, attachments.stored_as"
    " FROM attachments JOIN notes ON notes.id = attachments.note_id WHERE notes.user_id = ? AND notes.id = ?"
)


def _escaped(word: str) -> str:
    r"""Escapes the wildcards of LIKE, for `ESCAPE '\'`."""
    return word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _bounded(number: int) -> int:
    """Limits a number of a URL to the range of SQLite; no row has the largest."""
    return min(number, 2**63 - 1)


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _digest(key: str) -> str:
    # A key is random and long, so a plain digest cannot be reversed and needs no salt.
    return hashlib.sha256(key.encode()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _oldest_login() -> str:
    return (datetime.now(timezone.utc) - timedelta(days=LOGIN_DAYS)).isoformat(timespec="milliseconds")
