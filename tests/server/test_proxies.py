"""Real proxies and real frameworks: docs/proxies.md as it stands, run with ports and paths of the moment."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import random
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.clients import curl, needs_curl
from tests.server import proxying
from tests.server.proxying import app, extension, v2
from tests.server.recording import eventually, get
from tests.support import PATIENCE, Command, RawClient, serve
from wsgi.application import Request, WSGIApplication
from wsgi.application.middleware import SecurityHeadersMiddleware, SessionMiddleware

PAGE = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text("utf-8")
_SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {title: dict(_BLOCK.findall(text)) for title, text in _SECTION.findall(PAGE)}

SPOOFED = [
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: gopher",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "X_Forwarded_For: 6.6.6.6",
    "Forwarded: for=6.6.6.6;host=evil.example",
]
SPOOFING = [word for line in SPOOFED for word in ("--header", line)]


def program(name: str) -> str:
    """The path of a program, which is a reason to skip where there is none."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"the program {name} is not installed")
    return path


@contextlib.contextmanager
def documented(title: str, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[Command]:
    """The server as a section of the page starts it, on a free port or with `changes`."""
    shutil.copy(proxying.__file__, folder / "hello.py")
    line = SECTIONS[title]["sh"]
    for old, new in (changes or {}).items():
        assert old in line
        line = line.replace(old, new)
    words = shlex.split(line.replace("--port 8000", "--port 0"))
    assert words[0] == "wsgi"
    with Command(*words[1:], cwd=folder) as command:
        yield command


@contextlib.contextmanager
def running(words: list[str], port: int, folder: Path) -> Iterator[None]:
    """A proxy in the foreground, from the moment it listens on `port`."""

    def listens() -> bool:
        assert process.poll() is None, (folder / "proxy.log").read_text()
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        eventually(listens, "a proxy that listens")
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed, and its key."""
    words = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-keyout", "key", "-out", "cert"], cwd=folder, check=True, capture_output=True)
    return folder / "cert", folder / "key"


def substituted(text: str, changes: Mapping[str, object]) -> str:
    """A configuration with each of `changes` made once, which must be possible."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, str(new))
    return text


@contextlib.contextmanager
def nginx(title: str, folder: Path, changes: Mapping[str, object], port: int) -> Iterator[None]:
    """nginx with the configuration of a section, as one process."""
    places = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = substituted(SECTIONS[title]["nginx"], changes)
    main = f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr; events {{}}"
    (folder / "nginx.conf").write_text(f"{main} http {{ access_log off; {places}\n{text}}}\n")
    words = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with running(words, port, folder):
        yield


@contextlib.contextmanager
def haproxy(title: str, folder: Path, changes: Mapping[str, object], port: int) -> Iterator[None]:
    """HAProxy with the configuration of a section."""
    text = substituted(SECTIONS[title]["haproxy"], changes)
    (folder / "haproxy.cfg").write_text(text)
    with running([program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], port, folder):
        yield


@contextlib.contextmanager
def proxied(title: str, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """The server and the proxy of a section, on free ports; gives the URL at which clients reach the application."""
    port, (cert, key), path = free_port(), certificate(folder), folder / "shop.sock"
    (folder / "site.pem").write_text(cert.read_text() + key.read_text())
    start = nginx if "nginx" in SECTIONS[title] else haproxy
    text = SECTIONS[title][start.__name__]
    sockets = {"/run/shop.sock": str(path)} if "/run/shop.sock" in text else {}
    with documented(title, folder, {**(changes or {}), **sockets}) as command:
        places = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen 80": f"listen 127.0.0.1:{port}",
            "bind :443": f"bind 127.0.0.1:{port}",
            "/etc/nginx/site.pem": cert,
            "/etc/nginx/site.key": key,
            "/etc/haproxy/site.pem": folder / "site.pem",
            "127.0.0.1:8000": place(command),
            **sockets,
        }
        with start(title, folder, {old: new for old, new in places.items() if old in text}, port):
            prefix = "/shop" if "location /shop/" in text else ""
            yield f"{'https' if ' ssl' in text else 'http'}://127.0.0.1:{port}{prefix}"


def facts(*arguments: str) -> dict[str, str]:
    """What the application sees of a request by curl."""
    answer = curl("--insecure", *arguments)
    assert (answer.exit_code, answer.status) == (0, 200)
    found: dict[str, str] = json.loads(answer.body)
    return found


def place(command: Command) -> str:
    return command.address.removeprefix("http://").rstrip("/")


def test_page_has_a_test_for_each_example() -> None:
    assert [title for title, blocks in SECTIONS.items() if blocks] == [
        "nginx",
        "nginx with a Unix socket and a prefix",
        "HAProxy",
        "HAProxy with the PROXY protocol",
        "AWS Application Load Balancer",
        "AWS Network Load Balancer",
    ]


PROXIES = [title for title, blocks in SECTIONS.items() if blocks.keys() & {"nginx", "haproxy"}]
ASGI = {"hello:app": "hello:asgi_app"}
HANDSHAKE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
]


