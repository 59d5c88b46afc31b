"""``cunet-deploy train``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from cunet_deploy._decode import read_text
from cunet_deploy.cli._interrupts import saying_what_is_kept
from cunet_deploy.cli._options import (
    AnyPath,
    device_option,
    output_option,
    parse_bytes,
    progress,
    say_skipped,
    threads_option,
)
from cunet_deploy.config import Config, load_bits, load_config, own_skeleton_file
from cunet_deploy.machine.allocator import keep_freed_memory
from cunet_deploy.machine.cpu import available_cpus

__all__ = ["command"]

_Update = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class _Request:
    """The arguments and options of the command, by their names."""

    config: Path
    data: Path
    run: Path
    resume: bool
    parent: Path | None
    start: Path | None
    bits: Path | None
    teacher: Path | None
    skip_bad: bool
    device: str
    workers: int | None
    cache: str
    photo_cache: Path | None
    accumulate: int
    log: str | None
    threads: int | None


@click.command("train")
@click.argument("config", type=AnyPath())
@click.option("--data", required=True, type=AnyPath(), help="Folder that holds the data folders.")
@output_option("DIR", "Folder of the run.", name="run", required=True)
@click.option("--resume", is_flag=True, help="Continue after the last complete epoch of the run in -o.")
@click.option(
    "--from",
    "parent",
    type=AnyPath(),
    help="Float checkpoint to start the quantized phase from, without a float phase; from its first U-Nets where "
    "CONFIG has fewer.",
)
@click.option(
    "--init",
    "start",
    type=AnyPath(),
    help="Float checkpoint whose weights training starts from; CONFIG may have other landmarks, more U-Nets, or wider "
    "ones.",
)
@click.option(
    "--bits",
    type=AnyPath(),
    metavar="FILE.toml",
    help="Weight bits by layer, instead of those of [quant].",
)
@click.option(
    "--teacher",
    type=AnyPath(),
    help="Float checkpoint to learn from, by the weight [train] distill; with --from, [quant] distill.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out photos and labels that cannot be read, and name them.")
@device_option()
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(0),
    help="Processes that prepare crops; any number gives the same ones.  [default: 0, with a GPU 4 at most]",
)
@click.option(
    "--cache", metavar="SIZE", default="4GB", show_default=True, help="Memory for decoded photos, of all processes."
)
@click.option(
    "--photo-cache",
    metavar="DIR",
    type=AnyPath(file_okay=False),
    help="Keep smaller copies of large photos in this folder and train on them.",
)
@click.option(
    "--accumulate",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Compute each batch in N parts, one after the other, to save memory.",
)
@click.option(
    "--log", type=click.Choice(["tensorboard"]), help="Also write the metrics for TensorBoard, into the run folder."
)
@threads_option
def command(**given: Any) -> None:
    """Train CONFIG.toml on labelled photos: first in float, then quantized.

    Writes float.pt, quantized.pt, metrics.jsonl, curves.png and validation.png to the run folder. Ctrl-C leaves a
    usable checkpoint; --resume ends with exactly the weights of an uninterrupted run, given the same machine, libraries
    and --threads; on a GPU, with nearly the same. Under torchrun, several processes share each batch, each with a GPU
    where there are GPUs: only the order of sums differs, and either kind of run can resume the other.

    \b
    Example:
      cunet-deploy train models/face68-s/config.toml --data data/300w -o runs/s
      cunet-deploy train four_bit.toml --from runs/s/float.pt --data data/300w -o runs/s4
      cunet-deploy train mice.toml --init models/face68-s/float.pt --data data -o runs/mice
      torchrun --nproc-per-node 2 -m cunet_deploy train config.toml --data data/300w -o runs/s
    """
    _train(_Request(**given))


def _require_libraries(asked: _Request) -> None:
    from cunet_deploy._optional import require

    torch = require("torch", extra="train")
    if asked.log is not None:
        require(asked.log, extra=asked.log)
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)


def _train(asked: _Request) -> None:
    _require_libraries(asked)
    keep_freed_memory()
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.data.examples import PhotoCache
    from cunet_deploy.model.device import choose_device, describe_device
    from cunet_deploy.train.folder import RunFolder
    from cunet_deploy.train.loop import Trainer
    from cunet_deploy.train.processes import joined
    from cunet_deploy.train.tasks import load_task
    from cunet_deploy.train.tensorboard import tensorboard

    settings, folder, cache_bytes = load_config(asked.config), RunFolder(asked.run), parse_bytes("--cache", asked.cache)
    if asked.bits is not None:
        settings = replace(settings, quant=load_bits(asked.bits, settings.quant))
    chosen = choose_device(asked.device)
    usual = 0 if chosen.type == "cpu" else min(4, available_cpus())
    workers = usual if asked.workers is None else asked.workers
    with joined(chosen) as processes:
        if processes.first:
            folder.check(resume=asked.resume)
        origin, learnt_from, begun = (
            None if path is None else load_checkpoint(path) for path in (asked.parent, asked.teacher, asked.start)
        )
        bad: list[str] = []
        photos = PhotoCache(cache_bytes // (processes.beside * (workers + 1)))
        task = load_task(settings, asked.data, bad if asked.skip_bad else None, photos, asked.photo_cache)
        display = _Display(settings, quantized_only=origin is not None)
        update = display.update if processes.first else _quiet
        trainer = Trainer(
            settings,
            task,
            folder,
            update,
            parent=origin,
            teacher=learnt_from,
            start=begun,
            processes=processes,
            device=chosen,
            workers=workers,
            accumulate=asked.accumulate,
        )
        if not processes.first:
            trainer.run(resume=asked.resume)
            return
        say_skipped(bad)
        left_out = f", {len(bad)} left out" if bad else ""
        click.echo(f"{task.num_train} examples to train on, {task.num_validation} for validation{left_out}", err=True)
        click.echo(_where(describe_device(chosen), processes.count, settings.train.precision, workers), err=True)
        folder.prepare(
            read_text(asked.config, "a TOML file"), resume=asked.resume, beside=own_skeleton_file(asked.config)
        )
        kept = f"the weights so far are in {asked.run}; go on with --resume"
        with contextlib.ExitStack() as stack:
            for context in (folder.locked(), display, saying_what_is_kept(lambda: kept)):
                stack.enter_context(context)
            if asked.log == "tensorboard":
                trainer.progress = _both(update, stack.enter_context(tensorboard(folder)))
            checkpoint = trainer.run(resume=asked.resume)
        click.echo(checkpoint)


def _where(device: str, processes: int, precision: str, workers: int) -> str:
    """Describe the device, and what prepares the crops."""
    more = f" and {processes - 1} more" if processes > 1 else ""
    drawn = f"{workers} worker processes" if workers else "a thread"
    return f"training on {device}{more} in {precision}, crops prepared by {drawn}"


def _both(one: _Update, other: _Update) -> _Update:
    def update(row: Mapping[str, Any]) -> None:
        one(row)
        other(row)

    return update


def _quiet(row: Mapping[str, Any]) -> None:
    """Report nothing, as the other processes do."""


class _Display:
    """Bars for epochs and steps on stderr, with the latest loss and error; a line an epoch without a terminal."""

    def __init__(self, config: Config, *, quantized_only: bool) -> None:
        self._bar = progress()
        before = 0 if quantized_only else config.train.epochs
        self._total = before + config.quant.epochs
        self._before = {"float": 0, "quantized": before}
        self._epochs = self._bar.add_task("epochs", total=self._total)
        self._steps = self._bar.add_task("steps", total=None)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a step or an epoch."""
        if row["event"] == "notice":
            self._bar.console.print(row["text"], markup=False, highlight=False, soft_wrap=True)
            return
        if row["event"] == "step":
            self._bar.update(
                self._steps, total=row["steps"], completed=row["step"], description=f"loss {row['loss']:.5f}"
            )
            return
        from cunet_deploy.train.plots import main_metric, metric_name

        key = main_metric([row])
        metric = f", {metric_name(key)} {row[key]:.2f} %" if key else ""
        done = self._before[row["phase"]] + row["epoch"]
        self._bar.update(self._epochs, completed=done, description=f"{row['phase']}{metric}")
        if self._bar.disable:
            each = [name for name in row if key and name.endswith(f"_{key}")]  # where there are several sources
            metric += "".join(f", {name.removesuffix(f'_{key}')} {row[name]:.2f} %" for name in each)
            text = f"loss {row['loss']:.5f}{metric}, {row['seconds']:.1f} s, {row['crops_per_second']:.0f} crops/s"
            click.echo(f"epoch {done} of {self._total} ({row['phase']}): {text}", err=True)
