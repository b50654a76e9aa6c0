"""TLS for the tests: certificates, and a client's end of a connection that can end its sending side."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["TlsSocket", "make_certificate", "options"]


def make_certificate(
    folder: Path, name: str = "site", *names: str, issuer: tuple[Path, Path] | None = None, days: int = 60
) -> tuple[Path, Path]:
    """Makes a certificate, and gives its file and that of its key.

    Parameters:
        folder: where they are written.
        name: their file names without suffix.
        names: the server names that it is for; `localhost` and 127.0.0.1 without any.
        issuer: certificate and key of the authority that signs it; None: it is an authority itself.
        days: how long it is valid.
    """
    certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
    subject = ",".join(f"DNS:{other}" for other in names) or "DNS:localhost,IP:127.0.0.1"
    signed: list[str | Path] = []
    if issuer is not None:
        signed = ["-CA", issuer[0], "-CAkey", issuer[1], "-addext", "basicConstraints=CA:FALSE"]
    key: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", secret]
    about = ["-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
    command: list[str | Path] = ["openssl", "req", "-x509", *key, *signed, *about, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    secret.chmod(0o600)
    return certificate, secret


@functools.cache
def _standing() -> tuple[Path, Path]:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_certificate(Path(folder))


def options() -> dict[str, str]:
    """Options of a server that speaks TLS on every address, with one certificate for the whole run of the tests."""
    certificate, key = _standing()
    return {"certfile": str(certificate), "keyfile": str(key)}


class TlsSocket:
    """The client's end of a TLS connection, with the methods of a socket that tests use. The certificate is not
    verified.

    Parameters:
        below: the connected socket, which is this object's from now on.
    """

    def __init__(self, below: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._layer = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._unsent = self._received = b""
        while True:
            try:
                self._layer.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def _flush(self) -> None:
        """Sends what is encrypted; of a socket that does not block, what it does not take stays for the next call."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._below.send(self._unsent) :]

    def _fill(self) -> None:
        data = self._below.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: bytes | memoryview) -> int:
        """Sends all of it, in a record of its own."""
        self._flush()
        if data:
            self._layer.write(data)
        with contextlib.suppress(BlockingIOError):
            self._flush()
        return len(data)

    def sendall(self, data: bytes | memoryview) -> None:
        """Sends all of it, in a record of its own."""
        self.send(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receives; `MSG_PEEK` leaves what is received. b"" is an end that the server has announced."""
        while not self._received:
            try:
                self._received = self._layer.read(65536)
                while self._layer.pending():
                    self._received += self._layer.read(65536)
                if not self._received:
                    return b""
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError as error:
                # A cut: what a plain connection tells by a reset.
                raise ConnectionResetError("the server's last record is missing") from error
        taken = self._received[:size]
        if not flags & socket.MSG_PEEK:
            self._received = self._received[size:]
        return taken

    def shutdown(self, how: int) -> None:
        """Ends the sending side."""
        assert how == socket.SHUT_WR
        # It has been sent once the other side's is waited for.
        with contextlib.suppress(ssl.SSLError):
            self._layer.unwrap()
        self._flush()
        self._below.shutdown(how)

    def settimeout(self, seconds: float | None) -> None:
        """Limits every call."""
        self._below.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:
        """As for a socket."""
        self._below.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Sets an option of the socket below."""
        self._below.setsockopt(level, option, value)

    @property
    def family(self) -> int:
        """The address family of the socket below."""
        return self._below.family

    def getsockname(self) -> Any:
        """The client's address."""
        return self._below.getsockname()

    def getpeername(self) -> Any:
        """The server's address."""
        return self._below.getpeername()

    def fileno(self) -> int:
        """The descriptor of the socket below."""
        return self._below.fileno()

    def close(self) -> None:
        """Closes the socket below, without a word."""
        self._below.close()
