"""Directories of static files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wsgi.application.errors import NotFound
from wsgi.application.files import FileResponse
from wsgi.application.response import RedirectResponse, Response

if TYPE_CHECKING:
    from wsgi.application.request import Request

__all__ = ["StaticFiles"]


# Directories below the one that is served; the system is asked about each of a path, whether it is there or not.
_DEEPEST = 100


class StaticFiles:
    """A handler that serves the files of a directory, and nothing else.

    Refused with 404, whatever is there: what is outside the directory, by `..` or by a symbolic link; names that begin
    with a dot, but for `/.well-known/` (RFC 8615); everything that is no regular file.

    Thread-safe.

    Parameters:
        directory: the directory; it is looked up once.
        max_age: seconds for which clients may use a file without asking again; default: no such limit is sent.
        index: the name of the file served for its directory, such as `index.html`; default: directories are not
            served.

    Raises:
        NotADirectoryError: there is no such directory.
        ValueError: a negative `max_age`.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, max_age: int | None = None, index: str | None = None
    ) -> None:
        self.directory = os.path.realpath(directory)
        if not os.path.isdir(self.directory):
            raise NotADirectoryError(f"the directory of static files does not exist: {self.directory}")
        if max_age is not None and max_age < 0:
            raise ValueError(f"the max_age of static files must be 0 or more seconds, not {max_age}")
        self.max_age = max_age
        self.index = index

    def __call__(self, request: Request, path: str = "") -> Response:
        """Answers with the file at a path below the directory, decoded and without a slash in front.

        Raises:
            NotFound: nothing that may be served is there.
            Forbidden: the system does not let this process read it.
        """
        found = self._find(path.removesuffix("/"))
        if not os.path.isdir(found):
            if path.endswith("/"):
                raise NotFound
            return FileResponse(found, max_age=self.max_age)
        if self.index is None:
            raise NotFound
        index = FileResponse(self._find(f"{path.removesuffix('/')}/{self.index}".lstrip("/")), max_age=self.max_age)
        if request.path.endswith("/"):
            return index
        # The links of the page would lead beside its directory.
        return RedirectResponse(request.moved_to(f"{request.path}/"), 308)

    def _find(self, path: str) -> str:
        """Where a path leads, all links followed."""
        segments = path.split("/", _DEEPEST) if path else []
        if len(segments) > _DEEPEST or not _is_public(segments) or "\\" in path or "\0" in path:
            raise NotFound
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise NotFound from error
        found = os.path.realpath(os.path.join(self.directory, *segments))
        if found == self.directory:
            return found
        top = self.directory if self.directory.endswith(os.sep) else f"{self.directory}{os.sep}"
        if not found.startswith(top) or not _is_public(found[len(top) :].split(os.sep)):
            raise NotFound
        return found

    def __repr__(self) -> str:
        return f"<StaticFiles {self.directory!r}>"


def _is_public(segments: list[str]) -> bool:
    return all(
        segment and (not segment.startswith(".") or (segment == ".well-known" and not index))
        for index, segment in enumerate(segments)
    )
