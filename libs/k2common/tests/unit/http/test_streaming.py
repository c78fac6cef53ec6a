"""A stream ends with its rows, its client or its fault, and only the first of these looks whole."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from k2common.http.streaming import Attended, ReaderTooSlow, StreamedResponse
from k2common.query.admission import BEGUN
from k2common.testing.virtual_time import in_virtual_time, seconds_passed
from starlette.types import Message, Receive, Scope, Send

SCOPE: Scope = {"type": "http"}


async def parts(given: Sequence[bytes | Exception], closed: list[bool]) -> AsyncGenerator[bytes, None]:
    try:
        for part in given:
            if isinstance(part, Exception):
                raise part
            yield part
    finally:
        closed.append(True)


async def sent(given: Sequence[bytes | Exception], *, stuck: bool = False) -> tuple[list[Message], Any]:
    """The messages of a stream, and what it raised."""
    messages: list[Message] = []
    closed: list[bool] = []

    async def send(message: Message) -> None:
        if stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError

    answer = StreamedResponse(parts(given, closed), reader_seconds=60, media_type="text/csv")
    error = None
    try:
        await answer(SCOPE, receive, send)
    except (ReaderTooSlow, ValueError) as caught:
        error = caught
    assert closed
    return messages, error


async def test_all_parts_and_then_the_end() -> None:
    messages, error = await sent([b"", b"a", b"", b"b"])
    assert [message["type"] for message in messages] == ["http.response.start"] + ["http.response.body"] * 3
    assert b"".join(message["body"] for message in messages[1:]) == b"ab"
    assert [message["more_body"] for message in messages[1:]] == [True, True, False]
    assert error is None


async def test_the_work_behind_a_part_knows_whether_the_answer_has_begun() -> None:
    seen: list[bool] = []

    async def work() -> AsyncGenerator[bytes, None]:
        for part in (b"", b"a", b"b"):
            seen.append(BEGUN.get())
            yield part
        seen.append(BEGUN.get())

    async def send(message: Message) -> None:
        assert message

    async def receive() -> Message:
        raise AssertionError

    answer = StreamedResponse(work(), reader_seconds=60, media_type="text/csv")
    await asyncio.create_task(answer(SCOPE, receive, send))
    assert seen == [False, False, True, True]
    assert not BEGUN.get()


async def test_a_body_without_a_part_is_whole_too() -> None:
    messages, _ = await sent([])
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]


async def test_a_fault_before_the_first_part_begins_nothing() -> None:
    messages, error = await sent([b"", ValueError("no")])
    assert (messages, type(error)) == ([], ValueError)


async def test_a_fault_in_the_middle_has_no_end() -> None:
    messages, error = await sent([b"a", ValueError("no")])
    assert messages[-1]["more_body"]
    assert isinstance(error, ValueError)


@in_virtual_time
async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    messages, error = await sent([b"a"], stuck=True)
    assert seconds_passed() == 60
    assert isinstance(error, ReaderTooSlow)
    assert len(messages) == 1


async def test_work_ends_when_the_client_goes() -> None:
    events: list[str] = []
    working = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    incoming: list[Message] = [{"type": "http.request"}]

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await working.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError

    await asyncio.wait_for(Attended(app)(SCOPE, receive, send), 10)
    assert events == ["cancelled"]


async def test_what_the_work_raises_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ValueError, match="no"):
        await Attended(app)(SCOPE, receive, lambda message: asyncio.sleep(0))
