"""Forms and uploads: every form that a browser can send arrives, and nothing a client sends ends in a 500."""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application.app import WSGIApplication
from wsgi.application.errors import BadRequest, ContentTooLarge, HTTPError, UnsupportedMediaType
from wsgi.application.forms import read_form
from wsgi.application.multidict import MultiDict
from wsgi.application.request import Limits, Request
from wsgi.application.uploads import UploadedFile

LIMITS = Limits(body=4000, form=20_000, fields=6, spool=1000)
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = 'multipart/form-data; boundary="b"'

app = WSGIApplication()
small = WSGIApplication(limits=LIMITS)


def described(request: Request) -> dict[str, Any]:
    return {
        "form": request.form.pairs(),
        "files": [
            {
                "name": name,
                "filename": upload.filename,
                "media_type": upload.media_type,
                "size": upload.size,
                "content": upload.read().decode("latin-1"),
            }
            for name, upload in request.files.pairs()
        ],
    }


app.add_route("/", described, methods=["POST"], name="described")
small.add_route("/", described, methods=["POST"], name="described")


def read(
    body: bytes, content_type: str = MULTIPART, limits: Limits = LIMITS, length: int | None = -1
) -> tuple[MultiDict[str], MultiDict[UploadedFile]]:
    """Reads a form of which only the body is known to be there: who reads on, fails."""
    return read_form(Piecewise(body), content_type, len(body) if length == -1 else length, limits)


class Piecewise:
    """A stream that gives at most `step` bytes at a time, counts them, and is asked with a size."""

    def __init__(self, body: bytes, step: int | None = None) -> None:
        self._file = io.BytesIO(body)
        self._step = step

    def read(self, size: int, /) -> bytes:
        assert size > 0
        return self._file.read(size if self._step is None else min(size, self._step))

    def tell(self) -> int:
        return self._file.tell()


def part(name: str, content: bytes, filename: str | None = None, *fields: str) -> bytes:
    shown = f'; filename="{filename}"' if filename is not None else ""
    head = [f'Content-Disposition: form-data; name="{name}"{shown}', *fields]
    return "\r\n".join(["--b", *head, "", ""]).encode() + content + b"\r\n"


END = b"--b--\r\n"


# Through servers


def test_urlencoded_form_arrives_decoded_and_in_order(client: httpx.Client) -> None:
    content = "a=1&b=%C3%A4+%2B&a=2&empty=&bare&=nameless&&q=a%3Db%26c"
    answer = client.post("/", content=content, headers={"Content-Type": URLENCODED})
    assert answer.json()["form"] == [
        *(["a", "1"], ["a", "2"], ["b", "ä +"], ["empty", ""], ["bare", ""], ["", "nameless"], ["q", "a=b&c"]),
    ]


def test_multipart_form_arrives_with_fields_and_files(client: httpx.Client) -> None:
    answer = client.post(
        "/",
        data={"title": "Ärger", "tags": ["a", "b"]},
        files=[("photo", ("ü.png", b"\x89PNG\0\xff", "image/png")), ("photo", ("two.bin", b"\r\n--b\r\n"))],
    )
    assert answer.json() == {
        "form": [["title", "Ärger"], ["tags", "a"], ["tags", "b"]],
        "files": [
            {"name": "photo", "filename": "ü.png", "media_type": "image/png", "size": 6, "content": "\x89PNG\0\xff"},
            {
                "name": "photo",
                "filename": "two.bin",
                "media_type": "application/octet-stream",
                "size": 7,
                "content": "\r\n--b\r\n",
            },
        ],
    }


def test_large_upload_arrives_whole(client: httpx.Client) -> None:
    content = random.Random(1).randbytes(300_000)
    (file,) = client.post("/", files={"file": ("large", content)}).json()["files"]
    assert file["content"].encode("latin-1") == content


def test_large_text_field_stays_a_text_field(client: httpx.Client) -> None:
    text = "é" * 200_000
    answer = client.post("/", data={"text": text}, files={"file": ("f", b"")})
    assert answer.json()["form"] == [["text", text]]


