"""The requests of `content` answered by Falcon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import falcon
from falcon import Request, Response

from tests.frameworks.apps import content

TEXT = "text/plain; charset=utf-8"


class Index:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = falcon.MEDIA_HTML
        response.text = "<h1>Hello from Falcon</h1>"

    # Falcon wants HEAD said.
    on_head = on_get


class Greet:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = TEXT
        response.text = f"Hello, {request.get_param('name')}!"


class Page:
    def on_get(self, request: Request, response: Response, title: str) -> None:
        response.content_type = TEXT
        response.text = title


class Form:
    def on_post(self, request: Request, response: Response) -> None:
        response.media = request.get_media()


class Echo:
    def on_post(self, request: Request, response: Response) -> None:
        response.media = {"received": request.get_media()}


class Cookies:
    def on_get(self, request: Request, response: Response) -> None:
        response.media = request.cookies

    def on_post(self, request: Request, response: Response) -> None:
        response.content_type = TEXT
        response.text = "set"
        response.set_cookie("theme", "dark", max_age=3600, secure=False, http_only=False)
        response.set_cookie("session", "s3ss10n", secure=False)


class Old:
    def on_get(self, request: Request, response: Response) -> None:
        raise falcon.HTTPFound("/new")

    def on_post(self, request: Request, response: Response) -> None:
        raise falcon.HTTPSeeOther("/new")


class New:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = TEXT
        response.text = "here now"


class Upload:
    def on_post(self, request: Request, response: Response) -> None:
        answer: dict[str, Any] = {}
        for part in request.get_media():
            if part.name == "note":
                answer["note"] = part.text
            else:
                answer.update(filename=part.filename, **content.digest(part.stream.read))
        response.media = answer


class Raw:
    def on_put(self, request: Request, response: Response) -> None:
        response.media = {"length": request.content_length, **content.digest(request.bounded_stream.read)}

    on_post = on_put


class Lines:
    def on_get(self, request: Request, response: Response, count: int) -> None:
        response.content_type = TEXT
        response.stream = content.lines(count)


class Download:
    def on_get(self, request: Request, response: Response) -> None:
        file = Path(content.download())
        response.content_type = "application/octet-stream"
        response.set_stream(file.open("rb"), file.stat().st_size)


class Where:
    def on_get(self, request: Request, response: Response) -> None:
        url = request.prefix + "/new"
        response.media = {"url": url, "scheme": request.scheme, "client": request.remote_addr}


class Thing:
    def on_delete(self, request: Request, response: Response, name: str) -> None:
        response.status = falcon.HTTP_204


class Boom:
    def on_get(self, request: Request, response: Response) -> None:
        raise RuntimeError(content.SECRET)


class Late:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = TEXT
        response.stream = content.failing()


app = falcon.App()
for path, resource in (
    ("/", Index()),
    ("/greet", Greet()),
    ("/pages/{title}", Page()),
    ("/form", Form()),
    ("/json", Echo()),
    ("/cookies", Cookies()),
    ("/old", Old()),
    ("/new", New()),
    ("/upload", Upload()),
    ("/raw", Raw()),
    ("/lines/{count:int}", Lines()),
    ("/download", Download()),
    ("/where", Where()),
    ("/things/{name}", Thing()),
    ("/boom", Boom()),
    ("/late", Late()),
):
    app.add_route(path, resource)
