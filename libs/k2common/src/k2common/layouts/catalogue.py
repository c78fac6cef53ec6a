"""The layouts that an upload may name: those that come with the project, and those of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from k2common.errors import RecordError, SetupError
from k2common.layouts.model import Layout

SUFFIX = ".json"


class Catalogue:
    """Layouts by name; a name may stand for one layout per dataset."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self.layouts = layouts

    @classmethod
    def with_folder(cls, folder: Path | None) -> Catalogue:
        """The built-in layouts and every JSON file of the folder.

        Raises SetupError for a file that is no layout, or whose name and dataset are taken.
        """
        known = {(layout.name, layout.dataset): layout for layout in builtin_layouts()}
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder is not None else ():
            try:
                layout = Layout.parse(path.read_text("utf-8"))
            except (RecordError, OSError, UnicodeDecodeError) as error:
                raise SetupError(f"{path}: {error}") from error
            if (layout.name, layout.dataset) in known:
                raise SetupError(f"{path}: there is a layout {layout.name} for {layout.dataset} already")
            known[(layout.name, layout.dataset)] = layout
        return cls(tuple(known.values()))

    def named(self, name: str, *, dataset: str | None) -> Layout:
        """The layout `name`, for `dataset` where one is given.

        Raises RecordError when there is none, or when the name alone does not say which dataset.
        """
        named = [layout for layout in self.layouts if layout.name == name]
        if not named:
            names = ", ".join(sorted({layout.name for layout in self.layouts}))
            raise RecordError(f"there is no layout {name!r}; there are {names}")
        fitting = [layout for layout in named if dataset in (None, layout.dataset)]
        if not fitting:
            raise RecordError(f"layout {name!r} is for {named[0].dataset}, not for {dataset}")
        if len(fitting) > 1:
            raise RecordError(f"layout {name!r} is for several datasets; say which")
        return fitting[0]


@cache
def builtin_layouts() -> Sequence[Layout]:
    """The layouts that come with the project; `k2` is there once per dataset."""
    folder = resources.files("k2common.layouts").joinpath("builtin")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(Layout.parse(file.read_text("utf-8")) for file in files if file.name.endswith(SUFFIX))


def layout_named(name: str, *, dataset: str | None) -> Layout:
    """The built-in layout `name`; see `Catalogue.named`."""
    return Catalogue(builtin_layouts()).named(name, dataset=dataset)
