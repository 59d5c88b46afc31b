"""Bias correction: after it every convolution gives, on average, what its float parent does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import float_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.ranges import read_ranges
from cunet_deploy.quantize.bias import correct_biases
from cunet_deploy.quantize.floats import calibrate, run_float
from cunet_deploy.quantize.network import INPUT_SCALE, QuantizedNetwork

ROOT = Path(__file__).resolve().parents[2]


@torch.no_grad()
def mean_errors(network: QuantizedNetwork, folded: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Distance of each convolution's channel means from the float ones, in steps of its integers."""
    wanted: dict[str, torch.Tensor] = {}
    run_float(network.graph, folded, x, lambda node, _, out: wanted.update({node.output: out.mean(dim=(0, 2, 3))}))
    values, errors = {network.graph.input: x / INPUT_SCALE}, {}
    for node in network.graph.nodes:
        values[node.output] = network.compute(node, [values[name] for name in node.inputs])
        if node.op in ("conv", "affine"):
            scale, _ = network.activation_qparams(node.output)
            errors[node.output] = (values[node.output].mean(dim=(0, 2, 3)) - wanted[node.output] / scale).abs()
    return errors


@pytest.mark.parametrize(("block", "bits"), [("pre", 4), ("post", 4), ("post", 3)])
def test_the_mean_of_every_convolution_comes_back_to_that_of_the_float_parent(block: str, bits: int) -> None:
    checkpoint = float_checkpoint(block)
    folded, x = checkpoint.folded(), normalize(drawn_crops(make_manifest(checkpoint), 8))
    ranges = calibrate(checkpoint.graph, folded, [x])
    network = QuantizedNetwork.from_float(checkpoint.graph, folded, ranges, QuantConfig(weight_bits=bits)).eval()
    before = mean_errors(network, folded, x)
    assert correct_biases(network, folded, x) > 0.05
    after = mean_errors(network, folded, x)
    for name, errors in after.items():
        assert errors.mean() < 0.25 * before[name].mean() + 0.05, name
    mean = [sum(float(errors.mean()) for errors in table.values()) for table in (before, after)]
    assert mean[1] < 0.05 * mean[0]


def test_the_heatmaps_of_a_trained_network_come_nearer_to_the_float_ones_on_other_images() -> None:
    """Its features are off at most places: only what lies above zero may be compared."""
    checkpoint = load_checkpoint(ROOT / "models" / "face68-s" / "float.pt")
    ranges = read_ranges(ROOT / "calibration" / "face68-s.json", checkpoint)
    folded, crops = checkpoint.folded(), normalize(drawn_crops(make_manifest(checkpoint), 12))
    x, other = crops[:8], crops[8:]
    network = QuantizedNetwork.from_float(checkpoint.graph, folded, ranges, QuantConfig(weight_bits=4)).eval()
    with torch.no_grad():
        expected = run_float(network.graph, folded, other)[-1]
        before = (network(other)[-1] - expected).abs().mean()
        correct_biases(network, folded, x)
        after = (network(other)[-1] - expected).abs().mean()
    assert after < 0.9 * before
