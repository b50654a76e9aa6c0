"""A WSGI server with a Rust core.

    from wsgi.server import WSGIServer

    WSGIServer("localhost", 8000, app).serve_forever()

or `wsgi MODULE:APP` on the command line. This module has nothing but the version, so that importing a module of the
package imports only what that module needs.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
