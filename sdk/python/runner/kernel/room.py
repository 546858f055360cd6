"""The free room among objects of a process that is going to be forked.

A fork puts what it makes where there is room, and each page that it touches is copied. Free blocks are strewn over all
that is shared, so they are filled before: then forks have their own objects side by side, on pages of their own.

CPython takes objects of up to 512 bytes from pools, one for each size in steps of 16 bytes; a pool is opened when no
other has a free block (`Objects/obmalloc.c`).
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable, Dict, List

#: Bytes of a pool, which begins at a multiple of them, and of its head.
POOL = (16 if sys.version_info >= (3, 10) else 4) << 10
HEAD = 48
#: So many blocks in their order are those of such a pool. What was freed comes in any order.
RUN = 4
#: Bytes that are filled at most, should objects come from elsewhere.
MOST = 16 << 20
#: Bytes of an empty `bytes` object.
_EMPTY = sys.getsizeof(b"")

#: What makes an object of each size.
MAKERS: Dict[int, Callable[[], Any]] = {
    16: object,
    32: lambda: complex(0.5, 0.5),
    **{size: functools.partial(bytes, size - _EMPTY) for size in range(48, 513, 16)},
}


def fill() -> List[Any]:
    """Fills it. It stays so while what is answered lives."""
    filling: List[Any] = []
    left = MOST
    for size, make in MAKERS.items():
        run, before = 0, 0
        # A pool that was just opened gives its blocks in their order, from its first.
        while left > 0 and run < RUN:
            block = make()
            filling.append(block)
            left -= size
            place = id(block)
            is_next = place % POOL == HEAD or (run > 0 and place == before + size)
            run, before = (run + 1 if is_next else 0), place
    return filling
