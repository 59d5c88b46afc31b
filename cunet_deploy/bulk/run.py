"""A bulk run on Ray Data: items go to actors, each with a network of its own; what they write is the result."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cunet_deploy._optional import require
from cunet_deploy.bulk.items import Item, list_items, out_of_reach
from cunet_deploy.bulk.join import join_parts
from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.worker import (
    DETECTOR_FILE,
    NETWORK_FILE,
    SETTINGS_FILE,
    Model,
    Settings,
    Status,
    Worker,
)
from cunet_deploy.detection.open import default_spec, open_detector
from cunet_deploy.detection.table import FULL
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.licences import wanted_licence
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.sessions.registry import default_backend
from cunet_deploy.zoo import check_licence, research_remark

__all__ = ["Summary", "load_model", "run_bulk"]

_MOST_BLOCKS = 2000
"""Tasks of Ray; more only cost time of the scheduler."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody was asked
    # Ray calls it an error of each actor that its arguments are kept where they are lost with the machine that began
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # as `infer`: Ray's own default of 15 gives way to everything else on the machine
}
"""Settings of Ray unless they are set already; the last is for workers of this machine alone."""


@dataclass
class Summary:
    """Outcome of a bulk run.

    Attributes:
        items: in all.
        already_done: of them before this run.
        done: in this run.
        failed: in this run.
        frames: localized in this run.
        left_out: frames, pages and photos that were not read.
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
        CunetError: the store of the output cannot be reached.
    """
    wanted = wanted_licence(licence)
    if detector is not None and detector.startswith("boxes:"):
        raise InputError(f"detector {detector}: the boxes of a file are those of one source; use infer for it")
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
    # "full" and its like are opened by name where the workers are
    by_name, boxes = ":" in found or found == FULL, None
    if not by_name:
        finder = open_detector(found, licence=wanted)
        boxes = getattr(finder, "manifest", None)
        finder.close()
        _share(model_file(found), output, DETECTOR_FILE)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    place = str(path.resolve()) if is_engine else name
    remark = research_remark(manifest, boxes) or ""
    return Model(place, found if by_name else None, checksum, manifest.to_json(), remark)


def _share(path: Path, output: Output, name: str) -> None:
    content = path.read_bytes()
    with _in_reach(output):
        if not output.exists(name):
            output.write_bytes(name, content)
            return
        same = output.read_bytes(name) == content
    if not same:
        raise InputError(f"{output.url}: holds results of another model than {path}; choose another output")


@contextlib.contextmanager
def _in_reach(output: Output) -> Iterator[None]:
    """Name the output where the library of its store raises an error of its own."""
    try:
        yield
    except CunetError:
        raise
    except Exception as error:
        if "://" not in output.url:
            raise
        raise out_of_reach(output.url, error) from error


