"""Loads the Python file or package that a host runs."""

from __future__ import annotations

import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Iterable, List

#: Where this SDK lies; its own files are nobody's dependency.
SDK_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class Module:
    """A plugin module: a `.py` file, or a folder with an `__init__.py`.

    `folder` is the plugin folder that the entry comes from. The runner loads a
    copy of the entry; neighbours are still imported from there.
    """

    def __init__(self, entry: str, folder: str = "") -> None:
        path = os.path.abspath(entry)
        if os.path.basename(path) == "__init__.py":
            path = os.path.dirname(path)
        is_package = os.path.isdir(path)
        self.path = path
        self.file = os.path.join(path, "__init__.py") if is_package else path
        self.folder = os.path.abspath(folder or os.path.dirname(path))
        name = os.path.basename(path)
        stem = name if is_package else os.path.splitext(name)[0]
        self.name = self._free_name(
            "".join(letter if letter.isalnum() or letter == "_" else "_" for letter in stem)
        )

    @staticmethod
    def _free_name(name: str) -> str:
        """A plugin called json.py must not stand in for the json of everybody else."""
        standard: Iterable[str] = getattr(sys, "stdlib_module_names", ())
        return f"plugin_{name}" if name in sys.modules or name in standard else name

    def load(self) -> ModuleType:
        """Runs the module's code. Raises whatever that raises."""
        if not os.path.isfile(self.file):
            raise FileNotFoundError(f"there is no Python file or package at {self.path}")
        self._extend_path()
        package = [self.path] if self.file != self.path else None
        spec = importlib.util.spec_from_file_location(
            self.name, self.file, submodule_search_locations=package
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = module
        spec.loader.exec_module(module)
        return module

    def _extend_path(self) -> None:
        """After the standard library, so that a neighbour random.py harms nobody."""
        at = next(
            (
                i
                for i, path in enumerate(sys.path)
                if path.endswith(("site-packages", "dist-packages"))
            ),
            len(sys.path),
        )
        sys.path[at:at] = dict.fromkeys([os.path.dirname(self.path), self.folder])

    def depends(self) -> List[str]:
        """The files below the plugin folder, outside the module itself, that have been imported."""
        folder = os.path.realpath(self.folder)
        own = [os.path.realpath(self.path), os.path.join(folder, os.path.basename(self.path))]
        found = set()
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str):
                continue
            real = os.path.realpath(file)
            outside = not any(_below(real, path) for path in (*own, os.path.realpath(SDK_FOLDER)))
            if _below(real, folder) and outside:
                found.add(os.path.abspath(file))
        return sorted(found)
