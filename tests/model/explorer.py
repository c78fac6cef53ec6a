"""Breadth first over all states of the protocol: what it finds is the shortest way to a broken promise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.model.promises import Promises
from tests.model.protocol import Protocol
from tests.model.world import Scenario, State

Came = dict[State, tuple[State, str] | None]
"""Of each state known, the one before it and the step from there."""


class Broken(AssertionError):
    """A promise is broken; the message tells the steps that lead there."""


@dataclass(frozen=True, kw_only=True)
class Explored:
    """How far an exploration went."""

    states: int
    steps: int
    at_rest: int


def explore(scenario: Scenario, *, limit: int) -> Explored:
    """Go through every state that can be reached.

    Raises Broken at the first one that breaks a promise, RuntimeError beyond `limit` states.
    """
    protocol = Protocol(scenario)
    promises = Promises(protocol)
    first = protocol.first()
    came: Came = {first: None}
    queue = deque([first])
    steps = at_rest = 0
    while queue:
        state = queue.popleft()
        resting = True
        for label, after in protocol.steps(state):
            steps += 1
            resting = resting and after.left != state.left
            if after in came:
                continue
            came[after] = (state, label)
            queue.append(after)
            _check(promises.broken(state, label, after), came, after)
        if resting:
            at_rest += 1
            _check(promises.broken_at_rest(state), came, state)
        if len(came) > limit:
            raise RuntimeError(f"more than {limit} states")
    return Explored(states=len(came), steps=steps, at_rest=at_rest)


def _check(broken: str | None, came: Came, state: State) -> None:
    if broken is None:
        return
    way: list[str] = []
    at = came[state]
    while at is not None:
        before, label = at
        way.append(label)
        at = came[before]
    raise Broken("\n  ".join([broken, *reversed(way)]))
