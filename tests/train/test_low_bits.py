"""The quantized phase of training, on drawn faces: formats on the way, parents, teachers, and every kind of network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from drawn import CONFIG_TOML, tiny_config, write_faces
from networks import NETWORKS, float_network, quantized

from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint, save_checkpoint
from cunet_deploy.cli.export import command as export_command
from cunet_deploy.cli.train import command
from cunet_deploy.config import Config
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.phase import format_of_epoch
from cunet_deploy.train.tasks import load_task
from cunet_deploy.train.teacher import DistillationTeacher

FACES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", FACES, 7)
    return root


@pytest.fixture(autouse=True, scope="module")
def _no_curves() -> Iterator[None]:
    """Drawing them takes longer than these trainings; other tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cunet_deploy.train.loop.save_curves", lambda rows, path: None)
        yield


@pytest.fixture(scope="module")
def parent(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A float network of one epoch."""
    config = tiny_config(train={"epochs": 1}, quant={"epochs": 0})
    return load_checkpoint(train(config, data, tmp_path_factory.mktemp("parent") / "run"))


def nothing(_: Mapping[str, Any]) -> None:
    pass


def train(
    config: Config, data: Path, run: Path, *, resume: bool = False, progress: Any = nothing, **others: Any
) -> Path:
    folder = RunFolder(run)
    folder.prepare("", resume=resume)
    return Trainer(config, load_task(config, data), folder, progress, **others).run(resume=resume)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, CunetError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def stop_after(epochs: int) -> Any:
    """Ctrl-C at the end of an epoch of the quantized phase."""

    def progress(row: Mapping[str, Any]) -> None:
        if row["event"] == "epoch" and row["phase"] == "quantized" and row["epoch"] == epochs:
            raise KeyboardInterrupt

    return progress


def test_formats_have_equal_shares_of_the_epochs_and_the_last_is_the_wanted_one() -> None:
    quant = tiny_config(quant={"epochs": 7, "weight_bits": 1, "progressive": ["8", "4"]}).quant
    assert [format_of_epoch(quant, epoch) for epoch in range(7)] == ["8", "8", "8", "4", "4", "1", "1"]
    assert format_of_epoch(tiny_config(quant={"epochs": 3}).quant, 0) == "8"
    for epochs in range(3, 12):
        quant = replace(quant, epochs=epochs)
        assert [format_of_epoch(quant, epoch) for epoch in (0, epochs - 1)] == ["8", "1"]


def test_a_run_that_stops_around_a_change_of_format_resumes_to_the_same_bits(
    data: Path, parent: Checkpoint, tmp_path: Path
) -> None:
    quant = {"epochs": 3, "weight_bits": 1, "progressive": ["8", "ternary"], "gradient_bits": 8, "distill": 1.0}
    config = tiny_config(train={"epochs": 1}, quant={**quant, "correct_bias": True, "learning_rate": 1e-3})
    whole = load_checkpoint(train(config, data, tmp_path / "whole", parent=parent))
    rows = RunFolder(tmp_path / "whole").rows()
    assert [(row["phase"], row["epoch"]) for row in rows] == [("quantized", epoch) for epoch in (1, 2, 3)]
    for stop in (1, 2):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, data, folder, parent=parent, progress=stop_after(stop))
        early = load_checkpoint(folder / "quantized.pt")
        inside = early.graph.node("neck.units.0.grow")
        assert early.quantized_network().integers(inside)[0].abs().unique().tolist() == [1]
        again = load_checkpoint(train(config, data, folder, parent=parent, resume=True))
        assert again.checksum == whole.checksum != early.checksum
        assert [row["loss"] for row in RunFolder(folder).rows()] == [row["loss"] for row in rows]
    finished = load_checkpoint(train(config, data, tmp_path / "whole", parent=parent, resume=True))
    assert finished.checksum == whole.checksum  # the bias correction of a finished run is not done twice


def test_the_first_epoch_of_a_format_rounds_to_it(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    config = tiny_config(train={"epochs": 1}, quant={"epochs": 3, "weight_bits": 1, "progressive": ["8", "4"]})
    folder, seen = RunFolder(tmp_path / "run"), []
    folder.prepare("", resume=False)
    trainer = Trainer(config, load_task(config, data), folder, nothing, parent=parent)
    epoch = trainer._epoch

    def watched(phase: Any) -> float:
        loss = epoch(phase)
        networks = (phase.network, phase.average.network)
        seen.append([network.weight_format(network.graph.node("neck.ahead.0")).name for network in networks])
        return loss

    trainer._epoch = watched  # type: ignore[method-assign]
    trainer.run()
    assert seen == [["8", "8"], ["4", "4"], ["1", "1"]]


def test_correcting_biases_changes_biases_alone(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    plain, corrected = (
        load_checkpoint(
            train(
                tiny_config(train={"epochs": 1}, quant={"epochs": 1, "weight_bits": 2, "correct_bias": on}),
                data,
                tmp_path / str(on),
                parent=parent,
            )
        )
        for on in (False, True)
    )
    changed = {name for name, value in plain.state.items() if not torch.equal(value, corrected.state[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"biases"}


def test_from_a_parent_only_the_quantized_phase_is_trained(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(parent, tmp_path / "parent.pt")
    (tmp_path / "bits.toml").write_text('weight_bits = 4\n[layers]\n"down.*" = "ternary"\n')
    (tmp_path / "config.toml").write_text(CONFIG_TOML.replace("epochs = 2", "epochs = 1"))
    options = [tmp_path / "config.toml", "--data", data, "--from", tmp_path / "parent.pt", "-o", tmp_path / "run"]
    code, output = run(*options, "--bits", tmp_path / "bits.toml")
    assert code == 0, output
    assert "epoch 1 of 1 (quantized)" in output
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["quantized"]
    assert load_checkpoint(tmp_path / "run" / "float.pt").checksum == parent.checksum
    trained = load_checkpoint(tmp_path / "run" / "quantized.pt")
    assert (trained.config.quant.weights, trained.config.quant.layers) == ("4", {"down.*": "ternary"})
    network = trained.quantized_network()
    largest = {
        node.output: int(network.integers(node)[0].abs().max()) for node in trained.graph.nodes if node.op == "conv"
    }
    assert (largest["down.0.units.0.grow"], largest["neck.units.0.grow"], largest["stem.conv"]) == (1, 7, 127)
    result = CliRunner().invoke(
        export_command, [str(tmp_path / "run" / "quantized.pt"), "-o", str(tmp_path / "bundle")]
    )
    assert "bit for bit equal" in result.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant": {"epochs": 0}}, r"a parent checkpoint starts the quantized phase, but \[quant\] epochs is 0"),
        (
            {"model": {"channels": 16}},
            r"the parent checkpoint 'tiny' has another \[model\] than the configuration \(channels 8 instead of 16\)",
        ),
        ({"crop": {"size": 64}}, r"the parent checkpoint 'tiny' has another \[crop\]"),
        ({"heatmap": {"sigma": 2.0}}, r"the parent checkpoint 'tiny' has another \[heatmap\]"),
    ],
    ids=str,
)
def test_a_parent_of_another_kind_is_refused(
    changes: dict[str, dict[str, object]], message: str, data: Path, parent: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(tiny_config(**changes), data, tmp_path / "run", parent=parent)


def test_quantized_networks_are_neither_parents_nor_teachers(data: Path, tmp_path: Path) -> None:
    small = quantized("post", tiny_config().quant)
    with pytest.raises(InputError, match="the parent checkpoint is quantized; name a float one"):
        train(tiny_config(), data, tmp_path / "run", parent=small)
    with pytest.raises(InputError, match="the teacher is quantized; name a float checkpoint"):
        train(tiny_config(train={"distill": 1.0}), data, tmp_path / "run 2", teacher=small)


def test_a_teacher_and_its_weight_go_together(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    for weight, teacher in ((0.0, parent), (1.0, None)):
        with pytest.raises(InputError, match="go together; give both, or neither") as refused:
            train(tiny_config(train={"distill": weight}), data, tmp_path / str(weight), teacher=teacher)
        assert refused.value.option == "teacher"
    with pytest.raises(InputError, match=r"a parent with another teacher needs a \[quant\] distill above 0"):
        train(tiny_config(), data, tmp_path / "both", parent=parent, teacher=parent)


def test_fewer_unets_start_as_the_first_ones_of_the_parent(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    quant: dict[str, object] = {"epochs": 1, "learning_rate": 1e-9}
    config = tiny_config(train={"epochs": 1}, model={"num_unets": 1, "order": 0}, quant=quant)
    trained = load_checkpoint(train(config, data, tmp_path / "run", parent=parent))
    first = parent.first_unets(1)
    assert len(trained.graph.nodes) < len(parent.graph.nodes)
    start = load_checkpoint(tmp_path / "run" / "float.pt")
    assert start.config.model == config.model
    assert all(torch.equal(value, first.state[name]) for name, value in start.state.items())
    with pytest.raises(InputError, match=r"another \[model\]"):
        wider = tiny_config(model={"num_unets": 1, "order": 0, "channels": 16})
        train(wider, data, tmp_path / "wider", parent=parent)


def test_from_a_parent_the_quantized_phase_learns_from_another_teacher(
    data: Path, parent: Checkpoint, tmp_path: Path
) -> None:
    config = tiny_config(train={"epochs": 1}, quant={"epochs": 1, "distill": 5.0})
    other = replace(parent, state={name: value * 0.9 for name, value in parent.state.items()})
    sums = [
        load_checkpoint(train(config, data, tmp_path / str(index), parent=parent, teacher=teacher)).checksum
        for index, teacher in enumerate((None, parent, other))
    ]
    assert sums[0] == sums[1] != sums[2]
    with pytest.raises(InputError, match="was started with another parent, first checkpoint or teacher"):
        train(config, data, tmp_path / "2", parent=parent, resume=True)


def test_resuming_without_the_file_of_bits_says_so(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(parent, tmp_path / "parent.pt")
    (tmp_path / "bits.toml").write_text("weight_bits = 4\n")
    (tmp_path / "config.toml").write_text(CONFIG_TOML)
    options = [tmp_path / "config.toml", "--data", data, "--from", tmp_path / "parent.pt", "-o", tmp_path / "run"]
    assert run(*options, "--bits", tmp_path / "bits.toml")[0] == 0
    code, message = run(*options, "--resume")
    assert (code, "the bits that it was started with" in message) == (2, True)
    assert run(*options, "--bits", tmp_path / "bits.toml", "--resume")[0] == 0


@pytest.mark.parametrize("changes", [{"crop": {"size": 64}}, {"crop": {"padding": 2.0}}], ids=str)
def test_a_teacher_that_sees_something_else_is_refused(
    changes: dict[str, dict[str, object]], data: Path, parent: Checkpoint, tmp_path: Path
) -> None:
    config = tiny_config(train={"distill": 1.0}, **changes)
    with pytest.raises(InputError, match="has other landmarks, crops or heatmaps"):
        train(config, data, tmp_path / "run", teacher=parent)


def test_the_loss_of_a_teacher_is_zero_at_its_own_heatmaps_and_its_last_serve_others() -> None:
    checkpoint = float_network("post", num_unets=3)
    teacher, images = DistillationTeacher(checkpoint, checkpoint.config), torch.rand(2, 3, 32, 32) * 2 - 1
    maps = teacher.heatmaps(images)
    assert len(maps) == 3
    assert min(float(item.min()) for item in maps) == 0  # what is below zero means nothing
    assert float(teacher.loss(maps, images, 9.0)) == 0
    assert float(teacher.loss([maps[-1], maps[-1]], images, 9.0)) == 0
    assert float(teacher.loss([maps[0], maps[-1]], images, 9.0)) > 0
    off = [item + 1 for item in maps]
    expected = torch.stack([(1 + 9 * item).mean() for item in maps]).mean()
    torch.testing.assert_close(teacher.loss(off, images, 9.0), expected)


def test_a_network_learns_what_its_teacher_gives(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    """With the weight of the teacher alone it comes nearer to its heatmaps than without."""
    teacher = replace(parent, config=replace(parent.config, name="teacher"))
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distances = []
    for weight in (0.0, 100.0):
        table: dict[str, object] = {"epochs": 3, "distill": weight, "ema_decay": 0.0, "learning_rate": 5e-3}
        config = tiny_config(train=table, quant={"epochs": 0})
        path = train(config, data, tmp_path / str(weight), teacher=teacher if weight else None)
        student = DistillationTeacher(load_checkpoint(path), config)
        wanted = DistillationTeacher(teacher, config).heatmaps(images)[-1]
        distances.append(float((student.heatmaps(images)[-1] - wanted).square().mean()))
    assert distances[1] < distances[0]


def test_resuming_with_another_teacher_or_without_is_refused(data: Path, parent: Checkpoint, tmp_path: Path) -> None:
    config = tiny_config(train={"epochs": 1, "distill": 1.0}, quant={"epochs": 0})
    train(config, data, tmp_path / "run", teacher=parent)
    other = replace(parent, state={name: value + 0.001 for name, value in parent.state.items()})
    with pytest.raises(InputError, match="was started with another parent, first checkpoint or teacher"):
        train(config, data, tmp_path / "run", teacher=other, resume=True)
    with pytest.raises(InputError, match="give both, or neither"):
        train(config, data, tmp_path / "run", resume=True)


def test_activations_kept_in_eight_bits_change_the_loss_but_little(data: Path, tmp_path: Path) -> None:
    losses = []
    for bits, efficient in ((32, False), (8, False), (8, True)):
        table: dict[str, object] = {"epochs": 1, "saved_bits": bits, "memory_efficient": efficient}
        config = tiny_config(train=table, model={"channels": 16, "growth": 8}, crop={"size": 64})
        folder = tmp_path / f"{bits} {efficient}"
        train(config, data, folder)
        losses.append([row["loss"] for row in RunFolder(folder).rows()])
    assert losses[0] != losses[1] != losses[2]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[2] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("network", ["refined pre", "hourglass", "dense post"])
def test_refined_networks_and_the_baselines_train_and_export(network: str, data: Path, tmp_path: Path) -> None:
    model = {"channels": 8, "growth": 4, "stem": "conv3x2", **NETWORKS[network]}
    config = tiny_config(model=model, train={"epochs": 1}, quant={"epochs": 1, "weight_bits": 4, "distill": 1.0})
    path = train(config, data, tmp_path / "run")
    assert [row["phase"] for row in RunFolder(tmp_path / "run").rows()] == ["float", "quantized"]
    result = CliRunner().invoke(export_command, [str(path), "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    if network != "hourglass":  # whose sums ONNX Runtime may round the other way at a half
        assert "bit for bit equal to exact integer arithmetic" in result.output
