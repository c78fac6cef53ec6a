"""What would become of a file: parsed like an upload, and nothing is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, BinaryIO

from k2common.errors import RecordError
from k2common.layouts.cutter import Header, read_header
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.upload import UploadSpec
from k2common.layouts.whole_file import parsed_chunks

from ingest_gateway.receipts.rejects import COLUMNS

SHOWN_REJECTS = 100
FIRST_BLOCK_BYTES = 64 * 1024
"""So much of a file is parsed before it is accepted; one record may be longer."""


def trial(
    file: BinaryIO, spec: UploadSpec, header: Header | None, instruments: InstrumentIndex | None
) -> Mapping[str, Any]:
    """The counts of a receipt, and the first rejects.

    Raises UnparseableError when the layout cannot read the file, RecordError for a record that is too long.
    """
    layout = Layout.accepted(spec.layout_json)
    rows: Counter[str] = Counter(read=0, accepted=0, rejected=0, filtered=0)
    errors: Counter[tuple[str | None, str]] = Counter()
    rejects: list[Mapping[str, Any]] = []
    for parsed in parsed_chunks(file, header, layout=layout, spec=spec, instruments=instruments):
        for name in rows:
            rows[name] += getattr(parsed, f"rows_{name}")
        errors.update(parsed.errors)
        if len(rejects) < SHOWN_REJECTS:
            rejects += parsed.rejects.slice(0, SHOWN_REJECTS - len(rejects)).select(list(COLUMNS)).to_pylist()
    ordered = sorted(errors.items(), key=lambda item: (-item[1], str(item[0])))
    return {
        "state": "dry_run",
        "dataset": spec.dataset,
        "layout": spec.layout,
        "bytes": spec.bytes,
        "sha256": spec.sha256,
        "rows": dict(rows),
        "errors": [{"column": column, "code": code, "count": count} for (column, code), count in ordered],
        "rejects": rejects,
    }


def check_first_block(file: BinaryIO, spec: UploadSpec, header: Header | None) -> None:
    """Parse the first records of the file as the loader will parse them.

    Symbols are not looked up. Raises UnparseableError when the layout cannot read them.
    """
    layout = Layout.accepted(spec.layout_json)
    blocks = parsed_chunks(
        file, header, layout=layout, spec=spec, instruments=None, chunk_bytes=FIRST_BLOCK_BYTES
    )
    next(blocks, None)


def detected(
    sample: bytes, layouts: Iterable[Layout], *, filename: str | None, now: datetime
) -> Sequence[Mapping[str, Any]]:
    """The layouts that can read a file which begins with `sample`, those that take most rows first."""
    whole = sample[: sample.rfind(b"\n") + 1] or sample
    found = []
    for layout in layouts:
        spec = UploadSpec(
            upload_id="",
            dataset=layout.dataset,
            layout=layout.name,
            layout_json=layout.canonical_json,
            source="detect",
            bytes=len(whole),
            sha256="",
            received_at=now,
            filename=filename,
            # What a parameter may give is not what tells layouts apart.
            symbol="?",
            venue=layout.venue or "?",
        )
        try:
            result = trial(BytesIO(whole), spec, read_header(BytesIO(whole), layout), None)
        except RecordError:
            continue
        if result["rows"]["accepted"]:
            found.append({"name": layout.name, **{k: result[k] for k in ("dataset", "rows", "errors")}})
    return sorted(found, key=lambda entry: (-entry["rows"]["accepted"], len(entry["errors"]), entry["name"]))
