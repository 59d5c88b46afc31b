"""The first U-Nets of a network, exported alone: a network of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn import tiny_config
from networks import NETWORKS, float_network, in_training, quantized, random_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession, normalize
from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint, save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.reference import run_integer
from cunet_deploy.sessions import open_session

UNETS = 3


def crops_of(checkpoint: Checkpoint) -> np.ndarray:
    return drawn_crops(make_manifest(checkpoint), 3)


def trained(network: str, quant: QuantConfig) -> tuple[Checkpoint, list[torch.Tensor]]:
    """A quantized checkpoint as training leaves it, with every head, and what each head gives for drawn faces."""
    parent = float_network(network, num_unets=UNETS)
    training = in_training(parent, quant)
    checkpoint = Checkpoint.of_quantized(replace(parent.config, quant=quant), training)
    images = torch.from_numpy(crops_of(checkpoint)).permute(0, 3, 1, 2)
    training.freeze_scales()
    return checkpoint, run_integer(training, images)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("network", ["pre", "post"])
def test_a_float_part_gives_what_its_head_gives_in_the_whole_to_the_bit(network: str, count: int) -> None:
    whole = float_network(network, num_unets=UNETS)
    part = whole.first_unets(count)
    crops, model = crops_of(whole), whole.config.model
    graph = build_graph(model, 68, all_heads=True)
    expected = run_float(graph, fold(graph, whole.state), normalize(crops))[count - 1]
    assert expected.max() > 0
    np.testing.assert_array_equal(TorchSession(part).run(crops), expected.numpy())
    assert (part.config.model.num_unets, part.config.model.order) == (count, min(1, count - 1))
    assert part.graph.macs(32) < whole.graph.macs(32) or count == UNETS


@pytest.mark.parametrize("name", ["8", "1", "mixed"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("network", ["pre", "post"])
def test_a_quantized_part_has_the_integers_of_the_whole(network: str, count: int, name: str) -> None:
    layers = {"*.units.2.*": "2", "heads.1": "4", "down.*": "3"} if name == "mixed" else {}
    whole, heads = trained(network, QuantConfig(weight_bits=8 if name == "mixed" else int(name), layers=layers))
    part = whole.first_unets(count)
    assert heads[count - 1].any()
    np.testing.assert_array_equal(TorchSession(part).run(crops_of(whole)), heads[count - 1].numpy())


@pytest.mark.parametrize("name", ["float", "quantized"])
def test_a_part_survives_saving_and_runs_from_its_bundle(name: str, tmp_path: Path) -> None:
    whole = float_network("post", num_unets=UNETS)
    if name == "quantized":
        whole, _ = trained("post", QuantConfig(weight_bits=1))
    save_checkpoint(whole, tmp_path / "whole.pt")
    sizes = []
    for out, options in (("two", ["--unets", "2"]), ("all", [])):
        bits = ["--bits", "32"] if name == "float" else []
        result = CliRunner().invoke(command, [str(tmp_path / "whole.pt"), *options, *bits, "-o", str(tmp_path / out)])
        assert result.exit_code == 0, result.output
        sizes.append((tmp_path / out / "model.onnx").stat().st_size)
    assert sizes[0] < sizes[1]
    part = whole.first_unets(2)
    expected = TorchSession(part).run(crops_of(part))
    np.testing.assert_allclose(open_session(tmp_path / "two").run(crops_of(part)), expected, atol=1e-4)
    save_checkpoint(part, tmp_path / "part.pt")
    assert load_checkpoint(tmp_path / "part.pt").checksum == part.checksum


def test_a_unet_that_was_not_supervised_is_refused() -> None:
    config = tiny_config(model={"num_unets": 4, "num_losses": 2})
    checkpoint = random_checkpoint(config)
    assert checkpoint.first_unets(2).config.model.num_unets == 2
    for count in (0, 1, 3, 5):
        with pytest.raises(
            InputError, match=f"the first {count} U-Nets are no network; cut behind a supervised one: 2, 4"
        ):
            checkpoint.first_unets(count)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("pre", "post")])
def test_networks_of_other_kinds_cannot_be_cut(network: str) -> None:
    with pytest.raises(InputError, match="only a CU-Net of one pass can be cut"):
        float_network(network).first_unets(1)


def test_a_calibrated_checkpoint_has_lost_its_earlier_heads_and_says_what_to_do(tmp_path: Path) -> None:
    checkpoint = quantized("post", QuantConfig())
    assert checkpoint.first_unets(2).checksum == checkpoint.checksum
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    result = CliRunner().invoke(command, [str(tmp_path / "x.pt"), "--unets", "1", "-o", str(tmp_path / "b")])
    assert isinstance(result.exception, CunetError)
    assert "export the float checkpoint" in str(result.exception)
    assert not (tmp_path / "b").exists()
