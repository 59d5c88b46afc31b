"""Shift biases so that quantization leaves the mean of every channel as it was.

Rounding weights and features moves the mean of what a convolution returns; the bias can take that back (Nagel et al.,
"Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019). The mean is that behind the ReLU:
no later layer sees what lies below zero, and where most does, a shift that restores the mean of all ruins the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cunet_deploy.model.graph import Node
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.network import INPUT_SCALE, QuantizedNetwork

__all__ = ["correct_biases"]

NEWTON_STEPS = 8
MIN_FREE_SHARE = 0.2


@torch.no_grad()
def correct_biases(network: QuantizedNetwork, folded: dict[str, Tensor], images: Tensor) -> float:
    """Correct the biases of a quantized network, layer after layer: each sees the corrected ones before it.

    A bias moves the mean of its channel by as much as the share of values that are not clamped, so the shift is found
    in a few of Newton's steps. Channels of which little is seen move carefully: they count as if 20 % were.

    Args:
        network: changed in place.
        folded: weights of the float parent, of the same graph.
        images: (B, 3, S, S) normalized; about 32 are enough for a mean.

    Returns:
        The largest correction, in units of what the channels stand for.
    """
    graph, largest = network.graph, 0.0
    wanted: dict[str, Tensor] = {}

    def remember(node: Node, _: list[Tensor], out: Tensor) -> None:
        wanted[node.output] = out.mean(dim=(0, 2, 3))

    run_float(graph, folded, images, remember)
    values = {graph.input: images * (1 / INPUT_SCALE)}
    for node in graph.nodes:
        inputs = [values[x] for x in node.inputs]
        out = network.compute(node, inputs)
        if node.operation.weighted:
            scale, zero_point = network.activation_qparams(node.output)
            moved = torch.zeros_like(wanted[node.output])
            for _ in range(NEWTON_STEPS):
                error = out.mean(dim=(0, 2, 3)) * scale - wanted[node.output]
                free = (out > -zero_point) & (out < network.activation_max(node.output) - zero_point)
                shift = -error / free.float().mean(dim=(0, 2, 3)).clamp(min=MIN_FREE_SHARE)
                network.shift_bias(node, shift)
                moved += shift
                out = network.compute(node, inputs)
            largest = max(largest, float(moved.abs().max()))
        values[node.output] = out
        graph.release(values, node)
    return largest
