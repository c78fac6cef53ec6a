"""The gateway's HTTP endpoints."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from k2common.domain.time import format_time, parse_time
from k2common.errors import RecordError
from k2common.http.envelope import listing, single
from k2common.http.negotiation import MEDIA_TYPES, choose
from k2common.http.parameters import integer, invalid, number, require_known
from k2common.http.problems import FieldError, Problem
from k2common.http.tokens import TokenMaker
from k2common.iceberg.archive import Archive
from k2common.layouts.catalogue import Catalogue
from k2common.runtime.blocking import Blocking
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ingest_gateway.body.decompression import UNPACKERS
from ingest_gateway.body.digests import ContentDigest
from ingest_gateway.body.multipart import Form
from ingest_gateway.body.spool import ReceivedBody
from ingest_gateway.body.zips import MEDIA as ZIPPED
from ingest_gateway.claims.claims import Claim
from ingest_gateway.receipts.receipt_history import PastReceipts, is_past
from ingest_gateway.receipts.receipts import FINAL_STATES, STATES, batch_receipt, receipt
from ingest_gateway.receipts.rejects import Rejects
from ingest_gateway.receipts.tracker import Tracker, Upload
from ingest_gateway.uploads.cancellation import Changes
from ingest_gateway.uploads.reception import Reception
from ingest_gateway.uploads.requests import (
    PARAMETERS,
    Transfer,
    UploadRequest,
    not_among,
    not_texts,
    read_request,
    read_transfer,
)

LIST_FILTERS = ("state", "source", "dataset", "filename", "batch")
REJECT_FORMATS = ("json", "ndjson", "csv")
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_WAIT_SECONDS = 300.0
DEFAULT_WAIT_SECONDS = 30.0
APPEAR_SECONDS = 1.0
"""An upload that another replica took is known here within this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsPage:
    """A page of uploads: those before this id."""

    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectsPage:
    """A page of an upload's rejects: those after this line."""

    upload_id: str
    after: int


