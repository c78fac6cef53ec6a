"""Bodies in every packing become their content, or are refused for a reason and leave nothing behind."""

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_gateway.body import limits as limits_module
from ingest_gateway.body.limits import Guard, Limits
from ingest_gateway.body.multipart import Form
from ingest_gateway.body.spool import ReceivedBody
from ingest_gateway.body.zips import unzipped
from ingest_gateway.uploads.dry_run import detected, trial
from ingest_gateway.uploads.reject_reports import restore_rejects
from k2common.http.problems import Problem
from k2common.layouts.catalogue import builtin_layouts, layout_named
from k2common.layouts.cutter import read_header
from k2common.layouts.upload import UploadSpec
from k2common.testing.iceberg import START

LIMITS = Limits(content_bytes=10_000, line_bytes=100, reserve_bytes=0)
BOUNDARY = "xYzZY"
CSV = b"ts_event,symbol,venue,price,size\n2024-01-01T00:00:00,A,X,1,2\n2024-01-01T00:00:01,A,X,b,2\n"


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def form_of(*parts: tuple[str, bytes], end: str = "--\r\n") -> bytes:
    body = b"".join(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts)
    return body + f"--{BOUNDARY}{end}".encode()


def field(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"'


FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"\r\nContent-Type: text/csv'


async def read(body: bytes, size: int = 7) -> tuple[Form, bytes]:
    form = Form(f"multipart/form-data; boundary={BOUNDARY}")
    return form, b"".join([part async for part in form.content(pieces(body, size))])


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_a_form_is_its_file_and_the_fields_on_either_side(size: int) -> None:
    body = form_of((field("dataset"), b"trades"), (FILE, CSV), (field("layout"), b"k2"))
    form, content = await read(body, size)
    assert content == CSV
    assert form.fields == {"dataset": "trades", "layout": "k2"}
    assert (form.filename, form.media) == ("a.csv", "text/csv")


@pytest.mark.parametrize(
    "body",
    [
        form_of((field("dataset"), b"trades")),
        form_of((FILE, CSV), (FILE, CSV)),
        form_of((FILE, CSV), end="\r\n"),
        form_of((field("a"), b"1"), (field("a"), b"2"), (FILE, CSV)),
        form_of((field("a"), b"x" * 70_000), (FILE, CSV)),
        b"no form",
    ],
)
async def test_what_is_no_form_with_one_file_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        await read(body, 1000)
    assert (caught.value.status, caught.value.code) == (400, "FORM_MALFORMED")


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(Problem):
        Form("multipart/form-data")


def received(folder: Path, data: bytes) -> ReceivedBody:
    path = folder / "body"
    path.write_bytes(data)
    return ReceivedBody(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def zip_of(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return out.getvalue()


def test_a_zip_of_one_member_is_that_member(tmp_path: Path) -> None:
    found = unzipped(received(tmp_path, zip_of(a=CSV)), limits=LIMITS)
    assert found.path.read_bytes() == CSV
    assert (found.bytes, found.sha256) == (len(CSV), hashlib.sha256(CSV).hexdigest())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no zip", "BODY_NOT_DECODABLE"),
        (zip_of(), "BODY_NOT_DECODABLE"),
        (zip_of(a=CSV, b=CSV), "BODY_NOT_DECODABLE"),
        (zip_of(a=CSV)[:-30], "BODY_NOT_DECODABLE"),
        (zip_of(bomb=b"x\n" * 1_000_000), "UPLOAD_TOO_LARGE"),
        (zip_of(line=b"x" * 101), "LINE_TOO_LONG"),
    ],
)
def test_another_zip_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes, code: str) -> None:
    body = received(tmp_path, data)
    with pytest.raises(Problem) as caught:
        unzipped(body, limits=LIMITS)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == [body.path]


LINES = st.binary(max_size=40).map(lambda data: data.replace(b"x", b"\n"))


@given(st.lists(LINES, max_size=12), st.integers(1, 60))
def test_the_longest_line_counts_however_the_body_is_cut(parts: list[bytes], limit: int) -> None:
    guard = Guard(
        Limits(content_bytes=10**6, line_bytes=limit, reserve_bytes=0), Path(), is_packed=lambda: False
    )
    longest = max(len(line) for line in b"".join(parts).split(b"\n"))
    with nullcontext() if longest <= limit else pytest.raises(Problem, match="a line is longer"):
        for part in parts:
            guard.check(part)


