"""The network with quantized weights and activations: what is trained here is what is exported, tensor for tensor.

Activations are unsigned 8-bit per tensor. Behind a ReLU the zero point is 0 and the quantizer's clamp is the ReLU. A
feature that can be negative (convolution outputs of "pre" blocks) has a zero point. Tensors of the same sign that meet
in a concatenation, and the two sides of a pooling or upsampling, share one scale: joining them then only moves bytes.

Weights are signed, symmetric, per output channel; biases are 32-bit integers at the product of the two scales, as
integer convolutions add them. Latent weights stay float32. Scales are learned (LSQ) from calibrated ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import InputError
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.primitives import (
    TINY,
    choose_activation_qparams,
    choose_weight_scale,
    damp_gradient,
    quantize,
    round_clamp,
)

__all__ = [
    "INPUT_SCALE",
    "INPUT_ZERO_POINT",
    "Groups",
    "QuantizedCUNet",
    "Ranges",
    "activation_groups",
    "calibrate",
    "move",
    "run_float",
]

INPUT_SCALE, INPUT_ZERO_POINT = 1 / 128, 128
"""The image is a quantized tensor already: see `cunet_deploy.runtime.preprocess`."""

BIAS_LIMIT = 2.0**30

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation group."""


@dataclass(frozen=True)
class Groups:
    """Which tensors share a scale.

    Attributes:
        of: group of each tensor; a group is named after its first tensor.
        signed: groups that can be negative.
    """

    of: dict[str, str]
    signed: frozenset[str]


def activation_groups(graph: Graph) -> Groups:
    """Group the tensors of a graph (without its input) so that concatenating, pooling and upsampling need no rescale.

    A tensor that cannot be negative is never tied to one that can: it would lose the zero point that absorbs its ReLU
    and half of its levels. A concatenation of both kinds rescales the non-negative part.
    """
    signed: dict[str, bool] = {graph.input: True}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        moves_bytes = node.op in ("max_pool", "upsample", "concat")
        signed[node.output] = any(signed[x] for x in node.inputs) if moves_bytes else not node.relu
        parent[node.output] = node.output
        for x in node.inputs if moves_bytes else ():
            if signed[x] == signed[node.output]:
                first, second = sorted((root(x), root(node.output)), key=list(parent).index)
                parent[second] = first
    of = {name: root(name) for name in parent}
    return Groups(of, frozenset(of[name] for name in parent if signed[name]))


def move(node: Node, x: Tensor) -> Tensor:
    """Pooling or upsampling: it moves values and makes none."""
    return F.max_pool2d(x, 2) if node.op == "max_pool" else F.interpolate(x, scale_factor=2, mode="nearest")


