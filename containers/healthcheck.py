"""Says whether the server of this container answers: exit code 0 if it does, 1 if not, and a line that tells why.

Any status below 500 is a sign of health: what stands at / is the application's own affair.
"""

from __future__ import annotations

import http.client
import os
import sys


def main() -> str | None:
    """Asks once, and gives what is wrong."""
    port = os.environ.get("WSGI_PORT") or os.environ.get("PORT") or "8000"
    try:
        server = http.client.HTTPConnection("localhost", int(port), timeout=2)
        server.request("GET", "/", headers={"Connection": "close", "User-Agent": "healthcheck"})
        answer = server.getresponse()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"unhealthy: no answer on port {port}: {error}"
    if answer.status >= 500:
        return f"unhealthy: port {port} answers {answer.status} {answer.reason}"
    print(f"healthy: port {port} answers {answer.status} {answer.reason}")
    return None


if __name__ == "__main__":
    sys.exit(main())
