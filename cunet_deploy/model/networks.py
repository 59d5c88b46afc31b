"""The networks by the ``kind`` of their configuration: a trainable module and a graph for inference each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.baselines.dense_unet import DenseUNet, build_dense_unet_graph
from cunet_deploy.model.baselines.hourglass import Hourglass, build_hourglass_graph
from cunet_deploy.model.cunet import CUNet, build_cunet_graph
from cunet_deploy.model.graph import Graph

__all__ = ["NETWORKS", "GraphBuilder", "Network", "build_graph", "build_network"]


class GraphBuilder(Protocol):
    """Makes the operations of a network at inference; see `build_graph`."""

    def __call__(self, config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph: ...


@dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        module: makes the network to train of a configuration and a number of landmarks; see `build_network`.
        graph: makes its graph; see `build_graph`.
        has_prefixes: its first supervised U-Nets are a network of their own, so that it can be cut behind them.
    """

    module: Callable[[ModelConfig, int], nn.Module]
    graph: GraphBuilder
    has_prefixes: bool = False


NETWORKS = {
    "cunet": Network(CUNet, build_cunet_graph, has_prefixes=True),
    "hourglass": Network(Hourglass, build_hourglass_graph),
    "dense_unet": Network(DenseUNet, build_dense_unet_graph),
}
"""Networks by ``[model] kind``; the rules of a configuration for each are in `cunet_deploy.config.networks`."""


def build_network(config: ModelConfig, num_landmarks: int) -> nn.Module:
    """The network to train; called with (B, 3, H, W), it returns a list of (B, P, H/4, W/4) heatmaps."""
    return NETWORKS[config.kind].module(config, num_landmarks)


def build_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of a network at inference.

    Args:
        config: the architecture.
        num_landmarks: heatmaps per head.
        all_heads: every supervised head (for training) instead of the last one only.
    """
    return NETWORKS[config.kind].graph(config, num_landmarks, all_heads=all_heads)
