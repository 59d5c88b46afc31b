"""Landmark localization for edge devices: `Localizer` finds landmarks, `Landmarks` is what it returns.

`VideoStep` is what happens to one frame of a video. `Tracker` follows objects and `OneEuro` steadies landmarks, with
any other detector and network, too. The other names are types that these take and give.

Importing this package loads no numpy and nothing larger; what a name needs is loaded when the name is first used.
"""

from __future__ import annotations

import importlib
import os
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
    from cunet_deploy.detection.base import Detector
    from cunet_deploy.landmarks import Landmarks
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.manifest import Manifest
    from cunet_deploy.media.frames import Frame, Picture
    from cunet_deploy.sessions.base import Session
    from cunet_deploy.skeletons import Skeleton
    from cunet_deploy.tracking.one_euro import OneEuro, Smoothing
    from cunet_deploy.tracking.step import VideoState, VideoStep
    from cunet_deploy.tracking.tracker import Cadence, Plan, Track, Tracker

__version__ = "0.1.0"

# ONNX Runtime reads it when it is imported. Else it keeps an identifier of the machine and events for its maker, which
# nobody was asked about.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ArtifactError",
    "Cadence",
    "ConfigError",
    "CunetError",
    "Detector",
    "Frame",
    "InputError",
    "Landmarks",
    "Localizer",
    "Manifest",
    "MissingDependencyError",
    "OneEuro",
    "Picture",
    "Plan",
    "Session",
    "Skeleton",
    "Smoothing",
    "Track",
    "Tracker",
    "UntrustedError",
    "VerificationError",
    "VideoState",
    "VideoStep",
    "__version__",
]

_LAZY = {
    "Cadence": "cunet_deploy.tracking.tracker",
    "Detector": "cunet_deploy.detection.base",
    "Frame": "cunet_deploy.media.frames",
    "Landmarks": "cunet_deploy.landmarks",
    "Localizer": "cunet_deploy.localizer",
    "Manifest": "cunet_deploy.manifest",
    "OneEuro": "cunet_deploy.tracking.one_euro",
    "Picture": "cunet_deploy.media.frames",
    "Plan": "cunet_deploy.tracking.tracker",
    "Session": "cunet_deploy.sessions.base",
    "Skeleton": "cunet_deploy.skeletons",
    "Smoothing": "cunet_deploy.tracking.one_euro",
    "Track": "cunet_deploy.tracking.tracker",
    "Tracker": "cunet_deploy.tracking.tracker",
    "VideoState": "cunet_deploy.tracking.step",
    "VideoStep": "cunet_deploy.tracking.step",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