def test_form_without_length_arrives(client: httpx.Client) -> None:
    # RFC 9112 §7.1: chunked.
    def chunks() -> Iterator[bytes]:
        yield part("text", b"hello")
        yield part("file", b"x" * 100_000, "f")
        yield END

    answer = client.post("/", content=chunks(), headers={"Content-Type": MULTIPART}).json()
    assert (answer["form"], answer["files"][0]["size"]) == ([["text", "hello"]], 100_000)


def test_form_of_no_parts_is_empty(client: httpx.Client) -> None:
    answer = client.post("/", content=END, headers={"Content-Type": MULTIPART})
    assert answer.json() == {"form": [], "files": []}


REFUSED: dict[str, tuple[str | None, bytes, int, str]] = {
    "no type": (None, b"a=1", 415, "must be a form"),
    "other type": ("application/json", b"{}", 415, "not 'application/json'"),
    "other multipart": ("multipart/mixed; boundary=b", END, 415, "not 'multipart/mixed'"),
    "urlencoded in utf-16": (f"{URLENCODED}; charset=utf-16", b"a=1", 415, "'utf-16'"),
    "urlencoded in a codec that is none": (f"{URLENCODED}; charset=zlib", b"a=1", 415, "'zlib'"),
    "_charset_ of utf-7": (URLENCODED, b"_charset_=utf-7&a=1", 415, "'utf-7'"),
    "raw bytes": (URLENCODED, b"a=\xff", 400, "utf-8"),
    "escaped bytes": (URLENCODED, b"a=%FF", 400, "utf-8"),
    "escaped surrogate": (URLENCODED, b"a=%ED%A0%80", 400, "utf-8"),
    "bytes in ascii": (f"{URLENCODED}; charset=ascii", b"a=%C3%A4", 400, "ascii"),
    "urlencoded too long": (URLENCODED, b"a=" + b"x" * 4000, 413, "limit `body`"),
    "urlencoded fields": (URLENCODED, b"&".join([b"a=1"] * 7), 413, "limit `fields`"),
    "urlencoded separators": (URLENCODED, b"&" * 6, 413, "limit `fields`"),
    "no boundary": ("multipart/form-data", END, 400, "must have a boundary"),
    "empty boundary": ('multipart/form-data; boundary=""', END, 400, "must have a boundary"),
    "long boundary": (f"multipart/form-data; boundary={'b' * 71}", END, 400, "1 to 70"),
    "odd boundary": ('multipart/form-data; boundary="b\\"b"', END, 400, "1 to 70"),
    "boundary that ends with a space": ('multipart/form-data; boundary="b "', END, 400, "1 to 70"),
    "other boundary": (MULTIPART, b"--c--\r\n", 400, "begin with its boundary"),
    "nothing": (MULTIPART, b"", 400, "begin with its boundary"),
    "no last boundary": (MULTIPART, part("a", b"1"), 400, "malformed"),
    "cut in a head": (MULTIPART, part("a", b"1")[:20], 400, "malformed"),
    "preamble": (MULTIPART, b"This is MIME\r\n" + part("a", b"1") + END, 400, "begin with its boundary"),
    "bare line feeds": (MULTIPART, (part("a", b"1") + END).replace(b"\r\n", b"\n"), 400, "malformed"),
    "part without a name": (MULTIPART, b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + END, 400, "name"),
    "part of another kind": (MULTIPART, part("a", b"1").replace(b"form-data", b"attachment") + END, 400, "malformed"),
    "part without a head": (MULTIPART, b"--b\r\n\r\n1\r\n" + END, 400, "malformed"),
    "folded field": (MULTIPART, part("a", b"1", None, "Content-Type: text/plain;", " x=1") + END, 400, "malformed"),
    "field without a colon": (MULTIPART, part("a", b"1", None, "nonsense") + END, 400, "malformed"),
    "field with NUL": (MULTIPART, part("a", b"1", None, "X-A: \0") + END, 400, "header field of the part 'a'"),
    "field with a bare LF": (MULTIPART, part("a", b"1", None, "X-A: 1\nX-B: 2") + END, 400, "header field of the part"),
    "name in latin-1": (MULTIPART, part("a", b"1").replace(b'"a"', b'"\xe4"') + END, 400, "malformed"),
    "text that is none": (MULTIPART, part("a", b"\xff") + END, 400, "the field 'a' is not valid utf-8"),
    "text in utf-32": (
        MULTIPART,
        part("a", b"1", None, "Content-Type: text/plain; charset=utf-32") + END,
        415,
        "utf-32",
    ),
    "multipart _charset_": (MULTIPART, part("_charset_", b"koi8-r") + END, 415, "koi8-r"),
    "multipart _charset_ of bytes": (MULTIPART, part("_charset_", b"\xff") + END, 400, "_charset_"),
    "base64": (MULTIPART, part("a", b"MQ==", "f", "Content-Transfer-Encoding: base64") + END, 415, "RFC 7578 §4.7"),
    "length of a part that is wrong": (MULTIPART, part("a", b"1", None, "Content-Length: 2") + END, 400, "malformed"),
    "length of a part that is none": (MULTIPART, part("a", b"1", None, "Content-Length: +1") + END, 400, "malformed"),
    "multipart too long": (MULTIPART, part("a", b"x" * 20_000, "f") + END, 413, "limit `form`"),
    "multipart fields": (MULTIPART, part("a", b"1") * 7 + END, 413, "limit `fields`"),
    "files": (MULTIPART, part("a", b"1", "f") * 7 + END, 413, "limit `fields`"),
    "text too long": (MULTIPART, part("a", b"x" * 2000) * 2 + END, 413, "limit `body`"),
    "heads too long": (MULTIPART, part("a", b"", "f", f"X-A: {'x' * 2000}") * 2 + END, 413, "limit `body`"),
    "field of a part too long": (MULTIPART, part("a", b"", "f", f"X-A: {'x' * 5000}") + END, 413, "4096 bytes"),
    "fields of a part": (MULTIPART, part("a", b"", "f", *["X-A: 1"] * 8) + END, 413, "8 header fields"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_form_is_answered_with_what_was_wrong(case: str, connect: Callable[..., httpx.Client]) -> None:
    content_type, body, status, detail = REFUSED[case]
    headers = {"Accept": "application/json", **({"Content-Type": content_type} if content_type else {})}
    answer = connect("small").post("/", content=body, headers=headers)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_upload_is_closed_at_the_end_of_its_request() -> None:
    uploads: list[UploadedFile] = []
    keeping = WSGIApplication()

    @keeping.post("/")
    def keep(request: Request) -> str:
        uploads.extend(upload for _, upload in request.files.pairs())
        return uploads[0].read().decode()

    with direct(keeping) as client:
        assert client.post("/", files={"a": ("a", b"content"), "b": ("b", b"x" * 70_000)}).text == "content"
    assert [upload.file.closed for upload in uploads] == [True, True]


# Reading alone


def test_truncated_body_says_how_much_is_missing() -> None:
    for content_type, body in [(URLENCODED, b"a=1"), (MULTIPART, part("a", b"1", "f"))]:
        with pytest.raises(BadRequest) as caught:
            read(body, content_type, length=len(body) + 5)
        assert caught.value.detail == f"the form ends after {len(body)} of its {len(body) + 5} bytes"


@pytest.mark.parametrize("length", [None, 10**30])
@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART])
def test_endless_body_is_read_no_further_than_the_limit(content_type: str, length: int | None) -> None:
    endless = Piecewise((b"a=1&" if content_type == URLENCODED else part("a", b"x" * 100_000, "f")) * 10)
    limits = Limits(body=30, form=5000, fields=1000, spool=100)
    with pytest.raises(ContentTooLarge):
        read_form(endless, content_type, length, limits)
    assert endless.tell() <= 5001


