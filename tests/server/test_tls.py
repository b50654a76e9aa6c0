"""HTTPS: what applications see, who is let in, and what becomes of clients that do not speak it.

What bytes do on the wire is in `test_wire.py` and the corpus, which run over TLS, too; certificates and sessions have
tests of their own beside `src/net/tls`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import websockets

from tests import tls
from tests.asgi.talking import Receive, Scope, Send
from tests.clients import curl, needs_curl
from tests.server.proxying import v2
from tests.server.recording import Environ, Start, eventually, get
from tests.support import PATIENCE, Command, RawClient, connect, run, serve
from wsgi.errors import ConfigError

SHOWN = ("HTTPS", "wsgi.url_scheme", "SSL_", "SERVER_PORT", "REMOTE_ADDR")


def app(environ: Environ, start_response: Start) -> list[bytes]:
    """Answers with the variables that tell of the connection."""
    body = json.dumps({name: value for name, value in environ.items() if name.startswith(SHOWN)}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the scheme and the extension `tls`; echoes WebSocket messages."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{scope['scheme']} {event['text']}"})
    elif scope["type"] == "http":
        body = json.dumps([scope["scheme"], scope["extensions"].get("tls")]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def certificate() -> str:
    """The certificate of the servers here, which clients trust."""
    return tls.options()["certfile"]


@pytest.fixture
def address() -> Iterator[str]:
    """A server with TLS."""
    with serve(app, **tls.options()) as server:
        yield server.addresses[0]


def by_name(address: str) -> str:
    """The address by the name that the certificate is for."""
    return address.replace("127.0.0.1", "localhost")


def seen_by(address: str) -> dict[str, Any]:
    with RawClient(address) as client:
        client.send(get("/"))
        seen: dict[str, Any] = json.loads(client.receive().body)
        return seen


def test_application_sees_the_scheme_and_what_was_agreed_on(address: str) -> None:
    seen = seen_by(address)
    assert seen.pop("SSL_CIPHER") in (
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    )
    assert seen == {
        "HTTPS": "on",
        "wsgi.url_scheme": "https",
        "SSL_PROTOCOL": "TLSv1.3",
        "SSL_TLS_SNI": "localhost",
        "SSL_CLIENT_VERIFY": "NONE",
        "SERVER_PORT": address.rpartition(":")[2],
        "REMOTE_ADDR": "127.0.0.1",
    }


def test_plain_address_of_the_same_server_has_none_of_it() -> None:
    with serve(app, bind=["http://127.0.0.1:0", "https://127.0.0.1:0"], **tls.options()) as server:
        plain, secure = server.addresses
        assert plain.startswith("http://")
        assert secure.startswith("https://")
        assert seen_by(plain).keys() == {"wsgi.url_scheme", "SERVER_PORT", "REMOTE_ADDR"}
        assert seen_by(secure)["HTTPS"] == "on"


def test_asgi_application_sees_the_scheme_and_the_extension() -> None:
    with serve(asgi_app, **tls.options()) as server, RawClient(server.addresses[0]) as client:
        client.send(get("/"))
        scheme, extension = json.loads(client.receive().body)
    assert scheme == "https"
    assert extension.pop("cipher_suite") in (0x1301, 0x1302, 0x1303)
    assert extension == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
    }


def test_websockets_are_served_by_wss(certificate: str) -> None:
    async def talk(address: str) -> str:
        context = ssl.create_default_context(cafile=certificate)
        async with websockets.connect(address, ssl=context, proxy=None) as client:
            await client.send("hello")
            return str(await client.recv())

    with serve(asgi_app, **tls.options()) as server:
        address = by_name(server.addresses[0]).replace("https:", "wss:")
        assert asyncio.run(talk(address)) == "wss hello"


@pytest.mark.parametrize("interface", [app, asgi_app])
def test_clients_verify_the_certificate(interface: Any, certificate: str) -> None:
    with serve(interface, **tls.options()) as server:
        address = by_name(server.addresses[0])
        session = requests.Session()
        session.trust_env = False
        assert session.get(address, verify=certificate, timeout=PATIENCE).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            session.get(address, timeout=PATIENCE)
        context = ssl.create_default_context(cafile=certificate)
        with httpx.Client(verify=context, trust_env=False) as client:
            assert [client.get(address).status_code for _ in range(3)] == [200] * 3


@needs_curl
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_is_answered_with_either_version(version: str, address: str, certificate: str) -> None:
    answer = curl("--cacert", certificate, f"--tlsv{version}", "--tls-max", version, by_name(address))
    assert json.loads(answer.body)["SSL_PROTOCOL"] == f"TLSv{version}"


@needs_curl
def test_lower_versions_are_refused(address: str, certificate: str) -> None:
    answer = curl("--cacert", certificate, "--tls-max", "1.1", by_name(address))
    assert (answer.exit_code, answer.heads) == (35, [])
    with serve(app, tls_min="1.3", **tls.options()) as server:
        assert curl("--cacert", certificate, "--tls-max", "1.2", by_name(server.addresses[0])).exit_code == 35
        assert curl("--cacert", certificate, by_name(server.addresses[0])).status == 200


def test_plain_http_is_told_to_use_https(address: str) -> None:
    with RawClient(address.replace("https:", "http:")) as client:
        client.send(get("/"))
        response = client.receive()
        assert response.status == 400
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert b"https://" in response.body
        client.expect_end()
    assert seen_by(address)["HTTPS"] == "on"


def test_client_certificate_is_shown_to_the_application(tmp_path: Path, certificate: str) -> None:
    authority = tls.make_certificate(tmp_path, "authority")
    mine, key = tls.make_certificate(tmp_path, "client", issuer=authority)
    with serve(app, client_ca=str(authority[0]), client_verify="required", **tls.options()) as server:
        address = by_name(server.addresses[0])
        session = requests.Session()
        session.trust_env = False
        session.verify = certificate
        seen = session.get(address, cert=(str(mine), str(key)), timeout=PATIENCE).json()
        assert (seen["SSL_CLIENT_VERIFY"], seen["SSL_CLIENT_S_DN"]) == ("SUCCESS", "CN=client")
        assert seen["SSL_CLIENT_CERT"].strip() == mine.read_text().strip()
        session.close()
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(address, timeout=PATIENCE)


def test_certificate_is_selected_by_name(tmp_path: Path) -> None:
    first, second = (tls.make_certificate(tmp_path, name, f"{name}.test") for name in ("one", "two"))
    files = {"certfile": [str(first[0]), str(second[0])], "keyfile": [str(first[1]), str(second[1])]}
    with serve(app, **files) as server:
        for name, expected in [("one.test", first), ("two.test", second), ("other.test", first)]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connect(server.addresses[0], PATIENCE), server_hostname=name) as client:
                shown = ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"")
            assert shown.strip() == expected[0].read_text().strip()


def test_renewed_certificate_is_used_without_closing_a_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def shows(line: str) -> bool:
        # The files are looked at when a client comes.
        seen_by(place)
        return line in caplog.text

    caplog.set_level(logging.INFO)
    chain, key = tls.make_certificate(tmp_path)
    with serve(app, certfile=str(chain), keyfile=str(key)) as server, RawClient(server.addresses[0]) as client:
        place = server.addresses[0]
        client.send(get("/"))
        client.receive()
        chain.write_text("no certificate")
        eventually(lambda: shows("the former certificates stay in use"), "a refusal of the new file")
        tls.make_certificate(tmp_path)
        eventually(lambda: shows("new certificates are in use"), "the new certificate")
        assert ssl.get_server_certificate(("127.0.0.1", server.server_port)).strip() == chain.read_text().strip()
        client.send(get("/"))
        assert client.receive().status == 200


def test_half_handshakes_hold_no_thread_and_end_in_time() -> None:
    with serve(app, threads=1, header_timeout=0.5, **tls.options()) as server:
        place = server.addresses[0]
        half = [connect(place, PATIENCE) for _ in range(50)]
        for connection in half:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert seen_by(place)["HTTPS"] == "on"
        for connection in half:
            while connection.recv(100):
                pass
            connection.close()


def test_proxy_header_stands_in_front_of_the_handshake() -> None:
    with serve(app, proxy_protocol="any", trusted_proxies=["127.0.0.1"], **tls.options()) as server:
        for parts in ([v2("192.0.2.7")], [v2("192.0.2.7")[:9], v2("192.0.2.7")[9:]]):
            below = connect(server.addresses[0], PATIENCE)
            for part in parts:
                below.sendall(part)
            client = tls.TlsSocket(below)
            client.sendall(get("/"))
            body = client.recv(4096).partition(b"\r\n\r\n")[2] or client.recv(4096)
            assert json.loads(body)["REMOTE_ADDR"] == "192.0.2.7"
            client.close()


def test_proxy_header_and_handshake_may_come_in_one_piece() -> None:
    class Joined:
        """A socket that sends its first bytes behind a header."""

        def __init__(self, below: socket.socket) -> None:
            self._below, self._header = below, v2("192.0.2.7")

        def send(self, data: bytes) -> int:
            header, self._header = self._header, b""
            self._below.sendall(header + data)
            return len(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._below, name)

    with serve(app, proxy_protocol="any", trusted_proxies=["127.0.0.1"], **tls.options()) as server:
        client = tls.TlsSocket(Joined(connect(server.addresses[0], PATIENCE)))  # type: ignore[arg-type]
        client.sendall(get("/"))
        body = client.recv(4096).partition(b"\r\n\r\n")[2] or client.recv(4096)
        assert json.loads(body)["REMOTE_ADDR"] == "192.0.2.7"
        client.close()


def test_session_is_resumed_in_another_worker(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', str(len(str(os.getpid())))), ('Connection', 'close')])\n"
        "    return [str(os.getpid()).encode()]\n"
    )
    files = tls.options()
    words = ["--certfile", files["certfile"], "--keyfile", files["keyfile"], "--workers", "2"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session = None
    resumed_in: set[bytes] = set()
    with Command("site:app", *words, cwd=tmp_path) as command:
        end = time.monotonic() + PATIENCE
        while len(resumed_in) < 2:
            assert time.monotonic() < end
            below = connect(command.address, PATIENCE)
            with context.wrap_socket(below, server_hostname="localhost", session=session) as client:
                client.sendall(get("/"))
                pid = client.recv(4096).rpartition(b"\r\n\r\n")[2] or client.recv(4096)
                assert client.session_reused == (session is not None)
                if session is not None:
                    resumed_in.add(pid)
                session = client.session
        # Sessions go on over a reload.
        os.kill(command.process.pid, signal.SIGHUP)
        command.stderr.wait_for("serves; its predecessors are drained")
        with context.wrap_socket(
            connect(command.address, PATIENCE), server_hostname="localhost", session=session
        ) as client:
            client.sendall(get("/"))
            client.recv(4096)
            assert client.session_reused


def test_idle_connection_is_answered_once_more_by_its_worker_after_a_reload(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    body = str(os.getpid()).encode()\n"
        "    start_response('200 OK', [('Content-Length', str(len(body)))])\n"
        "    return [body]\n"
    )
    files = tls.options()
    words = ["--certfile", files["certfile"], "--keyfile", files["keyfile"], "--workers", "1"]
    with Command("site:app", *words, cwd=tmp_path) as command, RawClient(command.address) as client:
        client.send(get("/"))
        former = client.receive().body
        os.kill(command.process.pid, signal.SIGHUP)
        command.stderr.wait_for("serves; its predecessors are drained")
        # The state of a TLS session cannot be handed over. The worker may learn of the reload after another request.
        end = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end
            client.send(get("/"))
            response = client.receive()
            assert response.body == former
            if "Connection" in response:
                break
        assert response["Connection"] == "close"
        client.expect_end()
        with RawClient(command.address) as other:
            other.send(get("/"))
            response = other.receive()
            assert response.body != former
            assert "Connection" not in response


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keyfile": "k.pem"}, "keyfile needs certfile (from keyword keyfile)"),
        ({"client_verify": "optional"}, "client_verify needs certfile (from keyword client_verify)"),
        ({"certfile": "c.pem", "client_verify": "optional"}, "client_verify needs client_ca"),
        ({"certfile": "c.pem", "client_ca": "a.pem"}, "client_ca needs client_verify"),
        ({"certfile": ["a", "b"], "keyfile": "k"}, "keyfile: one is needed for each certfile, not 1 for 2 certfile"),
        ({"bind": "https://127.0.0.1:0"}, "bind https://127.0.0.1:0 needs certfile (from keyword bind)"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught, serve(app, **options):
        pass
    assert str(caught.value).startswith(message)


def test_certificate_of_no_use_ends_the_start_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("def app(environ, start_response): ...\n")
    (tmp_path / "cert.pem").write_text("nothing\n")
    ended = run("site:app", "--port", "0", "--certfile", "cert.pem", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == (
        "wsgi: option certfile: cert.pem: holds no certificate in PEM (-----BEGIN CERTIFICATE-----)\n"
    )


def test_certificate_that_expires_soon_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain, key = tls.make_certificate(tmp_path, days=10)
    with serve(app, certfile=str(chain), keyfile=str(key)):
        assert "a certificate expires in 9 days; renew it" in caplog.text
