"""A body becomes an upload: on disk for good, then claimed; the same upload again is the one there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from k2common.errors import RecordError
from k2common.http.bodies import Places
from k2common.http.problems import FieldError, Problem
from k2common.iceberg.reading.reader import VersionReader
from k2common.layouts.cutter import CutPosition, Header, read_header
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import UnparseableError
from k2common.layouts.upload import UploadSpec
from k2common.observability.logging import get_logger
from k2common.observability.tracing import inject
from k2common.query.instruments import Instruments
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import INSTRUMENTS
from ulid import ULID

from ingest_gateway.body.limits import full_disk_refused
from ingest_gateway.body.spool import ReceivedBody, Spool
from ingest_gateway.body.zips import unzipped
from ingest_gateway.claims.claims import OPEN_STATES, Claim, Journal
from ingest_gateway.claims.publisher import RECORD_TOO_LONG, Publisher, chunk_partition
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.uploads.cancellation import Changes
from ingest_gateway.uploads.dry_run import check_first_block, trial
from ingest_gateway.uploads.reject_reports import restore_rejects
from ingest_gateway.uploads.requests import Transfer, UploadRequest

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Takes bodies for this replica."""

    journal: Journal
    codec: MessageCodec
    spool: Spool
    publisher: Publisher
    changes: Changes
    reader: VersionReader
    instruments: Instruments
    blocking: Blocking
    clock: Clock
    metrics: GatewayMetrics
    replica: str
    bulk_bytes: int
    max_columns: int
    places: Places

    async def receive(self, body: AsyncIterator[bytes], transfer: Transfer) -> ReceivedBody:
        """The body's content on disk; `take`, `try_out` or `discard` it.

        Raises Problem for a body that is broken (400), beyond a limit (413, 422, 507) or one too many (429).
        """
        with self.places.one(code="TOO_MANY_UPLOADS"), full_disk_refused():
            return await self.spool.receive(
                body, unpacker=transfer.unpacker, expected=transfer.expected, is_packed=transfer.zipped
            )

    def discard(self, received: ReceivedBody) -> None:
        """Forget a body."""
        self.spool.discard(received)

    async def take(self, request: UploadRequest, received: ReceivedBody) -> tuple[Claim, bool]:
        """The claim of the upload, and whether it is new.

        Raises Problem for a header that does not fit or a key that stands for another upload (422);
        TransientError when Kafka or the catalogue is unavailable. Then nothing is left.
        """
        received, header = await self._opened(request, received)
        try:
            claim = await self._claim_for(request, received, header)
            try:
                found = await self.journal.write(
                    claim.key, lambda present: self._decide(claim, present), read_back=True
                )
            except Problem:
                self.spool.remove(claim.upload.upload_id)
                raise
            # After any other failure the claim may stand; the body stays until the topic tells.
            if found is None:
                raise AssertionError("a claim was decided on and is not there")
            return found, await self._settle(claim, found, received)
        finally:
            self.spool.discard(received)

    async def try_out(self, request: UploadRequest, received: ReceivedBody) -> Mapping[str, Any]:
        """What would become of the rows.

        Raises as `take` does; nothing is kept either way.
        """
        received, header = await self._opened(request, received)
        try:
            version = await self._instruments(request)
            spec = self._unclaimed(request, received, version)
            index = await self.instruments.at(version)
            return await self.blocking.run(_trial, received, spec, header, index)
        finally:
            self.spool.discard(received)

    async def _opened(
        self, request: UploadRequest, received: ReceivedBody
    ) -> tuple[ReceivedBody, Header | None]:
        """What was received, unzipped and mended, and its header."""
        try:
            self.changes.check_replaced(request)
            if request.zipped:
                packed = received
                with full_disk_refused():
                    received = await self.blocking.run(unzipped, packed, limits=self.spool.limits)
                self.spool.discard(packed)
            with full_disk_refused():
                received = await self._restore_rejects(request, received)
            header = await self.blocking.run(_header, received, request.layout, self.max_columns)
            request.check_header(header)
            if not request.dry_run:
                await self.blocking.run(
                    _check_first_block, received, self._unclaimed(request, received), header
                )
        # Also when the caller has gone: nobody else knows the file, and the disk would fill.
        except BaseException:
            self.spool.discard(received)
            raise
        return received, header

    def _unclaimed(
        self, request: UploadRequest, received: ReceivedBody, instruments_version: int | None = None
    ) -> UploadSpec:
        return request.spec(
            upload_id="",
            size=received.bytes,
            sha256=received.sha256,
            now=self.clock.now(),
            instruments_version=instruments_version,
        )

    async def _restore_rejects(self, request: UploadRequest, received: ReceivedBody) -> ReceivedBody:
        if request.repairs is None:
            return received
        encoding = request.layout.encoding
        found = await self.blocking.run(
            restore_rejects,
            received,
            limits=self.spool.limits,
            header=request.mended_header,
            encoding=encoding,
        )
        if found is not received:
            self.spool.discard(received)
        return found

    async def _claim_for(
        self, request: UploadRequest, received: ReceivedBody, header: Header | None
    ) -> Claim:
        now = self.clock.now()
        upload_id = str(ULID.from_datetime(now))
        spec = request.spec(
            upload_id=upload_id,
            size=received.bytes,
            sha256=received.sha256,
            now=now,
            instruments_version=await self._instruments(request),
        )
        start = header.after if header else CutPosition()
        claim = Claim(
            upload=spec,
            identity=request.identity(received.sha256),
            idempotency_key=request.idempotency_key,
            state="claimed",
            replica=self.replica,
            next_chunk=0,
            next_byte=start.byte,
            next_line=start.line,
            header=header.text if header else None,
            chunk_partition=chunk_partition(upload_id, received.bytes, bulk_bytes=self.bulk_bytes),
            updated_at=now,
            trace=inject(),
        )
        with full_disk_refused():
            await self.spool.keep(received, upload_id, self.codec.encode(claim.to_avro()))
        return claim

    async def _instruments(self, request: UploadRequest) -> int | None:
        if not request.needs_instruments:
            return None
        version = await self.blocking.run(self.reader.refresh, INSTRUMENTS.table)
        if version is None:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "REFERENCE_DATA_MISSING",
                f"layout {request.layout.name} names symbols by reference data; load instruments first",
            )
        return version.number

    def _decide(self, claim: Claim, present: Claim | None) -> Claim | None:
        if present is None or self.changes.may_claim_again(present):
            return claim
        if present.identity != claim.identity:
            fault = FieldError(
                parameter="Idempotency-Key",
                code="IDEMPOTENCY_KEY_REUSED",
                message=f"the key stands for upload {present.upload.upload_id}, which is another",
            )
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, fault.code, fault.message, errors=[fault])
        if present.state in OPEN_STATES and present.replica != self.replica:
            # This replica has the bytes now, the other one may be gone for good.
            return replace(present, replica=self.replica, updated_at=self.clock.now())
        return None

    async def _settle(self, claim: Claim, found: Claim, received: ReceivedBody) -> bool:
        new = found.upload.upload_id == claim.upload.upload_id
        if not new:
            await self._lend_body(claim.upload.upload_id, found)
        await self.spool.mark_answered(found.upload.upload_id)
        self.metrics.received.labels("new" if new else "known").inc()
        self.metrics.received_bytes.inc(received.bytes)
        self.publisher.enqueue(found)
        log.info(
            "upload claimed",
            upload_id=found.upload.upload_id,
            dataset=found.upload.dataset,
            bytes=received.bytes,
            new=new,
        )
        return new

    async def _lend_body(self, upload_id: str, found: Claim) -> None:
        wanted = found.state in OPEN_STATES and found.replica == self.replica
        if wanted and not self.spool.has(found.upload.upload_id):
            await self.spool.lend(upload_id, found.upload.upload_id, self.codec.encode(found.to_avro()))
        else:
            self.spool.remove(upload_id)