@pytest.mark.parametrize("extra", [b"", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_follows_the_body_is_left_alone(extra: bytes) -> None:
    for content_type, body in [(URLENCODED, b"a=1"), (MULTIPART, part("a", b"1") + END)]:
        stream = Piecewise(body + extra)
        form, _ = read_form(stream, content_type, len(body), LIMITS)
        assert (form.pairs(), stream.tell()) == ([("a", "1")], len(body))


def test_form_is_the_same_however_it_is_cut(descriptors: Callable[[], int]) -> None:
    body = b"".join(
        [
            *(part("text", "ä\r\n--".encode()), part("file", b"\r\n--\r\n-b\r\r\n--" * 90, "name.txt")),
            *(part("empty", b"", ""), part("text", b""), END, b"\r\n epilogue"),
        ]
    )
    for step in [*range(1, 60), 1000, None]:
        form, files = read_form(Piecewise(body, step), MULTIPART, len(body), LIMITS)
        assert form.pairs() == [("text", "ä\r\n--"), ("text", "")]
        assert [(upload.filename, upload.read()) for _, upload in files.pairs()] == [
            ("name.txt", b"\r\n--\r\n-b\r\r\n--" * 90),
            ("", b""),
        ]
        for _, upload in files.pairs():
            upload.close()


def outcome(body: bytes, content_type: str, step: int | None) -> tuple[int, Any]:
    """The status of what is refused, or the form."""
    try:
        form, files = read_form(Piecewise(body, step), content_type, len(body), LIMITS)
    except HTTPError as error:
        return error.status, None
    uploads = [(name, upload.filename, upload.read()) for name, upload in files.pairs()]
    for _, upload in files.pairs():
        upload.close()
    return 200, (form.pairs(), uploads)


def test_mangled_form_is_read_or_refused_however_it_is_cut(descriptors: Callable[[], int]) -> None:
    dice = random.Random(20260724)
    valid = part("text", b"hello") + part("file", b"x" * 1500, "f.txt", "Content-Type: text/plain; charset=utf-8") + END
    pieces = [b"\r\n", b"--b", b"--b--", b'"', b";", b"\0", b"\xff", b":", b" ", b"filename*=utf-8''x", b"=", b"\\"]
    seen = set()
    for _ in range(2000):
        body = bytearray(valid)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(body)) if dice.random() < 0.3 else dice.randrange(min(len(body), 200))
            body[at : at + dice.choice([0, 0, 1, 5])] = dice.choice(pieces)
        content_type = MULTIPART if dice.random() < 0.8 else URLENCODED
        whole = outcome(bytes(body), content_type, None)
        assert outcome(bytes(body), content_type, dice.choice([1, 2, 5, 100])) == whole
        seen.add(whole[0])
    assert {200, 400} <= seen <= {200, 400, 413, 415}


def test_mangled_content_type_is_read_or_refused() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        content_type = bytearray(dice.choice([MULTIPART, f"{URLENCODED}; charset=utf-8"]).encode())
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(content_type))
            content_type[at : at + dice.randint(0, 2)] = bytes([dice.choice(b'"\\;\xff=\0 b')])
        status, _ = outcome(part("a", b"1") + END, content_type.decode("latin-1"), None)
        assert status in (200, 400, 415)


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (f"{URLENCODED}; charset=ISO-8859-1", b"a=%E4", "ä"),
        (f'{URLENCODED.upper()};CHARSET="utf-8"', b"a=%C3%A4", "ä"),
        # WHATWG HTML §4.10.5.1.1.
        (URLENCODED, b"_charset_=iso-8859-1&a=%E4", "ä"),
        (URLENCODED, b"a=%E4&_charset_=iso-8859-1", "ä"),
        (URLENCODED, b"a=%C3%A4&_charset_=", "ä"),
        # RFC 7578 §4.6.
        (MULTIPART, part("_charset_", b"latin-1") + part("a", b"\xe4") + END, "ä"),
        (MULTIPART, part("a", b"\xe4") + part("_charset_", b"latin-1") + END, "ä"),
        # RFC 7578 §4.5: the part's own goes first.
        (
            MULTIPART,
            part("_charset_", b"latin-1") + part("a", b"\xc3\xa4", None, "Content-Type: a/b; charset=UTF-8") + END,
            "ä",
        ),
    ],
)
def test_text_is_read_in_its_own_encoding(content_type: str, body: bytes, expected: str) -> None:
    assert read(body, content_type)[0]["a"] == expected


