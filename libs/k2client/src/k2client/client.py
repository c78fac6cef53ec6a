"""Uploads, queries and replays; pages are turned as the rows are taken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from k2client.errors import K2HttpError
from k2client.loopback import proxy_options

TIMEOUT_SECONDS = 60.0
BLOCK_BYTES = 1024 * 1024
Json = Mapping[str, Any]


class Client(AbstractContextManager["Client"]):
    """One fleet. Methods raise K2HttpError for an answer other than success, httpx's errors for none."""

    def __init__(
        self,
        *,
        gateway_url: str = "http://127.0.0.1:8001",
        query_url: str = "http://127.0.0.1:8004",
        replay_url: str = "http://127.0.0.1:8005",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._gateway = gateway_url.rstrip("/")
        self._query = query_url.rstrip("/")
        self._replay = replay_url.rstrip("/")
        options = proxy_options((self._gateway, self._query, self._replay))
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, transport=transport, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def upload(self, file: Path | bytes, *, idempotency_key: str | None = None, **parameters: str) -> Json:
        """POST a file and give its receipt; the same file again gives the receipt that it has.

        A path is streamed, and its name is sent unless `filename` says another.
        """
        headers = {"Content-Type": "text/csv"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if isinstance(file, Path):
            parameters.setdefault("filename", file.name)
        url = f"{self._gateway}/v1/uploads"
        content = _blocks(file) if isinstance(file, Path) else file
        return self._data(self._http.post(url, params=parameters, content=content, headers=headers))

    def receipt(self, upload_id: str, *, wait_seconds: float = 0) -> Json:
        """The receipt as it is; with `wait_seconds` as soon as it is final, or when the time is up."""
        parameters = {"wait": "committed", "timeout": str(wait_seconds)} if wait_seconds else {}
        url = f"{self._gateway}/v1/uploads/{upload_id}"
        return self._data(self._http.get(url, params=parameters, timeout=TIMEOUT_SECONDS + wait_seconds))

    def uploads(self, **filters: str) -> Iterator[Json]:
        """Receipts, newest first."""
        return self._pages(f"{self._gateway}/v1/uploads", filters)

    def rejects(self, upload_id: str) -> Iterator[Json]:
        """The refused rows of an upload, by line."""
        return self._pages(f"{self._gateway}/v1/uploads/{upload_id}/rejects", {})

    def trades(self, **parameters: str) -> Iterator[Json]:
        """Trades of a range, all pages of them on one version."""
        return self._pages(f"{self._query}/v1/trades", parameters)

    def quotes(self, **parameters: str) -> Iterator[Json]:
        """Quotes of a range, all pages of them on one version."""
        return self._pages(f"{self._query}/v1/quotes", parameters)

    def table(self, endpoint: str, **parameters: str) -> Any:
        """The rows of `trades`, `quotes`, `bars` or `joins/trades-quotes` as a `pyarrow.Table`, all of them.

        Its schema's metadata names the version as `k2.version`. Needs pyarrow, as `k2client[arrow]` has it.
        """
        url = f"{self._query}/v1/{endpoint}"
        return _arrow(self._http.get(url, params={**parameters, "format": "arrow"}))

    def sql(self, sql: str, **body: Any) -> Any:
        """The rows of a statement as a `pyarrow.Table`; `body` is the rest of the request."""
        answer = self._http.post(f"{self._query}/v1/sql", json={"sql": sql, **body, "format": "arrow"})
        return _arrow(answer)

    def cite(self, endpoint: str, **parameters: Any) -> Json:
        """A signed document that names the answer for good."""
        body = {"endpoint": endpoint, "parameters": parameters}
        return self._data(self._http.post(f"{self._query}/v1/citations", json=body))

    def verify(self, citation: Json) -> Json:
        """Whether the citation still holds."""
        return self._data(self._http.post(f"{self._query}/v1/citations/verify", json=dict(citation)))

    def origin(self, upload_id: str, line: int, **parameters: str) -> Json:
        """The row of a file's line, its raw record and its file."""
        url = f"{self._query}/v1/uploads/{upload_id}/rows/{line}"
        return self._data(self._http.get(url, params=parameters))

    def summary(self, symbol: str, trading_date: str, **parameters: str) -> Json:
        """The market summary of a trading date."""
        url = f"{self._query}/v1/summary/{symbol}/{trading_date}"
        return self._data(self._http.get(url, params=parameters))

    def versions(self, table: str) -> list[Json]:
        """The newest versions of a table, newest first."""
        found: Any = self._data(self._http.get(f"{self._query}/v1/versions", params={"table": table}))
        return list(found)

    def replay(self, **request: Any) -> Json:
        """Create a replay session; the arguments are the fields of its body."""
        return self._data(self._http.post(f"{self._replay}/v1/replays", json=request))

    def replay_stream(self, session_id: str, *, cursor: str | None = None) -> Iterator[Json]:
        """Every record of the stream; one whose last record is not `replay_completed` was cut off."""
        parameters = {} if cursor is None else {"cursor": cursor}
        url = f"{self._replay}/v1/replays/{session_id}/stream"
        with self._streamed(url, parameters) as answer:
            for line in answer.iter_lines():
                yield json.loads(line)

    def _pages(self, url: str, parameters: Mapping[str, str]) -> Iterator[Json]:
        token: str | None = None
        while True:
            turned = {} if token is None else {"page_token": token}
            answer = _checked(self._http.get(url, params={**parameters, **turned}))
            page = answer.json()
            yield from page["data"]
            token = page["next_page_token"]
            if token is None:
                return

    def _data(self, answer: httpx.Response) -> Json:
        data: Json = _checked(answer).json()["data"]
        return data

    @contextmanager
    def _streamed(self, url: str, parameters: Mapping[str, str]) -> Iterator[httpx.Response]:
        with self._http.stream("GET", url, params=parameters) as answer:
            if answer.is_error:
                answer.read()
            yield _checked(answer)

    def __enter__(self) -> Self:
        return self


def _arrow(answer: httpx.Response) -> Any:
    # Only those who want tables need the library.
    ipc = import_module("pyarrow.ipc")
    table = ipc.open_stream(_checked(answer).content).read_all()
    version = answer.headers.get("X-K2-Version", "")
    return table.replace_schema_metadata({**(table.schema.metadata or {}), "k2.version": version})


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise K2HttpError.of(answer)
    return answer


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
