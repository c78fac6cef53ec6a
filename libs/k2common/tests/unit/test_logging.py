"""Every line is one JSON object with the fields that all have, says no secret and quotes no row."""

import json
import subprocess
import sys
from typing import Any

import pytest
from k2common.observability.discretion import Masked, told, without_passwords

# A process of its own: logging is set up once for good, and this one ends of an error.
PROGRAM = """
import logging, sys, threading, warnings
from k2common.errors import TransientError
from k2common.observability.logging import bound, configure, get_logger
from k2common.observability.tracing import joined, tracer
from k2common.settings.service import ObservabilitySettings

log, spans = get_logger("here"), tracer("here")
configure(
    ObservabilitySettings(log_level=sys.argv[1]), service="csv-loader", replica="7", secrets=["S3CRET-\\"K"]
)
log.info("a secret comes along", field='the key S3CRET-"K', nested={"key": 'S3CRET-"K'}, short="k2")
log.warning("the catalogue is unavailable", error="postgresql://k2:PASSW0RD@db/k2 refuses")
with bound(upload_id="U1", request_id="R1"):
    with joined(spans, "work", [("traceparent", b"00-%s-%s-01" % (b"a" * 32, b"b" * 16))]):
        log.info("bound")
        logging.getLogger("aiokafka.group").error("of a library")
        thread = threading.Thread(target=lambda: log.info("of a thread"))
        thread.start()
        thread.join()
log.info("unbound")
log.debug("for developers")
warnings.warn("a warning", ResourceWarning)
def failing():
    try:
        int("ROW-" "CONTENT")
    except ValueError as error:
        raise TransientError("the store is unavailable") from error
thread = threading.Thread(target=failing)
thread.start()
thread.join()
try:
    failing()
except TransientError as error:
    log.error("own", exc_info=error)
    logging.getLogger("asyncio").exception("never retrieved")
raise ExceptionGroup("several", [ValueError("ROW-" "CONTENT"), OSError(28, "No space left on device")])
"""


def lines_of(level: str) -> tuple[list[dict[str, Any]], str]:
    argv = [sys.executable, "-W", "always", "-c", PROGRAM, level]
    ran = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stdout == ""
    return [json.loads(line) for line in ran.stderr.splitlines()], ran.stderr


@pytest.fixture(scope="module")
def at_info() -> tuple[list[dict[str, Any]], str]:
    return lines_of("info")


@pytest.fixture(scope="module")
def lines(at_info: tuple[list[dict[str, Any]], str]) -> list[dict[str, Any]]:
    return at_info[0]


def one(lines: list[dict[str, Any]], event: str) -> dict[str, Any]:
    (found,) = (line for line in lines if line["event"] == event)
    return found


def test_every_line_has_what_all_have(lines: list[dict[str, Any]]) -> None:
    assert {"ts", "level", "event", "service", "replica"} <= set.intersection(*map(set, lines))
    assert {(line["service"], line["replica"]) for line in lines} == {("csv-loader", "7")}
    events = [line["event"] for line in lines]
    assert {"of a library", "of a thread", "a thread ended of an error"} < set(events)
    assert any("a warning" in event for event in events)
    assert events[-1] == "the process ends of an error"
    assert "for developers" not in events


def test_lines_name_upload_request_and_trace_where_there_is_one(lines: list[dict[str, Any]]) -> None:
    named = {"upload_id": "U1", "request_id": "R1", "trace_id": "a" * 32, "span_id": "b" * 16}
    assert named.items() <= one(lines, "bound").items()
    assert named.items() <= one(lines, "of a library").items()
    assert not named.keys() & one(lines, "unbound").keys()


def test_a_secret_is_masked_wherever_it_stands(lines: list[dict[str, Any]]) -> None:
    line = one(lines, "a secret comes along")
    assert (line["field"], line["nested"], line["short"]) == ("the key ***", {"key": "***"}, "k2")
    assert one(lines, "the catalogue is unavailable")["error"] == "postgresql://k2:***@db/k2 refuses"


def test_foreign_errors_tell_their_texts_at_level_debug_alone(
    at_info: tuple[list[dict[str, Any]], str],
) -> None:
    lines, text = at_info
    assert "ROW-CONTENT" not in text
    for event in ("own", "never retrieved", "a thread ended of an error"):
        line = one(lines, event)
        assert "builtins.ValueError: (its text is told at level debug)" in line["exception"]
        assert "k2common.errors.TransientError: the store is unavailable" in line["exception"]
        assert "in failing" in line["exception"]
    ended = one(lines, "the process ends of an error")["exception"]
    assert "builtins.OSError: [Errno 28] No space left on device" in ended
    assert "ROW-CONTENT" in lines_of("debug")[1]


def test_addresses_keep_all_but_the_password() -> None:
    kept = "http://127.0.0.1:8004/v1/trades?as_of=trades@12 and k2@example"
    assert without_passwords(kept) == kept
    assert without_passwords("see a://u:p@h and b://:q@h") == "see a://u:***@h and b://:***@h"


def test_a_secret_that_holds_another_leaves_nothing_of_itself() -> None:
    masked = Masked(lambda _logger, _name, event: event, ["client", "client:secret", "short"])
    assert masked(None, "", "client:secret client short") == "*** *** short"


def hiding() -> None:
    try:
        raise KeyError("hidden")
    except KeyError:
        raise OSError("told") from None


def test_an_error_that_hides_its_context_does_not_tell_it() -> None:
    with pytest.raises(OSError, match="told") as raised:
        hiding()
    assert "KeyError" not in told(raised.value, all_texts=True)
