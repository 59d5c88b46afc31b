"""The kinds of detector, one row each. Command line, messages and `open_detector` read this table.

A new kind is a module with a function that opens it, and a row here; see docs/architecture.md. Rows name their module
instead of importing it, so that the help of a command loads neither numpy nor a runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DETECTORS", "FULL", "MODEL", "DetectorKind", "detector_forms", "detector_help"]

MODEL, FULL = "", "full"
"""Keys of the two kinds that are not written ``WORD:FILE``: a model by name or path, and the search without any."""


@dataclass(frozen=True)
class DetectorKind:
    """One way to write ``--detector``.

    Attributes:
        form: how it is written: ``WORD:ARGUMENT``, ``WORD`` alone, or neither, for what no word stands before. An
            argument ``FILE`` has to be a file with content.
        summary: what it is, as help texts say it.
        opener: ``module:function``. The function is given the argument (empty for a word alone) and the open network of
            landmarks (``None`` where there is none), and returns a `cunet_deploy.detection.base.Detector`.
    """

    form: str
    summary: str
    opener: str

    @property
    def argument(self) -> str:
        """Argument after the colon, as help texts write it; empty for a word alone."""
        return self.form.partition(":")[2]


DETECTORS = {
    MODEL: DetectorKind("NAME|PATH", "a model that finds boxes", "cunet_deploy.detection.network:open_spec"),
    FULL: DetectorKind(
        FULL, "a search of whole frames for one large object", "cunet_deploy.detection.search:open_spec"
    ),
    "boxes": DetectorKind("boxes:FILE", "given boxes", "cunet_deploy.detection.boxes:open_spec"),
    "yunet": DetectorKind("yunet:FILE", "OpenCV's YuNet", "cunet_deploy.detection.yunet:open_spec"),
    "onnx": DetectorKind("onnx:FILE", "any ONNX detector", "cunet_deploy.detection.onnx:open_spec"),
}
"""Kinds of detector by the word before the colon, in the order of the help."""


def detector_forms(separator: str = "|") -> str:
    """Every form, as a usage line lists them."""
    return separator.join(kind.form for kind in DETECTORS.values())


def detector_help() -> str:
    """Describe every form in one phrase."""
    *others, last = (kind.summary for kind in DETECTORS.values())
    return f"{', '.join(others)}, or {last}"
