"""The entry point of the command `wsgi` and of `python -m wsgi_server`: finds this distribution's package `wsgi`.

A directory with a user's wsgi.py may precede the installed packages on `sys.path`, for example by PYTHONPATH. Then
`import wsgi` would find that file, so the command starts in this package.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Runs the command `wsgi`."""
    site_packages = str(Path(__file__).parent.parent)
    sys.path.insert(0, site_packages)
    try:
        from wsgi.cli import main as command
    finally:
        sys.path.remove(site_packages)
    return command()


if __name__ == "__main__":
    sys.exit(main())
