"""The files of a session that its client has not been told of."""

from __future__ import annotations

import os
import re
import stat
from typing import Dict, Iterator, List, Tuple
from urllib.parse import quote

#: Files that are told of at a time; more come the next time.
MOST = 10_000
#: Pictures that R and Octave draw into, which are shown instead of named.
_DRAWN = re.compile(r"Rplot[^/]*\.(bmp|jpeg|png|svg)|octave\.png")


class NewFiles:
    """What is new, or has changed, in a folder. Hidden files and folders are nobody's business."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        #: When the files that were told of were changed last, by their paths.
        self.sent: Dict[str, float] = {}
        self._sizes: Dict[str, int] = {}

    def take(self) -> Tuple[List[str], List[str]]:
        """The paths of new files and of new pictures, each in order. They are not new from now on."""
        named: List[str] = []
        drawn: List[str] = []
        for path, found in sorted(self._walk(), key=lambda one: one[0]):
            is_same = self.sent.get(path, -1) >= found.st_mtime and self._sizes.get(path, found.st_size) == found.st_size
            if is_same:
                continue
            if len(named) + len(drawn) == MOST:
                break
            (drawn if _DRAWN.fullmatch(path) else named).append(path)
            self.sent[path], self._sizes[path] = found.st_mtime, found.st_size
        return named, drawn

    def link(self, path: str) -> str:
        """Where a client finds a file, below the URL of the files, as it is now. It is not new from now on.

        Raises ValueError: it is not in the folder. Raises OSError: there is none.
        """
        inside = os.path.relpath(os.path.join(self.folder, path), self.folder)
        if inside.split(os.sep)[0] == os.pardir:
            raise ValueError(f"{path} is not in the folder of this session")
        found = os.stat(os.path.join(self.folder, inside))
        self.sent[inside], self._sizes[inside] = found.st_mtime, found.st_size
        return f"{quote(inside)}?m={found.st_mtime}"

    def _walk(self) -> Iterator[Tuple[str, os.stat_result]]:
        """All files; those that go meanwhile are left out, and so are those whose names are no text."""
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                entries = list(os.scandir(os.path.join(self.folder, below)))
            except OSError:
                continue
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.name.startswith(".") or entry.name == "__pycache__" or not _is_text(entry.name):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                        continue
                    found = entry.stat()
                except OSError:
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield path, found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
