"""Shift biases so that quantization leaves the mean of every channel as it was.

Rounding weights and features moves the mean of what a convolution returns; the bias can take that back exactly (Nagel
et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.network import INPUT_SCALE, QuantizedCUNet

__all__ = ["correct_biases"]


@torch.no_grad()
def correct_biases(network: QuantizedCUNet, folded: dict[str, Tensor], images: Tensor) -> float:
    """Correct the biases of a quantized network, layer after layer: each sees the corrected ones before it.

    Args:
        network: changed in place.
        folded: weights of the float parent, of the same graph.
        images: (B, 3, S, S) normalized; about 32 are enough for a mean.

    Returns:
        The largest correction, in units of what the channels stand for.
    """
    graph, largest = network.graph, 0.0
    wanted: dict[str, Tensor] = {}
    run_float(graph, folded, images, sums=wanted)
    values = {graph.input: images * (1 / INPUT_SCALE)}
    for node in graph.nodes:
        inputs = [values[x] for x in node.inputs]
        if node.op in ("conv", "affine"):
            weight, bias = network.integers(node)
            groups = node.channels if node.op == "affine" else 1
            sums = F.conv2d(inputs[0], weight.float(), bias.float(), node.stride, node.kernel // 2, groups=groups)
            grid = network.weight_scale(node) * network.activation_qparams(node.inputs[0])[0]
            error = sums.mean(dim=(0, 2, 3)) * grid - wanted[node.output]
            network.shift_bias(node, -error)
            largest = max(largest, float(error.abs().max()))
        values[node.output] = network.compute(node, inputs)
    return largest
