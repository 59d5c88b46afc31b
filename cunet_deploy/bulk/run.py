"""A bulk run on Ray Data: items go to actors, each with a network of its own; what they write is the result."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cunet_deploy._optional import require
from cunet_deploy.bulk.items import Item, list_items
from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.worker import (
    DETECTOR_FILE,
    NETWORK_FILE,
    Model,
    Settings,
    Status,
    Worker,
    join_parts,
    split_item,
)
from cunet_deploy.detection.open import default_spec, open_detector
from cunet_deploy.detection.table import FULL
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.licences import wanted_licence
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.zoo import check_licence

__all__ = ["Summary", "load_model", "run_bulk"]

_MOST_BLOCKS = 2000
"""Tasks of Ray; more only cost time of the scheduler."""


@dataclass
class Summary:
    """Outcome of a bulk run.

    Attributes:
        items: in all.
        already_done: of them before this run.
        done: in this run.
        failed: in this run.
        frames: localized in this run.
        left_out: frames and photos that could not be read.
    """

    items: int = 0
    already_done: int = 0
    done: int = 0
    failed: int = 0
    frames: int = 0
    left_out: int = 0


def load_model(
    name: str,
    output: Output,
    *,
    detector: str | None = None,
    backend: str | None = None,
    trust: bool = False,
    licence: str | None = None,
) -> Model:
    """Open a model once, and put its files where the workers find them.

    Raises:
        InputError: there is no such model, it finds boxes, a licence is refused, or the output holds results of another
            model.
    """
    wanted = wanted_licence(licence)
    path = model_file(name, backend)
    session = open_session(path, threads=1, backend=backend, trust=trust)
    manifest = session.manifest
    session.close()
    if manifest.boxes is not None:
        raise InputError(f"{name}: finds boxes, not landmarks; give it as detector, beside a model of landmarks")
    check_licence(manifest, wanted)
    is_engine = path.suffix == ".engine"
    if not is_engine:
        _share(path, output, NETWORK_FILE)
    found = detector or default_spec(manifest, wanted)
    # "full", "boxes:FILE" and their like are opened by name where the workers are
    if ":" not in found and found != FULL:
        open_detector(found, licence=wanted).close()
        _share(model_file(found), output, DETECTOR_FILE)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model(str(path.resolve()) if is_engine else name, detector, checksum, manifest.to_json())


def _share(path: Path, output: Output, name: str) -> None:
    content = path.read_bytes()
    if not output.exists(name):
        output.write_bytes(name, content)
    elif output.read_bytes(name) != content:
        raise InputError(f"{output.url}: holds results of another model than {path}; choose another -o")


def run_bulk(
    sources: Sequence[str],
    output: Output,
    model: Model,
    settings: Settings,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0.0,
    on_items: Callable[[int, int], object] = lambda items, done: None,
    on_status: Callable[[Status], object] = lambda status: None,
) -> Summary:
    """Localize in many files, on this machine or a cluster. What is done already is left as it is.

    Args:
        sources: as `cunet_deploy.bulk.items.list_items` takes them.
        output: where the results go.
        model: of `load_model`.
        settings: how workers work.
        address: of a Ray cluster, ``"auto"`` for the one that this machine belongs to; ``None``: this machine alone.
        workers: how many; ``None``: as many as there are processors for.
        gpus: that each worker takes, also a fraction.
        on_items: called once with how many items there are and how many are done already.
        on_status: called for each item or part that ends.

    Raises:
        InputError: a source is not there.
        MissingDependencyError: Ray is not installed.
        CunetError: the cluster cannot be reached.
    """
    ray = require("ray", extra="ray")
    items = list(list_items(sources))
    output.sweep()
    finished = output.done_keys()
    todo = [item for item in items if item.key not in finished]
    summary = Summary(len(items), len(items) - len(todo))
    on_items(summary.items, summary.already_done)
    if not todo:
        return summary
    _connect(ray, address, workers, settings.threads)
    failed: set[str] = set()
    try:
        for status in _statuses(ray, todo, output, model, settings, workers, gpus):
            summary.frames += status.frames
            summary.left_out += status.left_out
            if status.error:
                failed.add(status.key)
                summary.failed = len(failed)
            elif status.part is None:
                summary.done += 1
            on_status(status)
    finally:
        if address is None:
            ray.shutdown()
    return summary


def _connect(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
    # Ray calls it an error of each actor that its arguments are kept where they are lost with the machine that began
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if ray.is_initialized():
        return
    _check_reachable(address)
    try:
        if address is None:
            cpus = workers * threads if workers else available_cpus()
            ray.init("local", num_cpus=max(cpus, 1) + 1, include_dashboard=False, **quiet)  # one more, to cut and join
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise CunetError(f"the Ray cluster at {address} cannot be reached: {error}; see `ray status`") from error


def _check_reachable(address: str | None) -> None:
    """Refuse an address that nobody answers at: Ray ends the whole process after a while of trying."""
    where = urlsplit(address if address and "://" in address else f"//{address}")
    if address in (None, "auto", "local") or where.hostname is None or where.port is None:
        return
    try:
        socket.create_connection((str(where.hostname), where.port), timeout=10).close()
    except OSError as error:
        raise CunetError(f"the Ray cluster at {address} cannot be reached: {error}; see `ray status` there") from error


def _statuses(
    ray: Any, todo: list[Item], output: Output, model: Model, settings: Settings, workers: int | None, gpus: float
) -> Iterator[Status]:
    """Yield the outcome of items, and of the parts and joints of long videos, as they end."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    def cut(batch: dict[str, Any]) -> dict[str, list[str]]:
        items = [Item.from_json(str(text)) for text in batch["item"]]
        return {"item": [piece.to_json() for item in items for piece in split_item(item, settings)]}

    rows = [{"item": item.to_json()} for item in todo]
    items = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
    if settings.part_seconds:
        items = items.map_batches(cut, batch_size=1, num_cpus=0.1)
    count = workers or max((int(ray.cluster_resources().get("CPU", 1)) - 1) // settings.threads, 1)
    statuses = items.map_batches(
        Worker,
        fn_constructor_args=(model, settings, output),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count if settings.part_seconds else min(count, len(rows))),
        num_cpus=settings.threads,
        num_gpus=gpus,
    )
    by_key = {item.key: item for item in todo}
    ended: dict[str, set[int]] = {}  # parts of videos
    joins: list[Any] = []
    join = ray.remote(num_cpus=0.1)(_join)
    for batch in statuses.iter_batches(batch_size=None, prefetch_batches=0):
        for text in batch["status"]:
            status = Status.from_json(str(text))
            if status.part is not None and not status.error:
                ended.setdefault(status.key, set()).add(status.part[0])
                if len(ended[status.key]) == status.part[1]:
                    joins.append(join.remote(by_key[status.key], model, settings, output))
            yield status
    for reference in joins:
        yield Status.from_json(ray.get(reference))


def _join(item: Item, model: Model, settings: Settings, output: Output) -> str:
    """Join the parts of a video; as text, what became of it."""
    error = ""
    try:
        join_parts(item, split_item(item, settings), model, output)
    except CunetError as problem:
        error = str(problem)
    return Status(item.key, item.sources[0], None, 0, 0, 0.0, error).to_json()
