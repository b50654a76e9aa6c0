"""Pages from Jinja templates; install Jinja with `pip install 'wsgi-server[templates]'`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from wsgi.application.headers import HeadersLike
from wsgi.application.middleware.csrf import csrf_token
from wsgi.application.request import Request
from wsgi.application.response import HTMLResponse

if TYPE_CHECKING:
    from jinja2.runtime import Context

    from wsgi.application.app import WSGIApplication

__all__ = ["Templates"]

_MARKUP = frozenset({".html", ".htm", ".xhtml", ".xml", ".svg"})


class Templates:
    """Templates from a directory.

    Values are escaped in templates whose names have `.html`, `.htm`, `.xhtml`, `.xml` or `.svg` in them (also
    `page.html.j2`). A variable that was not given is an error and not nothing; where it may be missing, a template
    uses `{% if name is defined %}` or `{{ name | default("…") }}`.

    Templates can use `url_for(name, **parameters)`, and, for responses, `request` and `csrf_token()`. More, such as
    filters, can be added to `environment`, the `jinja2.Environment`.

    Thread-safe, once `environment` is set up.

    Parameters:
        directory: where the templates are; several are searched in their order.
        app: the application whose routes `url_for` names outside of a request. If it is in debug mode, changed
            templates are read again; without an application they always are.
        globals: values for all templates.

    Raises:
        ImportError: Jinja is not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        app: WSGIApplication | None = None,
        globals: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import jinja2
        except ImportError as error:
            raise ImportError("templates need Jinja: pip install 'wsgi-server[templates]'") from error
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(directory),
            autoescape=_is_markup,
            undefined=jinja2.StrictUndefined,
            auto_reload=app is None or app.debug,
        )
        self.environment.globals.update(
            url_for=jinja2.pass_context(_url_for(app)), csrf_token=jinja2.pass_context(_csrf_token)
        )
        self.environment.globals.update(globals or {})

    def render(self, name: str, /, **context: Any) -> str:
        """Renders a template to text.

        Parameters:
            name: the template's path below the directory, with `/`.
            context: its variables.

        Raises:
            jinja2.TemplateError: the template is missing or wrong, or a variable is.
        """
        return self.environment.get_template(name).render(context)

    def response(
        self,
        request: Request,
        name: str,
        /,
        context: Mapping[str, Any] | None = None,
        *,
        status: int = 200,
        headers: HeadersLike | None = None,
        **variables: Any,
    ) -> HTMLResponse:
        """Renders a template to a response.

        Parameters:
            request: the request, available as `request`.
            name: the template.
            context: its variables.
            status: 200 to 599; default 200.
            headers: further fields.
            variables: its variables, too; they win over those of `context`.

        Raises:
            jinja2.TemplateError: as for `render`.
        """
        text = self.render(name, **{"request": request, **(context or {}), **variables})
        return HTMLResponse(text, status, headers)


def _url_for(app: WSGIApplication | None) -> Callable[..., str]:
    def url_for(context: Context, name: str, /, **parameters: Any) -> str:
        request = context.get("request")
        if isinstance(request, Request):
            return request.url_for(name, **parameters)
        if app is None:
            raise RuntimeError("url_for needs a request: render with Templates.response, or make Templates with app=…")
        return app.url_for(name, **parameters)

    return url_for


def _is_markup(name: str | None) -> bool:
    # A template without a name comes from a string, and may be anything.
    return name is None or not _MARKUP.isdisjoint(PurePath(name.lower()).suffixes)


def _csrf_token(context: Context) -> str:
    request = context.get("request")
    if not isinstance(request, Request):
        raise RuntimeError("csrf_token needs a request: render with Templates.response")
    return csrf_token(request)
