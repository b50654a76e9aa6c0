"""The way in for the command `wsgi`, and `python -m wsgi_server`: finds this distribution's package `wsgi`.

A directory with a user's wsgi.py in it may stand before the installed packages, by PYTHONPATH for one. Then
`import wsgi` would find that file. This name is free of the trouble, so the command begins here.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Runs the command `wsgi`."""
    home = str(Path(__file__).parent.parent)
    sys.path.insert(0, home)
    try:
        from wsgi.cli import main as command
    finally:
        sys.path.remove(home)
    return command()


if __name__ == "__main__":
    sys.exit(main())
