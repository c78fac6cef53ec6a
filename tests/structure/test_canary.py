"""Every private name of a pinned library that is in use is listed here and is still what it was.

An upgrade of one of them fails here, with a sentence that says what to do, and not at night.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from importlib import metadata
from types import FunctionType, ModuleType
from typing import Any

import pytest

PINNED = {"pyiceberg": "0.12.0", "aiokafka": "0.14.0", "polars_avro": "0.13.0"}
DOORS = {"pyiceberg": "k2common.iceberg", "aiokafka": "k2common.kafka", "polars_avro": "k2common.columnar"}
"""The one package that may import each; the import contracts see to it."""

PRIVATE = {
    ("pyiceberg", "iceberg.files.avro_files", "_location"): "an output is named by the digest of its bytes",
    (
        "pyiceberg",
        "iceberg.catalogs.rest_catalog",
        "_create_session",
    ): "the session of a REST catalogue gets its time-out",
    (
        "pyiceberg",
        "iceberg.catalogs.sql_catalog",
        "_convert_orm_to_iceberg",
    ): "a table is made of metadata that is kept",
    (
        "pyiceberg",
        "iceberg.catalogs.sql_catalog",
        "_load_file_io",
    ): "the same, as the library gives a table its files",
    ("aiokafka", "kafka.raw", "_fetcher"): "the fetcher of a consumer is made to keep whole batches",
    ("aiokafka", "kafka.raw", "_proc_fetch_request"): "the same, by its code with other names in it",
    ("aiokafka", "kafka.raw", "_unpack_records"): "batches come out in the place of records",
    ("aiokafka", "kafka.raw", "_records"): "the bytes of a fetch answer",
    ("aiokafka", "kafka.raw", "_tp"): "the partition of a fetch answer",
    ("aiokafka", "kafka.raw", "_isolation_level"): "whether aborted transactions are left out",
    ("aiokafka", "kafka.raw", "_consume_aborted_up_to"): "which transactions were aborted",
    ("aiokafka", "kafka.raw", "_aborted_producers"): "whose open transaction was aborted",
    ("aiokafka", "kafka.raw", "_set_producer_state"): "an encoded batch gets its producer and sequence",
    ("aiokafka", "kafka.raw", "_build"): "the bytes of an encoded batch",
    ("aiokafka", "kafka.raw", "_buffer"): "the same",
    ("aiokafka", "kafka.raw", "_closed"): "an encoded batch takes no more records",
    ("aiokafka", "kafka.end_txn", "_sender"): "the sender of a producer gets another end of transactions",
    ("aiokafka", "kafka.end_txn", "_do_txn_commit"): "the same, by its code with other names in it",
    ("aiokafka", "kafka.end_txn", "_txn_manager"): "a producer fails whose commit was not answered",
    (
        "aiokafka",
        "kafka.hanging_transactions",
        "_txn_manager",
    ): "the id and epoch of a producer that has fenced",
    ("polars_avro", "columnar.container", "_avro_rs"): "records are read to Arrow, past polars' columns",
}
"""Library, module and name: what it is used for."""


def modules(library: str) -> Iterator[ModuleType]:
    package = importlib.import_module(DOORS[library])
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield importlib.import_module(found.name)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def names_of(kind: type) -> set[str]:
    """What a class of a library has or uses."""
    functions = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    used = {name for function in functions for name in function.__code__.co_names}
    return used | set(vars(kind))


def inherited(module: ModuleType, library: str) -> set[str]:
    """Private names of library classes that classes of the module take over or replace."""
    found: set[str] = set()
    for kind in vars(module).values():
        if not inspect.isclass(kind) or kind.__module__ != module.__name__:
            continue
        bases = [base for base in kind.__mro__ if base.__module__.startswith(library)]
        known = set().union(*(names_of(base) for base in bases))
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        found |= {name for name in used & known if is_private(name)}
    return found


def reached(module: ModuleType, library: str) -> set[str]:
    """Private names that are imported from the library or asked of any object but the module's own."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(library):
            path = (node.module or "").split(".") + [alias.name for alias in node.names]
            found |= {name for name in path if is_private(name)}
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= set() if own else {node.attr}
    return found


@pytest.mark.parametrize("library", PINNED)
def test_the_version_is_the_one_that_was_proven(library: str) -> None:
    assert metadata.version(library) == PINNED[library], (
        f"{library} was upgraded: read what changed in the names listed here, run the tests of "
        f"{DOORS[library]} with the chaos and model tests, and write the new version into PINNED"
    )


@pytest.mark.parametrize("library", PINNED)
def test_every_private_name_in_use_is_listed(library: str) -> None:
    used = {
        (library, module.__name__.removeprefix("k2common."), name)
        for module in modules(library)
        for name in inherited(module, library) | reached(module, library)
    }
    listed = {key for key in PRIVATE if key[0] == library}
    assert used == listed, (
        f"list what is new with its use, or find a public way: {sorted(used - listed)}; "
        f"take out what is used no more: {sorted(listed - used)}"
    )


def has(library: str, module: str, name: str) -> bool:
    """Whether the library has such a module, or the name is one of its classes that our module uses."""
    if importlib.util.find_spec(f"{library}.{name}") is not None:
        return True
    try:
        used_in = importlib.import_module(f"k2common.{module}")
    except ImportError:
        return False
    kinds: list[Any] = [v for v in vars(used_in).values() if inspect.isclass(v)]
    bases = {base for kind in kinds for base in kind.__mro__ if base.__module__.startswith(library)}
    submodules = [v for v in vars(used_in).values() if inspect.ismodule(v)]
    bases |= {k for sub in submodules for k in vars(sub).values() if inspect.isclass(k)}
    return any(name in names_of(kind) for kind in bases)


@pytest.mark.parametrize(("library", "module", "name"), PRIVATE)
def test_the_library_still_has_it(library: str, module: str, name: str) -> None:
    assert has(library, module, name), (
        f"{library} {metadata.version(library)} has no {name} any more; k2common.{module} uses it so that "
        f"{PRIVATE[(library, module, name)]}: find its successor in the library and test it, or stay at "
        f"{library} {PINNED[library]}"
    )
