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
    """Stores a sentence for the next page of the visitor."""
    request.session[_NEWS] = news


def take_news(request: Request) -> str:
    """Returns the stored sentence, once."""
    news: str = request.session.pop(_NEWS, "")
    return news


def date(moment: str) -> str:
    """Formats a time of the database."""
    found = datetime.fromisoformat(moment)
    return f"{found.day} {found:%B %Y, %H:%M} UTC"


def file_size(size: int) -> str:
    """Formats a number of bytes."""
    amount = float(size)
    for unit in ("bytes", "KiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f}".removesuffix(".0") + " MiB"


def count(number: int, noun: str) -> str:
    """Formats a count with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(text: str) -> str:
    """Formats the detail of an error."""
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
