"""The receipt of an upload from what is known of it: by offsets, never by counting what arrived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from k2common.domain.progress import LOST_IN_MIGRATION, Outcome, Progress
from k2common.domain.time import format_datetime
from k2common.layouts.model import Layout
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import DATASETS, REJECTS
from k2common.versions.hidden import Reason
from k2common.versions.version import Version, format_token

from ingest_gateway.claims.claims import OPEN_STATES, Claim
from ingest_gateway.receipts.tracker import Tracker, Upload

FINAL_STATES = ("committed", "failed", "cancelled", "retracted")
STATES = ("queued", "loading", "committing", *FINAL_STATES)
ENDED: Mapping[Reason, Outcome] = {Reason.FAILED: "failed", Reason.CANCELLED: "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOutcome:
    """What the tables made of an upload: its outcome, and the first versions in which it stands.

    `lost_rows` and `lost_rejects` are dead letters in their place.
    """

    outcome: Outcome
    table: Version | None
    rejects: Version | None
    lost_rows: int = 0
    lost_rejects: int = 0
    lost_in_migration: bool = False


def settled(progress: Progress, tracker: Tracker) -> UploadOutcome | None:
    """How the upload ended; None while statuses or commits are still to come.

    The table's version decides: a cancellation may have come too late, a replacement too.
    """
    if not progress.complete:
        return None
    dataset = DATASETS[progress.dataset]
    table = _first(tracker, dataset.table, dataset.topic.name, progress, visible=dataset.visibility)
    rejects = _first(tracker, REJECTS.table, REJECTS.topic.name, progress, visible=False)
    replacing = progress.replaces is not None and progress.outcome == "committed"
    missing = (table is None and (replacing or progress.has_rows_in(dataset.topic.name))) or (
        rejects is None and progress.has_rows_in(REJECTS.topic.name)
    )
    letters = tracker.dead_letters
    lost = _lost_in_migration(progress, tracker)
    if lost is not None:
        return UploadOutcome(outcome="failed", table=lost, rejects=None, lost_in_migration=True)
    passed = ((dataset.topic, table), (REJECTS.topic, rejects))
    if missing or not all(v is None or letters.knows(topic, v.dead_letters) for topic, v in passed):
        return None
    return UploadOutcome(
        outcome=_outcome(progress, table),
        table=table,
        rejects=rejects,
        lost_rows=letters.lost(progress, dataset.topic.name),
        lost_rejects=letters.lost(progress, REJECTS.topic.name),
    )


def _lost_in_migration(progress: Progress, tracker: Tracker) -> Version | None:
    dataset = DATASETS[progress.dataset]
    for kept in (dataset, REJECTS):
        newest = tracker.commits_of(kept.table).newest
        if newest is not None and progress.lost(kept.topic.name, ended=newest.ended):
            return newest
    return None


def _outcome(progress: Progress, table: Version | None) -> Outcome:
    if table is None:
        return progress.outcome
    entry = table.hidden.get(progress.upload_id)
    return "committed" if entry is None else ENDED.get(entry.reason, "committed")


def receipt(upload: Upload, tracker: Tracker) -> dict[str, Any]:
    """The receipt as it is now; the final one once there is one, with what became of the upload since."""
    if upload.final is not None:
        text: dict[str, Any] = json.loads(upload.final["receipt"])
    elif upload.spec is None:
        raise ValueError("an upload without its claim has no receipt")
    else:
        spec = upload.spec
        progress = upload.progress or Progress(upload_id=spec.upload_id, dataset=spec.dataset)
        end = settled(progress, tracker)
        state = end.outcome if end else _state(upload.claim, progress)
        text = document(spec, progress, state=state, end=end, published_at=upload.published_at)
    text["blocked_by"] = _blocked_by(upload, tracker, text["state"])
    return _with_later(text, upload, tracker)


def _blocked_by(upload: Upload, tracker: Tracker, state: str) -> dict[str, Any] | None:
    """Who has to move the upload on, once nothing has for some time."""
    since, claim = upload.changed_at, upload.claim
    if state in FINAL_STATES or since is None or tracker.clock.now() - since < tracker.blocked_after:
        return None
    if claim is not None and claim.state in OPEN_STATES:
        service, reason = "ingest-gateway", f"replica {claim.replica} has bytes that are not published"
    elif state != "committing":
        service, reason = "csv-loader", "chunks wait to be parsed"
    else:
        service, reason = "iceberg-sink", "rows wait to be committed"
    return {"service": service, "reason": reason, "since": format_datetime(since)}


def _with_later(text: dict[str, Any], upload: Upload, tracker: Tracker) -> dict[str, Any]:
    """What the final receipt could not know: retractions, replacements, mended rejects, letters put back."""
    if text["state"] == "committed":
        _bring_back(text, tracker)
    entry = tracker.hidden(DATASETS[text["dataset"]].table, text["upload_id"])
    if text["state"] == "committed" and entry is not None and entry.reason is Reason.RETRACTED:
        text["state"] = "retracted"
    repairs = [
        receipt(tracker.uploads[upload_id], tracker)
        for upload_id in sorted(upload.repaired_by)
        if tracker.uploads[upload_id].known
    ]
    repaired = [entry for entry in repairs if entry["state"] == "committed"]
    mended = sum(entry["rows"]["committed"] for entry in repaired)
    text["rows"]["outstanding"] = max(0, text["rows"]["rejected"] - mended)
    text["repaired_by"] = [entry["upload_id"] for entry in repaired]
    text["replaced_by"] = entry.by if entry is not None else None
    return text


def _bring_back(text: dict[str, Any], tracker: Tracker) -> None:
    rows, dataset = text["rows"], DATASETS[text["dataset"]]
    for kept, counted in ((dataset, "committed"), (REJECTS, "rejected")):
        newest = tracker.commits_of(kept.table).newest
        if newest is not None and rows["dead_lettered"]:
            back = tracker.dead_letters.brought_back(
                text["upload_id"], kept.topic.name, epoch=newest.epoch, offsets=newest.offsets
            )
            rows[counted] += back
            rows["dead_lettered"] -= back


def batch_receipt(batch: str, receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The receipts of a label's uploads, added up."""
    states = Counter(entry["state"] for entry in receipts)
    rows: Counter[str] = Counter()
    errors: Counter[tuple[str | None, str]] = Counter()
    for entry in receipts:
        rows.update(entry["rows"])
        errors.update({(error["column"], error["code"]): error["count"] for error in entry["errors"]})
    return {
        "batch": batch,
        "uploads": len(receipts),
        "final": all(entry["state"] in FINAL_STATES for entry in receipts),
        "states": dict(sorted(states.items())),
        "bytes": sum(entry["bytes"] for entry in receipts),
        "rows": dict(rows),
        "errors": _errors(errors),
        "received_at": min(entry["received_at"] for entry in receipts),
    }


