"""The way in for the command `wsgi`: finds this distribution's package `wsgi`, whatever else has that name.

A directory with a user's wsgi.py in it may stand before the installed packages, by PYTHONPATH for one. Then
`import wsgi` would find that file. This name is free of the trouble, so the command begins here, and so may
`python -m wsgi_server`.
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
