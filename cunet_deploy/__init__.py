"""Landmark localization for edge devices: `Localizer` finds landmarks, `Landmarks` is what it returns.

`Tracker` follows objects and `OneEuro` steadies landmarks, with any other detector and network, too.

Importing this package loads no numpy and nothing larger; what a name needs is loaded when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cunet_deploy.errors import (
    ArtifactError,
    ConfigError,
    CunetError,
    InputError,
    MissingDependencyError,
    UntrustedError,
    VerificationError,
)

if TYPE_CHECKING:
    from cunet_deploy.landmarks import Landmarks
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.tracking.one_euro import OneEuro
    from cunet_deploy.tracking.tracker import Tracker

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "ConfigError",
    "CunetError",
    "InputError",
    "Landmarks",
    "Localizer",
    "MissingDependencyError",
    "OneEuro",
    "Tracker",
    "UntrustedError",
    "VerificationError",
    "__version__",
]

_LAZY = {
    "Landmarks": "cunet_deploy.landmarks",
    "Localizer": "cunet_deploy.localizer",
    "OneEuro": "cunet_deploy.tracking.one_euro",
    "Tracker": "cunet_deploy.tracking.tracker",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