def test_encoding_of_a_file_is_nobody_elses_business() -> None:
    _, files = read(part("a", b"\xff", "f", "Content-Type: Text/Plain; charset=koi8-r") + END)
    assert (files["a"].read(), files["a"].media_type) == (b"\xff", "text/plain")


@pytest.mark.parametrize("boundary", ["b", '"b"', "----WebKitFormBoundary0123456789abcdef", '"\'()+_,-./:=? b"'])
def test_boundary_of_any_permitted_kind_is_found(boundary: str) -> None:
    body = (part("a", b"1") + END).replace(b"--b", b"--" + boundary.strip('"').encode())
    assert read(body, f"multipart/form-data; boundary={boundary}")[0]["a"] == "1"


@pytest.mark.parametrize("spare", [0, 1])
def test_limit_itself_is_not_passed(spare: int) -> None:
    for content_type, limited, body in [
        (URLENCODED, "body", b"a=12345"),
        (MULTIPART, "form", part("a", b"1" * 50, "f") + END),
    ]:
        limits = Limits(**{"body": 1000, "form": 1000, limited: len(body) - spare})
        for length in (len(body), None):
            if spare:
                with pytest.raises(ContentTooLarge):
                    read(body, content_type, limits, length)
            else:
                read(body, content_type, limits, length)


