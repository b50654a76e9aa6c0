"""The limits of what an application reads from a request."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """How much of a request is read; larger ones get 413.

    Parameters:
        body: bytes of a body that is read whole (`body`, `text`, `json()`, a form without files), and of the text in a
            multipart form.
        form: bytes of a multipart form with its files.
        fields: fields and files of a form, and fields of the query.
        spool: bytes of a form's files that stay in memory; with more, all go to one temporary file.

    Raises:
        ValueError: a limit is not an int from 0 on.
    """

    body: int = 16 * 1024 * 1024
    form: int = 128 * 1024 * 1024
    fields: int = 1000
    spool: int = 64 * 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"the limit {name} must be a number from 0 on, not {value!r:.50}")
