"""The authors' checkpoints: read safely, understood from their shapes, equal in what they compute."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from legacy_files import (
    Call,
    Name,
    Persistent,
    Raw,
    Shape,
    authors_network,
    authors_state,
    authors_stem,
    authors_table,
    older_spelling,
    write_legacy,
)
from torch import Tensor

from cunet_deploy.checkpoint.legacy.convert import (
    PADDING,
    adapt_stem,
    convert_checkpoint,
    infer_architecture,
    translate,
)
from cunet_deploy.checkpoint.legacy.files import read_state
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import float_model, load_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.errors import InputError
from cunet_deploy.model.cunet import CUNet
from cunet_deploy.sessions import open_session

SHAPES = [
    Shape(unets=1, order=0),
    Shape(unets=2, order=1, landmarks=16),
    Shape(unets=3, order=0),
    Shape(unets=4, order=2, channels=12),
    Shape(unets=3, order=1, landmarks=16, growth=6, bottleneck=3, depth=3),
]
GREY = 128 / 255


def write(folder: Path, state: OrderedDict[str, Tensor], name: str = "legacy.pth.tar") -> Path:
    return write_legacy(folder / name, authors_table(state))


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


def photos(count: int = 2, size: int = 64) -> np.ndarray:
    """(count, size, size, 3) uint8 BGR."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_authors(images: np.ndarray) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1]."""
    return torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255


def as_ours(images: np.ndarray) -> Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 128) / 128


# What the file says


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_architecture_is_read_from_the_shapes(shape: Shape, tmp_path: Path) -> None:
    model, landmarks = infer_architecture(read_state(write(tmp_path, authors_state(shape))))
    found = Shape(model.num_unets, model.order, landmarks, model.channels, model.growth, model.bottleneck, model.depth)
    assert found == shape
    assert (model.block, model.stem) == ("pre", "conv7")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's of its old names
def test_torch_reads_the_same_from_the_file_where_it_may_run_code(tmp_path: Path) -> None:
    state = authors_state(Shape())
    vars(state)["_metadata"] = OrderedDict(version=1)
    path = write(tmp_path, state)
    table = torch.load(path, map_location="cpu", weights_only=False, encoding="latin1")
    assert table["train_history"]["best_rmse"] == 0.034
    ours = read_state(path)
    assert [f"module.{name}" for name in ours] == list(table["state_dict"])
    assert all(torch.equal(ours[name.removeprefix("module.")], value) for name, value in table["state_dict"].items())


def test_a_file_in_the_format_of_today_is_read_too(tmp_path: Path) -> None:
    state = authors_state(Shape())
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "today.pth.tar")
    converted = convert_checkpoint(tmp_path / "today.pth.tar")
    assert converted.checksum == convert_checkpoint(write(tmp_path, state)).checksum


def test_parameters_and_views_of_a_storage_are_read(tmp_path: Path) -> None:
    storage = Persistent(("storage", Name("torch", "FloatStorage"), "7", "cpu", 6, ("8", 1, 5)))
    view = Call(Name("torch._utils", "_rebuild_tensor"), (storage, 1, (2, 2), (1, 2)))
    parameter = Call(Name("torch.nn.parameter", "Parameter"), (view,), (True, False, OrderedDict()))
    path = write_legacy(tmp_path / "views.pth", {"state_dict": {"module.a": parameter}})
    head = path.read_bytes().removesuffix(b"\x80\x02]q\x00.")  # no storage yet
    path.write_bytes(head + b"\x80\x02]U\x017a." + np.int64(6).tobytes() + np.arange(6, dtype=np.float32).tobytes())
    assert read_state(path)["a"].tolist() == [[2, 4], [3, 5]]


