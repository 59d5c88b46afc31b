"""Evaluation runs batches as large as the memory allows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.errors import CunetError
from cunet_deploy.evaluation.batching import FittingSession, batch_size_of


class Small:
    """A network on a device that has memory for a few crops only."""

    manifest = None
    backend = "onnxruntime 1.32.0 CUDAExecutionProvider"

    def __init__(self, most: int, message: str = "Failed to allocate memory for requested buffer") -> None:
        self.most, self.message = most, message
        self.sizes: list[int] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise CunetError(f"model.onnx: ONNX Runtime failed on {len(images)} crops: {self.message}")
        return images[:, 0, 0, :1].astype(np.float32)

    def close(self) -> None:
        pass


def crops(count: int) -> NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_size_is_kept() -> None:
    network = Small(3)
    session = FittingSession(network)  # type: ignore[arg-type]
    assert session.run(crops(9))[:, 0].tolist() == list(range(9))
    assert network.sizes == [9, 4, 2, 2, 2, 2, 1]
    network.sizes.clear()
    assert session.run(crops(4))[:, 0].tolist() == list(range(4))
    assert network.sizes == [2, 2]


def test_one_crop_that_does_not_fit_and_other_errors_are_raised() -> None:
    with pytest.raises(CunetError, match="allocate memory"):
        FittingSession(Small(0)).run(crops(4))  # type: ignore[arg-type]
    network = Small(0, "the model is broken")
    with pytest.raises(CunetError, match="broken"):
        FittingSession(network).run(crops(4))  # type: ignore[arg-type]
    assert network.sizes == [4]


def test_a_gpu_is_given_larger_batches() -> None:
    session = Small(1)
    assert batch_size_of(session) == 128  # type: ignore[arg-type]
    session.backend = "onnxruntime 1.32.0 CPUExecutionProvider"
    assert batch_size_of(session) == 16  # type: ignore[arg-type]
