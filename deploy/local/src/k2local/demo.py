"""`task demo`: what the platform promises, shown on the running fleet with figures that were just measured.

Exit code 1 when anything does not balance. The rows of a demo carry its own source, so that it can be run
again on the same fleet.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from k2common.errors import K2Error, TransientError
from k2common.testing.generator import asx_files, trades_csv

from k2local import cli
from k2local.fleet import service_url
from k2local.settings import LocalSettings

DATA = Path(__file__).parents[5] / "shared" / "data" / "asx-2014-03"
GENERATED_ROWS = 50_000
KILLED_ROWS = 300_000
BAR = 30
WAIT_SECONDS = 120
FINAL = ("committed", "failed", "cancelled")
DAY = "2014-03-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The files of a small market: reference data, trades and quotes of one symbol, and a second upload."""

    origin: str
    company_info: bytes
    trades: bytes
    quotes: bytes
    later: bytes
    later_name: str

    @classmethod
    def found(cls) -> Sample:
        """The Australian exchange's files where they are beside the checkout, else generated ones."""
        if DATA.is_dir():
            return cls(
                origin="files of the Australian exchange, March 2014",
                company_info=(DATA / "reference" / "company_info.csv").read_bytes(),
                trades=(DATA / "trades" / "7078.csv").read_bytes(),
                quotes=(DATA / "quotes" / "7078.csv").read_bytes(),
                later=(DATA / "trades" / "7181.csv").read_bytes(),
                later_name="7181.csv",
            )
        files, later = asx_files(GENERATED_ROWS, seed=1), asx_files(1_000, seed=2)
        return cls(
            origin="generated files of the shape of the Australian exchange's",
            company_info=files["company_info.csv"],
            trades=files["trades/7078.csv"],
            quotes=files["quotes/7078.csv"],
            later=later["trades/7078.csv"],
            later_name="7078.csv",
        )