# What the network computes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spelling", [OrderedDict, older_spelling], ids=["newer", "older"])
def test_the_translated_network_is_the_authors_bit_for_bit(
    shape: Shape, spelling: Callable[..., OrderedDict[str, Tensor]], tmp_path: Path
) -> None:
    state = authors_state(shape)
    model, landmarks = infer_architecture(read := read_state(write(tmp_path, spelling(state))))
    network = CUNet(model, landmarks)
    network.load_state_dict(translate(read, model, landmarks))
    features = torch.rand(2, shape.channels, 16, 16)
    network.stem = torch.nn.Identity()  # type: ignore[assignment]
    with torch.inference_mode():
        found, expected = network.eval()(features), authors_network(state, shape, features)
    assert len(found) == len(expected) == shape.unets
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert expected[-1].std() > 0.01


def test_the_converted_stem_differs_in_the_outermost_cells_only() -> None:
    state, images = authors_state(Shape()), photos(4)
    network = CUNet(*infer_architecture(state_of(state)))
    network.load_state_dict(adapt_stem(translate(state_of(state), network.config, 68)))
    with torch.inference_mode():
        found = network.eval().stem(as_ours(images))
        distance = (found - authors_stem(state, as_authors(images))).abs().amax(dim=(0, 1))
        beyond_grey = (found - authors_stem(state, as_authors(images), beyond=GREY)).abs().max()
    ring = torch.ones(16, 16, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert distance[~ring].max() < 1e-5
    assert distance[ring].min() > 1e-2
    assert beyond_grey < 1e-5  # what lies beyond the input is all that differs


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_converted_checkpoint_runs_as_the_authors_network_on_a_grey_surround(shape: Shape, tmp_path: Path) -> None:
    state = authors_state(shape)
    assert convert(write(tmp_path, state), "-o", tmp_path / "ckpt.pt").exit_code == 0
    session = TorchSession(load_checkpoint(tmp_path / "ckpt.pt"))
    images = photos(size=64)
    with torch.inference_mode():
        expected = authors_network(state, shape, authors_stem(state, as_authors(images), beyond=GREY))[-1]
    np.testing.assert_allclose(session.run(images), expected.clamp(min=0).numpy(), atol=2e-5)


def state_of(state: OrderedDict[str, Tensor]) -> dict[str, Tensor]:
    """As `read_state` returns it."""
    return {name.removeprefix("module."): value for name, value in state.items()}


# What the checkpoint says


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    path = write(tmp_path, authors_state(Shape(unets=3, order=2, landmarks=16)), "lr-0.00025-120.pth.tar")
    result = convert(path, "-o", tmp_path / "ckpt.pt", "--licence", "research only")
    parameters = sum(value.numel() for name, value in authors_state(Shape(3, 2, 16)).items() if "running" not in name)
    assert result.exit_code == 0, result.output
    assert f"lr-0.00025-120, CU-Net of 3 U-Nets, order 2, 8 channels, {parameters:,} parameters" in result.stdout
    assert "landmarks: 16 (mpii16)" in result.stdout
    assert "left out, because they were not trained: none" in result.stdout
    config = load_checkpoint(tmp_path / "ckpt.pt").config
    assert (config.skeleton, config.data.train, config.data.licence) == ("mpii16", ("mpii",), "research only")
    assert (config.crop.size, config.crop.padding) == (256, PADDING)


def test_the_published_networks_have_their_parameters() -> None:
    state = authors_state(Shape(8, 1, 68, 128, 32, 4, 4))
    model, landmarks = infer_architecture(state_of(state))
    with torch.device("meta"):
        network = CUNet(model, landmarks)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_063_232
    assert {name: value.shape for name, value in translate(state_of(state), model, landmarks).items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }


def test_heads_that_were_never_trained_tell_which_unets_were_supervised(tmp_path: Path) -> None:
    state = authors_state(Shape(unets=4))
    for i in (0, 2):
        state[f"module.linears.{i}.norm.running_mean"].zero_()
        state[f"module.linears.{i}.norm.running_var"].fill_(1)
    path = write(tmp_path, state)
    result = convert(path, "-o", tmp_path / "ckpt.pt")
    assert "left out, because they were not trained: those of U-Nets 1, 3" in result.stdout
    assert load_checkpoint(tmp_path / "ckpt.pt").config.model.anchors == (1, 3)
    convert(path, "-o", tmp_path / "one.pt", "--losses", "1", "--name", "one", "--padding", "2")
    config = load_checkpoint(tmp_path / "one.pt").config
    assert (config.model.anchors, config.name, config.crop.padding) == ((3,), "one", 2)


def test_a_converted_checkpoint_is_exported_and_runs(tmp_path: Path) -> None:
    path = write(tmp_path, authors_state(Shape(landmarks=16)))
    assert convert(path, "-o", tmp_path / "ckpt.pt").exit_code == 0
    line = ["export", str(tmp_path / "ckpt.pt"), "--bits", "32", "-o", str(tmp_path / "bundle")]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    session = open_session(tmp_path / "bundle")
    images = photos(1, 256)
    expected = TorchSession(load_checkpoint(tmp_path / "ckpt.pt")).run(images)
    np.testing.assert_allclose(session.run(images), expected, atol=1e-4)
    assert session.manifest.skeleton.name == "mpii16"
    session.close()


# What is refused


class Evil:
    """Anything with a way to be rebuilt."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class Instance:
    """A class whose instances act when they are rebuilt."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["marker"]).touch()


def evil(kind: str, marker: str) -> object:
    if kind == "system":
        return Evil(os.system, f"touch {marker}")
    if kind == "eval":
        return Evil(eval, f"open({marker!r}, 'w').close()")
    if kind == "open":
        return Evil(open, marker, "w")
    return Instance(marker)


def raw(value: object) -> Raw:
    """The opcodes of an object, without those that begin and end a pickle."""
    return Raw(pickle.dumps(value, 2)[2:-1])


PLACES: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "as a bare pickle": lambda evil, table: evil,
    "in place of the table": lambda evil, table: evil,
    "in the optimizer": lambda evil, table: {**table, "optimizer": {"state": {1: {"step": evil}}}},
    "in the history": lambda evil, table: {**table, "train_history": [OrderedDict(epoch=evil)]},
    "among the weights": lambda evil, table: {"state_dict": OrderedDict(table["state_dict"], evil=evil)},
    "as a persistent id": lambda evil, table: {**table, "more": Persistent(evil)},
    "as a kind of storage": lambda evil, table: {**table, "more": Persistent(("storage", evil, "0", "cpu", 1, None))},
    "as the state of a container": lambda evil, table: {
        **table,
        "more": Call(Name("collections", "OrderedDict"), (), evil),
    },
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the file that `open` leaves open
@pytest.mark.parametrize("kind", ["system", "eval", "open", "instance"])
@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_asks_for_code_is_refused_and_runs_nothing(kind: str, place: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth.tar"
    content = evil(kind, str(marker))
    pickle.loads(pickle.dumps(content, 2))
    assert marker.exists()  # it would work
    marker.unlink()
    if place == "as a bare pickle":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        write_legacy(path, PLACES[place](raw(content), authors_table(authors_state(Shape()))))
    result = convert(path, "-o", tmp_path / "ckpt.pt")
    assert result.exit_code == 6, result.output
    assert "refused" in result.stderr
    assert "nothing was executed" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_file_of_today_that_asks_for_code_is_refused_too(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth.tar"
    torch.save({"state_dict": {}, "optimizer": evil("eval", str(marker))}, path)
    assert convert(path, "-o", tmp_path / "ckpt.pt").exit_code == 6
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "identity",
    [("module", "Net", "net.py", "import os"), "storage", ("storage", "torch.Evil", "0", "cpu", 1, None), 3],
    ids=str,
)
def test_an_object_from_outside_the_file_is_refused(identity: object, tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "evil.pth.tar", {"state_dict": Persistent(identity)})
    result = convert(path, "-o", tmp_path / "ckpt.pt")
    assert result.exit_code == 6
    assert "an object from outside the file" in result.stderr


@pytest.mark.parametrize(
    "name", [Name("collections", "OrderedDict"), Name("torch._utils", "_rebuild_tensor_v2"), Name("numpy", "dtype")]
)
def test_a_file_cannot_change_how_the_next_one_is_read(name: Name, tmp_path: Path) -> None:
    table = authors_table(authors_state(Shape()))
    before = convert_checkpoint(write_legacy(tmp_path / "good.pth", table)).checksum
    given = f"c{name.module}\n{name.name}\n".encode()
    changes = b"".join(b"U%s" % (bytes([len(key)]) + key) + given for key in (b"__init__", b"__setstate__"))
    tampering = Raw(given + b"N}(" + changes + b"u\x86b")  # sets attributes of what stands for the name
    convert_checkpoint(write_legacy(tmp_path / "evil.pth", {"more": tampering, **table}))
    assert convert_checkpoint(tmp_path / "good.pth").checksum == before


@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.2, 0.5, 0.99, 1])
def test_a_file_that_is_cut_off_is_bad_input(share: float, tmp_path: Path) -> None:
    path = write(tmp_path, authors_state(Shape()))
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
    result = convert(path, "-o", tmp_path / "ckpt.pt")
    assert result.exit_code == 2, result.output
    assert "is cut off" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "ckpt.pt").exists()


