"""Whatever is posted, the answer is no 5xx, and what was refused leaves nothing on the disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NoReturn
from urllib.parse import quote

import pytest
from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import ReceivedBody
from ingest_gateway.body.zips import unzipped
from k2common.http.problems import Problem
from k2common.layouts.catalogue import layout_named

from tests.integration.gateway.serving import WAIT, Gateway, open_gateway

LIMITS = Limits(content_bytes=10_000, line_bytes=100, reserve_bytes=0)
CSV = b"ts_event,symbol,venue,price,size\n2024-01-01T00:00:00,A,X,1,2\n2024-01-01T00:00:01,A,X,b,2\n"
BOUNDARY = "xYzZY"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"\r\nContent-Type: text/csv'
UPLOAD = "/v1/uploads?dataset=trades"
DRY_RUN = f"{UPLOAD}&dry_run=true"
DETECT = "/v1/layouts/detect"
LONG = b"x" * 200_000


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


def form_of(head: str, data: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def received(folder: Path, data: bytes) -> ReceivedBody:
    path = folder / "body"
    path.write_bytes(data)
    return ReceivedBody(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def damaged(method: int, *, name: str = "a.csv") -> bytes:
    """A zip whose member's content is damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        packed.writestr(name, CSV * 100)
    data = bytearray(out.getvalue())
    at = 40 + len(name.encode())
    data[at : at + 20] = b"\xff" * 20
    return bytes(data)