def document(
    spec: UploadSpec,
    progress: Progress,
    *,
    state: str,
    end: UploadOutcome | None,
    published_at: datetime | None,
    finished_at: datetime | None = None,
) -> dict[str, Any]:
    """The receipt as JSON."""
    lost_rows, lost_rejects = (end.lost_rows, end.lost_rejects) if end else (0, 0)
    committed = progress.rows_accepted - lost_rows if end and end.outcome == "committed" else 0
    seen_in = [v for v in (end.table, end.rejects) if v is not None] if end else []
    versions = {version.table: version.number for version in seen_in}
    layout = Layout.accepted(spec.layout_json)
    committed_at = max((version.committed_at for version in seen_in), default=None)
    return {
        "upload_id": spec.upload_id,
        "state": state,
        "dataset": spec.dataset,
        "layout": spec.layout,
        "source": spec.source,
        "filename": spec.filename,
        "batch": spec.batch,
        "replaces": spec.replaces,
        "repairs": spec.repairs,
        "timezone": spec.timezone or layout.timezone,
        "delimiter": layout.delimiter,
        "encoding": layout.encoding,
        "bytes": spec.bytes,
        "sha256": spec.sha256,
        "rows": {
            "read": progress.rows_read,
            "accepted": progress.rows_accepted,
            "rejected": progress.rows_rejected - lost_rejects,
            "filtered": progress.rows_filtered,
            "dead_lettered": lost_rows + lost_rejects,
            "published": progress.rows_accepted,
            "committed": committed,
        },
        "errors": _errors(progress.errors),
        "offsets": [
            {
                "topic": topic,
                "partition": partition,
                "epoch": epoch,
                "first": progress.firsts[(topic, partition)][1],
                "end": end_offset,
            }
            for (topic, partition), (epoch, end_offset) in sorted(progress.ends.items())
        ],
        "version": format_token(versions) if versions else None,
        "failure": _failure(progress, end) if state == "failed" else None,
        "failure_reason": progress.failure_reason if state == "failed" else None,
        "received_at": format_datetime(spec.received_at),
        "published_at": _moment(published_at),
        "parsed_at": _moment(progress.parsed_at if progress.complete else None),
        "committed_at": _moment(committed_at),
        "finished_at": _moment(finished_at),
    }


