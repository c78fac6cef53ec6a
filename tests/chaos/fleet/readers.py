"""Clients that read during a chaos run and compare what they are given."""

from __future__ import annotations

import csv
import hashlib
import io
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.chaos.fleet.load import REQUEST_SECONDS, Upload, Uploader
from tests.chaos.fleet.observations import Observations

REMEMBERED = 20
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that must be the same whenever it is asked for as of its version."""

    path: str
    source: str
    version: str
    digest: str


@dataclass
class Reader:
    """Asks for single uploads and for earlier answers; each is whole, absent, or unavailable."""

    number: int
    queries: Sequence[str]
    uploaders: Sequence[Uploader]
    observations: Observations
    stop: threading.Event
    compared: int = 0
    _remembered: deque[Answer] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def run(self) -> None:
        """Read until `stop`."""
        random = Random(1_000 + self.number)
        while not self.stop.wait(PAUSE_SECONDS):
            uploads = [upload for uploader in self.uploaders for upload in tuple(uploader.uploads)]
            if uploads:
                self._read(random.choice(uploads[-10:]), random)
            if self._remembered:
                self._repeat(random.choice(tuple(self._remembered)), random)

    def _read(self, upload: Upload, random: Random) -> None:
        path = f"/v1/{upload.dataset}"
        answer = self._get(random, path, source=upload.source)
        if answer is None:
            return
        lines = lines_of(answer.text)
        if lines and lines != Counter(upload.accepted_lines):
            self.observations.violation(
                f"{upload.upload_id} shows {lines.total()} rows of {len(upload.accepted_lines)} "
                f"in {answer.headers['X-K2-Version']}"
            )
        version = answer.headers["X-K2-Version"]
        if version:
            digest = hashlib.sha256(answer.content).hexdigest()
            self._remembered.append(Answer(path=path, source=upload.source, version=version, digest=digest))

    def _repeat(self, known: Answer, random: Random) -> None:
        answer = self._get(random, known.path, source=known.source, as_of=known.version)
        if answer is None:
            return
        self.compared += 1
        if hashlib.sha256(answer.content).hexdigest() != known.digest:
            self.observations.violation(f"{known.source} differs when asked again as of {known.version}")

    def _get(self, random: Random, path: str, **parameters: str) -> httpx.Response | None:
        url = random.choice(self.queries)
        try:
            answer = httpx.get(
                f"{url}{path}",
                params={"format": "csv", **parameters},
                timeout=REQUEST_SECONDS,
                trust_env=False,
            )
        except httpx.TransportError:
            return None  # the service was killed, or cut the stream rather than let it look whole
        self.observations.status("GET", f"{url}{path}", answer)
        return answer if answer.status_code == httpx.codes.OK else None


@dataclass
class ReceiptReader:
    """Asks every gateway for accepted uploads; each knows them or says that it does not know yet."""

    gateways: Sequence[str]
    uploaders: Sequence[Uploader]
    observations: Observations
    stop: threading.Event

    def run(self) -> None:
        """Read until `stop`."""
        random = Random(2_000)
        while not self.stop.wait(PAUSE_SECONDS):
            uploads = [upload for uploader in self.uploaders for upload in tuple(uploader.uploads)]
            if uploads:
                self._read(random.choice(uploads), random.choice(self.gateways))

    def _read(self, upload: Upload, url: str) -> None:
        address = f"{url}/v1/uploads/{upload.upload_id}"
        try:
            answer = httpx.get(address, timeout=REQUEST_SECONDS, trust_env=False)
        except httpx.TransportError:
            return  # the gateway was killed
        self.observations.status("GET", address, answer)
        if answer.status_code not in (200, 429, 503):
            self.observations.violation(f"an accepted upload: {answer.status_code} {answer.text[:300]}")


def lines_of(text: str) -> Counter[int]:
    """The lines of the CSV answer's rows, with how often each came."""
    return Counter(int(row["line"]) for row in csv.DictReader(io.StringIO(text)))
