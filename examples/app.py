"""The tutorial program: an application with three pages, and a server for it. Run it with `python examples/app.py`.

Then look at http://localhost:8000/, /page, /json and /u/42.
"""

from wsgi.application import WSGIApplication
from wsgi.application.request import Request
from wsgi.application.response import HTMLResponse, JSONResponse, PlainTextResponse
from wsgi.server import WSGIServer

app = WSGIApplication()


@app.route("/")
def index(request: Request) -> PlainTextResponse:
    return PlainTextResponse(body="Hello, world!\n")


@app.route("/page")
def page(request: Request) -> HTMLResponse:
    return HTMLResponse(body="<!doctype html><title>Hello</title><h1>Hello, world!</h1>")


@app.route("/json")
def json(request: Request) -> JSONResponse:
    return JSONResponse(body={"message": "Hello, world!"})


@app.route("/u/<int:i>")
def user(request: Request, i: int) -> JSONResponse:
    return JSONResponse(body={"user": i})


if __name__ == "__main__":
    server = WSGIServer(host="localhost", port=8000, app=app)
    server.serve_forever()
