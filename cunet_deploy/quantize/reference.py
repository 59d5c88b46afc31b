"""The quantized network in exact integer arithmetic: what a correct runtime must return, bit for bit.

Training computes the same numbers in float32, which holds sums of integers exactly up to 2^24 only and in which the
order of summation could matter beyond. This is what ONNX's QLinearConv says: integer products, integer sums, one
multiplication by a float32 factor, rounding half to even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cunet_deploy.model.graph import Node, convolve
from cunet_deploy.quantize.network import QuantizedNetwork

__all__ = ["run_integer"]


@torch.inference_mode()
def run_integer(network: QuantizedNetwork, image: Tensor) -> list[Tensor]:
    """Run a quantized network on integers.

    Args:
        network: with scales frozen or not.
        image: (B, 3, S, S) uint8.

    Returns:
        One (B, K, S/4, S/4) float32 tensor for each head: the dequantized integers.
    """
    graph = network.graph
    # Integers travel as float64, which holds every sum that 32 bits hold exactly and has convolutions on every CPU.
    values = {graph.input: image.double()}
    for node in graph.nodes:
        inputs = [values[x] for x in node.inputs]
        if node.operation.weighted:
            values[node.output] = _convolve(network, node, inputs[0])
        elif node.operation.role == "copy":
            pairs = zip(node.inputs, inputs, strict=True)
            values[node.output] = node.operation([_rescale(network, x, node.output, value) for x, value in pairs])
        else:
            values[node.output] = _sum(network, node, inputs)
        graph.release(values, node)
    results = []
    for name in graph.outputs:
        scale, zero_point = network.activation_qparams(name)
        results.append((values[name] - zero_point).float() * scale)
    return results


def _convolve(network: QuantizedNetwork, node: Node, x: Tensor) -> Tensor:
    weight, bias = network.integers(node)
    input_scale, input_zero = network.activation_qparams(node.inputs[0])
    output_scale, output_zero = network.activation_qparams(node.output)
    # Padding with the zero point is padding with zero after it is taken off.
    sums = convolve(node, x - input_zero, weight.double(), bias.double())
    if x.device.type != "cpu":  # an algorithm that transforms its factors is off by less than a half
        sums = torch.round(sums)
    factor = (input_scale * network.weight_scale(node) / output_scale).float()
    rounded = torch.round(sums.float() * factor[:, None, None]).double()
    return (rounded + output_zero).clamp(0, network.activation_max(node.output))


def _sum(network: QuantizedNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    """Tensors, each brought to the scale of the result in float32, added and rounded once."""
    target_scale, target_zero = network.activation_qparams(node.output)
    parts = []
    for name, x in zip(node.inputs, inputs, strict=True):
        scale, zero_point = network.activation_qparams(name)
        parts.append((x - zero_point).float() * (scale / target_scale))
    return (torch.round(node.operation(parts)).double() + target_zero).clamp(0, network.activation_max(node.output))


def _rescale(network: QuantizedNetwork, source: str, target: str, x: Tensor) -> Tensor:
    """Integers of one tensor as integers of another; nothing to do where they share a scale."""
    scale, zero_point = network.activation_qparams(source)
    target_scale, target_zero = network.activation_qparams(target)
    if network.groups.of[source] == network.groups.of[target]:
        return x
    real = (x - zero_point).float() * scale
    return (torch.round(real / target_scale).double() + target_zero).clamp(0, network.activation_max(target))