def _keep_settings(output: Output, model: Model, settings: Settings, *, note: bool = True) -> None:
    """Note the settings on which results depend, if wanted, or refuse those that differ from the ones noted."""
    suffix = ".engine" if model.name.endswith(".engine") else ".onnx"
    given = {
        "sha256 of the network": model.sha256,  # an engine is not copied to the output
        "detector": model.detector or DETECTOR_FILE,
        "backend": settings.backend or default_backend(suffix).name,
        "smooth": settings.smooth,
        "part_seconds": settings.part_seconds,
        "warm_up": settings.warm_up,
    }
    if not output.exists(SETTINGS_FILE):
        if note:
            output.write_bytes(SETTINGS_FILE, json.dumps(given, indent=2).encode())
        return
    try:
        noted = dict(json.loads(output.read_bytes(SETTINGS_FILE)))
    except (TypeError, ValueError) as error:
        raise InputError(f"{output.url}/{SETTINGS_FILE}: is damaged; choose another output") from error
    differing = [name for name in given if noted.get(name) != given[name]]
    if differing:
        before, now = (
            ", ".join(f"{name} {json.dumps(table.get(name))}" for name in differing) for table in (noted, given)
        )
        raise InputError(f"{output.url}: holds results with {before}, not {now}; give the same, or another output")


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
        InputError: no source can be read, the output holds results of other settings, or the address is that of a Ray
            client.
        MissingDependencyError: Ray is not installed.
        CunetError: the cluster, or a store with the only sources or the output, cannot be reached.
    """
    ray = require("ray", extra="ray")
    with _in_reach(output):
        finished = output.done_keys()
    refused: dict[str, CunetError] = {}
    items = list(list_items(sources, blocks=output.done_blocks(finished), refused=refused))
    _keep_settings(output, model, settings, note=False)
    output.sweep()
    output.forget_failures(items)
    todo = [item for item in items if item.key not in finished]
    summary = Summary(len(items) + len(refused), len(items) - len(todo), failed=len(refused))
    on_items(summary.items, summary.already_done)
    for source, problem in refused.items():
        item = Item("video", (source,))
        on_status(Status(item.key, source, error=output.record_failure(item, problem, "refused")))
    if not todo:
        return summary
    _connect(ray, address, workers, settings.threads)
    _keep_settings(output, model, settings)
    try:
        count = workers or max(int(ray.cluster_resources().get("CPU", 1)) // settings.threads, 1)
        _count(_statuses(ray, todo, (model, settings, output), count, gpus), summary, on_status)
    finally:
        if address is None:
            ray.shutdown()
    return summary


def _count(statuses: Iterable[Status], summary: Summary, on_status: Callable[[Status], object]) -> None:
    """Add what became of items to a summary as it is known; of a video in parts, several may fail."""
    before, failed = summary.failed, set()
    for status in statuses:
        summary.frames += status.frames
        summary.left_out += status.left_out
        if status.error:
            failed.add(status.key)
            summary.failed = before + len(failed)
        elif status.part is None:
            summary.done += 1
        on_status(status)


def _connect(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    if ray.is_initialized():
        return
    _check_reachable(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address is None:
        cpus = workers * threads if workers else available_cpus()
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    try:
        with _muted(), _own_sigterm():
            ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise CunetError(f"the Ray cluster at {address} cannot be reached: {error}; see `ray status`") from error


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Hide what libraries in C++ write to stderr: Ray says on each start that it was told to say less."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the program's answer to SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():  # ``None``: it is not Python's
        signal.signal(signal.SIGTERM, before)


def _check_reachable(address: str | None) -> None:
    """Refuse an address that nobody answers at: Ray ends the whole process after a while of trying."""
    if address is not None and address.startswith("ray://"):
        raise InputError(
            f"{address}: Ray Data does not run through a Ray client; run this on a machine of the cluster with the "
            "address auto, or hand it in as a job: ray job submit -- cunet-deploy bulk ... --address auto"
        )
    where = urlsplit(f"//{address}")
    if address in (None, "auto", "local") or where.hostname is None or where.port is None:
        return
    try:
        socket.create_connection((str(where.hostname), where.port), timeout=10).close()
    except OSError as error:
        raise CunetError(f"the Ray cluster at {address} cannot be reached: {error}; see `ray status` there") from error


def _statuses(
    ray: Any, todo: list[Item], work: tuple[Model, Settings, Output], count: int, gpus: float
) -> Iterator[Status]:
    """Yield the outcome of items, then those of the parts of long videos, and of their joints."""
    model, settings, output = work
    parts: dict[str, tuple[Item, ...]] = {}
    for status in _mapped(ray, todo, work, count, gpus):
        if status.parts:
            parts[status.key] = status.parts
        else:
            yield status
    if not parts:
        return
    missing = {key: len(some) for key, some in parts.items()}
    joins: list[Any] = []
    join = ray.remote(num_cpus=0)(_join)
    for status in _mapped(ray, [part for some in parts.values() for part in some], work, count, gpus):
        if not status.error:
            missing[status.key] -= 1
            if not missing[status.key]:
                joins.append(join.remote(parts[status.key], model, output, settings.jsonl))
        yield status
    for reference in joins:
        yield Status.from_json(ray.get(reference))


def _mapped(
    ray: Any, items: list[Item], work: tuple[Model, Settings, Output], count: int, gpus: float
) -> Iterator[Status]:
    """Yield the answers of workers to items as they end."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _, settings, _ = work
    blocks = min(len(items), _MOST_BLOCKS)
    data = ray.data.from_items([{"item": item.to_json()} for item in items], override_num_blocks=blocks)
    statuses = data.map_batches(
        Worker,
        fn_constructor_args=work,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(count, blocks)),
        num_cpus=settings.threads,
        num_gpus=gpus,
    )
    for batch in statuses.iter_batches(batch_size=None, prefetch_batches=0):
        yield from (Status.from_json(str(text)) for text in batch["status"])


def _join(parts: Sequence[Item], model: Model, output: Output, jsonl: bool) -> str:
    """Join the parts of a video; as text, what became of it."""
    whole = Item(parts[0].kind, parts[0].sources)
    error = ""
    try:
        join_parts(whole, parts, model, output, jsonl=jsonl)
    except Exception as problem:  # noqa: BLE001  as in a worker: the other items go on
        error = output.record_failure(whole, problem)
    return Status(whole.key, whole.sources[0], error=error).to_json()