def test_fields_up_to_the_limit_are_taken() -> None:
    assert len(read(b"&".join(b"%d=1" % i for i in range(6)), URLENCODED)[0]) == 6
    form, files = read(part("a", b"1") * 3 + part("f", b"1", "f") * 3 + END)
    assert (len(form.get_all("a")), len(files.get_all("f"))) == (3, 3)


def test_long_value_is_decoded_as_short_ones_are() -> None:
    # Whatever stands where the decoder begins its next piece.
    limits = Limits()
    for shift in range(4):
        text = "x" * shift + "ä%+ " * 60_000
        body = b"a=" + quote_plus(text).encode()
        assert read(body, URLENCODED, limits)[0]["a"] == text


def test_escapes_take_little_memory() -> None:
    body = b"a=" + b"%41" * 1_000_000
    tracemalloc.start()
    read(body, URLENCODED, Limits())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(body)


@pytest.mark.parametrize(
    ("body", "value"), [(b"a=%", "%"), (b"a=%4", "%4"), (b"a=%zz%41", "%zzA"), (b"a=\xc3%A4", "ä"), (b"a=1=2", "1=2")]
)
def test_odd_escapes_are_read_as_browsers_read_them(body: bytes, value: str) -> None:
    # WHATWG URL §1.3, §5.1.
    assert read(body, URLENCODED)[0]["a"] == value


def test_field_without_a_value_is_blank() -> None:
    form, files = read(part("a", b"") + END)
    assert (form.pairs(), files.pairs()) == ([("a", "")], [])


# Where files are kept


def test_small_uploads_need_no_descriptor(descriptors: Callable[[], int]) -> None:
    _, files = read(part("f", b"x" * 500, "f") * 2 + END)
    assert (descriptors(), [len(upload.read()) for upload in files.get_all("f")]) == (0, [500, 500])


def test_large_uploads_share_one_descriptor(descriptors: Callable[[], int]) -> None:
    _, files = read(b"".join(part("f", bytes([65 + i]) * 2000, f"{i}") for i in range(6)) + END)
    uploads = files.get_all("f")
    assert descriptors() == 1
    assert [upload.read() for upload in uploads] == [bytes([65 + i]) * 2000 for i in range(6)]
    for upload in uploads[:-1]:
        upload.close()
        upload.close()
    assert descriptors() == 1
    uploads[-1].file.seek(0)
    assert uploads[-1].read() == b"F" * 2000
    uploads[-1].close()
    assert descriptors() == 0


