"""The operations of a graph, one row each: all that folding, counting, quantizing and the ONNX writers ask of them.

A new operation is a row of `OPERATIONS`; its role decides how quantized tensors pass through it:

* ``filters`` and ``per_channel`` have weights: integer products and sums, then one multiplication and one rounding;
* ``copy`` puts values of its inputs into its output, so that all can share a scale and only bytes move;
* ``sum`` adds up: its inputs are brought to the scale of the output, and the result is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["OPERATIONS", "Operation"]


@dataclass(frozen=True)
class Operation:
    """Operation of the graph: what it computes, how it is quantized and how it is written.

    Attributes:
        role: see the top of this module.
        onnx: its operator in ONNX.
        compute: what it makes of its inputs, (B, c_i, H, W) each; ``None`` for those with weights, which convolve.
        attributes: of the ONNX operator; those of a convolution hang on the node.
        constants: inputs of the ONNX operator behind the tensors; ``None`` leaves one out.
    """

    role: Literal["filters", "per_channel", "copy", "sum"]
    onnx: str
    compute: Callable[[list[Tensor]], Tensor] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[NDArray[Any] | None, ...] = ()

    @property
    def weighted(self) -> bool:
        """Return whether it has weights and biases."""
        return self.role in ("filters", "per_channel")

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        """`compute`, of an operation without weights."""
        assert self.compute is not None
        return self.compute(inputs)


OPERATIONS: dict[str, Operation] = {
    "conv": Operation("filters", "Conv"),
    "affine": Operation("per_channel", "Conv"),  # x * scale + shift: a normalization that folds into no convolution
    "max_pool": Operation(
        "copy", "MaxPool", lambda inputs: F.max_pool2d(inputs[0], 2), {"kernel_shape": [2, 2], "strides": [2, 2]}
    ),
    "upsample": Operation(
        "copy",
        "Resize",
        lambda inputs: F.interpolate(inputs[0], scale_factor=2),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        (None, np.array([1, 1, 2, 2], np.float32)),
    ),
    "concat": Operation("copy", "Concat", lambda inputs: torch.cat(inputs, dim=1), {"axis": 1}),
    "add": Operation("sum", "Add", lambda inputs: inputs[0] + inputs[1]),
}
"""Operations by `cunet_deploy.model.graph.Node.op`."""
