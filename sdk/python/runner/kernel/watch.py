"""What kernels use together: processes, and room for files. Looked at now and then; what is cheap comes first."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Dict, List, Optional, Tuple

#: How much of the room may be used.
_FULL = 0.95
#: Seconds for which a session may go on to write when it has too much and its cell was interrupted.
_PATIENCE = 2.0
#: A session is looked at again after so many times as long as the look took.
_PAUSES = 20


def crowded(keepers: List[int], most: int) -> Dict[int, int]:
    """The keepers of kernels with more processes and threads than that, and how many they have."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return {}
    seen = {pid: found for pid in pids for found in _parent_and_threads(pid)}
    counts = dict.fromkeys(keepers, 0)
    for above, threads in seen.values():
        while above not in counts and above in seen:
            above = seen[above][0]
        if above in counts:
            counts[above] += threads
    return {keeper: count for keeper, count in counts.items() if count > most}


def _parent_and_threads(pid: int) -> List[Tuple[int, int]]:
    """Nothing where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before may hold anything.
            words = file.read().rpartition(b")")[2].split()
        return [(int(words[1]), int(words[17]))]
    except (OSError, IndexError, ValueError):
        return []


def is_full(folder: str, room: int) -> bool:
    """Whether the file system of a folder has so much room and no more, and that is used."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    total = found.f_blocks * found.f_frsize
    is_own = abs(total - room) <= found.f_frsize
    return is_own and found.f_bavail * found.f_frsize < (1 - _FULL) * total


def used(folder: str, room: int) -> Optional[int]:
    """Bytes that are used in the file system of a folder, if it has so much room and no more."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    is_own = abs(found.f_blocks * found.f_frsize - room) <= found.f_frsize
    return (found.f_blocks - found.f_bfree) * found.f_frsize if is_own else None


class _Seen:
    """A folder as it was seen last."""

    def __init__(self) -> None:
        self.size = 0
        self.next = 0.0
        #: Since when it has too much and grows.
        self.since: Optional[float] = None


class Quota:
    """How much each session may have. Who has more is interrupted while it goes on to write, and ended if that does not
    help, or if it has twice as much."""

    def __init__(self, most: Optional[int], room: Optional[int]) -> None:
        self.most = most
        self.room = room
        self.seen: Dict[str, _Seen] = {}

    def look(self, own: str, folders: Dict[str, str]) -> Dict[str, Tuple[str, bool]]:
        """For the kernels of sessions that have too much and write more: why, and whether they are to end. `own` is the
        folder in which all of theirs lie."""
        if not self.most:
            return {}
        self.seen = {folder: seen for folder, seen in self.seen.items() if folder in folders.values()}
        total = used(own, self.room) if self.room else None
        if total is not None and total <= self.most:
            return {}
        verdicts = {}
        for name, folder in folders.items():
            verdict = self._look(folder)
            if verdict is not None:
                verdicts[name] = verdict
        return verdicts

    def _look(self, folder: str) -> Optional[Tuple[str, bool]]:
        assert self.most is not None
        seen = self.seen.setdefault(folder, _Seen())
        begun = time.monotonic()
        if begun < seen.next:
            return None
        size = _size(folder)
        now = time.monotonic()
        seen.next = now + _PAUSES * (now - begun)
        grows, seen.size = size > seen.size, size
        if size <= self.most or not grows:
            seen.since = None
            return None
        is_first = seen.since is None
        if seen.since is None:
            seen.since = now
        what = f"the session has {size} bytes of files; the limit is {self.most} (SESSION_FILES_PER_SESSION)"
        if size > 2 * self.most or now - seen.since > _PATIENCE:
            seen.since = None
            return what, True
        return (f"{what}; what writes more is interrupted", False) if is_first else ("", False)


def largest(folders: Dict[str, str]) -> Tuple[str, int]:
    """The name of the folder with most in it, and how much that is."""
    sizes = {name: _size(folder) for name, folder in folders.items()}
    name = max(sizes, key=lambda name: sizes[name], default="")
    return name, sizes.get(name, 0)


def _size(folder: str) -> int:
    """Bytes below a folder, however deep. What goes meanwhile is not counted."""
    size, left = 0, [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                        continue
                    with contextlib.suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            pass
    return size
