"""The network with quantized weights and activations: what is trained here is what is exported, tensor for tensor.

Activations are unsigned 8-bit per tensor. Behind a ReLU the zero point is 0 and the quantizer's clamp is the ReLU. A
feature that can be negative (convolution outputs of "pre" blocks) has a zero point. Tensors of the same sign that meet
in a concatenation, and the two sides of a pooling or upsampling, share one scale: joining them then only moves bytes.

Weights are signed, symmetric, per output channel, in one of the formats of `cunet_deploy.quantize.formats`; biases are
32-bit integers at the product of the two scales, as integer convolutions add them. Latent weights stay float32. Scales
are learned (LSQ) from calibrated ones, or follow from binary and ternary weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import InputError
from cunet_deploy.model.graph import Graph, Node, convolve
from cunet_deploy.quantize.floats import Ranges
from cunet_deploy.quantize.formats import WeightFormat, check_layers, weight_formats
from cunet_deploy.quantize.groups import Groups, activation_groups
from cunet_deploy.quantize.primitives import (
    MIN_SCALE,
    binarize,
    choose_activation_qparams,
    choose_weight_scale,
    damp_gradient,
    quantize,
    round_clamp,
    round_gradient,
    rounded_gradient,
    ternarize,
)

__all__ = [
    "INPUT_SCALE",
    "INPUT_ZERO_POINT",
    "QuantizedNetwork",
]

INPUT_SCALE, INPUT_ZERO_POINT = 1 / 128, 128
"""The image is a quantized tensor already: see `cunet_deploy.preprocess`."""

BIAS_LIMIT = 2.0**30


def _key(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "/")


def _heatmap_groups(graph: Graph, groups: Groups) -> set[str]:
    """Groups of the heatmaps that nothing convolves: they keep 8 bits."""
    used = {name for node in graph.nodes for name in node.inputs}
    return {groups.of[name] for name in graph.outputs if name not in used}


def _ratio(weight: Tensor, owner: Tensor) -> Tensor:
    """(out,) factor between the folded weights of two passes through one convolution: that of their normalizations.

    Raises:
        InputError: a channel changes its sign, which a scale cannot express.
    """
    rows, owners = weight.flatten(1).double(), owner.flatten(1).double()
    ratio = (rows * owners).sum(dim=1) / (owners * owners).sum(dim=1).clamp(min=MIN_SCALE)
    if bool((ratio < 0).any()):
        raise InputError(
            "the two passes weigh a channel with opposite signs, so they cannot share integers; train longer or from "
            "another seed"
        )
    return ratio.float().clamp(min=MIN_SCALE)


class QuantizedNetwork(nn.Module):
    """A graph whose every convolution has quantized weights and inputs.

    Call with (B, 3, S, S) normalized images; returns one (B, K, S/4, S/4) tensor for each head of the graph.

    Args:
        graph: the operations.
        config: bit widths.
        zero_points: of the signed activation groups.
    """

    _input_scale: Tensor

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
        self._formats = weight_formats(graph.nodes, config)
        self._heatmap_groups = _heatmap_groups(graph, self.groups)
        self._noise: torch.Generator | None = None
        self.register_buffer("_input_scale", torch.tensor(INPUT_SCALE), persistent=False)
        self.processes = 1
        for node in graph.weighted:
            if node.operation.role == "per_channel":
                self.weights[_key(node.output)] = nn.Parameter(torch.ones(node.channels))
            else:
                shape = (node.channels, graph.input_channels(node), node.kernel, node.kernel)
                if not node.shares:
                    self.weights[_key(node.output)] = nn.Parameter(torch.zeros(shape))
                self._add_scale(f"{node.output}.weight", torch.ones(node.channels))
            self.biases[_key(node.output)] = nn.Parameter(torch.zeros(node.channels))
        for group in self.zero_points:
            self._add_scale(group, torch.ones(()))

    def activation_max(self, tensor: str) -> int:
        """Largest integer of a tensor; the smallest is 0. Heatmaps have 8 bits where nothing convolves them."""
        is_heatmap = self.groups.of[tensor] in self._heatmap_groups
        return 255 if is_heatmap else int(2**self.config.activation_bits - 1)

    def weight_format(self, node: Node) -> WeightFormat:
        """Format of the weights of a convolution or affine node."""
        return self._formats[node.output]

    @torch.no_grad()
    def set_weight_format(self, name: str, *, fit_scales: bool) -> None:
        """Round the inner layers to another format.

        Args:
            name: of the format, in place of that of the configuration.
            fit_scales: choose learned scales anew from the latent weights, as a change of format needs.
        """
        before, self._formats = self._formats, weight_formats(self.graph.nodes, self.config, name)
        for node in self.graph.owners:
            if fit_scales and before[node.output] != self.weight_format(node):
                self._fit_weight_scale(node)

    @classmethod
    def from_float(
        cls, graph: Graph, folded: dict[str, Tensor], ranges: Ranges, config: QuantConfig
    ) -> QuantizedNetwork:
        """Quantize folded float weights with calibrated activation ranges.

        Raises:
            InputError: a range is missing.
            ConfigError: a pattern of ``[quant.layers]`` matches no layer.
        """
        check_layers(graph, config)
        groups = activation_groups(graph)
        missing = sorted(set(groups.of.values()) - set(ranges))
        if missing:
            raise InputError(f"calibration: no range for {missing[0]!r}; calibrate this very network again")
        heatmaps, inner_max = _heatmap_groups(graph, groups), 2**config.activation_bits - 1
        params = {
            group: choose_activation_qparams(
                *ranges[group], 255 if group in heatmaps else inner_max, signed=group in groups.signed
            )
            for group in sorted(set(groups.of.values()))
        }
        network = cls(graph, config, {group: zero_point for group, (_, zero_point) in params.items()})
        if config.progressive:
            network.set_weight_format(config.progressive[0], fit_scales=False)
        with torch.no_grad():
            for group, (scale, _) in params.items():
                network.base_scales[_key(group)].fill_(scale)
            for node in graph.weighted:
                network.biases[_key(node.output)].copy_(folded[f"{node.output}.bias"])
                if node.shares:
                    ratio = _ratio(folded[f"{node.output}.weight"], folded[f"{node.shares}.weight"])
                    network.base_scales[_key(f"{node.output}.weight")].copy_(ratio)
                else:
                    network.weights[_key(node.output)].copy_(folded[f"{node.output}.weight"])
            for node in graph.owners:
                network._fit_weight_scale(node)
        return network

    @torch.no_grad()
    def _fit_weight_scale(self, node: Node) -> None:
        weight_format = self.weight_format(node)
        if weight_format.learned:
            scale = choose_weight_scale(self.weights[_key(node.output)], weight_format.high)
            self.base_scales[_key(f"{node.output}.weight")].copy_(scale)
            self.log_ratios[_key(f"{node.output}.weight")].zero_()

    def _add_scale(self, name: str, value: Tensor) -> None:
        self.base_scales[_key(name)] = nn.Parameter(value, requires_grad=False)
        self.log_ratios[_key(name)] = nn.Parameter(torch.zeros_like(value))

    def _scale(self, name: str) -> Tensor:
        key = _key(name)
        scale: Tensor = self.base_scales[key] * torch.exp(self.log_ratios[key])
        return scale

    @torch.no_grad()
    def freeze_scales(self) -> None:
        """Put what was learned into the base, so that exp(0) = 1 makes every scale exact on every machine.

        Binary and ternary weights become what they stand for, so that the same scale follows from them everywhere.
        This ends training: what the latent weights knew beyond that is lost.
        """
        for node in self.graph.owners:
            if not self.weight_format(node).learned:
                latent = self.weights[_key(node.output)]
                integers, scale = self._statistical(node)
                latent.copy_(integers * scale[:, None, None, None])
                self.base_scales[_key(f"{node.output}.weight")].copy_(scale)
                self.log_ratios[_key(f"{node.output}.weight")].zero_()
        for key, ratio in self.log_ratios.items():
            self.base_scales[key].mul_(torch.exp(ratio))
            ratio.zero_()

    def activation_qparams(self, tensor: str) -> tuple[Tensor, int]:
        """Scale, a scalar tensor, and zero point of a tensor of the graph."""
        if tensor == self.graph.input:
            return self._input_scale, INPUT_ZERO_POINT
        group = self.groups.of[tensor]
        return self._scale(group), self.zero_points[group]

    def _statistical(self, node: Node) -> tuple[Tensor, Tensor]:
        """Integer weights and scale of a node whose scale follows from its weights."""
        rule = binarize if self.weight_format(node).name == "1" else ternarize
        return rule(self.weights[_key(node.output)])

    def weight_scale(self, node: Node) -> Tensor:
        """(out,) scale of a node's integer weights."""
        if node.shares:
            return self.weight_scale(self.graph.node(node.shares)) * self._scale(f"{node.output}.weight")
        if node.operation.role == "per_channel":  # one weight a channel: its own magnitude makes it exact
            high = self.weight_format(node).high
            scale = (self.weights[_key(node.output)].detach().abs() / high).clamp(min=MIN_SCALE)
        elif self.weight_format(node).learned:
            scale = self._scale(f"{node.output}.weight")
        else:
            scale = self._statistical(node)[1]
        # Where the weights are tiny the bias would leave 32 bits: then the weights give way.
        input_scale, _ = self.activation_qparams(node.inputs[0])
        floor = self.biases[_key(node.output)].detach().abs() / (input_scale.detach() * BIAS_LIMIT)
        return torch.maximum(scale, floor)

    def _integer_weights(self, node: Node, scale: Tensor) -> Tensor:
        """Integer weights (out, in, k, k), differentiable, of a node that owns them; ``scale`` is theirs."""
        weight_format, weight = self.weight_format(node), self.weights[_key(node.output)]
        if not weight_format.learned:
            return self._statistical(node)[0]
        weight = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
        return round_clamp(weight / scale[:, None, None, None], weight_format.low, weight_format.high)

    def _integer_bias(self, node: Node, grid: Tensor) -> Tensor:
        """Integer biases (out, 1, 1), differentiable; ``grid`` is what one step of them stands for."""
        limit = int(BIAS_LIMIT)
        return round_clamp(self.biases[_key(node.output)].double() / grid, -limit, limit).float()[:, None, None]

    @torch.no_grad()
    def integers(self, node: Node) -> tuple[Tensor, Tensor]:
        """int8 weights and int32 biases of a convolution or affine node, as exported.

        Returns:
            weights: (out, in, k, k), or (C, 1, 1, 1) of an affine node.
            biases: (out,).
        """
        owner = self.graph.node(node.shares) if node.shares else node
        weight_format, weight = self.weight_format(owner), self.weights[_key(owner.output)]
        if weight_format.learned:
            shaped = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
            scale = self.weight_scale(owner).reshape(-1, 1, 1, 1)
            integers = quantize(shaped, scale, 0, weight_format.low, weight_format.high)
        else:
            integers = self._statistical(owner)[0]
        bias, input_scale = self.biases[_key(node.output)], self.activation_qparams(node.inputs[0])[0]
        grid, limit = self.weight_scale(node).double() * input_scale.double(), int(BIAS_LIMIT)
        return integers.to(torch.int8), quantize(bias.double(), grid, 0, -limit, limit).to(torch.int32)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the class.

        Tensors hold integers (less their zero point) and scales are multiplied in once behind each convolution, as an
        integer runtime does: the same numbers are rounded, so training sees what the device will compute.
        """
        graph = self.graph
        values = {graph.input: image * (1 / INPUT_SCALE)}
        for node in graph.nodes:
            values[node.output] = self.compute(node, [values[x] for x in node.inputs])
            graph.release(values, node)
        return [values[name] * self._damped(name, values[name].numel()) for name in graph.outputs]

    def compute(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """One operation on integers, less their zero points."""
        if node.operation.weighted:
            return self._convolve(node, inputs[0])
        if node.operation.role == "copy":
            pairs = zip(node.inputs, inputs, strict=True)
            return node.operation([self._rescale(x, node.output, value) for x, value in pairs])
        return self._sum(node, inputs)

    def _sum(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """Tensors, each brought to the scale of the result, added and rounded once."""
        _, zero_point = self.activation_qparams(node.output)
        target = self._damped(node.output, inputs[0].numel())
        parts = [x * (self._damped(name, x.numel()) / target) for name, x in zip(node.inputs, inputs, strict=True)]
        return round_clamp(node.operation(parts), -zero_point, self.activation_max(node.output) - zero_point)

    @torch.no_grad()
    def shift_bias(self, node: Node, shift: Tensor) -> None:
        """Add (out,) to the biases of a convolution or affine node."""
        self.biases[_key(node.output)].add_(shift)

    def seed_gradients(self, seed: int) -> None:
        """Start the random numbers of gradient rounding anew, so that an epoch can be repeated exactly."""
        device = self._input_scale.device
        # shapes alone have no random numbers
        self._noise = None if device.type == "meta" else torch.Generator(device).manual_seed(seed)

    def round_gradients(self) -> None:
        """Round the gradients of the weights, after the backward pass and before the step."""
        for parameter in self.weights.values():
            if self.config.gradient_bits < 32 and parameter.grad is not None:
                parameter.grad = round_gradient(parameter.grad, self.config.gradient_bits, self._noise)

    def _damped(self, tensor: str, count: int) -> Tensor:
        scale, _ = self.activation_qparams(tensor)
        count *= self.processes  # of the whole batch, of which this process has a part
        return damp_gradient(scale, count, 255 if tensor == self.graph.input else self.activation_max(tensor))

    def _damped_weight_scale(self, node: Node) -> Tensor:
        """Scale of a node's weights; where it is learned, with its gradient in proportion to what it scales."""
        scale = self.weight_scale(node)
        if node.operation.role == "per_channel" or not self.weight_format(node).learned:
            return scale
        owner = node.shares or node.output
        return damp_gradient(scale, self.weights[_key(owner)][0].numel(), self.weight_format(node).high)

    def _convolve(self, node: Node, x: Tensor) -> Tensor:
        _, zero_point = self.activation_qparams(node.output)
        input_scale = self._damped(node.inputs[0], x.numel())
        scale = owner_scale = self._damped_weight_scale(node)
        if node.shares:
            owner_scale = self._damped_weight_scale(self.graph.node(node.shares))
        owner = self.graph.node(node.shares) if node.shares else node
        weight = self._integer_weights(owner, owner_scale)
        bias = self._integer_bias(node, (scale.double() * input_scale.double()).detach())
        sums = convolve(node, x, weight)
        if self.config.gradient_bits < 32 and self.training:
            sums = rounded_gradient(sums, self.config.gradient_bits, self._noise)
        sums = sums + bias
        output_scale = self._damped(node.output, sums.numel())
        factor = (input_scale * scale / output_scale)[:, None, None]
        return round_clamp(sums * factor, -zero_point, self.activation_max(node.output) - zero_point)

    def _rescale(self, source: str, target: str, x: Tensor) -> Tensor:
        """Integers of one tensor as integers of another; nothing to do where they share a scale."""
        if self.groups.of[source] == self.groups.of[target]:
            return x
        _, zero_point = self.activation_qparams(target)
        real = x * self._damped(source, x.numel())
        scale = self._damped(target, x.numel())
        return round_clamp(real / scale, -zero_point, self.activation_max(target) - zero_point)
