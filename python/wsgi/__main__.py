"""`python -m wsgi`, the same as the command `wsgi`.

In a directory with a file wsgi.py, Python runs that file instead of this package: use the command `wsgi` there, or
`python -m wsgi_server`.
"""

from __future__ import annotations

import sys

from wsgi.cli import main

if __name__ == "__main__":
    sys.exit(main())
