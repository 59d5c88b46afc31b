"""Renders in tests: they need the extra ``[synth]`` and OpenGL, which not every machine has."""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import pytest

from cunet_deploy.errors import ArtifactError
from cunet_deploy.synthesis.gl import open_context

_LIBRARIES = ("OpenEXR", "anny", "moderngl", "scipy")


def need_renders() -> None:
    """Skip the test where a library of the extra is not installed, or OpenGL cannot be opened; nothing else skips."""
    lacking = _what_lacks()
    if lacking:
        pytest.skip(lacking)


@lru_cache(maxsize=1)
def _what_lacks() -> str:
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        return f"the extra [synth] is not installed: {missing[0]} is missing"
    try:
        open_context().release()
    except ArtifactError as error:
        return str(error)
    return ""
