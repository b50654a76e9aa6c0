"""Validates input of users. A check returns a message for each invalid field, and nothing for valid input."""

from __future__ import annotations

import unicodedata

TITLE_LENGTH = 200
TEXT_LENGTH = 100_000
NAME_LENGTH = 40
PASSWORD_LENGTHS = range(10, 1001)
LABEL_LENGTH = 60
FILE_SIZE = 10 * 1024 * 1024
FILES_OF_NOTE = 20


def clean_line(text: str) -> str:
    """Returns a line as it is stored: stripped, and in Unicode form NFC."""
    return unicodedata.normalize("NFC", text).strip()


def clean_text(text: str) -> str:
    """Returns a text as it is stored, with LF as line end; forms send CR LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()


def note_problems(title: str, text: str) -> dict[str, str]:
    """Checks a cleaned note."""
    problems = {}
    if not title:
        problems["title"] = "A note needs a title."
    elif len(title) > TITLE_LENGTH:
        problems["title"] = f"A title has at most {TITLE_LENGTH} characters; this one has {len(title)}."
    elif not _is_storable(title) or "\n" in title:
        problems["title"] = "This title holds control characters."
    if len(text) > TEXT_LENGTH:
        problems["text"] = f"A note has at most {TEXT_LENGTH:,} characters; this one has {len(text):,}."
    elif not _is_storable(text):
        problems["text"] = "This text holds control characters."
    return problems


def account_problems(name: str, password: str, repeated: str) -> dict[str, str]:
    """Checks the input of a registration."""
    problems = {}
    if not 2 <= len(name) <= NAME_LENGTH or not all(letter.isalnum() or letter in "._-" for letter in name):
        problems["name"] = f"A name has 2 to {NAME_LENGTH} letters or digits; dots, hyphens and underscores are fine."
    if len(password) < PASSWORD_LENGTHS.start:
        problems["password"] = f"A password has at least {PASSWORD_LENGTHS.start} characters."
    elif len(password) >= PASSWORD_LENGTHS.stop:
        problems["password"] = f"A password has at most {PASSWORD_LENGTHS.stop - 1} characters."
    elif password != repeated:
        problems["repeated"] = "This is not the same password."
    return problems


def _is_storable(text: str) -> bool:
    """Whether text has no control characters and no lone surrogates, which JSON allows."""
    return all(letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs") for letter in text)
