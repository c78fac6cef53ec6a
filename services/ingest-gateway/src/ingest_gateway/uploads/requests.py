"""From a request's parameters to what the upload is; every fault is named before a row is taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from k2common.errors import RecordError
from k2common.http.json_bodies import refuse_repeated_keys
from k2common.http.parameters import invalid, number, require_known
from k2common.http.problems import FieldError, Problem
from k2common.layouts.catalogue import Catalogue
from k2common.layouts.checks import LayoutError
from k2common.layouts.cutter import Header
from k2common.layouts.model import Layout
from k2common.layouts.rules import Choice, Constant, FileName, Instrument, Text
from k2common.layouts.upload import UploadSpec
from k2common.layouts.zones import known_zone
from k2common.schemas.datasets import MARKET_DATASETS
from starlette.requests import Request
from ulid import ULID

from ingest_gateway.body.charsets import layout_with_charset
from ingest_gateway.body.decompression import UNPACKERS, Unpacker
from ingest_gateway.body.digests import ContentDigest
from ingest_gateway.body.zips import MEDIA as ZIPPED
from ingest_gateway.claims.claims import Claim

TEXTS = ("source", "filename", "symbol", "venue", "asset_class", "currency", "timezone", "batch")
UPLOADS = ("replaces", "repairs")
PARAMETERS = ("dataset", "layout", "on_error", "max_reject_ratio", "dry_run", *TEXTS, *UPLOADS)
MEDIA = ("text/csv", "text/plain", "application/octet-stream")
MAX_TEXT = 256
MAX_KEY = 256
ASSET_CLASSES = ("equity", "crypto", "future", "option", "fx", "index", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How a body is packed, and what digest it has by its sender's word."""

    unpacker: Unpacker
    expected: ContentDigest
    zipped: Callable[[], bool] = lambda: False
    """Whether what comes is packed still; known with the first byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """The parameters of an upload, checked; its body is still to come."""

    layout: Layout
    texts: dict[str, str]
    on_error: str
    max_reject_ratio: float | None
    idempotency_key: str | None
    zipped: bool = False
    dry_run: bool = False
    replaces: str | None = None
    repairs: str | None = None
    mended_header: str | None = None
    """The header of the upload that is repaired, where its layout has one."""

    @property
    def needs_instruments(self) -> bool:
        """Whether symbols come from reference data."""
        return "symbol" not in self.texts and self.layout.uses_instruments

    def check_header(self, header: Header | None) -> None:
        """Raise Problem 422 when neither file nor parameters nor layout say a symbol or a venue."""
        errors = [
            FieldError(
                parameter=name,
                code="PARAMETER_MISSING",
                message=f"neither the file nor layout {self.layout.name} says the {name}; give {name}=",
            )
            for name in ("symbol", "venue")
            if not self._says(name, header)
        ]
        if errors:
            detail = "; ".join(error.message for error in errors)
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "PARAMETER_MISSING", detail, errors=errors)

    def identity(self, sha256: str) -> str:
        """SHA-256 over the content and everything that changes rows; equal uploads are one."""
        rows_depend_on = dict(self.texts)
        rows_depend_on.pop("batch", None)
        if not self.layout.uses_file_name:
            rows_depend_on.pop("filename", None)
        document = {
            "sha256": sha256,
            "dataset": self.layout.dataset,
            "layout": self.layout.canonical_json,
            "on_error": self.on_error,
            "max_reject_ratio": self.max_reject_ratio,
            "replaces": self.replaces,
            "repairs": self.repairs,
            **rows_depend_on,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def spec(
        self, *, upload_id: str, size: int, sha256: str, now: datetime, instruments_version: int | None
    ) -> UploadSpec:
        """What claim and chunks carry."""
        given: dict[str, Any] = dict(self.texts)
        given.setdefault("source", self.layout.source or "default")
        return UploadSpec(
            upload_id=upload_id,
            dataset=self.layout.dataset,
            layout=self.layout.name,
            layout_json=self.layout.canonical_json,
            on_error=self.on_error,
            max_reject_ratio=self.max_reject_ratio,
            replaces=self.replaces,
            repairs=self.repairs,
            instruments_version=instruments_version,
            bytes=size,
            sha256=sha256,
            received_at=now,
            **given,
        )

    def _says(self, name: str, header: Header | None) -> bool:
        if name in self.texts or getattr(self.layout, name, None):
            return True
        rule = self.layout.fields.get(name)
        if isinstance(rule, Constant) or (isinstance(rule, Instrument) and rule.column is None):
            return True
        if isinstance(rule, FileName):
            return rule.value(self.texts.get("filename")) is not None
        names = self.layout.columns if header is None else header.names
        # A file without any record is taken; there is no row that could lack anything.
        empty = header is None and self.layout.header
        return empty or (isinstance(rule, (Text, Choice, Instrument)) and rule.column in names)


def read_transfer(request: Request) -> Transfer:
    """How the body of `POST /v1/uploads` is packed.

    Raises Problem 415 for one that is not CSV text.
    """
    encoding, media = _encoding(request)
    return Transfer(
        unpacker=UNPACKERS[encoding](),
        expected=ContentDigest(request.headers.get("Content-Digest")),
        zipped=lambda: media in ZIPPED,
    )


def read_request(
    request: Request,
    layouts: Catalogue,
    *,
    base: Claim | None = None,
    fields: Mapping[str, str] | None = None,
    zipped: bool = False,
    content_type: str = "",
) -> UploadRequest:
    """The parameters of `POST /v1/uploads`, in the query or a form's `fields`.

    What is not given is as in the claim `base`; `content_type` may name the file's encoding. Raises Problem
    400 for one that is unknown or malformed, 415 for a charset that is not read, 422 for a layout that does
    not exist or does not fit.
    """
    require_known(request, PARAMETERS, also=fields or {})
    given = _with_base({**request.query_params, **(fields or {})}, base)
    errors = not_texts(given, TEXTS)
    dataset, on_error = given.get("dataset"), given.get("on_error", "skip_row")
    errors += not_among("dataset", dataset, tuple(MARKET_DATASETS))
    errors += not_among("on_error", on_error, ("skip_row", "abort"))
    errors += not_among("asset_class", given.get("asset_class"), ASSET_CLASSES)
    if "timezone" in given:
        errors += _zone_fault(given["timezone"])
    ratio, faults = _ratio(given)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isprintable()):
        message = f"the key has 1 to {MAX_KEY} printable characters"
        errors.append(FieldError(parameter="Idempotency-Key", code="INVALID", message=message))
    errors += _no_uploads(given)
    errors += not_among("dry_run", given.get("dry_run"), ("true", "false"))
    if errors or faults:
        raise invalid([*errors, *faults])
    layout = _layout(given.get("layout", "k2"), dataset, layouts)
    return UploadRequest(
        layout=layout_with_charset(layout, content_type, is_repair="repairs" in given),
        texts={name: given[name] for name in TEXTS if name in given},
        on_error=on_error,
        max_reject_ratio=ratio,
        idempotency_key=key,
        zipped=zipped,
        dry_run=given.get("dry_run") == "true",
        replaces=given.get("replaces"),
        repairs=given.get("repairs"),
        mended_header=None if base is None else base.header,
    )


def _with_base(given: Mapping[str, str], base: Claim | None) -> Mapping[str, str]:
    if base is None:
        return given
    spec = base.upload
    known = {name: getattr(spec, name) for name in TEXTS} | {
        "layout": spec.layout_json,
        "on_error": spec.on_error,
        "max_reject_ratio": None if spec.max_reject_ratio is None else str(spec.max_reject_ratio),
    }
    if "layout" not in given:
        known["dataset"] = spec.dataset
    return {name: value for name, value in known.items() if value is not None} | dict(given)


def _no_uploads(given: Mapping[str, str]) -> list[FieldError]:
    errors = []
    for name in UPLOADS:
        try:
            ULID.from_str(given.get(name, str(ULID())))
        except ValueError:
            message = f"{name} is the id of an upload"
            errors.append(FieldError(parameter=name, code="INVALID", message=message, value=given[name]))
    return errors


def _encoding(request: Request) -> tuple[str, str]:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    media = request.headers.get("Content-Type", "text/csv").partition(";")[0].strip().lower()
    if encoding not in UNPACKERS or media not in (*MEDIA, *ZIPPED):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            f"the body is {media} with encoding {encoding}; text/csv is taken, plain, as gzip, zstd or zip, "
            "or in a form",
        )
    return encoding, media


def _layout(text: str, dataset: str | None, layouts: Catalogue) -> Layout:
    refuse_repeated_keys(text)
    try:
        layout = Layout.parse(text) if text.startswith("{") else layouts.named(text, dataset=dataset)
        if dataset not in (None, layout.dataset):
            raise RecordError(f"the layout is for {layout.dataset}, not for {dataset}")
    except LayoutError as error:
        faults = [
            FieldError(parameter=fault.pointer or "layout", code="INVALID_LAYOUT", message=fault.message)
            for fault in error.faults
        ]
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "INVALID_LAYOUT", str(error), errors=faults) from error
    except RecordError as error:
        fault = FieldError(parameter="layout", code="INVALID", message=str(error), value=text[:MAX_TEXT])
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "INVALID_LAYOUT", str(error), errors=[fault]
        ) from error
    return layout


def not_texts(given: Mapping[str, str], names: Iterable[str]) -> list[FieldError]:
    """The faults of values that are no short printable texts."""
    return [
        FieldError(parameter=name, code="INVALID", message=f"{name} has 1 to {MAX_TEXT} printable characters")
        for name in names
        if name in given and not (0 < len(given[name]) <= MAX_TEXT and given[name].isprintable())
    ]


def not_among(name: str, value: str | None, allowed: tuple[str, ...]) -> list[FieldError]:
    """The fault of a value that is not among those allowed."""
    if value is None or value in allowed:
        return []
    message = f"{name} is one of {', '.join(allowed)}"
    return [FieldError(parameter=name, code="INVALID", message=message, value=value)]


def _zone_fault(zone: str) -> list[FieldError]:
    try:
        known_zone(zone)
    except ValueError as error:
        return [FieldError(parameter="timezone", code="INVALID", message=str(error), value=zone)]
    return []


def _ratio(given: Mapping[str, str]) -> tuple[float | None, list[FieldError]]:
    if "max_reject_ratio" not in given:
        return None, []
    try:
        return number(given, "max_reject_ratio", default=0, most=1), []
    except Problem as problem:
        return None, list(problem.errors)
