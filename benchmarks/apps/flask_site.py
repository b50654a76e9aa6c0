"""A Flask application as the tutorials have it."""

from __future__ import annotations

from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "Hello, world!"


@app.get("/json")
def message() -> Response:
    return jsonify(message="Hello, world!", numbers=list(range(10)))