def final_record(
    spec: UploadSpec, progress: Progress, end: UploadOutcome, *, published_at: datetime | None, now: datetime
) -> Mapping[str, Any]:
    """The message of ingest.uploads for an upload that has ended."""
    text = document(spec, progress, state=end.outcome, end=end, published_at=published_at, finished_at=now)
    return {
        "upload_id": spec.upload_id,
        "dataset": spec.dataset,
        "layout": spec.layout,
        "source": spec.source,
        "filename": spec.filename,
        "batch": spec.batch,
        "state": end.outcome,
        "bytes": spec.bytes,
        "sha256": spec.sha256,
        "rows_read": progress.rows_read,
        "rows_committed": text["rows"]["committed"],
        "rows_rejected": text["rows"]["rejected"],
        "rows_filtered": progress.rows_filtered,
        "rows_dead_lettered": text["rows"]["dead_lettered"],
        "table_version": format_token({end.table.table: end.table.number}) if end.table else None,
        "received_at": spec.received_at,
        "finished_at": now,
        "receipt": json.dumps(text, separators=(",", ":")),
    }


def _first(tracker: Tracker, table: str, topic: str, progress: Progress, *, visible: bool) -> Version | None:
    replacing = visible and progress.replaces is not None and progress.outcome == "committed"
    if not progress.has_rows_in(topic) and not replacing:
        return None

    def covers(version: Version) -> bool:
        return progress.covered(topic, epoch=version.epoch, offsets=version.offsets, ended=version.ended)

    def stands(version: Version) -> bool:
        hidden = version.hidden.get(progress.upload_id)
        if hidden is None and replacing:
            replaced = version.hidden.get(progress.replaces or "")
            return replaced is not None and replaced.by == progress.upload_id
        return not visible or hidden is None or hidden.reason is not Reason.LOADING

    return tracker.commits_of(table).first(stands, covers=covers)


def _state(claim: Claim | None, progress: Progress) -> str:
    if progress.complete:
        return "committing"
    if progress.seen or (claim is not None and claim.state != "claimed"):
        return "loading"
    return "queued"


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_datetime(moment)


def _errors(counts: Mapping[tuple[str | None, str], int]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [{"column": column, "code": code, "count": count} for (column, code), count in ordered]


def _failure(progress: Progress, end: UploadOutcome | None) -> str:
    if end is not None and end.lost_in_migration:
        return LOST_IN_MIGRATION
    if progress.failure is not None:
        return progress.failure
    if progress.outcome == "committed":
        return "REPLACED_UPLOAD_CHANGED"
    return "ABORTED_ON_REJECT" if progress.on_error == "abort" else "REJECT_RATIO_EXCEEDED"
