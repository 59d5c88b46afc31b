"""Where to look: detectors, and `open_detector`, which reads what the command line calls them."""

from __future__ import annotations

from pathlib import Path

from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.errors import InputError

__all__ = ["Detector", "GivenBoxes", "open_detector"]

_FORMS = "full, boxes:FILE, yunet:FILE or onnx:FILE"


def open_detector(spec: str) -> Detector:
    """The detector that ``KIND:FILE`` names.

    Args:
        spec: ``boxes:FILE`` (see `cunet_deploy.detection.boxes`), ``yunet:FILE`` (OpenCV's face detector) or
            ``onnx:FILE`` (see `cunet_deploy.detection.onnx`). ``full`` needs no detector and is not handled here.

    Raises:
        InputError: another kind, or the file is missing or damaged.
    """
    kind, separator, file = spec.partition(":")
    if kind not in ("boxes", "yunet", "onnx") or not separator or not file:
        raise InputError(f"detector {spec!r} is not known; expected {_FORMS}")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"detector {spec}: there is no file {path}; check the path")
    if path.stat().st_size == 0:
        raise InputError(f"detector {spec}: {path} is empty; write or download it again")
    if kind == "boxes":
        return GivenBoxes.read(path)
    if kind == "yunet":
        from cunet_deploy.detection.yunet import YuNet

        return YuNet(path)
    from cunet_deploy.detection.onnx import OnnxDetector  # loads onnxruntime: only when asked for

    return OnnxDetector(path)
