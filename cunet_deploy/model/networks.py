"""The network of a configuration: trainable, and as a graph for inference."""

from __future__ import annotations

from torch import nn

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.baselines.dense_unet import DenseUNet, build_dense_unet_graph
from cunet_deploy.model.baselines.hourglass import Hourglass, build_hourglass_graph
from cunet_deploy.model.cunet import CUNet
from cunet_deploy.model.graph import Graph, build_cunet_graph

__all__ = ["build_graph", "build_network"]


def build_network(config: ModelConfig, num_landmarks: int) -> nn.Module:
    """The network to train; called with (B, 3, H, W), it returns a list of (B, P, H/4, W/4) heatmaps."""
    networks: dict[str, type[nn.Module]] = {"cunet": CUNet, "hourglass": Hourglass, "dense_unet": DenseUNet}
    return networks[config.kind](config, num_landmarks)


def build_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of a network at inference.

    Args:
        config: the architecture.
        num_landmarks: heatmaps per head.
        all_heads: every supervised head (for training) instead of the last one only.
    """
    if config.kind == "hourglass":
        return build_hourglass_graph(config, num_landmarks, all_heads=all_heads)
    if config.kind == "dense_unet":
        return build_dense_unet_graph(config, num_landmarks)
    return build_cunet_graph(config, num_landmarks, all_heads=all_heads)
