"""The network at inference as a list of operations: what quantization, export and counting work on.

`CUNet` is written to be read and trained; this is the same network with every BN folded that can be folded, only the
wanted heads, and every tensor named. A test holds both to the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cunet_deploy.config import ModelConfig

__all__ = ["Builder", "Graph", "Node", "build_cunet_graph", "fold"]

BN_EPS = 1e-5


@dataclass(frozen=True)
class Node:
    """One operation; it makes the tensor ``output``, which is also its name.

    Attributes:
        op: "conv", "affine" (per channel x * scale + shift), "max_pool" (2x2), "upsample" (nearest, x2), "concat", or
            "add" (two tensors of one shape).
        inputs: names of tensors.
        output: name of the tensor made.
        channels: of the output.
        stride_to_input: network input pixels per cell of the output.
        relu: the output is clamped at zero.
        kernel: of a convolution.
        stride: of a convolution.
        conv: prefix of the convolution in the state of `CUNet`.
        norm: prefix of the batch normalization in the state of `CUNet`: the one folded into a convolution, or the one
            that an affine node is. Empty: none.
        shares: name of the node whose integer weights this convolution uses, with a scale and a bias of its own; empty:
            none.
    """

    op: Literal["conv", "affine", "max_pool", "upsample", "concat", "add"]
    inputs: tuple[str, ...]
    output: str
    channels: int
    stride_to_input: int
    relu: bool = False
    kernel: int = 1
    stride: int = 1
    conv: str = ""
    norm: str = ""
    shares: str = ""


@dataclass(frozen=True)
class Graph:
    """Operations in an order in which they can run.

    Attributes:
        nodes: the operations.
        outputs: names of the heatmap tensors, one for each wanted head, the last U-Net's last.
        input: name of the image tensor.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    input: str = "image"

    def node(self, name: str) -> Node:
        """The node that makes tensor ``name``."""
        return next(node for node in self.nodes if node.output == name)

    def forget(self, values: dict[str, Tensor], node: Node) -> None:
        """Take out of a run's tensors what nothing needs any more behind a node: memory does not grow with depth."""
        for name in self._spent[node.output]:
            del values[name]

    @cached_property
    def _spent(self) -> dict[str, tuple[str, ...]]:
        """For each node the tensors that nothing needs any more behind it."""
        last = {name: node.output for node in self.nodes for name in (*node.inputs, node.output)}
        spent: dict[str, list[str]] = {node.output: [] for node in self.nodes}
        for name, user in last.items():
            if name not in self.outputs:
                spent[user].append(name)
        return {user: tuple(names) for user, names in spent.items()}

    def macs(self, size: int) -> int:
        """Multiply-accumulates of the convolutions for one square input of that side."""
        channels = {node.output: node.channels for node in self.nodes} | {self.input: 3}
        return sum(
            node.channels * channels[node.inputs[0]] * node.kernel**2 * (size // node.stride_to_input) ** 2
            for node in self.nodes
            if node.op == "conv"
        )


@dataclass
class Builder:
    """Appends nodes; methods mirror the modules of the networks.

    Attributes:
        config: of the network.
        num_landmarks: heatmaps per head.
        turn: the pass; names of the second one begin with ``again.``, and its convolutions share weights.
    """

    config: ModelConfig
    num_landmarks: int
    turn: int = 0
    nodes: list[Node] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    strides: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        """Append a node; returns the name of its tensor."""
        self.nodes.append(node)
        self.channels[node.output] = node.channels
        self.strides[node.output] = node.stride_to_input
        return node.output

    def _here(self, name: str) -> str:
        return f"again.{name}" if self.turn else name

    def _norm(self, name: str) -> str:
        return f"{name}_again" if self.turn and name else name

    def conv(self, x: str, name: str, channels: int, *, kernel: int = 1, stride: int = 1, norm: str, relu: bool) -> str:
        """A convolution ``NAME.conv`` with a normalization folded in, if any."""
        at, here = self.strides.get(x, 1) * stride, self._here(name)
        shares = name if self.turn else ""
        norm, conv = self._norm(norm), f"{name}.conv"
        return self.add(
            Node("conv", (x,), here, channels, at, relu, kernel, stride, conv=conv, norm=norm, shares=shares)
        )

    def cat(self, xs: list[str], name: str) -> str:
        if len(xs) == 1:
            return xs[0]
        existing = next((node for node in self.nodes if node.op == "concat" and node.inputs == tuple(xs)), None)
        if existing is not None:
            return existing.output
        return self.add(
            Node("concat", tuple(xs), self._here(name), sum(self.channels[x] for x in xs), self.strides[xs[0]])
        )

    def affine(self, x: str, module: str) -> str:
        """BN and ReLU in front of a convolution."""
        norm = self._norm(f"{module}.norm")
        here = self._here(f"{module}.norm")
        return self.add(Node("affine", (x,), here, self.channels[x], self.strides[x], relu=True, norm=norm))

    def cat_conv(self, xs: list[str], name: str, channels: int) -> str:
        """`CatConv` with a 1x1 kernel on a concatenation."""
        x = self.cat(xs, f"{name}.cat")
        if self.config.block == "pre":
            return self.conv(self.affine(x, name), name, channels, norm="", relu=False)
        return self.conv(x, name, channels, norm=f"{name}.norm", relu=True)

    def dense_unit(self, xs: list[str], name: str) -> str:
        squeeze, grow, config = f"{name}.squeeze", f"{name}.grow", self.config
        width, x = config.bottleneck * config.growth, self.cat(xs, f"{name}.squeeze.cat")
        if config.block == "pre":
            # The BN before the 3x3 convolution follows the 1x1 directly, so it folds into it.
            x = self.conv(self.affine(x, squeeze), squeeze, width, norm=f"{grow}.norm", relu=True)
            return self.conv(x, grow, config.growth, kernel=3, norm="", relu=False)
        x = self.conv(x, squeeze, width, norm=f"{squeeze}.norm", relu=True)
        return self.conv(x, grow, config.growth, kernel=3, norm=f"{grow}.norm", relu=True)

    def block(self, xs: list[str], history: list[str], name: str, i: int, *, skip: bool) -> tuple[str, str, str]:
        xs = [*xs, *history]
        dense = self.dense_unit(xs, f"{name}.units.{i}")
        xs = [*xs, dense]
        ahead = self.cat_conv(xs, f"{name}.ahead.{i}", self.config.channels)
        return ahead, self.cat_conv(xs, f"{name}.skip.{i}", self.config.channels) if skip else ahead, dense

    def stem(self) -> str:
        channels = self.config.channels
        if self.config.stem == "conv7":
            x = self.add(
                Node("conv", ("image",), "stem.conv", channels, 2, True, 7, 2, conv="stem.conv", norm="stem.norm")
            )
            return self.pool(x, "stem.pool")
        if self.config.stem == "s2d":
            return self.add(
                Node("conv", ("image",), "stem.conv", channels, 4, True, 7, 4, conv="stem.conv", norm="stem.norm")
            )
        x = self.add(
            Node("conv", ("image",), "stem.conv", channels // 2, 2, True, 3, 2, conv="stem.conv", norm="stem.norm")
        )
        return self.add(Node("conv", (x,), "stem.conv2", channels, 4, True, 3, 2, conv="stem.conv2", norm="stem.norm2"))

    def pool(self, x: str, name: str) -> str:
        return self.add(Node("max_pool", (x,), self._here(name), self.channels[x], self.strides[x] * 2))

    def upsample(self, x: str, name: str) -> str:
        return self.add(Node("upsample", (x,), self._here(name), self.channels[x], self.strides[x] // 2))

    def head(self, x: str, i: int) -> str:
        """Heatmaps of U-Net i. Each pass has heads of its own, which share nothing."""
        name, at = f"heads_again.{i}" if self.turn else f"heads.{i}", self.strides[x]
        if self.config.block == "pre":
            norm = f"{name}.norm"
            x = self.add(Node("affine", (x,), norm, self.channels[x], at, relu=True, norm=norm))
        # Heatmaps below zero mean nothing: the decoder looks at the positive part only.
        return self.add(Node("conv", (x,), name, self.num_landmarks, at, relu=True, conv=f"{name}.conv"))

    def sum(self, a: str, b: str, name: str) -> str:
        """Two tensors of one shape, added."""
        return self.add(Node("add", (a, b), name, self.channels[a], self.strides[a]))


def build_cunet_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of `CUNet` at inference; see `cunet_deploy.model.build_graph`."""
    build = Builder(config, num_landmarks)
    start = build.stem()
    last = config.passes == 1
    x, outputs = _unets(build, start, all_heads=all_heads, last_head=last)
    if not last:
        x = build.cat_conv([start, x], "merge", config.channels)
        build.turn = 1
        outputs += _unets(build, x, all_heads=all_heads, last_head=True)[1]
    return Graph(tuple(build.nodes), tuple(outputs))


def _unets(build: Builder, x: str, *, all_heads: bool, last_head: bool) -> tuple[str, list[str]]:
    """One pass through all U-Nets: the features behind the last one, and the wanted heads."""
    config = build.config
    order, levels = config.order, range(config.depth)
    down: list[list[str]] = [[] for _ in levels]
    up: list[list[str]] = [[] for _ in levels]
    neck: list[str] = []
    between = [x][-order:] if order else []
    outputs = []
    for i in range(config.num_unets):
        if i > 0:
            x = build.cat_conv([x, *between], f"inter.{i - 1}", config.channels)
            between = [*between, x][-order:] if order else []
        skips = []
        for j in levels:
            x, skip, dense = build.block([x], down[j], f"down.{j}", i, skip=True)
            down[j] = [*down[j], dense][-order:] if order else []
            skips.append(skip)
            x = build.pool(x, f"down.{j}.pool.{i}")
        x, _, dense = build.block([x], neck, "neck", i, skip=False)
        neck = [*neck, dense][-order:] if order else []
        for j in reversed(levels):
            x = build.upsample(x, f"up.{j}.upsample.{i}")
            x, _, dense = build.block([x, skips[j]], up[j], f"up.{j}", i, skip=False)
            up[j] = [*up[j], dense][-order:] if order else []
        if i in config.anchors and (all_heads or (last_head and i == config.num_unets - 1)):
            outputs.append(build.head(x, i))
    return x, outputs


def fold(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a graph from the state of a trained `CUNet`, every BN folded.

    Returns:
        For a convolution ``NAME``: ``NAME.weight`` (out, in, k, k) and ``NAME.bias`` (out,). For an affine node:
        ``NAME.weight`` (C,) and ``NAME.bias`` (C,). All float32.
    """
    folded: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op not in ("conv", "affine"):
            continue
        scale, shift = torch.ones(node.channels), torch.zeros(node.channels)
        if node.norm:
            mean, variance = state[f"{node.norm}.running_mean"].double(), state[f"{node.norm}.running_var"].double()
            gamma, beta = state[f"{node.norm}.weight"].double(), state[f"{node.norm}.bias"].double()
            scale = gamma / torch.sqrt(variance + BN_EPS)
            shift = beta - mean * scale
        if node.op == "affine":
            folded[f"{node.output}.weight"], folded[f"{node.output}.bias"] = scale.float(), shift.float()
            continue
        bias = state.get(f"{node.conv}.bias")
        if bias is not None:
            shift = shift + bias.double() * scale
        weight = state[f"{node.conv}.weight"].double() * scale.double()[:, None, None, None]
        folded[f"{node.output}.weight"], folded[f"{node.output}.bias"] = weight.float(), shift.float()
    return folded