class Routes:
    """Handlers over what the service holds."""

    def __init__(
        self,
        *,
        reception: Reception,
        tracker: Tracker,
        rejects: Rejects,
        layouts: Catalogue,
        changes: Changes,
        past: PastReceipts,
        archive: Archive,
        blocking: Blocking,
        page_key: bytes,
    ) -> None:
        self._reception = reception
        self._tracker = tracker
        self._rejects = rejects
        self._layouts = layouts
        self._changes = changes
        self._past = past
        self._archive = archive
        self._blocking = blocking
        self._list_pages = TokenMaker(page_key, purpose="gateway: page of uploads", shape=UploadsPage)
        self._reject_pages = TokenMaker(page_key, purpose="gateway: page of rejects", shape=RejectsPage)

    def routes(self) -> Sequence[Route]:
        """Path by path."""
        return [
            Route("/v1/uploads", self.post, methods=["POST"]),
            Route("/v1/uploads", self.list, methods=["GET"]),
            Route("/v1/uploads/{upload_id}", self.get, methods=["GET"]),
            Route("/v1/uploads/{upload_id}", self.cancel, methods=["DELETE"]),
            Route("/v1/uploads/{upload_id}/retract", self.retract, methods=["POST"]),
            Route("/v1/uploads/{upload_id}/reload", self.reload, methods=["POST"]),
            Route("/v1/uploads/{upload_id}/content", self.content, methods=["GET"]),
            Route("/v1/uploads/{upload_id}/rejects", self.get_rejects, methods=["GET"]),
            Route("/v1/batches/{batch}", self.get_batch, methods=["GET"]),
        ]

    async def post(self, request: Request) -> Response:
        """Take a file: 202 for a new upload, 200 with its receipt for one that is known."""
        repairs = request.query_params.get("repairs")
        known = self._tracker.uploads.get(repairs) if repairs is not None else None
        base = None if known is None else known.claim
        content_type = request.headers.get("Content-Type", "")
        if content_type.lower().startswith("multipart/form-data"):
            return await self._post_form(Form(content_type), base, request)
        transfer = read_transfer(request)
        wanted = read_request(
            request, self._layouts, base=base, zipped=transfer.zipped(), content_type=content_type
        )
        received = await self._reception.receive(request.stream(), transfer)
        return await self._take(wanted, received, request)

    async def _post_form(self, form: Form, base: Claim | None, request: Request) -> Response:
        # The parameters may come after the file, and a zip is only known by its part's header.
        expected = ContentDigest(request.headers.get("Content-Digest"))
        transfer = Transfer(unpacker=form.unpacker(), expected=expected, zipped=lambda: form.media in ZIPPED)
        received = await self._reception.receive(form.content(request.stream()), transfer)
        try:
            names = {} if form.filename is None else {"filename": form.filename}
            wanted = read_request(
                request,
                self._layouts,
                base=base,
                fields={**names, **form.fields},
                zipped=transfer.zipped(),
                content_type=form.content_type,
            )
        except Problem:
            self._reception.discard(received)
            raise
        return await self._take(wanted, received, request)

    async def _take(self, wanted: UploadRequest, received: ReceivedBody, request: Request) -> Response:
        if wanted.dry_run:
            return JSONResponse(single(await self._reception.try_out(wanted, received), request))
        claim, new = await self._reception.take(wanted, received)
        known = self._tracker.uploads.get(claim.upload.upload_id)
        if known is None or known.spec is None:
            # The topic tells it a moment later; who posted it may ask before.
            self._tracker.on_claim(claim.to_avro())
        upload = self._tracker.uploads[claim.upload.upload_id]
        status = HTTPStatus.ACCEPTED if new else HTTPStatus.OK
        headers = {"Location": f"/v1/uploads/{claim.upload.upload_id}"}
        return JSONResponse(single(receipt(upload, self._tracker), request), status, headers=headers)

    async def reload(self, request: Request) -> Response:
        """The archived bytes again with other parameters; a committed upload is replaced in one commit."""
        require_known(request, PARAMETERS)
        upload_id = request.path_params["upload_id"]
        claim = await self._claimed(upload_id)
        sha256 = claim.upload.sha256
        if not await self._blocking.run(self._archive.holds, sha256):
            raise Problem(HTTPStatus.GONE, "CONTENT_GONE", f"the bytes of upload {upload_id} are not kept")
        wanted = read_request(request, self._layouts, base=claim)
        if receipt(self._known(upload_id), self._tracker)["state"] == "committed":
            wanted = replace(wanted, replaces=upload_id)
        # The archive holds the content; how the first body was packed says nothing about it.
        wanted = replace(wanted, idempotency_key=None)
        transfer = Transfer(unpacker=UNPACKERS["identity"](), expected=ContentDigest(None))
        received = await self._reception.receive(self._pieces(sha256), transfer)
        return await self._take(wanted, received, request)

    async def content(self, request: Request) -> Response:
        """The bytes as they were posted, unpacked."""
        require_known(request, ())
        upload_id = request.path_params["upload_id"]
        text = receipt(await self._found(upload_id), self._tracker)
        if not await self._blocking.run(self._archive.holds, text["sha256"]):
            raise Problem(HTTPStatus.GONE, "CONTENT_GONE", f"the bytes of upload {upload_id} are not kept")
        digest = base64.b64encode(bytes.fromhex(text["sha256"])).decode()
        headers = {"Repr-Digest": f"sha-256=:{digest}:", "ETag": f'"{text["sha256"]}"'}
        return StreamingResponse(self._pieces(text["sha256"]), media_type="text/csv", headers=headers)

    async def _pieces(self, sha256: str) -> AsyncIterator[bytes]:
        pieces = self._archive.content(sha256)
        while (piece := await self._blocking.run(next, pieces, b"")) != b"":
            yield piece

    async def retract(self, request: Request) -> Response:
        """Take the rows of a committed upload out of all later versions."""
        require_known(request, ("timeout",))
        seconds = _seconds(request)
        upload_id = request.path_params["upload_id"]
        if self._is("committed")(await self._found(upload_id)):
            # Its final receipt is written a moment after the commit.
            await self._until(upload_id, _is_closed, MAX_WAIT_SECONDS)
        await self._changes.retract(self._known(upload_id))
        await self._until(upload_id, self._is("retracted"), seconds)
        text = receipt(self._known(upload_id), self._tracker)
        status = HTTPStatus.OK if text["state"] == "retracted" else HTTPStatus.ACCEPTED
        return JSONResponse(single(text, request), status)

    async def cancel(self, request: Request) -> Response:
        """End an upload that is not committed yet; 409 when the commit won."""
        require_known(request, ("timeout",))
        seconds = _seconds(request)
        upload_id = request.path_params["upload_id"]
        await self._changes.cancel(await self._found(upload_id))
        await self._until(upload_id, self._is(*FINAL_STATES), seconds)
        text = receipt(self._known(upload_id), self._tracker)
        if text["state"] == "committed":
            raise Problem(
                HTTPStatus.CONFLICT, "ALREADY_COMMITTED", "the commit was faster; it can be retracted"
            )
        status = HTTPStatus.OK if text["state"] in FINAL_STATES else HTTPStatus.ACCEPTED
        return JSONResponse(single(text, request), status)

    async def _claimed(self, upload_id: str) -> Claim:
        claim = (await self._found(upload_id)).claim
        if claim is None:
            message = f"nothing but the receipt of upload {upload_id} is known"
            raise Problem(HTTPStatus.GONE, "CLAIM_GONE", message)
        return claim

    async def get(self, request: Request) -> Response:
        """One receipt; `wait=committed` returns when it is final or the time is up."""
        require_known(request, ("wait", "timeout"))
        upload_id = request.path_params["upload_id"]
        if "wait" in request.query_params:
            seconds = _timeout(request)
            await self._until(upload_id, lambda _: True, min(seconds, APPEAR_SECONDS))
            await self._found(upload_id)
            await self._until(upload_id, self._is(*FINAL_STATES), seconds)
        else:
            number(request.query_params, "timeout", default=0, most=MAX_WAIT_SECONDS)
        return JSONResponse(single(receipt(await self._found(upload_id), self._tracker), request))

    async def list(self, request: Request) -> Response:
        """Receipts, newest first."""
        require_known(request, (*LIST_FILTERS, "start", "end", "limit", "page_token"))
        limit, between, filters = _limit(request), _between(request), _filters(request)
        given = request.query_params.get("page_token")
        before = "~" if given is None else self._list_pages.read(given).before
        self._tracker.require_complete()
        await self._past.fill()
        found: list[Mapping[str, Any]] = []
        for upload_id in sorted(self._tracker.uploads, reverse=True):
            upload = self._tracker.uploads[upload_id]
            if upload_id >= before or not upload.known:
                continue
            entry = receipt(upload, self._tracker)
            if all(entry[name] == value for name, value in filters.items()) and between(entry["received_at"]):
                found.append(entry)
            if len(found) > limit:
                break
        token = None
        if len(found) > limit:
            token = self._list_pages.make(UploadsPage(before=found[limit - 1]["upload_id"]))
        return JSONResponse(listing(found[:limit], request, token=token))

    async def get_rejects(self, request: Request) -> Response:
        """The refused rows of an upload by line, as far as they are in the table."""
        require_known(request, ("limit", "page_token", "format"))
        upload_id = request.path_params["upload_id"]
        self._known(upload_id)
        form = choose(request, request.query_params.get("format"), REJECT_FORMATS)
        after = self._after_line(request, upload_id)
        if form != "json":
            limit = _limit(request) if "limit" in request.query_params else None
            version, content = await self._rejects.export(upload_id, form, after_line=after, limit=limit)
            headers = {"X-K2-Version": version or ""}
            return Response(content, media_type=MEDIA_TYPES[form], headers=headers)
        limit = _limit(request)
        version, rows = await self._rejects.of(upload_id, after_line=after, limit=limit + 1)
        token = None
        if len(rows) > limit:
            token = self._reject_pages.make(RejectsPage(upload_id=upload_id, after=rows[limit - 1]["line"]))
        return JSONResponse(listing(rows[:limit], request, token=token, version=version))

    async def get_batch(self, request: Request) -> Response:
        """What became of all uploads with this label, added up."""
        require_known(request, ())
        self._tracker.require_complete()
        await self._past.fill()
        batch = request.path_params["batch"]
        found = [
            entry
            for upload in self._tracker.uploads.values()
            if upload.known and (entry := receipt(upload, self._tracker))["batch"] == batch
        ]
        if not found:
            raise Problem(HTTPStatus.NOT_FOUND, "BATCH_NOT_FOUND", f"no upload has the label {batch}")
        return JSONResponse(single(batch_receipt(batch, found), request))

    async def _until(self, upload_id: str, done: Callable[[Upload], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    changed = self._tracker.changed
                    upload = self._tracker.uploads.get(upload_id)
                    if upload is not None and upload.known and done(upload):
                        return
                    await changed.wait()
        except TimeoutError:
            return

    def _is(self, *states: str) -> Callable[[Upload], bool]:
        return lambda upload: receipt(upload, self._tracker)["state"] in states

    async def _found(self, upload_id: str) -> Upload:
        """The upload, with a receipt from the table where the topic has none."""
        upload = self._known(upload_id)
        if is_past(upload, self._tracker.clock.now()):
            await self._past.fill()
        return upload

    def _known(self, upload_id: str) -> Upload:
        upload = self._tracker.uploads.get(upload_id)
        if upload is None or not upload.known:
            self._tracker.require_complete()
            raise Problem(HTTPStatus.NOT_FOUND, "UPLOAD_NOT_FOUND", f"there is no upload {upload_id}")
        return upload

    def _after_line(self, request: Request, upload_id: str) -> int:
        token = request.query_params.get("page_token")
        if token is None:
            return 0
        page = self._reject_pages.read(token)
        if page.upload_id != upload_id:
            message = "page_token is of another upload"
            raise invalid([FieldError(parameter="page_token", code="INVALID", message=message)])
        return page.after


def _is_closed(upload: Upload) -> bool:
    return upload.claim is not None and upload.claim.state == "final"


def _limit(request: Request) -> int:
    return integer(request.query_params, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)


def _timeout(request: Request) -> float:
    wait = request.query_params["wait"]
    if wait != "committed":
        raise invalid([FieldError(parameter="wait", code="INVALID", message="wait is committed", value=wait)])
    return _seconds(request)


def _seconds(request: Request) -> float:
    return number(request.query_params, "timeout", default=DEFAULT_WAIT_SECONDS, most=MAX_WAIT_SECONDS)


def _filters(request: Request) -> Mapping[str, str]:
    given = {name: request.query_params[name] for name in LIST_FILTERS if name in request.query_params}
    if errors := [*not_texts(given, LIST_FILTERS), *not_among("state", given.get("state"), STATES)]:
        raise invalid(errors)
    return given


def _between(request: Request) -> Callable[[str], bool]:
    """Whether a time of receipt lies from `start` until before `end`."""
    bounds = {name: _time(request, name) for name in ("start", "end") if name in request.query_params}
    # Times of receipts have one length, so their text sorts as they do.
    return lambda text: bounds.get("start", "") <= text < bounds.get("end", "~")


def _time(request: Request, name: str) -> str:
    text = request.query_params[name]
    try:
        return format_time(parse_time(text))
    except RecordError as error:
        fault = FieldError(parameter=name, code="INVALID", message=str(error), value=text[:100])
        raise invalid([fault]) from error