def test_a_body_is_refused_before_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [100]
    usage = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=free[0]))
    monkeypatch.setattr(limits_module, "shutil", usage)
    guard = Guard(
        Limits(content_bytes=10**9, line_bytes=10**9, reserve_bytes=50), Path(), is_packed=lambda: False
    )
    guard.check(b"x")
    free[0] = 49
    guard.check(b"x")
    with pytest.raises(Problem) as caught:
        guard.check(b"x" * limits_module.CHECK_BYTES)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (507, "5")


EXPORT = (
    "line,byte_offset,column,code,message,raw\n"
    '3,90,price,NUMBER_INVALID,price is not a number,"2024-01-01T00:00:01,A,X,3,2"\n'
    '4,99,,QUOTING_INVALID,"the record\'s, quotes","a,""b\nc"",d"\n'
)


def test_mended_rejects_become_records_under_the_header(tmp_path: Path) -> None:
    found = restore_rejects(
        received(tmp_path, EXPORT.encode()), limits=LIMITS, header="a,b", encoding="utf-8"
    )
    content = b'a,b\n2024-01-01T00:00:01,A,X,3,2\na,"b\nc",d\n'
    assert found.path.read_bytes() == content
    assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("data", [CSV, b"", b"\xff\xfe"])
def test_a_body_that_is_no_export_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    body = received(tmp_path, data)
    assert restore_rejects(body, limits=LIMITS, header=None, encoding="utf-8") is body


@pytest.mark.parametrize(
    ("data", "encoding"), [(EXPORT + '5,1,a,b,c,"x\n', "utf-8"), (EXPORT + "5,1,a,b,c,€\n", "latin-1")]
)
def test_an_export_that_cannot_be_read_is_refused(tmp_path: Path, data: str, encoding: str) -> None:
    body = received(tmp_path, data.encode())
    with pytest.raises(Problem):
        restore_rejects(body, limits=LIMITS, header=None, encoding=encoding)
    assert list(tmp_path.iterdir()) == [body.path]


def test_mended_rejects_are_on_disk_before_they_can_be_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    found = restore_rejects(
        received(tmp_path, EXPORT.encode()), limits=LIMITS, header="a,b", encoding="utf-8"
    )
    assert synced == [found.path.stat().st_ino]


def test_mended_rejects_beyond_a_limit_leave_nothing(tmp_path: Path) -> None:
    body = received(tmp_path, EXPORT.encode())
    small = Limits(content_bytes=20, line_bytes=2**20, reserve_bytes=0)
    with pytest.raises(Problem) as caught:
        restore_rejects(body, limits=small, header="a,b", encoding="utf-8")
    assert caught.value.status == 413
    assert list(tmp_path.iterdir()) == [body.path]


def test_a_disk_that_fails_leaves_no_mended_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", fail)
    body = received(tmp_path, EXPORT.encode())
    with pytest.raises(OSError, match="no space"):
        restore_rejects(body, limits=LIMITS, header="a,b", encoding="utf-8")
    assert list(tmp_path.iterdir()) == [body.path]


def test_a_trial_counts_like_a_receipt_and_shows_the_rejects() -> None:
    layout = layout_named("k2", dataset="trades")
    spec: Any = UploadSpec(
        upload_id="",
        dataset="trades",
        layout="k2",
        layout_json=layout.canonical_json,
        source="s",
        bytes=len(CSV),
        sha256="x",
        received_at=START,
    )
    found = trial(io.BytesIO(CSV), spec, read_header(io.BytesIO(CSV), layout), None)
    assert found["rows"] == {"read": 2, "accepted": 1, "rejected": 1, "filtered": 0}
    assert found["errors"] == [{"column": "price", "code": "NUMBER_INVALID", "count": 1}]
    assert [(row["line"], row["raw"]) for row in found["rejects"]] == [(3, "2024-01-01T00:00:01,A,X,b,2")]


@pytest.mark.parametrize(
    ("sample", "filename", "name"),
    [
        (CSV, None, "k2"),
        (b"03/10/2014,07:57:14.754,36.667,20000,3,X,\r\n" * 3, "7078.csv", "asx-trades"),
        (b"03/10/2014,05:43:45.676,37.7,37.73,300,600\r\n03/10", "7078.csv", "asx-quotes"),
        (b"id,exchange,symbol,date,price,amount,sell\n1,bw,b,1676246400344,1,2,true\n", None, "kaiko-trades"),
    ],
)
def test_a_file_is_known_by_how_it_begins(sample: bytes, filename: str | None, name: str) -> None:
    found = detected(sample, builtin_layouts(), filename=filename, now=START)
    assert found[0]["name"] == name


def test_nothing_is_detected_in_noise() -> None:
    assert detected(b"\x00\xff,\n", builtin_layouts(), filename=None, now=START) == []
