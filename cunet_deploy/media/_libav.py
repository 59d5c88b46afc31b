"""PyAV: FFmpeg's libraries as a Python package. Loading it takes a tenth of a second: videos and HEIC photos do."""

from __future__ import annotations

import importlib
from typing import Any

from cunet_deploy.errors import MissingDependencyError

__all__ = ["load_av"]


def load_av() -> Any:
    """The package ``av``.

    Raises:
        MissingDependencyError: it is not installed, as after ``pip install --no-deps``.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingDependencyError(
            f"videos and HEIC photos need PyAV, which does not load ({error}); run: pip install 'av>=17'"
        ) from error
