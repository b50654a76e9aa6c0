"""`python -m wsgi_server`, the same as the command `wsgi`."""

from __future__ import annotations

import sys

from wsgi_server import main

if __name__ == "__main__":
    sys.exit(main())
