"""The network at inference as a list of operations: what quantization, export and counting work on.

The modules of the networks are written to be read and trained; a graph is the same network with every BN folded that
can be folded, only the wanted heads, and every tensor named. Each network builds its own, beside its module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.operations import OPERATIONS, Operation

__all__ = ["Builder", "Graph", "Node", "convolve", "fold"]

BN_EPS = 1e-5


@dataclass(frozen=True)
class Node:
    """One operation; it makes the tensor ``output``, which is also its name.

    Attributes:
        op: a key of `cunet_deploy.model.operations.OPERATIONS`.
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

    op: str
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

    @property
    def operation(self) -> Operation:
        """Operation of the node."""
        return OPERATIONS[self.op]

    @property
    def groups(self) -> int:
        """Groups of the convolution that an operation with weights is: one for all channels, or one for each."""
        return self.channels if self.operation.role == "per_channel" else 1


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
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.output: node for node in self.nodes}

    @cached_property
    def weighted(self) -> tuple[Node, ...]:
        """The nodes with weights and biases."""
        return tuple(node for node in self.nodes if node.operation.weighted)

    @cached_property
    def convolutions(self) -> tuple[Node, ...]:
        """The nodes with filters: those whose bits can be chosen, and nearly all of the work."""
        return tuple(node for node in self.nodes if node.operation.role == "filters")

    @cached_property
    def owners(self) -> tuple[Node, ...]:
        """The convolutions with weights of their own."""
        return tuple(node for node in self.convolutions if not node.shares)

    def input_channels(self, node: Node) -> int:
        """Channels of what a node reads first; the image has 3."""
        return 3 if node.inputs[0] == self.input else self.node(node.inputs[0]).channels

    def release(self, values: dict[str, Tensor], node: Node) -> None:
        """Take out of a run's tensors what nothing needs any more behind a node: memory does not grow with depth."""
        for name in self._last_used[node.output]:
            del values[name]

    @cached_property
    def _last_used(self) -> dict[str, tuple[str, ...]]:
        """For each node the tensors that nothing needs any more behind it."""
        last = {name: node.output for node in self.nodes for name in (*node.inputs, node.output)}
        spent: dict[str, list[str]] = {node.output: [] for node in self.nodes}
        for name, user in last.items():
            if name not in self.outputs:
                spent[user].append(name)
        return {user: tuple(names) for user, names in spent.items()}

    def macs(self, size: int) -> int:
        """Multiply-accumulates of the convolutions for one square input of that side."""
        return sum(
            node.channels * self.input_channels(node) * node.kernel**2 * (size // node.stride_to_input) ** 2
            for node in self.convolutions
        )


@dataclass
class Builder:
    """Appends nodes; methods mirror the modules of the networks.

    Attributes:
        config: of the network.
        num_landmarks: heatmaps per head.
        iteration: the pass; names of the second one begin with ``again.``, and its convolutions share weights.
    """

    config: ModelConfig
    num_landmarks: int
    iteration: int = 0
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
        return f"again.{name}" if self.iteration else name

    def _norm(self, name: str) -> str:
        return f"{name}_again" if self.iteration and name else name

    def conv(self, x: str, name: str, channels: int, *, kernel: int = 1, stride: int = 1, norm: str, relu: bool) -> str:
        """A convolution ``NAME.conv`` with a normalization folded in, if any."""
        at, here = self.strides.get(x, 1) * stride, self._here(name)
        shares = name if self.iteration else ""
        norm, conv = self._norm(norm), f"{name}.conv"
        return self.add(
            Node("conv", (x,), here, channels, at, relu, kernel, stride, conv=conv, norm=norm, shares=shares)
        )

    def plain(
        self,
        x: str,
        conv: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        norm: str = "",
        relu: bool = False,
        output: str = "",
    ) -> str:
        """A biased convolution, called as in the state of the network."""
        at = self.strides.get(x, 1) * stride
        return self.add(Node("conv", (x,), output or conv, channels, at, relu, kernel, stride, conv=conv, norm=norm))

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

    def stem(self) -> str:
        """`Stem`."""
        kernel, stride = {"conv7": (7, 2), "s2d": (7, 4), "conv3x2": (3, 2)}[self.config.stem]
        two, channels = self.config.stem == "conv3x2", self.config.channels
        x = self.plain(
            "image",
            "stem.conv",
            channels // 2 if two else channels,
            kernel=kernel,
            stride=stride,
            norm="stem.norm",
            relu=True,
        )
        if two:
            return self.plain(x, "stem.conv2", channels, kernel=3, stride=2, norm="stem.norm2", relu=True)
        return self.pool(x, "stem.pool") if self.config.stem == "conv7" else x

    def pool(self, x: str, name: str) -> str:
        return self.add(Node("max_pool", (x,), self._here(name), self.channels[x], self.strides[x] * 2))

    def upsample(self, x: str, name: str) -> str:
        return self.add(Node("upsample", (x,), self._here(name), self.channels[x], self.strides[x] // 2))

    def head(self, x: str, i: int) -> str:
        """Heatmaps of U-Net i. Each pass has heads of its own, which share nothing."""
        name, at = f"heads_again.{i}" if self.iteration else f"heads.{i}", self.strides[x]
        if self.config.block == "pre":
            norm = f"{name}.norm"
            x = self.add(Node("affine", (x,), norm, self.channels[x], at, relu=True, norm=norm))
        # Heatmaps below zero mean nothing: the decoder looks at the positive part only.
        return self.add(Node("conv", (x,), name, self.num_landmarks, at, relu=True, conv=f"{name}.conv"))

    def sum(self, a: str, b: str, name: str) -> str:
        """Two tensors of one shape, added."""
        return self.add(Node("add", (a, b), name, self.channels[a], self.strides[a]))


def fold(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a graph from the state of a trained `CUNet`, every BN folded.

    Returns:
        For a convolution ``NAME``: ``NAME.weight`` (out, in, k, k) and ``NAME.bias`` (out,). For an affine node:
        ``NAME.weight`` (C,) and ``NAME.bias`` (C,). All float32.
    """
    folded: dict[str, Tensor] = {}
    for node in graph.weighted:
        device = state[f"{node.conv}.weight" if node.conv else f"{node.norm}.weight"].device
        scale, shift = torch.ones(node.channels, device=device), torch.zeros(node.channels, device=device)
        if node.norm:
            mean, variance = state[f"{node.norm}.running_mean"].double(), state[f"{node.norm}.running_var"].double()
            gamma, beta = state[f"{node.norm}.weight"].double(), state[f"{node.norm}.bias"].double()
            scale = gamma / torch.sqrt(variance + BN_EPS)
            shift = beta - mean * scale
        if node.conv:
            bias = state.get(f"{node.conv}.bias")
            shift = shift if bias is None else shift + bias.double() * scale
            scale = state[f"{node.conv}.weight"].double() * scale.double()[:, None, None, None]
        folded[f"{node.output}.weight"], folded[f"{node.output}.bias"] = scale.float(), shift.float()
    return folded


def convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution that an operation with weights is, padded by half its kernel.

    Args:
        node: "conv" or "affine".
        x: (B, in, H, W).
        weight: (out, in, k, k), or of an affine node (C,) or (C, 1, 1, 1).
        bias: (out,); ``None``: none.
    """
    filters = weight.reshape(node.channels, -1, node.kernel, node.kernel)
    return F.conv2d(x, filters, bias, node.stride, node.kernel // 2, groups=node.groups)
