"""What the attacked applications of both interfaces answer with, and what they tell of themselves."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
from collections import Counter

PIECE = b"x" * 65_536
PIECES = 80
LARGE = b"x" * (8 << 20)
PLAIN = "text/plain"

calls: Counter[str] = Counter()
"""Requests by their paths."""
_lock = threading.Lock()


def count(path: str) -> None:
    """Counts a request."""
    with _lock:
        calls[path] += 1


def whole(path: str) -> bytes:
    """The content of a path that is answered at once."""
    if path == "/raise":
        raise RuntimeError("on purpose")
    if path == "/large":
        return LARGE
    return json.dumps(state()).encode() if path == "/state" else b"ok"


def state() -> dict[str, int]:
    """What only the process itself knows."""
    gc.collect()
    counts = {"calls": calls.total(), "objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}
    return {**counts, "heap": heap()}


_HEAP_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Heap(ctypes.Structure):
    # struct mallinfo2 of glibc.
    _fields_ = [(name, ctypes.c_size_t) for name in _HEAP_FIELDS]


def heap() -> int:
    """Bytes that malloc has given out and not got back; 0 where the system's does not tell."""
    look = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if look is None:
        return 0
    look.restype = _Heap
    found = look()
    return int(found.uordblks + found.hblkhd)
