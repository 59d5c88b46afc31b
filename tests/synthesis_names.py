"""Names of shape targets, for tests of random choices that need no mesh."""

from __future__ import annotations

__all__ = ["TARGET_NAMES"]

_MACROS = [
    f"macrodetails/{people}-{sex}-{age}"
    for people in ("caucasian", "asian", "african")
    for sex in ("female", "male")
    for age in ("baby", "child", "young", "old")
]
_PAIRED = ["nose/nose-hump-incr", "nose/nose-hump-decr", "eyes/l-eye-scale-incr", "eyes/l-eye-scale-decr"]
_SIDES = ["eyes/r-eye-scale-incr", "eyes/r-eye-scale-decr", "head/head-scale-vert-decr", "head/head-scale-vert-incr"]
_SINGLE = ["head/head-oval", "head/head-round", "head/head-square", "chin/chin-triangle"]

TARGET_NAMES = (*_MACROS, *_PAIRED, *_SIDES, *_SINGLE, "unit/jawOpen")
