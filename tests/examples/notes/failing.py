"""The notes with a page that fails."""

from __future__ import annotations

from examples import notes
from wsgi.application import Request, WSGIApplication


def create_app(*, debug: bool = False) -> WSGIApplication:
    app = notes.create_app(debug=debug)

    @app.get("/fail")
    def fail(request: Request) -> str:
        password = "never shown " * 2
        amount, share = 12, len(password) * 0
        return str(amount / share)

    return app
