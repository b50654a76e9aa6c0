"""A Django project in one file. Run it with `wsgi --app-dir examples django_app:application`."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="only an example, and nothing is signed with it",
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"],
    ROOT_URLCONF=__name__,
)


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        f"Hello from Django, {request.GET.get('name', 'stranger')}!\n", content_type="text/plain; charset=utf-8"
    )


def echo(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"method": request.method, "path": request.path, "length": len(request.body)})


urlpatterns = [path("", index), path("echo/<str:word>", lambda request, word: echo(request))]
application = get_wsgi_application()
