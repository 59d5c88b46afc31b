"""The network with float weights, as a graph: what calibration observes and what quantization is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from cunet_deploy.model.graph import Graph, Node, convolve
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.observers import Histogram, histogram_of, merge

__all__ = ["Ranges", "calibrate", "observe", "run_float"]

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation group."""

Watch = Callable[[Node, list[Tensor], Tensor], None]
"""Is shown each operation with its inputs and its output."""


def run_float(
    graph: Graph,
    folded: dict[str, Tensor],
    image: Tensor,
    watch: Watch | None = None,
) -> list[Tensor]:
    """Run a graph with float weights.

    Args:
        graph: what to run.
        folded: its weights, from `cunet_deploy.model.graph.fold`.
        image: (B, 3, S, S) normalized.
        watch: is called after each operation, when given.
    """
    values = {graph.input: image}
    for node in graph.nodes:
        inputs = [values[x] for x in node.inputs]
        if node.operation.weighted:
            out = convolve(node, inputs[0], folded[f"{node.output}.weight"], folded[f"{node.output}.bias"])
        else:
            out = node.operation(inputs)
        values[node.output] = out = F.relu(out) if node.relu else out
        if watch is not None:
            watch(node, inputs, out)
        graph.release(values, node)
    return [values[name] for name in graph.outputs]


@torch.no_grad()
def calibrate(graph: Graph, folded: dict[str, Tensor], images: Iterable[Tensor]) -> Ranges:
    """Smallest and largest value of each activation group over batches of (B, 3, S, S) normalized images."""
    ranges: Ranges = {}
    shared = activation_groups(graph).of

    def widen(node: Node, _: list[Tensor], out: Tensor) -> None:
        low, high = ranges.get(shared[node.output], (0.0, 0.0))
        ranges[shared[node.output]] = (min(low, float(out.min())), max(high, float(out.max())))

    for batch in images:
        run_float(graph, folded, batch, widen)
    return ranges


@torch.no_grad()
def observe(graph: Graph, folded: dict[str, Tensor], batch: Tensor, histograms: dict[str, Histogram]) -> None:
    """Add to the histogram of each activation group what it holds for (B, 3, S, S) normalized images.

    Each value is counted where it is rounded: copies that pooling, upsampling and concatenating make are not counted
    again, unless a concatenation brings them into a group with another scale.
    """
    shared = activation_groups(graph).of

    def count(node: Node, inputs: list[Tensor], out: Tensor) -> None:
        group = shared[node.output]
        rounded = [out]
        if node.operation.role == "copy":
            rounded = [x for name, x in zip(node.inputs, inputs, strict=True) if shared[name] != group]
        for values in rounded:
            histograms[group] = merge(histograms.get(group, Histogram()), histogram_of(values))

    run_float(graph, folded, batch, count)
