"""Fail points do nothing unless asked for, and then what they are asked for."""

import os
import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace

import pytest
from k2common.errors import SetupError
from k2common.http.access.hosts import HostGuard
from k2common.runtime import failpoints
from k2common.runtime.service import Runtime, Service, ServiceBlocks, run_service


def never_built(settings: ServiceBlocks, runtime: Runtime) -> AbstractAsyncContextManager[Service]:
    raise AssertionError


def test_nothing_happens_unless_asked_for() -> None:
    assert not failpoints.SHARES
    failpoints.reached("sink.written")
    catalog = SimpleNamespace(commit_table=None)
    assert failpoints.forgetful(catalog).commit_table is None  # type: ignore[arg-type]


def test_a_process_ends_at_the_place_that_is_named() -> None:
    code = "from k2common.runtime import failpoints as f; f.reached('other'); f.reached('here')"
    environ = {**os.environ, "K2_FAILPOINTS": "here=1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "failpoint here\n")


@pytest.mark.parametrize(("point", "commits"), [(failpoints.BEFORE, 0), (failpoints.AFTER, 1)])
def test_a_catalogue_loses_answers_before_and_after_the_effect(
    point: str, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    catalog = SimpleNamespace(commit_table=done.append)
    monkeypatch.setattr(failpoints, "SHARES", {point: 1.0})
    with pytest.raises(ConnectionError):
        failpoints.forgetful(catalog).commit_table("commit")  # type: ignore[arg-type,call-arg]
    assert len(done) == commits
    monkeypatch.setattr(failpoints, "SHARES", {point: 0.0})
    catalog.commit_table("commit")
    assert len(done) == commits + 1


def test_a_share_that_is_none_is_refused() -> None:
    assert failpoints.parsed("a=0.5,b=1") == {"a": 0.5, "b": 1.0}
    with pytest.raises(SetupError, match="K2_FAILPOINTS"):
        failpoints.parsed("a=often")


@pytest.mark.parametrize("text", ["a=often", "a", "a=1=2", "a=1.5", "a=-1", "a=nan", "=1"])
def test_a_service_that_is_asked_for_what_is_no_failpoint_ends_as_misconfigured_in_one_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"K2_FAILPOINTS": text, "K2_HTTP__PORT": "8001"}
    with pytest.raises(SystemExit) as ended:
        run_service(ServiceBlocks, never_built, name="example", guard=HostGuard, environ=environ)
    assert ended.value.code == os.EX_CONFIG
    said = capsys.readouterr().err
    assert said.startswith("example: K2_FAILPOINTS")
    assert len(said.splitlines()) == 1
