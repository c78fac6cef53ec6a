"""The endpoints about layouts."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from k2common.errors import RecordError
from k2common.http.envelope import listing, single
from k2common.http.parameters import invalid, require_known
from k2common.http.problems import Problem
from k2common.layouts.catalogue import Catalogue
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_gateway.uploads.dry_run import detected
from ingest_gateway.uploads.requests import not_texts

MAX_SAMPLE_BYTES = 1024 * 1024


class LayoutRoutes:
    """Handlers over the catalogue of layouts."""

    def __init__(self, layouts: Catalogue, *, blocking: Blocking, clock: Clock) -> None:
        self._layouts = layouts
        self._blocking = blocking
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Path by path."""
        return [
            Route("/v1/layouts", self.list, methods=["GET"]),
            Route("/v1/layouts/detect", self.detect, methods=["POST"]),
            Route("/v1/layouts/{name}", self.get, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """The layouts that an upload may name."""
        require_known(request, ())
        entries = [
            {"name": layout.name, "dataset": layout.dataset, "description": layout.description}
            for layout in self._layouts.layouts
        ]
        return JSONResponse(listing(entries, request))

    async def detect(self, request: Request) -> Response:
        """The layouts that can read a file that begins like the body, the best first."""
        require_known(request, ("filename",))
        if errors := not_texts(request.query_params, ("filename",)):
            raise invalid(errors)
        sample = bytearray()
        async for data in request.stream():
            sample += data
            if len(sample) > MAX_SAMPLE_BYTES:
                message = f"a sample has at most {MAX_SAMPLE_BYTES} bytes"
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "SAMPLE_TOO_LARGE", message)
        if not sample:
            raise Problem(HTTPStatus.BAD_REQUEST, "SAMPLE_EMPTY", "the body is the beginning of a file")
        found = await self._blocking.run(
            detected,
            bytes(sample),
            self._layouts.layouts,
            filename=request.query_params.get("filename"),
            now=self._clock.now(),
        )
        return JSONResponse(listing(found, request))

    async def get(self, request: Request) -> Response:
        """One layout, as it could be posted inline; `dataset` where the name stands for several."""
        require_known(request, ("dataset",))
        name, dataset = request.path_params["name"], request.query_params.get("dataset")
        try:
            layout = self._layouts.named(name, dataset=dataset)
        except RecordError as error:
            raise Problem(HTTPStatus.NOT_FOUND, "LAYOUT_NOT_FOUND", str(error)) from error
        return JSONResponse(single(layout.model_dump(mode="json"), request))
