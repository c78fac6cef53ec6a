"""Functions of the pinned engine that read nothing but their arguments; every other is refused.

`functions.txt` leaves out those that tell or change what the engine is set to, run text as SQL, read files,
wait, or come from its insides.
"""

from __future__ import annotations

from importlib import resources

FUNCTIONS = frozenset(resources.files("k2common.engine").joinpath("functions.txt").read_text("utf-8").split())
TABLE_FUNCTIONS = frozenset(("generate_series", "json_each", "json_tree", "range", "unnest"))