@pytest.mark.parametrize("case", REFUSED)
def test_refused_form_leaves_no_file_behind(case: str, descriptors: Callable[[], int]) -> None:
    content_type, body, status, _ = REFUSED[case]
    if body.startswith(b"--b\r\n"):
        body = part("f", b"x" * 5000, "f") + body
    with pytest.raises(HTTPError) as caught:
        read(body, content_type or "")
    assert (caught.value.status, descriptors()) == (status, 0)


def test_failing_stream_leaves_no_file_behind(descriptors: Callable[[], int]) -> None:
    class Broken(Piecewise):
        def read(self, size: int, /) -> bytes:
            if self.tell() > 4000:
                raise ConnectionResetError
            return super().read(size)

    with pytest.raises(ConnectionResetError):
        read_form(Broken(part("f", b"x" * 9000, "f"), 1500), MULTIPART, 10_000, LIMITS)
    assert descriptors() == 0


def test_full_disk_leaves_no_file_behind(descriptors: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        read(part("f", b"x" * 9000, "f") + END)
    assert descriptors() == 0


# Uploads


def raw(upload: UploadedFile) -> io.RawIOBase:
    assert isinstance(upload.file.raw, io.RawIOBase)
    return upload.file.raw


@pytest.fixture(params=[100, 100_000], ids=["memory", "disk"])
def upload(request: pytest.FixtureRequest) -> Iterator[UploadedFile]:
    """An upload of 100 lines, between two others."""
    content = b"".join(b"%d,%d\n" % (i, i * i) for i in range(100))
    limits = Limits(spool=100_000 if request.param == 100 else 100)
    body = (
        part("a", b"before", "a")
        + part("f", content, "a/b.csv", "Content-Type: text/csv", "X-A: ä")
        + part("z", b"z", "z")
    )
    _, files = read(body + END, limits=limits)
    yield files["f"]
    for _, other in files.pairs():
        other.close()


def test_upload_can_be_read_and_sought_as_a_file(upload: UploadedFile) -> None:
    file = upload.file
    assert (upload.size, file.seek(0, os.SEEK_END), file.read()) == (upload.size, upload.size, b"")
    assert (file.seek(-5, os.SEEK_END), file.read()) == (upload.size - 5, b"9801\n")
    assert (file.seek(2), file.seek(2, os.SEEK_CUR), file.read(3)) == (2, 4, b"1,1")
    assert (file.seek(upload.size + 10), file.read(1)) == (upload.size + 10, b"")
    with pytest.raises(ValueError, match="before the beginning"):
        raw(upload).seek(-1)
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    file.seek(0)
    assert sum(1 for _ in file) == 100


def test_upload_can_be_read_as_text(upload: UploadedFile) -> None:
    rows = list(csv.reader(io.TextIOWrapper(upload.file, "utf-8", newline="")))
    assert rows[99] == ["99", "9801"]


def test_upload_can_be_read_by_what_needs_a_real_file() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.txt", "inside" * 1000)
    _, files = read(part("z", archive.getvalue(), "a.zip") + END, limits=Limits(spool=10))
    with zipfile.ZipFile(files["z"].file) as opened:
        assert opened.read("a.txt") == b"inside" * 1000
    files["z"].close()


def test_upload_says_what_its_part_said(upload: UploadedFile) -> None:
    assert (upload.filename, upload.safe_filename, upload.media_type) == ("a/b.csv", "b.csv", "text/csv")
    assert upload.headers["content-type"] == "text/csv"
    # As everywhere in HTTP, a character is a byte.
    assert upload.headers["X-A"].encode("latin-1").decode() == "ä"
    assert repr(upload) == f"<UploadedFile 'a/b.csv' ({upload.size} bytes)>"


def test_upload_is_saved_whole_wherever_it_was_read(upload: UploadedFile, tmp_path: Path) -> None:
    upload.read(10)
    upload.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes().startswith(b"0,0\n")
    assert (tmp_path / "saved").stat().st_size == upload.size
    assert len(upload.read()) == upload.size - 10
    (tmp_path / "saved").write_bytes(b"x" * 100_000)
    upload.save(str(tmp_path / "saved"))
    assert (tmp_path / "saved").stat().st_size == upload.size


def test_closed_upload_cannot_be_read(upload: UploadedFile) -> None:
    upload.close()
    with pytest.raises(ValueError, match="closed"):
        upload.read()
    with pytest.raises(ValueError, match="closed"):
        raw(upload).readinto(bytearray(1))


def test_uploads_can_be_read_by_several_threads() -> None:
    _, files = read(b"".join(part("f", bytes([65 + i]) * 3000, "f") for i in range(5)) + END)
    wrong: list[bytes] = []

    def check(upload: UploadedFile, letter: bytes) -> None:
        for _ in range(50):
            upload.file.seek(0)
            content = b"".join(iter(lambda: raw(upload).read(100) or b"", b""))
            if content != letter * 3000:
                wrong.append(content)

    uploads = files.get_all("f")
    threads = [threading.Thread(target=check, args=(upload, bytes([65 + i]))) for i, upload in enumerate(uploads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for upload in uploads:
        upload.close()


def test_field_where_no_file_was_chosen_is_false() -> None:
    # WHATWG HTML §4.10.21.4: no name, no content, application/octet-stream.
    _, files = read(part("f", b"", "", "Content-Type: application/octet-stream") + part("g", b"", "g") + END)
    assert (files["f"].filename, bool(files["f"]), bool(files["g"])) == ("", False, True)


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cv.pdf", "cv.pdf"),
        ("/etc/", "upload"),
        ("..", "upload"),
        (".htaccess", "htaccess"),
        ("  a b .txt. ", "a b .txt"),
        ("a\0b\r\n\x7f\u202e\u200f.txt", "ab.txt"),
        ("\ud800x", "x"),
        ("Bild 1.00\u202fPM\u00a0x.png", "Bild 1.00 PM x.png"),
        ("e\u0301té.txt", "été.txt"),
        ("日本語.txt", "日本語.txt"),
        ('a<b>:"|?*.txt', "a_b______.txt"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.txt", "console.txt"),
        ("", "upload"),
        ("ä" * 200 + ".tar", "ä" * 125 + ".tar"),
        ("x." + "y" * 300, "x." + "y" * 126),
    ],
)
def test_safe_filename_has_nothing_to_fear(filename: str, safe: str) -> None:
    _, files = read(part("f", b"", "x") + END)
    files["f"].filename = filename
    assert files["f"].safe_filename == safe
    assert len(safe.encode()) <= 255


@pytest.mark.parametrize(
    ("sent", "filename"),
    [
        ('filename="a.txt"', "a.txt"),
        ("filename=a.txt", "a.txt"),
        ('filename="a %22b%22.txt"', 'a "b".txt'),
        ('filename="a \\"b\\".txt"', 'a "b".txt'),
        ('filename="C:\\\\dir\\\\a.txt"', "a.txt"),
        ("filename=\"a.txt\"; filename*=UTF-8''b.txt", "a.txt"),
    ],
)
def test_filename_is_read_as_browsers_write_it(sent: str, filename: str) -> None:
    # WHATWG HTML §4.10.21.8; RFC 7578 §4.2: no filename*.
    body = f'--b\r\nContent-Disposition: form-data; name="f"; {sent}\r\n\r\n\r\n'.encode() + END
    assert read(body)[1]["f"].filename == filename


def test_parser_is_imported_by_the_first_multipart_form_alone() -> None:
    code = "import sys, wsgi.application; print({'multipart', 'mimetypes'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_refusal_never_repeats_a_long_name() -> None:
    with pytest.raises(BadRequest) as caught:
        read(part("n" * 3000, b"\xff") + END)
    assert len(caught.value.detail) < 200
    with pytest.raises(UnsupportedMediaType) as refused:
        read(b"", "x" * 3000)
    assert len(refused.value.detail) < 300
