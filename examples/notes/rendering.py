"""The templates, and the values that all of them can use."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from wsgi.application import Request
from wsgi.application.templates import Templates

from . import validation
from .members import current_user

_NEWS = "news"


def tell(request: Request, news: str) -> None:
    """Keeps a sentence for the next page that the visitor sees."""
    request.session[_NEWS] = news


def take_news(request: Request) -> str:
    """Gives the sentence that is kept for this page, once."""
    news: str = request.session.pop(_NEWS, "")
    return news


def date(moment: str) -> str:
    """Writes a moment from the database for people."""
    found = datetime.fromisoformat(moment)
    return f"{found.day} {found:%B %Y, %H:%M} UTC"


def file_size(size: int) -> str:
    """Writes a number of bytes for people."""
    amount = float(size)
    for unit in ("bytes", "KiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f}".removesuffix(".0") + " MiB"


def count(number: int, noun: str) -> str:
    """Writes how many there are of something."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(text: str) -> str:
    """Writes the detail of an error for people."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


templates = Templates(
    Path(__file__).parent / "templates",
    globals={
        "count": count,
        "current_user": current_user,
        "date": date,
        "file_size": file_size,
        "sentence": sentence,
        "limits": validation,
        "take_news": take_news,
    },
)
