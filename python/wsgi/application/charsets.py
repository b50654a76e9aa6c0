"""Character encodings that a client may name."""

from __future__ import annotations

from wsgi.application.errors import UnsupportedMediaType

__all__ = ["codec_of"]

# Python has many more; some take quadratic time, and it caches unknown names without bound.
_CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}


def codec_of(charset: str, what: str) -> str:
    """The name of Python's codec for a charset.

    Parameters:
        charset: as the client named it.
        what: what is encoded so, for the message.

    Raises:
        UnsupportedMediaType: none that is taken; UTF-8, ASCII, Latin-1 and Windows-1252 are.
    """
    codec = _CODECS.get(charset.strip().lower())
    if codec is None:
        raise UnsupportedMediaType(f"{what} must be in UTF-8, not in {charset!r:.60}")
    return codec
