"""The network with float weights, as a graph: what calibration observes and what quantization is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.groups import activation_groups

__all__ = ["Ranges", "calibrate", "move", "run_float"]

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation group."""


def move(node: Node, inputs: list[Tensor]) -> Tensor:
    """An operation without weights."""
    if node.op == "concat":
        return torch.cat(inputs, dim=1)
    if node.op == "add":
        return inputs[0] + inputs[1]
    return F.max_pool2d(inputs[0], 2) if node.op == "max_pool" else F.interpolate(inputs[0], scale_factor=2)


def run_float(
    graph: Graph,
    folded: dict[str, Tensor],
    image: Tensor,
    ranges: Ranges | None = None,
    sums: dict[str, Tensor] | None = None,
) -> list[Tensor]:
    """Run a graph with float weights.

    Args:
        graph: what to run.
        folded: its weights, from `cunet_deploy.model.graph.fold`.
        image: (B, 3, S, S) normalized.
        ranges: widened to what each activation group reaches, when given.
        sums: takes the (out,) mean of each convolution's channels before its ReLU, when given.
    """
    shared = activation_groups(graph).of
    values = {graph.input: image}
    for node in graph.nodes:
        inputs = [values[x] for x in node.inputs]
        if node.op in ("conv", "affine"):
            weight = folded[f"{node.output}.weight"]
            weight, groups = (weight, 1) if node.op == "conv" else (weight.reshape(-1, 1, 1, 1), node.channels)
            bias = folded[f"{node.output}.bias"]
            out = F.conv2d(inputs[0], weight, bias, node.stride, node.kernel // 2, groups=groups)
        else:
            out = move(node, inputs)
        if sums is not None:
            sums[node.output] = out.mean(dim=(0, 2, 3))
        values[node.output] = out = F.relu(out) if node.relu else out
        if ranges is not None:
            group = shared[node.output]
            low, high = ranges.get(group, (0.0, 0.0))
            ranges[group] = (min(low, float(out.min())), max(high, float(out.max())))
    return [values[name] for name in graph.outputs]


@torch.no_grad()
def calibrate(graph: Graph, folded: dict[str, Tensor], images: Iterable[Tensor]) -> Ranges:
    """Smallest and largest value of each activation group over batches of (B, 3, S, S) normalized images."""
    ranges: Ranges = {}
    for batch in images:
        run_float(graph, folded, batch, ranges)
    return ranges
