"""Clients that upload, replace and retract files, and know what must become of each row."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import httpx

from tests.chaos.fleet.observations import Observations

TRADES_HEADER = "ts_event_ns,symbol,venue,price,size,trade_id"
QUOTES_HEADER = "ts_event_ns,symbol,venue,bid_price,bid_size,ask_price,ask_size"
START = 1_700_000_000_000_000_000
RETRY_SECONDS = 0.3
REQUEST_SECONDS = 60.0
RETRIED = {429, 503, 504, 507}


@dataclass(slots=True, kw_only=True)
class Upload:
    """An accepted file: the lines that must become rows, and those that must become rejects."""

    source: str
    dataset: str
    upload_id: str
    accepted_lines: frozenset[int]
    rejected_lines: frozenset[int]
    replaces: str | None = None
    is_retracted: bool = False
    is_replaced: bool = False

    @property
    def is_visible_at_the_end(self) -> bool:
        return not (self.is_retracted or self.is_replaced)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A generated file and the physical lines of its records, good and bad."""

    source: str
    dataset: str
    content: bytes
    accepted_lines: frozenset[int]
    rejected_lines: frozenset[int]


def generate_file(source: str, random: Random) -> File:
    """Trades or quotes, hundreds or thousands of rows; one file in four has rows that must be refused."""
    dataset = random.choice(("trades", "trades", "trades", "quotes"))
    rows = random.choice((100, 400, 1_500, 20_000))
    bad_every = random.choice((0, 0, 0, 97))
    header = TRADES_HEADER if dataset == "trades" else QUOTES_HEADER
    accepted: set[int] = set()
    rejected: set[int] = set()
    lines = [header]
    for n in range(rows):
        line = n + 2
        is_bad = bad_every and n % bad_every == bad_every - 1
        (rejected if is_bad else accepted).add(line)
        price = "bad" if is_bad else f"{100 + n % 7}.{n % 100:02}"
        common = f"{START + n // 3},{source}{n % 5},XSTORM,{price}"
        lines.append(f"{common},{1 + n % 9},{n}" if dataset == "trades" else f"{common},10,{200 + n % 3},20")
    return File(
        source=source,
        dataset=dataset,
        content=("\n".join(lines) + "\n").encode(),
        accepted_lines=frozenset(accepted),
        rejected_lines=frozenset(rejected),
    )


@dataclass
class Uploader:
    """One client: it posts file after file to all gateways in rotation until `stop`."""

    number: int
    gateways: Sequence[str]
    observations: Observations
    stop: threading.Event
    uploads: list[Upload] = field(default_factory=list)

    def run(self) -> None:
        """Upload until `stop`; what was accepted stands in `uploads`."""
        random = Random(self.number)
        for number in count():
            if self.stop.is_set():
                return
            file = generate_file(f"U{self.number}N{number}X", random)
            old = self._replaceable(file, random)
            upload = self._post(file, replaces=old)
            self.uploads.append(upload)
            if random.random() < 0.3:
                self._post_again(file, upload)
            if random.random() < 0.2:
                self._retract(random)

    def _replaceable(self, file: File, random: Random) -> Upload | None:
        known = [u for u in self.uploads if u.is_visible_at_the_end and u.dataset == file.dataset]
        if not known or random.random() > 0.2:
            return None
        old = random.choice(known)
        return old if self._wait_committed(old) else None

    def _post(self, file: File, *, replaces: Upload | None) -> Upload:
        parameters = {"dataset": file.dataset, "source": file.source}
        if replaces is not None:
            parameters["replaces"] = replaces.upload_id
        answer = self._request("POST", "/v1/uploads", params=parameters, content=file.content)
        assert answer.status_code in (200, 202), answer.text
        if replaces is not None:
            replaces.is_replaced = True
        return Upload(
            source=file.source,
            dataset=file.dataset,
            upload_id=answer.json()["data"]["upload_id"],
            accepted_lines=file.accepted_lines,
            rejected_lines=file.rejected_lines,
            replaces=None if replaces is None else replaces.upload_id,
        )

    def _post_again(self, file: File, upload: Upload) -> None:
        parameters = {"dataset": file.dataset, "source": file.source}
        if upload.replaces is not None:
            parameters["replaces"] = upload.replaces
        answer = self._request("POST", "/v1/uploads", params=parameters, content=file.content)
        if answer.json()["data"]["upload_id"] != upload.upload_id:
            self.observations.violation(f"the same file became a second upload: {answer.text}")

    def _retract(self, random: Random) -> None:
        known = [u for u in self.uploads if u.is_visible_at_the_end]
        if not known:
            return
        upload = random.choice(known)
        if not self._wait_committed(upload):
            return
        answer = self._request("POST", f"/v1/uploads/{upload.upload_id}/retract", params={"timeout": "1"})
        assert answer.status_code in (200, 202), answer.text
        upload.is_retracted = True

    def _wait_committed(self, upload: Upload) -> bool:
        while not self.stop.is_set():
            path = f"/v1/uploads/{upload.upload_id}"
            answer = self._request("GET", path, params={"wait": "committed", "timeout": "5"})
            if answer.json()["data"]["state"] == "committed":
                return True
        return False

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask one gateway after the other until one answers, also after `stop`: the outcome must be known."""
        return request_until_answered(self.gateways, method, path, observations=self.observations, **options)


def request_until_answered(
    urls: Sequence[str],
    method: str,
    path: str,
    *,
    observations: Observations,
    **options: Any,
) -> httpx.Response:
    """The first answer that does not ask for a later try.

    An answer that no service may give is noted in `observations`.
    """
    for attempt in count():
        url = urls[attempt % len(urls)]
        try:
            answer = httpx.request(
                method, f"{url}{path}", timeout=REQUEST_SECONDS, trust_env=False, **options
            )
        except httpx.TransportError:
            pass  # the service was killed
        else:
            observations.status(method, f"{url}{path}", answer)
            if answer.status_code not in RETRIED:
                return answer
        threading.Event().wait(RETRY_SECONDS)
    raise AssertionError
