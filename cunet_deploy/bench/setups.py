"""Candidates of a comparison: each model with each backend, number of threads and number of crops a call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from cunet_deploy.bench.frames import FRAME_STAGES, Frames
from cunet_deploy.bench.latency import Scene, Work, drawn_picture
from cunet_deploy.detection.open import check_spec
from cunet_deploy.errors import InputError
from cunet_deploy.media import ImageFiles, open_files
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.registry import default_backend, find_backend

__all__ = ["Input", "Setup", "combine"]


@dataclass(frozen=True)
class Setup:
    """A model as it is to run.

    Attributes:
        model: as the user named it.
        backend: what runs it, a name of `cunet_deploy.sessions.registry.BACKENDS`.
        threads: of the network, and of OpenCV.
        batch: crops a call.
        trust: load an engine whose checksum differs.
    """

    model: str
    backend: str
    threads: int = 1
    batch: int = 1
    trust: bool = False

    @property
    def path(self) -> Path:
        """The file of the network."""
        return model_file(self.model, self.backend)

    @property
    def is_on_cpu(self) -> bool:
        """Return whether the network runs on the processor, whose peak is measured."""
        return find_backend(self.backend).runs_on_cpu

    def open(self) -> Session:
        """Load the network, and let OpenCV use as many threads as it."""
        cv2.setNumThreads(self.threads)
        return open_session(self.model, threads=self.threads, backend=self.backend, trust=self.trust)

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Identify a row: model, backend, threads, batch."""
        return self.model, self.backend, self.threads, self.batch

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `Setup` can be made again."""
        return asdict(self)


@dataclass(frozen=True)
class Input:
    """Input of the networks.

    Attributes:
        source: a photo, a folder of photos or a clip; ``None``: the drawn picture.
        detector: where to look in it, as ``infer --detector`` takes it; ``None``: what each model names, as there.
    """

    source: str | None = None
    detector: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Source and detector, as reports name them."""
        return self.source or "drawn", self.detector or "default"

    def check(self, batches: Sequence[int]) -> None:
        """Find out what is wrong before anything is measured.

        Raises:
            CunetError: the source or the detector cannot be opened, or a batch is not 1 with a source.
        """
        for batch in batches:
            self.work(batch)
        check_spec(self.detector)

    def work(self, batch: int = 1) -> Work:
        """The work of a setup; the detector is opened with its first frame.

        Raises:
            InputError: the source cannot be read, a detector has none to look in, or ``batch`` is not 1 with one.
        """
        if self.source is None:
            if self.detector is not None:
                raise InputError("a detector looks in photos or a clip; give an input, or no detector")
            return Scene.centred(drawn_picture(), batch)
        if batch != 1:
            raise InputError("the objects of a frame make one call; give a batch size, or an input, not both")
        return Frames(open_files(self.source), self.detector)

    def describe(self) -> str:
        """Describe the measurement in one sentence."""
        if self.source is None:
            return "measured: crops from a drawn picture of 1280x720 with a known box: crop, network, decode"
        source = open_files(self.source)
        count = "" if source.count is None else f"{source.count} "
        photos = isinstance(source, ImageFiles)
        kind = ("photo" if source.count == 1 else "photos") if photos else "frames of a clip"
        how = "each searched by itself" if photos else "what is found is followed"
        where = self.detector or "the detector that the model names"
        return (
            f"measured: {count}{kind}, {self.source}, again and again, {how}, as infer does it; one frame after the "
            f"other: {', '.join(FRAME_STAGES)}; detected with {where}"
        )


def combine(
    models: Sequence[str],
    backends: Sequence[str | None],
    threads: Sequence[int],
    batches: Sequence[int],
    *,
    resolve: Callable[[str, str | None, int], str | None],
    trust: bool = False,
) -> list[Setup]:
    """Each model with each backend, number of threads and batch, in this order.

    Args:
        models: as the user named them; one that is named twice is measured twice.
        backends: names, ``"auto"`` or ``None`` for the default.
        threads: of the network.
        batches: crops a call.
        resolve: (model, backend, threads) to the backend that is meant.
        trust: load engines whose checksum differs.

    Raises:
        InputError: a model is a checkpoint, or not there.
    """
    setups: list[Setup] = []
    for model in models:
        if model.endswith(".pt"):
            raise InputError(f"{model}: is a checkpoint; export it first: cunet-deploy export {model} -o DIR")
        default = default_backend(model_file(model).suffix).name
        product = itertools.product(backends, threads, batches)
        found = [
            Setup(model, resolve(model, name, count) or default, count, size, trust) for name, count, size in product
        ]
        setups += dict.fromkeys(found)  # auto may mean a backend that is named as well
    return setups
