"""Testing applications without a server.

client = TestClient(app)
response = client.post("/notes", data={"title": "Milk"})
assert response.status == 303
"""

from __future__ import annotations

from wsgi.application.testing.client import TestClient, TestResponse
from wsgi.application.testing.jar import CookieJar

__all__ = ["CookieJar", "TestClient", "TestResponse"]