def _trial(
    received: ReceivedBody, spec: UploadSpec, header: Header | None, index: InstrumentIndex | None
) -> Mapping[str, Any]:
    try:
        with received.path.open("rb") as file:
            return trial(file, spec, header, index)
    except UnparseableError as error:
        raise _unparseable(error) from error
    except RecordError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, RECORD_TOO_LONG, str(error)) from error


def _check_first_block(received: ReceivedBody, spec: UploadSpec, header: Header | None) -> None:
    try:
        with received.path.open("rb") as file:
            check_first_block(file, spec, header)
    except UnparseableError as error:
        raise _unparseable(error) from error
    except RecordError:
        # A record that is too long: the publisher fails the upload by that name.
        return


def _unparseable(error: UnparseableError) -> Problem:
    detail = f"the layout cannot read the file: {error}"
    fault = FieldError(parameter="layout", code="CHUNK_UNPARSEABLE", message=detail)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "CHUNK_UNPARSEABLE", detail, errors=[fault])


def _header(received: ReceivedBody, layout: Layout, max_columns: int) -> Header | None:
    try:
        with received.path.open("rb") as file:
            header = read_header(file, layout)
    except RecordError as error:
        fault = FieldError(parameter="layout", code="HEADER_MISMATCH", message=str(error))
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "HEADER_MISMATCH", str(error), errors=[fault]
        ) from error
    columns = len(layout.columns if header is None else header.names)
    if columns > max_columns:
        message = f"the file has {columns} columns; {max_columns} are taken"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "TOO_MANY_COLUMNS", message)
    return header
