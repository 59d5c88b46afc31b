"""Networks, loaded and ready: `open_session` finds out what a path or name stands for.

Importing this package loads no numpy: help texts are made from its table of backends.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cunet_deploy.sessions.registry import AUTO, BACKENDS

if TYPE_CHECKING:
    from cunet_deploy.sessions.base import Session
    from cunet_deploy.sessions.opening import choose_backend, model_file, open_session

__all__ = ["AUTO", "BACKENDS", "Session", "choose_backend", "model_file", "open_session"]

_LAZY = {
    "Session": "cunet_deploy.sessions.base",
    "choose_backend": "cunet_deploy.sessions.opening",
    "model_file": "cunet_deploy.sessions.opening",
    "open_session": "cunet_deploy.sessions.opening",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
