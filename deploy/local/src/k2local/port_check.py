"""Every port of a local stack, and a refusal that names owner and variable before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2common.errors import SetupError

from k2local.fleet import SERVICES
from k2local.listeners import is_free, port_owners
from k2local.settings import HOST, LocalSettings
from k2local.store import PORTS as STORE_PORTS

STACK = ("kafka", "kafka's controller", "registry", "registry's management")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPort:
    """A port, what will listen on it and the variable that moves it."""

    port: int
    component: str
    variable: str


def planned_ports(settings: LocalSettings) -> Sequence[PlannedPort]:
    """Return every port on which the stack and the fleet will listen."""
    store = 0 if settings.store_port is None else STORE_PORTS
    ranges: Mapping[str, tuple[int, Sequence[str]]] = {
        "K2_BASE_PORT": (settings.base_port, STACK),
        "K2_SERVICES_PORT": (settings.services_port, list(SERVICES)),
        "K2_STORE_PORT": (settings.store_port or 0, ["store"] * store),
    }
    return [
        PlannedPort(port=first + offset, component=name, variable=variable)
        for variable, (first, names) in ranges.items()
        for offset, name in enumerate(names)
    ]


def require_free_ports(settings: LocalSettings) -> None:
    """Return when every port is free.

    Raises SetupError that names each port in use, its owner and the variable that moves it.
    """
    faults = [*_overlaps(planned_ports(settings)), *_in_use(planned_ports(settings))]
    if faults:
        raise SetupError("\n".join(faults))


def describe_use(port: int) -> str:
    """Return who listens on the port, in words."""
    owners = port_owners(port)
    return " and ".join(map(str, owners)) if owners else "a process that this user cannot see"


def _overlaps(ports: Sequence[PlannedPort]) -> Sequence[str]:
    seen: dict[int, PlannedPort] = {}
    faults = []
    for planned in ports:
        other = seen.setdefault(planned.port, planned)
        if other is not planned:
            faults.append(
                f"port {planned.port} would be of {other.component} ({other.variable}) "
                f"and of {planned.component} ({planned.variable})"
            )
    return faults


def _in_use(ports: Sequence[PlannedPort]) -> Sequence[str]:
    return [
        f"port {planned.port} of {planned.component} is in use by {describe_use(planned.port)}, "
        f"set {planned.variable} to move it"
        for planned in ports
        if not is_free(HOST, planned.port)
    ]
