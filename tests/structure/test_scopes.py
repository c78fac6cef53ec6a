"""A key with the scope `ingest` can follow its uploads to their end, and reads nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
from k2common.http.access.keys import create

from tests.structure.apps import WRITES, open_apps, operations, path_of

FOLLOWED = {
    "/v1/uploads",
    "/v1/uploads/{upload_id}",
    "/v1/uploads/{upload_id}/rejects",
    "/v1/batches/{batch}",
    "/v1/layouts",
    "/v1/layouts/{name}",
}


async def test_an_uploader_may_write_and_follow_uploads_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = create(file, name="loader-job", scopes=["ingest"], now=datetime.now(UTC))
    allowed = set()
    async with open_apps(tmp_path, K2_HTTP__KEYS_FILE=str(file)) as apps:
        for service, app in apps.items():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                for method, template in operations(app):
                    answer = await http.request(
                        method, path_of(template), params={"nonsense": "1"}, headers={"X-API-Key": key}
                    )
                    assert answer.status_code != 401
                    if answer.status_code != 403 and template.startswith("/v1/"):
                        allowed.add((service, method, template))
    gateway = {(method, template) for service, method, template in allowed if service == "ingest-gateway"}
    assert {template for method, template in gateway if method == "GET"} == FOLLOWED
    assert {method for method, _ in gateway} & WRITES == {"POST", "DELETE"}
    assert {service for service, _, _ in allowed} == {"ingest-gateway"}
