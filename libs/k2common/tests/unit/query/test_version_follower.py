"""What is announced is at hand without another look at the store."""

import threading
from collections.abc import Mapping
from dataclasses import replace

from k2common.query.version_follower import load_hidden
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import AmendedHiddenUploads, HiddenUpload, Reason


async def test_the_file_of_hidden_uploads_is_read_in_a_worker_thread() -> None:
    readers: list[str] = []

    def files(location: str) -> Mapping[str, HiddenUpload]:
        readers.append(f"{location} {threading.current_thread().name}")
        return {"U1": HiddenUpload(reason=Reason.RETRACTED)}

    blocking = Blocking(workers=1)
    version = first_version(TRADES.table)
    try:
        await load_hidden(version, blocking=blocking)
        assert readers == []
        await load_hidden(
            replace(version, hidden=AmendedHiddenUploads("there", {}, files)), blocking=blocking
        )
        assert readers == ["there blocking_0"]
    finally:
        blocking.close()
