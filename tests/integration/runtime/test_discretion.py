"""A service process whose settings are full of secrets and whose dependencies fail says none of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from k2local.ports import free_port

SECRETS = {
    "K2_ICEBERG__CATALOG_URI": "postgresql+psycopg://k2:UR1-PASSW0RD@127.0.0.1:9/k2",
    "K2_ICEBERG__CATALOG_CREDENTIAL": "client:CRED3NTIAL",
    "K2_ICEBERG__S3_SECRET_ACCESS_KEY": "S3-S3CRET/+=",
    "K2_ICEBERG__PROPERTIES": '{"token": "T0KEN-OF-IT", "s3.region": "here"}',
    "K2_QUERY__PAGE_KEY": "PAGE-K3Y-OF-IT-ALL",
    "K2_QUERY__CITATION_KEY": "CITATION-K3Y-OF-IT-ALL",
}
MARKERS = ("UR1-PASSW0RD", "CRED3NTIAL", "S3-S3CRET", "T0KEN-OF-IT", "PAGE-K3Y", "CITATION-K3Y")


def test_no_secret_of_the_settings_is_logged_at_any_level(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    environ = {
        **kept,
        **SECRETS,
        "K2_ICEBERG__S3_ACCESS_KEY_ID": "name",
        "K2_ICEBERG__WAREHOUSE": "s3://warehouse",
        "K2_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "K2_REGISTRY__URL": "http://k2:REG1STRY@127.0.0.1:9",
        "K2_HTTP__PORT": str(free_port()),
        "K2_OBSERVABILITY__LOG_LEVEL": "debug",
    }
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([sys.executable, "-m", "query_service"], env=environ, stderr=file) as process,
    ):
        deadline = time.monotonic() + 60
        while b"waits for a dependency" not in log.read_bytes():
            assert time.monotonic() < deadline
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"settings", "the service waits for a dependency", "stopped"} <= {line["event"] for line in lines}
    assert all({"ts", "level", "event", "service", "replica"} <= line.keys() for line in lines)
    assert [marker for marker in (*MARKERS, "REG1STRY") if marker in text] == []
