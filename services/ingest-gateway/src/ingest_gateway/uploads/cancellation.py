"""Taking uploads back: before they are committed, and after; a claim and its command are one transaction."""

from __future__ import annotations

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NoReturn

from k2common.errors import TransientError
from k2common.http.problems import FieldError, Problem
from k2common.observability.logging import get_logger
from k2common.observability.tracing import joined, tracer
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import COMMANDS, DATASETS
from k2common.versions.hidden import Reason

from ingest_gateway.claims.claims import OPEN_STATES, Claim, Journal, Message
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.receipts.receipts import receipt
from ingest_gateway.receipts.tracker import Tracker, Upload
from ingest_gateway.uploads.requests import UploadRequest

log = get_logger(__name__)
spans = tracer(__name__)


class Changes:
    """Writes what a client wants taken back; the sink's commits decide what becomes of it."""

    def __init__(
        self, *, journal: Journal, tracker: Tracker, publisher: Publisher, codec: MessageCodec, clock: Clock
    ) -> None:
        self._journal = journal
        self._tracker = tracker
        self._publisher = publisher
        self._codec = codec
        self._clock = clock

    async def retract(self, upload: Upload) -> None:
        """Order that the upload's rows are hidden from the next commit on; ordering it again changes nothing.

        A committed read has shown claim and command on return. Raises Problem 409 for an upload that is not
        committed, TransientError when Kafka is unavailable.
        """
        text = receipt(upload, self._tracker)
        if text["state"] == "retracted":
            return
        claim = upload.claim
        if text["state"] != "committed" or claim is None or claim.state != "final":
            _conflict("NOT_COMMITTED", f"the upload is {text['state']}; only a committed one is retracted")
        topic = DATASETS[claim.upload.dataset].topic.name
        ranges = [
            [entry["epoch"], entry["partition"], entry["first"], entry["end"]]
            for entry in text["offsets"]
            if entry["topic"] == topic
        ]
        ranges += map(list, self._tracker.dead_letters.ranges(claim.upload.upload_id, topic))
        order = self._command("retract", claim, ranges=json.dumps(ranges))

        def decide(present: Claim | None) -> Claim | None:
            if present is None or present.upload.upload_id != claim.upload.upload_id:
                return None
            # Also one that is marked already: its command may have been lost, and obeying two is harmless.
            if present.outcome not in ("committed", "retracted"):
                return None
            return replace(present, outcome="retracted", updated_at=self._clock.now())

        found = await self._journal.write(claim.key, decide, [order], read_back=True)
        if found is None or found.upload != claim.upload or found.outcome != "retracted":
            raise TransientError(f"the claim of upload {claim.upload.upload_id} is not the one that was read")
        log.info("retraction ordered", upload_id=claim.upload.upload_id)

    async def cancel(self, upload: Upload) -> None:
        """End an upload before it is committed; whether it was in time, its receipt tells.

        A committed read has shown claim and command, or terminal chunk, on return.
        Raises Problem 409 for one that is committed, TransientError when Kafka is unavailable.
        """
        while True:
            state = receipt(upload, self._tracker)["state"]
            if state in ("committed", "retracted"):
                _conflict("ALREADY_COMMITTED", "the upload is committed; it can be retracted")
            known = upload.claim
            if known is None:
                return
            claim = await self._journal.read(known.key)
            if claim is None:
                raise TransientError(f"the claim of upload {known.upload.upload_id} cannot be read")
            if claim.upload.upload_id != known.upload.upload_id:
                return
            if claim.state == "final":
                return
            if claim.state in OPEN_STATES:
                ended = replace(claim, state="published", updated_at=self._clock.now())
                last = self._publisher.terminal(claim, claim.position, cancelled=True)
            else:
                ended = replace(claim, updated_at=self._clock.now())
                last = self._command("cancel", claim)
            if await self._swapped(claim, ended, last):
                return

    async def _swapped(self, seen: Claim, ended: Claim, message: Message) -> bool:
        """Write the claim and its message unless the claim is no longer as it was seen."""
        upload_id = seen.upload.upload_id
        # The end of the upload belongs to its trace, not to that of the request that ends it.
        with joined(spans, "cancel upload", seen.trace, upload_id=upload_id):
            # Written again where it may be there already: messages that end an upload may come twice.
            found = await self._journal.write(
                seen.key, lambda p: ended if p in (seen, ended) else None, [message], read_back=True
            )
        if found == ended:
            log.info("upload cancelled", upload_id=upload_id)
        return found == ended

    def check_replaced(self, request: UploadRequest) -> None:
        """Raise Problem 422 or 409 unless the upload that is to be replaced, or mended, stands.

        Raises TransientError while the topics may still hold it.
        """
        for name, upload_id in (("replaces", request.replaces), ("repairs", request.repairs)):
            if upload_id is None:
                continue
            upload = self._tracker.uploads.get(upload_id)
            if upload is None or not upload.known:
                self._tracker.require_complete()
                _unusable(name, "UPLOAD_NOT_FOUND", f"there is no upload {upload_id}", upload_id)
            text = receipt(upload, self._tracker)
            if text["dataset"] != request.layout.dataset:
                message = f"upload {upload_id} is of {text['dataset']}, not of {request.layout.dataset}"
                _unusable(name, "OTHER_DATASET", message, upload_id)
            if text["state"] != "committed":
                _conflict("NOT_COMMITTED", f"upload {upload_id} is {text['state']}, not committed")
            if name == "replaces" and text["replaced_by"] is not None:
                _conflict("ALREADY_REPLACED", f"upload {upload_id} is replaced by {text['replaced_by']}")

    def may_claim_again(self, present: Claim) -> bool:
        """Whether the claimed bytes may be posted as a new upload.

        Raises Problem 409 while the retraction of the old one is under way: both would be seen.
        """
        if present.released or present.outcome != "retracted":
            return present.released
        hidden = self._tracker.hidden(DATASETS[present.upload.dataset].table, present.upload.upload_id)
        if hidden is None or hidden.reason is Reason.LOADING:
            headers = {"Retry-After": "1"}
            message = f"upload {present.upload.upload_id} has the same bytes and is being retracted"
            raise Problem(HTTPStatus.CONFLICT, "RETRACTION_PENDING", message, headers=headers)
        return True

    def _command(self, kind: str, claim: Claim, **arguments: str) -> Message:
        record: dict[str, Any] = {
            "upload_id": claim.upload.upload_id,
            "kind": kind,
            "issued_at": self._clock.now(),
            "arguments": {"dataset": claim.upload.dataset, **arguments},
        }
        value = self._codec.encode(record)
        return Message(topic=COMMANDS.name, key=claim.upload.upload_id, value=value)


def _conflict(code: str, message: str) -> NoReturn:
    raise Problem(HTTPStatus.CONFLICT, code, message)


def _unusable(name: str, code: str, message: str, value: str) -> NoReturn:
    fault = FieldError(parameter=name, code=code, message=message, value=value)
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, code, message, errors=[fault])