def misnamed() -> bytes:
    """A zip that says its names are UTF-8, and has one that is not."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("é.csv", CSV)
    return out.getvalue().replace("é".encode(), b"\xff\xfe")


ZIPS = {
    "bzip2": damaged(zipfile.ZIP_BZIP2),
    "lzma": damaged(zipfile.ZIP_LZMA),
    "deflated": damaged(zipfile.ZIP_DEFLATED),
    "a name that is not UTF-8": misnamed(),
    "nothing": b"",
    "no zip": b"PK\x03\x04",
}
TEXTS = {
    "only carriage returns": CSV.replace(b"\n", b"\r"),
    "a quote that stays open": b'ts_event,"symbol,venue,price,size\n2024-01-01T00:00:00,A,X,1,2\n',
    "a cell too long in the header": b"ts_event,symbol,venue,price,size," + LONG + b"\n",
    "a quoted cell too long in the header": b'ts_event,symbol,venue,price,size,"' + LONG + b'"\n',
    "a NUL in the header": b"ts_event,symbol\x00,venue,price,size\n",
    "NULs": b"\x00" * 100,
    "no UTF-8": b"\xff\xfe\xfd,\n" * 10,
    "UTF-16": "ts_event,symbol\n1,2\n".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf",
    "a byte order mark and a quote": b'\xef\xbb\xbf"',
    "quotes": b'"' * 1001,
    "newlines": b"\n\r\r\n" * 100,
    "commas": b"," * 2000,
    "a blank": b" ",
    "a surrogate in UTF-8": b"ts_event,symbol,venue,price,size\n2024-01-01T00:00:00,\xed\xa0\x80,X,1,2\n",
    "a cell too long": CSV + b'2024-01-01T00:00:00,"' + LONG + b'",X,1,2\n',
    "no end": CSV[:-20],
    "digits": b"ts_event,symbol,venue,price,size\n" + b"9" * 400 + b",A,X," + b"9" * 400 + b",1e999999\n",
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("path", [UPLOAD, DRY_RUN, f"{UPLOAD}&layout=asx-trades&symbol=A", DETECT])
async def test_no_text_is_a_fault_of_the_service(gateway: Gateway, path: str, body: bytes) -> None:
    status, answer = await gateway.post(path, body, content_type="text/csv")
    assert status < 500, answer
    if status != 202:
        assert gateway.spooled() == []


@pytest.mark.parametrize("body", ZIPS.values(), ids=ZIPS.keys())
async def test_no_zip_is_a_fault_of_the_service(gateway: Gateway, body: bytes) -> None:
    status, answer = await gateway.post(UPLOAD, body, content_type="application/zip")
    assert (status, b"BODY_NOT_DECODABLE" in answer) == (400, True)
    assert gateway.spooled() == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_no_packed_body_is_a_fault_of_the_service(gateway: Gateway, encoding: str) -> None:
    status, answer = await gateway.post(UPLOAD, CSV, content_encoding=encoding)
    assert (status, b"BODY_NOT_DECODABLE" in answer) == (400, True)
    assert gateway.spooled() == []


FORMS = {
    "no form": b"--",
    "a name that is not UTF-8": b"--xYzZY\r\n"
    b'Content-Disposition: form-data; name="\xff"; filename="\xff\xfe"\r\n\r\n' + CSV + b"\r\n--xYzZY--\r\n",
    "a part without a disposition": b"--xYzZY\r\nX: y\r\n\r\nz\r\n--xYzZY--\r\n",
    "a header without a colon": b"--xYzZY\r\nX\r\n\r\nz\r\n--xYzZY--\r\n",
    "a zip that is none": form_of(FILE.replace("text/csv", "application/zip"), CSV),
    "a charset that nobody knows": form_of(f"{FILE}; charset=klingon", CSV),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
async def test_no_form_is_a_fault_of_the_service(gateway: Gateway, body: bytes) -> None:
    media = f"multipart/form-data; boundary={BOUNDARY}"
    status, answer = await gateway.post(UPLOAD, body, content_type=media)
    assert status < 500, answer
    assert len(gateway.spooled()) == (status == 202)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_with_any_damage_is_itself_or_refused(tmp_path: Path, method: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        packed.writestr("é.csv", CSV)
    random = Random(method)
    for _ in range(300):
        data = bytearray(out.getvalue())
        for _ in range(random.choice((1, 1, 3))):
            data[random.randrange(len(data))] = random.randrange(256)
        body = received(tmp_path, bytes(data[: random.choice((len(data), random.randrange(len(data)))) or 1]))
        with suppress(Problem):
            unzipped(body, limits=LIMITS).path.unlink()
        assert list(tmp_path.iterdir()) == [body.path]


@pytest.mark.parametrize(
    ("path", "headers"), [(UPLOAD, {}), (DRY_RUN, {}), (UPLOAD, {"content_type": "application/zip"})]
)
async def test_a_full_disk_is_said_to_be_full(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str]
) -> None:
    body = CSV
    if headers:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as packed:
            packed.writestr("a.csv", CSV)
        body = out.getvalue()
    synced = [0] if headers else []

    def fsync(_: int) -> None:
        if synced:
            synced.pop()
            return
        full()

    def full() -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    status, answer = await gateway.post(path, body, **headers)
    assert (status, b"SPOOL_FULL" in answer) == (507, True)
    assert gateway.spooled() == []


async def test_silent_bodies_do_not_stop_the_uploads_of_others(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, places=4, body_seconds=0.5) as gateway:
        silent = [await gateway.sent(UPLOAD, CSV[:9], content_length="99") for _ in range(4)]
        async with asyncio.timeout(WAIT):
            while len(gateway.spooled()) < 4:  # noqa: ASYNC110 - the disk has no event
                await asyncio.sleep(0.01)
            status, answer = await gateway.post(UPLOAD, CSV)
            assert (status, b"TOO_MANY_UPLOADS" in answer) == (429, True)
            while (await gateway.post(UPLOAD, CSV))[0] == 429:  # noqa: ASYNC110 - as a client waits
                await asyncio.sleep(0.05)
            for reader in silent:
                assert b"408" in await reader.readline()
        assert len(gateway.spooled()) == 1


NAMED = "ts_event,symbol,venue,price,size,note\n2024-01-01T00:00:00,A,X,1,x,café\n"


@pytest.mark.parametrize(
    ("charset", "status", "raw"),
    [
        ("windows-1252", 200, "café"),
        ("ISO-8859-1", 200, "café"),
        ("us-ascii", 200, "caf\\xe9"),
        ("utf-8", 200, "caf\\xe9"),
        ("utf-16", 415, None),
        ("klingon", 415, None),
        ("\xff", 415, None),
    ],
)
async def test_a_charset_is_the_files_encoding(
    gateway: Gateway, charset: str, status: int, raw: str | None
) -> None:
    body = NAMED.encode("latin-1")
    found, answer = await gateway.post(DRY_RUN, body, content_type=f"text/csv; charset={charset}")
    assert found == status, answer
    if raw is not None:
        assert json.loads(answer)["data"]["rejects"][0]["raw"].endswith(raw)


async def test_a_layout_with_half_of_a_surrogate_pair_is_refused(gateway: Gateway) -> None:
    layout = quote('{"name": "\\ud800", "\\udfff": "\\ud800"}')
    status, answer = await gateway.post(f"{UPLOAD}&layout={layout}", CSV)
    assert (status, b"INVALID_LAYOUT" in answer) == (422, True)


async def test_a_charset_against_the_layouts_word_is_refused(gateway: Gateway) -> None:
    layout = layout_named("k2", dataset="trades").model_copy(update={"encoding": "cp1252"})
    path = f"{DRY_RUN}&layout={quote(layout.canonical_json)}"
    status, answer = await gateway.post(path, CSV, content_type="text/csv; charset=utf-8")
    assert (status, b"CHARSET_CONFLICT" in answer) == (415, True)
    status, answer = await gateway.post(path, CSV, content_type="text/csv; charset=windows-1252")
    assert status == 200, answer


async def test_a_form_names_its_files_charset(gateway: Gateway) -> None:
    body = form_of(f"{FILE}; charset=windows-1252", NAMED.encode("cp1252"))
    media = f"multipart/form-data; boundary={BOUNDARY}"
    status, answer = await gateway.post(DRY_RUN, body, content_type=media)
    assert status == 200, answer
    assert json.loads(answer)["data"]["rejects"][0]["raw"].endswith("café")
