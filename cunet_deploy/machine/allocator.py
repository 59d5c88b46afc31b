"""Settings of glibc's memory allocator (mallopt)."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, in malloc.h
_LARGE, _STEP = 1 << 30, 64 << 20


def keep_freed_memory() -> bool:
    """Let this process use the memory that it frees again, instead of giving it back and asking for it anew.

    By default glibc returns large blocks to the system as they are freed, and whoever needs one the next moment pays
    for pages that are found, cleared and mapped again: a quarter of the time of a training step on a CPU. The process
    then stays as large as it once was. Results do not change.

    Returns:
        Whether the C library is one that can; others are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(name, size) for name, size in ((_TRIM_THRESHOLD, _LARGE), (_TOP_PAD, _STEP), (_MMAP_THRESHOLD, _LARGE))
    )
