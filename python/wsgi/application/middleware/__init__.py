"""The middleware that comes with the package.

Each is a class; its instances go into `WSGIApplication(middleware=[…])`, a group's, or `app.add_middleware`. The first
one is the outermost. An order that works:

    RequestIDMiddleware, TimingMiddleware, SecurityHeadersMiddleware, GzipMiddleware, CORSMiddleware,
    SessionMiddleware, CSRFMiddleware
"""

from __future__ import annotations

from wsgi.application.middleware.compression import GzipMiddleware
from wsgi.application.middleware.cors import CORSMiddleware
from wsgi.application.middleware.csrf import CSRFMiddleware, csrf_token
from wsgi.application.middleware.request_id import RequestIDMiddleware
from wsgi.application.middleware.security import SecurityHeadersMiddleware
from wsgi.application.middleware.sessions import Session, SessionMiddleware
from wsgi.application.middleware.timing import TimingMiddleware

__all__ = [
    "CORSMiddleware",
    "CSRFMiddleware",
    "GzipMiddleware",
    "RequestIDMiddleware",
    "SecurityHeadersMiddleware",
    "Session",
    "SessionMiddleware",
    "TimingMiddleware",
    "csrf_token",
]