def run_float(graph: Graph, folded: dict[str, Tensor], image: Tensor, ranges: Ranges | None = None) -> list[Tensor]:
    """Run a graph with float weights.

    Args:
        graph: what to run.
        folded: its weights, from `cunet_deploy.model.graph.fold`.
        image: (B, 3, S, S) normalized.
        ranges: widened to what each activation group reaches, when given.
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
            out = torch.cat(inputs, dim=1) if node.op == "concat" else move(node, inputs[0])
        values[node.output] = out = F.relu(out) if node.relu else out
        if ranges is not None:
            group = shared[node.output]
            low, high = ranges.get(group, (0.0, 0.0))
            ranges[group] = (min(low, float(out.min())), max(high, float(out.max())))
    return [values[name] for name in graph.outputs]


def _key(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "/")


class QuantizedCUNet(nn.Module):
    """A graph whose every convolution has quantized weights and inputs.

    Call with (B, 3, S, S) normalized images; returns one (B, K, S/4, S/4) tensor for each head of the graph.

    Args:
        graph: the operations.
        config: bit widths.
        zero_points: of the signed activation groups.
    """

    def __init__(self, graph: Graph, config: QuantConfig, zero_points: dict[str, int]) -> None:
        super().__init__()
        self.graph = graph
        self.config = config
        self.groups = activation_groups(graph)
        self.zero_points = {name: zero_points.get(name, 0) for name in sorted(set(self.groups.of.values()))}
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        # A scale is base * exp(log_ratio): learned in relative steps, yet stored exactly once log_ratio is zero.
        self.base_scales = nn.ParameterDict()
        self.log_ratios = nn.ParameterDict()
        channels = {graph.input: 3} | {node.output: node.channels for node in graph.nodes}
        for node in graph.nodes:
            if node.op == "conv":
                shape = (node.channels, channels[node.inputs[0]], node.kernel, node.kernel)
                self.weights[_key(node.output)] = nn.Parameter(torch.zeros(shape))
                self._add_scale(f"{node.output}.weight", torch.ones(node.channels))
            elif node.op == "affine":
                self.weights[_key(node.output)] = nn.Parameter(torch.ones(node.channels))
            if node.op in ("conv", "affine"):
                self.biases[_key(node.output)] = nn.Parameter(torch.zeros(node.channels))
        for group in self.zero_points:
            self._add_scale(group, torch.ones(()))

    @property
    def weight_max(self) -> int:
        """Largest integer weight; the smallest is its negative, so that a symmetric kernel of any runtime fits."""
        return int(2 ** (self.config.weight_bits - 1) - 1)

    @property
    def activation_max(self) -> int:
        """Largest integer activation; the smallest is 0."""
        return int(2**self.config.activation_bits - 1)

    @classmethod
    def from_float(cls, graph: Graph, folded: dict[str, Tensor], ranges: Ranges, config: QuantConfig) -> QuantizedCUNet:
        """Quantize folded float weights with calibrated activation ranges.

        Raises:
            InputError: a range is missing.
        """
        groups = activation_groups(graph)
        missing = sorted(set(groups.of.values()) - set(ranges))
        if missing:
            raise InputError(f"calibration: no range for {missing[0]!r}; calibrate this very network again")
        quant_max = 2**config.activation_bits - 1
        params = {
            group: choose_activation_qparams(*ranges[group], quant_max, signed=group in groups.signed)
            for group in sorted(set(groups.of.values()))
        }
        network = cls(graph, config, {group: zero_point for group, (_, zero_point) in params.items()})
        with torch.no_grad():
            for group, (scale, _) in params.items():
                network.base_scales[_key(group)].fill_(scale)
            for node in graph.nodes:
                if node.op in ("conv", "affine"):
                    weight = folded[f"{node.output}.weight"]
                    network.weights[_key(node.output)].copy_(weight)
                    network.biases[_key(node.output)].copy_(folded[f"{node.output}.bias"])
                if node.op == "conv":
                    weight_scale = choose_weight_scale(weight, network.weight_max)
                    network.base_scales[_key(f"{node.output}.weight")].copy_(weight_scale)
        return network

    def _add_scale(self, name: str, value: Tensor) -> None:
        self.base_scales[_key(name)] = nn.Parameter(value, requires_grad=False)
        self.log_ratios[_key(name)] = nn.Parameter(torch.zeros_like(value))

    def _scale(self, name: str) -> Tensor:
        key = _key(name)
        scale: Tensor = self.base_scales[key] * torch.exp(self.log_ratios[key])
        return scale

    @torch.no_grad()
    def freeze_scales(self) -> None:
        """Put what was learned into the base, so that exp(0) = 1 makes every scale exact on every machine."""
        for key, ratio in self.log_ratios.items():
            self.base_scales[key].mul_(torch.exp(ratio))
            ratio.zero_()

    def activation_qparams(self, tensor: str) -> tuple[Tensor, int]:
        """Scale, a scalar tensor, and zero point of a tensor of the graph."""
        if tensor == self.graph.input:
            return torch.tensor(INPUT_SCALE), INPUT_ZERO_POINT
        group = self.groups.of[tensor]
        return self._scale(group), self.zero_points[group]

    def weight_scale(self, node: Node) -> Tensor:
        """(out,) scale of a node's integer weights."""
        if node.op == "conv":
            scale = self._scale(f"{node.output}.weight")
        else:  # one weight a channel: its own magnitude makes it exact
            scale = (self.weights[_key(node.output)].detach().abs() / self.weight_max).clamp(min=TINY)
        # Where the weights are tiny the bias would leave 32 bits: then the weights give way.
        input_scale, _ = self.activation_qparams(node.inputs[0])
        floor = self.biases[_key(node.output)].detach().abs() / (input_scale.detach() * BIAS_LIMIT)
        return torch.maximum(scale, floor)

    def _integer_weights(self, node: Node, input_scale: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Integer weights (out, in, k, k) and biases (out, 1, 1) as differentiable float32 tensors."""
        weight, bias = self.weights[_key(node.output)], self.biases[_key(node.output)]
        weight = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
        grid = (scale.double() * input_scale.double()).detach()
        limit = int(BIAS_LIMIT)
        return (
            round_clamp(weight / scale[:, None, None, None], -self.weight_max, self.weight_max),
            round_clamp(bias.double() / grid, -limit, limit).float()[:, None, None],
        )

    @torch.no_grad()
    def integers(self, node: Node) -> tuple[Tensor, Tensor]:
        """int8 weights and int32 biases of a convolution or affine node, as exported.

        Returns:
            weights: (out, in, k, k), or (C, 1, 1, 1) of an affine node.
            biases: (out,).
        """
        weight, bias = self.weights[_key(node.output)], self.biases[_key(node.output)]
        scale, limit = self.weight_scale(node), self.weight_max
        input_scale, _ = self.activation_qparams(node.inputs[0])
        shaped = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
        return (
            quantize(shaped, scale.reshape(-1, 1, 1, 1), 0, -limit, limit).to(torch.int8),
            quantize(bias.double(), scale.double() * input_scale.double(), 0, -int(BIAS_LIMIT), int(BIAS_LIMIT)).to(
                torch.int32
            ),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the class.

        Tensors hold integers (less their zero point) and scales are multiplied in once behind each convolution, as an
        integer runtime does: the same numbers are rounded, so training sees what the device will compute.
        """
        graph = self.graph
        values = {graph.input: image * (1 / INPUT_SCALE)}
        for node in graph.nodes:
            inputs = [values[x] for x in node.inputs]
            if node.op in ("conv", "affine"):
                values[node.output] = self._convolve(node, inputs[0])
            elif node.op == "concat":
                inputs = [self._rescale(x, node.output, value) for x, value in zip(node.inputs, inputs, strict=True)]
                values[node.output] = torch.cat(inputs, dim=1)
            else:
                values[node.output] = move(node, inputs[0])
        return [values[name] * self._damped(name, values[name].numel()) for name in graph.outputs]

    def _damped(self, tensor: str, count: int) -> Tensor:
        scale, _ = self.activation_qparams(tensor)
        return damp_gradient(scale, count, self.activation_max)

    def _convolve(self, node: Node, x: Tensor) -> Tensor:
        _, zero_point = self.activation_qparams(node.output)
        input_scale = self._damped(node.inputs[0], x.numel())
        scale = self.weight_scale(node)
        if node.op == "conv":
            scale = damp_gradient(scale, self.weights[_key(node.output)][0].numel(), self.weight_max)
        weight, bias = self._integer_weights(node, input_scale, scale)
        groups = node.channels if node.op == "affine" else 1
        sums = F.conv2d(x, weight, None, node.stride, node.kernel // 2, groups=groups) + bias
        output_scale = self._damped(node.output, sums.numel())
        factor = (input_scale * scale / output_scale)[:, None, None]
        return round_clamp(sums * factor, -zero_point, self.activation_max - zero_point)

    def _rescale(self, source: str, target: str, x: Tensor) -> Tensor:
        """Integers of one tensor as integers of another; nothing to do where they share a scale."""
        if self.groups.of[source] == self.groups.of[target]:
            return x
        _, zero_point = self.activation_qparams(target)
        real = x * self._damped(source, x.numel())
        scale = self._damped(target, x.numel())
        return round_clamp(real / scale, -zero_point, self.activation_max - zero_point)


@torch.no_grad()
def calibrate(graph: Graph, folded: dict[str, Tensor], images: Iterable[Tensor]) -> Ranges:
    """Smallest and largest value of each activation group over batches of (B, 3, S, S) normalized images."""
    ranges: Ranges = {}
    for batch in images:
        run_float(graph, folded, batch, ranges)
    return ranges
