"""A Flask application. Run it with `wsgi --app-dir examples flask_app:app`."""

from __future__ import annotations

from flask import Flask, request
from markupsafe import escape

app = Flask(__name__)

PAGE = """<!doctype html>
<title>Greeting</title>
<form method="post"><input name="name" placeholder="Your name"> <button>Greet me</button></form>
<p>{greeting}</p>
"""


@app.get("/")
def form() -> str:
    return PAGE.format(greeting="Who are you?")


@app.post("/")
def greet() -> str:
    return PAGE.format(greeting=f"Hello, {escape(request.form['name'])}!")


@app.get("/status")
def status() -> dict[str, str]:
    return {"status": "ok", "server": request.environ["SERVER_SOFTWARE"]}
