"""Training that begins with the weights of a trained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from drawn import CONFIG_TOML, write_faces
from networks import float_network, quantized

from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint
from cunet_deploy.cli.train import command
from cunet_deploy.config import Config, QuantConfig
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.model.networks import build_network
from cunet_deploy.skeletons import LSP14, Skeleton
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.start import starting_weights

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


def with_unets(checkpoint: Checkpoint, count: int) -> Checkpoint:
    """A checkpoint's configuration with so many U-Nets, and the weights that its training begins with."""
    config = replace(checkpoint.config, model=replace(checkpoint.config.model, num_unets=count))
    return Checkpoint("float", config, starting_weights(checkpoint, config))


@pytest.mark.parametrize("network", ["pre", "post"])
def test_further_unets_begin_as_the_last_one_and_leave_the_first_as_they_were(network: str) -> None:
    given = float_network(network, num_unets=2)
    longer = with_unets(given, 4)
    assert set(longer.state) == set(build_network(longer.config.model, 68).state_dict())
    for name in ("down.0.units.{}.grow.conv.weight", "up.1.ahead.{}.norm.running_var", "heads.{}.conv.weight"):
        last = given.state[name.format(1)]
        assert not torch.equal(last, given.state[name.format(0)])
        assert all(torch.equal(longer.state[name.format(unet)], last) for unet in (1, 2, 3))
    assert all(
        torch.equal(longer.state[f"inter.{i}.conv.weight"], given.state["inter.0.conv.weight"]) for i in range(3)
    )
    model = build_network(longer.config.model, 68)
    model.load_state_dict(longer.state)
    before = build_network(given.config.model, 68)
    before.load_state_dict(given.state)
    with torch.inference_mode():
        maps, old = model.eval()(IMAGES), before.eval()(IMAGES)
    assert len(maps) == 4
    torch.testing.assert_close(maps[:2], old, rtol=0, atol=1e-6)
    assert not torch.equal(maps[2], maps[1])


def test_fewer_unets_take_the_first_ones() -> None:
    given = float_network("post", num_unets=3)
    shorter = with_unets(given, 2)
    assert shorter.state["heads.1.conv.weight"] is given.state["heads.1.conv.weight"]
    assert not any(".units.2." in name for name in shorter.state)


def test_other_landmarks_keep_all_but_the_heads() -> None:
    given = float_network("post", num_unets=2)
    config = replace(given.config, skeleton=LSP14.name)
    state = starting_weights(given, config)
    everything = set(build_network(config.model, len(LSP14)).state_dict())
    assert everything - set(state) == {name for name in everything if name.startswith("heads")}
    renamed = Skeleton("mine", tuple(f"point_{i}" for i in range(68)), (), ())
    assert starting_weights(given, replace(given.config, skeleton="mine", own_skeleton=renamed)).keys() == state.keys()


def wider(checkpoint: Checkpoint, channels: float, growth: float) -> Config:
    """A checkpoint's configuration with its channels and growth multiplied."""
    model = checkpoint.config.model
    sizes = int(channels * model.channels), int(growth * model.growth)
    return replace(checkpoint.config, model=replace(model, channels=sizes[0], growth=sizes[1]))


@pytest.mark.parametrize("network", ["pre", "post"])
@pytest.mark.parametrize("factor", [1.5, 2])
def test_a_wider_network_begins_as_the_same_function_with_copies_that_can_part(network: str, factor: float) -> None:
    given = float_network(network, num_unets=2)
    config = wider(given, factor, factor)
    state = starting_weights(given, config)
    model, before = build_network(config.model, 68), build_network(given.config.model, 68)
    model.load_state_dict(state)
    before.load_state_dict(given.state)
    with torch.inference_mode():
        maps, old = model.eval()(IMAGES), before.eval()(IMAGES)
    assert len(maps) == len(old) == 2
    for map_, old_ in zip(maps, old, strict=True):
        torch.testing.assert_close(map_, old_, rtol=1e-4, atol=1e-4 * float(old_.abs().max()))
    name = "heads.1.conv.weight"
    assert state[name].shape[1] == factor * given.state[name].shape[1]
    assert not torch.equal(state[name][:, 0], state[name][:, 1]), "copies of a channel with equal weights stay equal"
    again = starting_weights(given, config)
    assert all(torch.equal(tensor, again[key]) for key, tensor in state.items())


@pytest.mark.parametrize(("channels", "growth"), [(2, 1), (1, 2), (0.5, 0.5)])
def test_widths_that_do_not_grow_by_one_factor_are_refused(channels: float, growth: float) -> None:
    given = float_network("post", num_unets=2)
    with pytest.raises(InputError, match="channels and growth by one factor of at least 1"):
        starting_weights(given, wider(given, channels, growth))


def test_what_does_not_fit_is_refused() -> None:
    given = float_network("post", num_unets=2)
    deeper = replace(given.config, model=replace(given.config.model, depth=given.config.model.depth + 1))
    depth = given.config.model.depth
    with pytest.raises(
        InputError, match=rf"is of another network than the configuration \(depth {depth} instead of {depth + 1}\)"
    ) as other:
        starting_weights(given, deeper)
    assert other.value.option == "init"
    with pytest.raises(InputError, match="name a float one"):
        starting_weights(quantized("post", QuantConfig()), given.config)
    with pytest.raises(InputError, match="a U-Net with all its predecessors is needed to copy"):
        starting_weights(
            given.first_unets(1), replace(given.config, model=replace(given.config.model, num_unets=2, order=1))
        )


def test_training_goes_on_from_the_weights_and_resumes_with_the_same_only(tmp_path: Path) -> None:
    write_faces(tmp_path / "data" / "faces", 12, 7)
    config = tmp_path / "config.toml"
    config.write_text(
        CONFIG_TOML.replace("epochs = 2", "epochs = 1").replace("epochs = 1\ncalibration", "epochs = 0\ncalibration")
    )
    first = tmp_path / "first"

    def train(folder: Path, *options: object) -> tuple[int, str]:
        arguments = [config, "--data", tmp_path / "data", "-o", folder, *options]
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
        if isinstance(result.exception, CunetError):
            return result.exception.exit_code, str(result.exception)
        return result.exit_code, result.output

    assert train(first)[0] == 0
    again = tmp_path / "again"
    assert train(again, "--init", first / "float.pt")[0] == 0
    assert RunFolder(again).rows()[0]["loss"] < RunFolder(first).rows()[0]["loss"]
    assert load_checkpoint(again / "float.pt").checksum != load_checkpoint(first / "float.pt").checksum
    code, said = train(again, "--init", again / "float.pt", "--resume")
    assert (code, "another parent, first checkpoint or teacher" in said) == (2, True)
    code, said = train(tmp_path / "both", "--init", first / "float.pt", "--from", first / "float.pt")
    assert (code, "give one of them" in said) == (2, True)