class Demo:
    """Runs the scenes and keeps the receipts."""

    def __init__(self, settings: LocalSettings, *, label: str) -> None:
        self._settings = settings
        self._label = label
        self._http = httpx.Client(timeout=WAIT_SECONDS, trust_env=False)
        self._receipts: list[Mapping[str, Any]] = []
        self.faults: list[str] = []

    def run(self) -> None:
        """All scenes, the table of receipts last."""
        sample = Sample.found()
        print(f"\nThe data: {sample.origin}")
        self._scene("Reference data, trades and quotes")
        self._upload("company_info.csv", sample.company_info, layout="asx-company-info")
        first = self._upload("7078.csv", sample.trades, layout="asx-trades")
        self._upload("7078.csv", sample.quotes, layout="asx-quotes")
        self._refused()
        self._summary()
        self._versions(first, sample)
        self._replays()
        self._killed()
        self._table()

    def _scene(self, title: str) -> None:
        print(f"\n== {title}")

    def _upload(self, name: str, content: bytes, **parameters: str) -> Mapping[str, Any]:
        answer = self._post(name, content, **parameters)
        return self._receipt(answer["upload_id"], name, len(content.splitlines()))

    def _post(self, name: str, content: bytes, **parameters: str) -> Mapping[str, Any]:
        query = {"filename": name, "source": self._label, "batch": self._label, **parameters}
        posted: Mapping[str, Any] = self._data(
            "POST", "ingest-gateway", "/v1/uploads", params=query, content=content
        )
        return posted

    def _receipt(self, upload_id: str, name: str, lines: int) -> Mapping[str, Any]:
        started = time.monotonic()
        deadline = started + WAIT_SECONDS
        while True:
            receipt = self._try_receipt(upload_id)
            done = receipt is not None and receipt["state"] in FINAL
            # A file instead of a terminal gets the last state alone.
            if receipt is not None and (done or sys.stdout.isatty()):
                self._bar(name, receipt, lines)
            if done or time.monotonic() > deadline:
                break
        print(f"  {time.monotonic() - started:.1f} s")
        if receipt is None:
            raise TransientError(f"no receipt of {upload_id} within {WAIT_SECONDS} s")
        self._receipts.append(receipt)
        return receipt

    def _try_receipt(self, upload_id: str) -> Mapping[str, Any] | None:
        query = {"wait": "committed", "timeout": "0.2"}
        path = f"/v1/uploads/{upload_id}"
        try:
            receipt: Mapping[str, Any] = self._data("GET", "ingest-gateway", path, params=query)
        except TransientError:
            return None
        return receipt

    def _bar(self, name: str, receipt: Mapping[str, Any], lines: int) -> None:
        share = min(1.0, receipt["rows"]["read"] / max(lines, 1))
        if receipt["state"] in FINAL:
            share = 1.0
        filled = "#" * round(BAR * share)
        text = f"\r  {name:18} [{filled:<{BAR}}] {receipt['state']:10} {receipt['rows']['read']:>9,} rows"
        print(text, end="", flush=True)

    def _refused(self) -> None:
        self._scene("A row that cannot be taken is refused by line, and the others go in")
        rows = ["ts_event_ns,symbol,venue,price,size"]
        rows += [
            f"{1_700_000_000_000_000_000 + n},DEMO,XDEMO,{price},10"
            for n, price in enumerate(["1.25", "1,3"])
        ]
        receipt = self._upload("refused.csv", "\n".join(rows).encode(), dataset="trades")
        path = f"/v1/uploads/{receipt['upload_id']}/rejects"
        for reject in self._data("GET", "ingest-gateway", path):
            print(f"  line {reject['line']}: {reject['code']}: {reject['message']}: {reject['raw']}")
        self._expect(receipt["rows"]["rejected"] == 1, "one row of refused.csv is refused")

    def _summary(self) -> None:
        self._scene(f"The market summary of BHP, {DAY}, exact")
        query = {"source": self._label}
        summary = self._data("GET", "query-service", f"/v1/summary/BHP/{DAY}", params=query)
        print("  " + "  ".join(f"{name} {summary[name]}" for name in ("open", "high", "low", "close")))
        print("  " + "  ".join(f"{name} {summary[name]}" for name in ("volume", "vwap", "trades")))
        self._expect(summary["trades"] > 0, "the summary has trades")

    def _versions(self, first: Mapping[str, Any], sample: Sample) -> None:
        self._scene("Before and after a second upload")
        second = self._upload(sample.later_name, sample.later, layout="asx-trades")
        counts = [self._trades(receipt["version"]) for receipt in (first, second)]
        for receipt, count in zip((first, second), counts, strict=True):
            print(f"  as_of {receipt['version']:12} {count:>9,} trades")
        expected = first["rows"]["committed"]
        self._expect(counts[0] == expected, "the older version still shows what it showed")
        added = second["rows"]["committed"]
        self._expect(counts[1] == expected + added + 1, "the newer version shows the second upload too")

    def _trades(self, version: str) -> int:
        query = {"source": self._label, "as_of": version, "format": "csv"}
        url = f"{service_url(self._settings, 'query-service')}/v1/trades"
        with self._http.stream("GET", url, params=query) as answer:
            return sum(1 for line in answer.iter_lines() if line) - 1

    def _replays(self) -> None:
        self._scene("The same range replayed twice, trades and quotes in one order")
        body = {"datasets": ["trades", "quotes"], "symbols": ["BHP"], "source": self._label}
        session = self._data("POST", "replay-service", "/v1/replays", json=body)
        print(f"  on version {session['version']}")
        digests = [self._replayed(session["session_id"]) for _ in range(2)]
        self._expect(digests[0] == digests[1], "both replays have the same digest")

    def _replayed(self, session_id: str) -> str:
        started = time.monotonic()
        url = f"{service_url(self._settings, 'replay-service')}/v1/replays/{session_id}/stream"
        last = ""
        with self._http.stream("GET", url) as answer:
            for line in answer.iter_lines():
                last = line
        completed = json.loads(last)
        seconds = time.monotonic() - started
        digest: str = completed.get("digest", "")
        print(f"  {completed.get('rows', 0):>9,} rows in {seconds:.1f} s, digest {digest}")
        self._expect(completed["type"] == "replay_completed", "the replay comes to its end")
        return digest

    def _killed(self) -> None:
        self._scene("The sink is killed in the middle of an upload")
        content = trades_csv(KILLED_ROWS, seed=int(time.time()))
        posted = self._post("killed.csv", content, dataset="trades")
        pid = next(state.pid for state in cli.status(self._settings) if state.name == "iceberg-sink")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            print(f"  iceberg-sink, pid {pid}, got SIGKILL")
        receipt = self._receipt(posted["upload_id"], "killed.csv", KILLED_ROWS)
        self._expect(receipt["rows"]["committed"] == KILLED_ROWS, "every row of killed.csv is committed once")

    def _table(self) -> None:
        self._scene("Every row is accounted for")
        names = ("read", "committed", "rejected", "filtered", "dead_lettered")
        print(f"  {'file':18} {'state':10} " + " ".join(f"{name:>13}" for name in names))
        for receipt in self._receipts:
            rows = receipt["rows"]
            balanced = rows["read"] == sum(rows[name] for name in names[1:])
            name = receipt["filename"]
            figures = " ".join(f"{rows[name]:>13,}" for name in names)
            print(f"  {name:18} {receipt['state']:10} {figures} {'' if balanced else '  DOES NOT BALANCE'}")
            self._expect(balanced and receipt["state"] == "committed", f"{name} balances")

    def _expect(self, holds: bool, promise: str) -> None:
        if not holds:
            self.faults.append(promise)
            print(f"  NOT SO: {promise}")

    def _data(self, method: str, service: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, f"{service_url(self._settings, service)}{path}", **options)
        except httpx.TransportError as error:
            raise TransientError(f"{service} does not answer: {error}") from error
        if answer.is_error:
            raise K2Error(f"{service} answered {answer.status_code}: {answer.text}")
        return answer.json()["data"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m k2local.demo`."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the fleet up")
    options = parser.parse_args(arguments)
    settings = LocalSettings.from_environ(os.environ)
    was_up = cli.supervisor_pid(settings) is not None
    started = time.monotonic()
    interrupted = False
    try:
        cli.up(settings)
        demo = Demo(settings, label=f"demo-{int(time.time())}")
        demo.run()
        faults = demo.faults
    except (KeyboardInterrupt, cli.Interrupted):
        faults, interrupted = [], True
    except K2Error as error:
        faults = [str(error)]
    finally:
        if not (options.keep or was_up) and cli.supervisor_pid(settings) is not None:
            cli.down(settings)
    if interrupted:
        left = cli.supervisor_pid(settings) is not None
        print(f"demo - interrupted: {cli.FLEET_RUNS if left else cli.NOTHING_RUNS}", file=sys.stderr)
        return cli.EXIT_INTERRUPTED
    for fault in faults:
        print(f"demo - not so: {fault}", file=sys.stderr)
    print(f"\ndemo - {'failed' if faults else 'all of it holds'} after {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
