"""Teachers: networks of ours, and keypoint networks of others that a TOML file describes.

To add a kind of file, write a class with what `_Runner` asks for and add its row to `RUNNERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.labelling.base import Teacher
from cunet_deploy.labelling.description import Description, read_description
from cunet_deploy.labelling.outputs import read_outputs
from cunet_deploy.locate import read_crops
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.foreign import open_foreign
from cunet_deploy.sessions.providers import first_line, ort_errors_and
from cunet_deploy.skeletons import Skeleton
from cunet_deploy.tracking.step import check_landmarks

__all__ = ["RUNNERS", "DescribedTeacher", "OwnTeacher", "open_teacher"]


class OwnTeacher:
    """A bundle or released model of ours. See `cunet_deploy.labelling.base.Teacher`."""

    shares = (1.0, 1.0)

    def __init__(self, engine: str, threads: int | None) -> None:
        """Load a network; raises as `open_session`, and `InputError` for one that finds boxes."""
        self.file = model_file(engine)
        self.session: Session = open_session(engine, threads=threads)
        check_landmarks(self.session)
        self.name, self.library = self.session.manifest.name, self.session.backend

    @property
    def skeleton(self) -> Skeleton:
        """See `Teacher`."""
        return self.session.manifest.skeleton

    @property
    def rule(self) -> CropRule:
        """See `Teacher`."""
        return self.session.manifest.crop

    def read(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """See `Teacher`."""
        points, heights = read_crops(self.session, images)
        return points, self.session.manifest.scores(heights)

    def close(self) -> None:
        """See `Teacher`."""
        self.session.close()


class _Runner(Protocol):
    """Runs a network file."""

    library: str

    def run(self, tensor: NDArray[Any], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """The outputs of these names, or all where none is named, for one input."""


class _OnnxRunner:
    def __init__(self, path: Path, threads: int | None) -> None:
        self._session = open_foreign(path, threads=threads)
        self._path, self.library = path, f"onnxruntime {ort.__version__}"

    def run(self, tensor: NDArray[Any], names: Sequence[str]) -> list[NDArray[np.float32]]:
        try:
            found = self._session.run(list(names) or None, {self._session.get_inputs()[0].name: tensor})
        except ort_errors_and(TypeError, ValueError) as error:
            raise ArtifactError(
                f"{self._path}: does not run as its description says ({first_line(error)}); correct [input] or names"
            ) from error
        return [np.asarray(values, np.float32) for values in found]


class _LiteRtRunner:
    def __init__(self, path: Path, threads: int | None) -> None:
        module = require("ai_edge_litert.interpreter", extra="label")
        try:
            self._net: Any = module.Interpreter(model_path=str(path), num_threads=threads)
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"{path}: LiteRT cannot load it ({first_line(error)}); copy it again") from error
        self._path, self.library = path, "ai-edge-litert"

    def run(self, tensor: NDArray[Any], names: Sequence[str]) -> list[NDArray[np.float32]]:
        outputs = {row["name"]: row for row in self._net.get_output_details()}
        missing = [name for name in names if name not in outputs]
        if missing:
            raise ArtifactError(f"{self._path}: has no output {missing[0]!r}; it has {', '.join(outputs)}")
        try:
            self._net.set_tensor(self._net.get_input_details()[0]["index"], tensor)
            self._net.invoke()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{self._path}: does not run as its description says ({first_line(error)}); correct [input]"
            ) from error
        return [self._floats(outputs[name]) for name in (names or outputs)]

    def _floats(self, row: Any) -> NDArray[np.float32]:
        """The values of an output; integers stand for multiples of a scale."""
        values = np.asarray(self._net.get_tensor(row["index"]), np.float32)
        scale, zero = row.get("quantization", (0.0, 0))
        return values if not scale else (values - np.float32(zero)) * np.float32(scale)


RUNNERS: dict[str, Callable[[Path, int | None], _Runner]] = {".onnx": _OnnxRunner, ".tflite": _LiteRtRunner}
"""Runtimes of networks of others, by the suffix of the file."""


class DescribedTeacher:
    """A network of others. See `cunet_deploy.labelling.base.Teacher`."""

    def __init__(self, description: Description, threads: int | None) -> None:
        """Load a network.

        Raises:
            InputError: its file is of another type.
            ArtifactError: it does not load.
            MissingDependencyError: what runs it is not installed.
        """
        self._description = description
        self.name, self.file = description.name, description.file
        self.skeleton, self.rule = description.skeleton, description.rule
        suffix = description.file.suffix.lower()
        if suffix not in RUNNERS:
            raise InputError(f"{description.file}: type {suffix or '(none)'} is not run; expected {', '.join(RUNNERS)}")
        self.shares = description.input.width / self.rule.size, description.input.height / self.rule.size
        self._runner = RUNNERS[suffix](description.file, threads)
        self.library = self._runner.library

    def read(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """See `Teacher`. One by one: many such files are for one picture at a time."""
        spec, size = self._description.input, self.rule.size
        left, top = (size - spec.width) // 2, (size - spec.height) // 2
        found = []
        for image in images:
            part = image[top : top + spec.height, left : left + spec.width]
            outputs = self._runner.run(self._tensor(part), self._description.output.names)
            found.append(read_outputs(outputs, self._description))
        points, scores = (np.stack(values) for values in zip(*found, strict=True))
        return points + np.array([left, top], np.float64), scores

    def _tensor(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        spec = self._description.input
        channels = image[..., ::-1] if spec.colour == "RGB" else image
        mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
        values = (channels.astype(np.float32) - mean) / scale
        tensor = (values if spec.type == "float32" else values.round()).astype(spec.type)[None]
        return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else tensor)

    def close(self) -> None:
        """Release the network."""
        del self._runner


def open_teacher(spec: str, threads: int | None = None) -> Teacher:
    """Open a teacher; close it after use.

    Args:
        spec: a ``.toml`` file that describes a network of others, or what `open_session` takes.
        threads: how many CPU threads it may use.

    Raises:
        InputError: there is no such file or released model, or a description is malformed.
        ArtifactError: a network does not load.
        MissingDependencyError: what runs it is not installed.
    """
    if Path(spec).suffix.lower() == ".toml":
        return DescribedTeacher(read_description(Path(spec)), threads)
    return OwnTeacher(spec, threads)
