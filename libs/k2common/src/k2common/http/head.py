"""HEAD wherever GET is: the same headers, and no body is made for a stream."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware: answers HEAD with the start of the answer to GET, and ends the work there.

    Content-Length is that of GET where it is known before the body, as of JSON; a stream has none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start" and not answered.is_set():
                # The server looks here to know that no body follows.
                scope["method"] = "HEAD"
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                answered.set()
            else:
                # The body is not sent; the work is cancelled here.
                await asyncio.get_running_loop().create_future()

        scope["method"] = "GET"
        work = asyncio.ensure_future(self._app(scope, receive, send_start))
        waiting = asyncio.ensure_future(answered.wait())
        try:
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            scope["method"] = "HEAD"
            waiting.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled() and (error := work.exception()) and not answered.is_set():
            raise error