def trusting() -> ssl.SSLContext:
    """A client's side of TLS that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("title", PROXIES)
def test_proxy_passes_websockets(title: str, tmp_path: Path) -> None:
    with proxied(title, tmp_path, ASGI) as url:
        context = trusting() if url.startswith("https") else None
        with connect(f"{url.replace('http', 'ws', 1)}/a", ssl=context, max_size=None) as socket:
            told = json.loads(socket.recv(PATIENCE))
            assert told["client"] == "127.0.0.1"
            assert told["scheme"] == ("wss" if context else "ws")
            for message in ("short", "long" * 100_000, b"bytes"):
                socket.send(message)
                assert socket.recv(PATIENCE) == message
        # A connection that is no WebSocket's is used for the next request as before.
        with httpx.Client(verify=trusting()) as client:
            assert [client.get(f"{url}/a").status_code for _ in range(3)] == [200] * 3


@needs_curl
@pytest.mark.parametrize("target", ["hello:app", "hello:asgi_app"])
@pytest.mark.parametrize("title", PROXIES)
def test_proxy_passes_a_large_upload(title: str, target: str, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(random.Random(1).randbytes(20 * 1024 * 1024))
    digest = hashlib.sha256(upload.read_bytes()).hexdigest()
    with proxied(title, tmp_path, {"hello:app": target}) as url:
        assert facts("--data-binary", f"@{upload}", f"{url}/a")["digest"] == digest
        # Of a length that is not known beforehand.
        assert facts("-T", str(upload), "-H", "Transfer-Encoding: chunked", f"{url}/a")["digest"] == digest


@pytest.mark.parametrize("title", PROXIES)
def test_proxy_passes_an_event_at_once(title: str, tmp_path: Path) -> None:
    with (
        proxied(title, tmp_path, ASGI) as url,
        httpx.Client(verify=trusting(), timeout=PATIENCE) as client,
        client.stream("GET", f"{url}/events") as response,
    ):
        # The stream never ends: what is held back never comes.
        assert next(response.iter_bytes()) == b"data: 1\n\n"


@pytest.mark.parametrize(
    ("title", "head", "lines"),
    [
        ("AWS Application Load Balancer", b"", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"]),
        ("AWS Network Load Balancer", v2("192.0.2.1"), []),
    ],
)
def test_load_balancer_passes_websockets_and_large_uploads(
    title: str, head: bytes, lines: list[str], tmp_path: Path
) -> None:
    upload = bytes(5 * 1024 * 1024)
    with documented(title, tmp_path, {**ASGI, "10.0.0.0/16": "127.0.0.0/16"}) as command:
        with RawClient(command.address) as client:
            post = get("/a", *lines, f"Content-Length: {len(upload)}").replace(b"GET", b"POST", 1)
            client.send(head + post + upload)
            assert json.loads(client.receive().body)["digest"] == hashlib.sha256(upload).hexdigest()
        with RawClient(command.address) as client:
            client.send(head + get("/a", *lines, *HANDSHAKE))
            assert client.receive().status == 101


class CountingServer(http.server.ThreadingHTTPServer):
    """A server that counts connections, in place of the application."""

    connections = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers every GET, and keeps the connection."""

        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            assert isinstance(self.server, CountingServer)
            self.server.connections += 1

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass


def test_nginx_keeps_its_connections(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    port = free_port()
    with CountingServer(("127.0.0.1", 0), CountingServer.Handler) as server:
        changes = {
            "443 ssl": f"127.0.0.1:{port} ssl",
            "/etc/nginx/site.pem": cert,
            "/etc/nginx/site.key": key,
            "127.0.0.1:8000": f"127.0.0.1:{server.server_port}",
        }
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with nginx("nginx", tmp_path, changes, port):
                for _ in range(5):
                    # Each client has a connection of its own; the proxy's stays.
                    assert httpx.get(f"https://127.0.0.1:{port}/", verify=trusting()).status_code == 200
        finally:
            server.shutdown()
            thread.join()
        assert server.connections == 1


@needs_curl
def test_nginx_vouches_for_address_and_scheme(tmp_path: Path) -> None:
    with proxied("nginx", tmp_path) as url:
        place = url.removeprefix("https://")
        for spoofing in ([], SPOOFING):
            found = facts(f"{url}/a", *spoofing)
            assert found["REMOTE_ADDR"] == "127.0.0.1"
            assert "REMOTE_PORT" not in found
            assert found["wsgi.url_scheme"] == "https"
            assert found["HTTP_HOST"] == place
            assert (found["SERVER_PORT"], found["SCRIPT_NAME"]) == (place.partition(":")[2], "")
            assert found["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
            assert [name for name in found if "FORWARDED" in name] == [
                "HTTP_X_FORWARDED_FOR",
                "HTTP_X_FORWARDED_PROTO",
            ]
        found = facts(f"{url}/a", "--header", "Host: shop.example")
        assert (found["HTTP_HOST"], found["SERVER_PORT"]) == ("shop.example", "443")


@needs_curl
def test_nginx_with_a_unix_socket_and_a_prefix(tmp_path: Path) -> None:
    with proxied("nginx with a Unix socket and a prefix", tmp_path) as url:
        for spoofing in ([], SPOOFING):
            found = facts(f"{url}/cart", *spoofing)
            assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("127.0.0.1", "http")
            assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/shop", "/cart")
            assert found["HTTP_HOST"] == url.removeprefix("http://").removesuffix("/shop")
            # What nginx has appended to was the client's.
            assert found["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"


@needs_curl
def test_haproxy_vouches_for_address_and_scheme(tmp_path: Path) -> None:
    with proxied("HAProxy", tmp_path) as url:
        for spoofing in ([], SPOOFING):
            found = facts("--http1.1", f"{url}/a", *spoofing)
            assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("127.0.0.1", "https")
            assert found["HTTP_HOST"] == url.removeprefix("https://")
            assert "HTTP_FORWARDED" not in found


@needs_curl
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_with_the_proxy_protocol(version: str, tmp_path: Path) -> None:
    title, port = "HAProxy with the PROXY protocol", free_port()
    cert, key = certificate(tmp_path)
    (tmp_path / "site.pem").write_text(cert.read_text() + key.read_text())
    send = "send-proxy" if version == "v1" else "send-proxy-v2-ssl"
    with documented(title, tmp_path, {"--proxy-protocol v2": f"--proxy-protocol {version}"}) as command:
        changes = {
            "bind :443": f"bind 127.0.0.1:{port}",
            "/etc/haproxy/site.pem": tmp_path / "site.pem",
            "127.0.0.1:8000 send-proxy-v2-ssl": f"{place(command)} {send}",
        }
        with haproxy(title, tmp_path, changes, port):
            for spoofing in ([], SPOOFING):
                found = facts(f"https://127.0.0.1:{port}/a", "--interface", "127.0.0.9", *spoofing)
                assert found["REMOTE_ADDR"] == "127.0.0.9"
                # The first version has no word for it.
                assert found["wsgi.url_scheme"] == ("https" if version == "v2" else "http")
                assert [name for name in found if "FORWARDED" in name] == []
            answer = curl("--insecure", f"https://127.0.0.1:{port}/a", f"https://127.0.0.1:{port}/b")
            assert [status for status, _ in answer.heads] == ["HTTP/1.1 200 OK"] * 2
        # Past the proxy there is no way in.
        assert curl(command.address).exit_code == 52


def test_application_load_balancer(tmp_path: Path) -> None:
    title = "AWS Application Load Balancer"
    lines = ["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"]
    for trusted, expected in (("127.0.0.0/16", ("192.0.2.1", "https", "443")), ("10.0.0.0/16", ("127.0.0.1", "http"))):
        with documented(title, tmp_path, {"10.0.0.0/16": trusted}) as command, RawClient(command.address) as client:
            client.send(get("/", *lines))
            found = json.loads(client.receive().body)
        seen = (found["REMOTE_ADDR"], found["wsgi.url_scheme"], found["SERVER_PORT"])
        assert seen[: len(expected)] == expected


def test_delivery_network_in_front_of_a_load_balancer_is_one_hop_more() -> None:
    (words,) = re.findall(r"`(--forwarded-hops [^`]+)`", PAGE)
    assert words == "--forwarded-hops 2 --trusted-proxies 10.0.0.0/16 --trusted-proxies 203.0.113.0/24"
    options = {"forwarded_hops": 2, "trusted_proxies": ["127.0.0.0/16", "203.0.113.0/24"]}
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        for value, expected in (
            ("6.6.6.6, 192.0.2.1, 203.0.113.7", "192.0.2.1"),
            ("6.6.6.6, 203.0.113.7, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 198.51.100.7", "198.51.100.7"),
        ):
            client.send(get("/", f"X-Forwarded-For: {value}"))
            assert json.loads(client.receive().body)["REMOTE_ADDR"] == expected


def test_network_load_balancer(tmp_path: Path) -> None:
    title = "AWS Network Load Balancer"
    with documented(title, tmp_path, {"10.0.0.0/16": "127.0.0.0/16"}) as command, RawClient(command.address) as client:
        # Its own extensions: a checksum, an endpoint's name, filler.
        extensions = extension(3, bytes(4)) + extension(0xEA, b"\x01vpce-08d2bf15fac5001c9") + extension(4, bytes(18))
        client.send(v2("192.0.2.1", 4711, extensions=extensions) + get("/"))
        found = json.loads(client.receive().body)
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("192.0.2.1", "4711")


# -- Frameworks --------------------------------------------------------------------------------------------------------

TOLD = [
    "X-Forwarded-For: 6.6.6.6, 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /shop",
]
FIELDS = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"]
PROXIED = {
    "address": "192.0.2.1",
    "secure": True,
    "host": "shop.example",
    "port": "443",
    "url": "https://shop.example/shop/where?a=1",
}


def flask_app(*, fixed: bool) -> Any:
    flask = pytest.importorskip("flask")
    made = flask.Flask(__name__)

    def where() -> Any:
        request = flask.request
        response = flask.jsonify(
            address=request.remote_addr,
            secure=request.is_secure,
            host=request.host,
            port=request.environ["SERVER_PORT"],
            url=request.url,
        )
        if request.is_secure:
            response.set_cookie("a", "1", secure=True)
        return response

    made.add_url_rule("/where", view_func=where)
    if fixed:
        from werkzeug.middleware.proxy_fix import ProxyFix

        return ProxyFix(made.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)
    return made


def asked(app: Any, *lines: str, **options: Any) -> tuple[dict[str, Any], Any]:
    with serve(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/where?a=1", *lines))
        response = client.receive()
        assert response.status == 200, response.body
        return json.loads(response.body), response


@pytest.mark.parametrize("fixed", [False, True])
def test_flask_sees_the_client_with_and_without_middleware(fixed: bool) -> None:
    made = flask_app(fixed=fixed)
    found, response = asked(made, *TOLD, trusted_proxies=["127.0.0.1"], forwarded_fields=FIELDS)
    assert found == PROXIED
    assert response["Set-Cookie"] == "a=1; Secure; Path=/"
    # Its middleware believes everybody; the server hides what it must not see.
    found, response = asked(made, *TOLD, trusted_proxies=["10.0.0.1"], forwarded_fields=FIELDS)
    assert (found["address"], found["secure"], found["host"]) == ("127.0.0.1", False, "a")
    assert "Set-Cookie" not in response


DJANGO = """
import json
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

def where(request):
    response = JsonResponse({
        "address": request.META["REMOTE_ADDR"],
        "secure": request.is_secure(),
        "host": request.get_host(),
        "port": request.get_port(),
        "url": request.build_absolute_uri(),
    })
    response.set_cookie("a", "1", secure=request.is_secure())
    return response

urlpatterns = [path("where", where)]
settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECURE_HSTS_SECONDS=60,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware"], EXTRA
)
app = get_wsgi_application()
"""


@pytest.mark.parametrize(
    "extra", ["", 'SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), USE_X_FORWARDED_HOST=True,']
)
def test_django_sees_the_client_with_and_without_settings(extra: str, tmp_path: Path) -> None:
    pytest.importorskip("django")
    (tmp_path / "shop.py").write_text(DJANGO.replace("EXTRA", extra))
    flags = [word for field in FIELDS for word in ("--forwarded-fields", field)]
    for trusted, expected in (("127.0.0.1", PROXIED), ("10.0.0.1", None)):
        with (
            Command("shop:app", "--trusted-proxies", trusted, *flags, cwd=tmp_path) as command,
            RawClient(command.address) as client,
        ):
            client.send(get("/where?a=1", *TOLD))
            response = client.receive()
        found = json.loads(response.body)
        if expected is not None:
            assert found == expected
            assert response["Strict-Transport-Security"] == "max-age=60"
            assert "Secure" in response["Set-Cookie"]
        else:
            assert (found["address"], found["secure"], found["host"]) == ("127.0.0.1", False, "a")
            assert "Strict-Transport-Security" not in response
            assert "Secure" not in response["Set-Cookie"]


def test_our_framework_sees_the_client() -> None:
    made = WSGIApplication(
        middleware=[SecurityHeadersMiddleware(hsts=300), SessionMiddleware("0123456789abcdef" * 2)],
    )

    @made.get("/where")
    def where(request: Request) -> dict[str, Any]:
        request.session["a"] = 1
        client = request.client
        assert client is not None
        return {"client": [client.host, client.port], "host": request.host, "url": request.url}

    found, response = asked(made, *TOLD, trusted_proxies=["127.0.0.1"], forwarded_fields=FIELDS)
    assert found == {"client": ["192.0.2.1", None], "host": PROXIED["host"], "url": PROXIED["url"]}
    assert response["Strict-Transport-Security"] == "max-age=300"
    assert "; Secure" in response["Set-Cookie"]
    found, response = asked(made, *TOLD, trusted_proxies=["10.0.0.1"], forwarded_fields=FIELDS)
    assert (found["client"][0], found["host"], found["url"]) == ("127.0.0.1", "a", "http://a/where?a=1")
    assert "Strict-Transport-Security" not in response
    assert "; Secure" not in response["Set-Cookie"]