def broken(change: Callable[[OrderedDict[str, Tensor]], object]) -> OrderedDict[str, Tensor]:
    state = authors_state(Shape(unets=3))
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (OrderedDict(), "lacks features.conv0.weight, a convolution"),
        (broken(lambda s: s.pop("module.linears.1.norm.bias")), "lacks linears.1.norm.bias; expected"),
        (broken(lambda s: s.pop("module.features.conv0.weight")), "lacks features.conv0.weight, a convolution"),
        (broken(lambda s: s.pop("module.hg.neck_block.layers.2.conv1.weight")), "lacks hg.neck_block.layers.2.conv1"),
        (broken(lambda s: s.update({"module.extra.weight": torch.ones(2)})), "describes, extra.weight; expected"),
        (
            broken(lambda s: s.update({"module.features.norm0.bias": torch.ones(9)})),
            "features.norm0.bias is 9; expected 8 in a CU-Net of 3 U-Nets and order 1",
        ),
        (
            broken(lambda s: s.update({"module.hg.up_blocks.0.layers.1.conv2.weight": torch.ones(4, 8, 1, 1)})),
            "hg.up_blocks.0.layers.1.conv2.weight is 4 x 8 x 1 x 1; expected 4 x 8 x 3 x 3",
        ),
        (
            broken(lambda s: s["module.linears.0.norm.weight"].fill_(torch.nan)),
            "linears.0.norm.weight holds a number that is not finite",
        ),
        (authors_state(Shape(landmarks=14)), "has 14 landmarks; 68 (ibug68) and 16 (mpii16) are supported"),
        (
            authors_state(Shape(channels=7)),
            "its tensors make no CU-Net: [model] channels of a 'cunet' must be a multiple of 2, got 7",
        ),
    ],
    ids=["empty", "missing", "no stem", "no neck", "extra", "width", "kernel", "nan", "landmarks", "odd"],
)
def test_tensors_that_make_no_network_are_named(state: OrderedDict[str, Tensor], message: str, tmp_path: Path) -> None:
    result = convert(path := write(tmp_path, state), "-o", tmp_path / "ckpt.pt")
    assert result.exit_code == 2, result.output
    assert str(path) in result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "ckpt.pt").exists()


@pytest.mark.parametrize("table", [[1, 2], {"weights": 3}, {"state_dict": [1]}, {"state_dict": {"a": 1}}], ids=str)
def test_a_file_of_something_else_is_bad_input(table: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="state_dict"):
        read_state(write_legacy(tmp_path / "other.pth.tar", table))


def test_an_output_that_exists_is_kept(tmp_path: Path) -> None:
    path, out = write(tmp_path, authors_state(Shape())), tmp_path / "ckpt.pt"
    out.write_text("precious")
    result = convert(path, "-o", out)
    assert result.exit_code == 2
    assert "add --overwrite" in result.stderr
    assert out.read_text() == "precious"
    assert convert(path, "-o", out, "--overwrite").exit_code == 0
    assert float_model(load_checkpoint(out)).num_landmarks == 68
