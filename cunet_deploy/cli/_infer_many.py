"""``cunet-deploy infer`` with several sources: one after the other, or shared by processes.

A source that cannot be read, or a process that is killed, costs its own results only.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cunet_deploy._files import shown_name
from cunet_deploy.cli._errors import describe
from cunet_deploy.cli._infer_one import Request, run_one
from cunet_deploy.cli._infer_record import Done, Record
from cunet_deploy.cli._interrupts import interrupt_flag
from cunet_deploy.cli._options import progress
from cunet_deploy.cli._watch import left_out_lines
from cunet_deploy.errors import CunetError, InputError

if TYPE_CHECKING:
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.media import Item, OutputPlan

__all__ = ["infer_many"]

_DEFAULT_FOLDER = "landmarks"
_INTERRUPTED = 130
_POLL_SECONDS = 0.2
_END_SECONDS = 5.0


@dataclass(frozen=True)
class _Outcome:
    """Outcome of one source.

    Attributes:
        lines: for stdout.
        remarks: for stderr.
        licence: a remark on the licence of the weights, or "".
        error: what went wrong, or "".
        exit_code: of that; 0: nothing.
    """

    lines: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0
    licence: str = ""


def infer_many(items: Sequence[Item], asked: Request) -> None:
    """Localize in all items.

    Raises:
        InputError: an option is for a single source, or results are in the way.
        CunetError: some sources failed; the others are done.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
    """
    plans = _plans(items, asked)
    known = [_done(item, plan, asked) if asked.resume else None for item, plan in zip(items, plans, strict=True)]
    jobs = [job for job, done in zip(zip(items, plans, strict=True), known, strict=True) if done is None]
    incomplete = [line for done in known if done is not None and (line := done.remark())]
    if not asked.resume and not asked.overwrite:
        _check_ways(plans)
    failed: list[_Outcome] = []
    done, licence = 0, ""
    with interrupt_flag() as stop, _bar(len(jobs), asked) as advance:
        several = asked.workers > 1 and len(jobs) > 1
        for outcome in _in_processes(jobs, asked, stop) if several else _in_turn(jobs, asked, stop):
            for line in outcome.lines:
                click.echo(line)
            for remark in (*outcome.remarks, *([outcome.error] if outcome.error else [])):
                click.echo(remark, err=True)
            failed += [outcome] if outcome.exit_code not in (0, _INTERRUPTED) else []
            done += not outcome.exit_code
            licence = outcome.licence or licence
            advance()
    for line in incomplete:
        click.echo(line, err=True)
    before = f", {len(items) - len(jobs) - len(incomplete)} were done before" if asked.resume else ""
    click.echo(f"{len(items)} sources: {done} done, {len(failed) + len(incomplete)} failed or incomplete{before}")
    if licence:
        click.echo(licence)
    if stop.is_set():
        raise KeyboardInterrupt
    if bad := len(failed) + len(incomplete):
        others = "" if bad == len(items) else "; the others are done"
        message = f"{bad} of {len(items)} sources failed or are incomplete, see above{others}"
        raise (InputError if len(failed) == len(items) and failed[0].exit_code == 2 else CunetError)(message)


def _plans(items: Sequence[Item], asked: Request) -> list[OutputPlan]:
    from cunet_deploy.media import OutputPlan, plan_items

    for name, given in (("--show", asked.show), ("--size", asked.size), ("-o -", asked.out == "-")):
        if given:
            raise InputError(f"{name} is for one source; leave it out, or give sources one at a time")
    if len(items) > 1 and asked.detector is not None and asked.detector.startswith("boxes:"):
        from cunet_deploy.detection.boxes import GivenBoxes

        if GivenBoxes.read(Path(asked.detector.removeprefix("boxes:"))).by_frame:
            raise InputError(
                f"detector {asked.detector}: boxes of frame numbers are those of one source; give sources one at a "
                "time, or images whose boxes have 'file'"
            )
    if asked.out == "none":
        return [OutputPlan() for _ in items]
    folder = Path(_DEFAULT_FOLDER if asked.out is None else asked.out)
    return plan_items(items, folder, draw=not asked.no_draw, formats=asked.formats, read=asked.read)


def _done(item: Item, plan: OutputPlan, asked: Request) -> Done | None:
    return Record(plan, shown_name(item.text), item.originals, asked).done()


def _check_ways(plans: Sequence[OutputPlan]) -> None:
    left = [(path, "was left by a run that did not end") for plan in plans for path in plan.unfinished()]
    there = [(path, "exists already") for plan in plans if (path := plan.in_the_way()) is not None]
    for path, what in (*left, *there):
        raise InputError(f"{path}: {what}; use --resume to do what is missing, or --overwrite to do all anew")


@contextlib.contextmanager
def _bar(total: int, asked: Request) -> Generator[Any, None, None]:
    """A bar of sources where processes share them; in turn, each source has its own."""
    if asked.workers < 2 or asked.progress != "bar":
        yield lambda: None
        return
    with progress() as bar:
        task = bar.add_task("infer", total=total)
        yield lambda: bar.advance(task)


def _in_turn(
    jobs: Sequence[tuple[Item, OutputPlan]], asked: Request, stop: threading.Event
) -> Generator[_Outcome, None, None]:
    if not jobs:
        return
    with asked.open() as localizer:
        for item, plan in jobs:
            outcome = _do(localizer, item, plan, asked)
            if outcome.exit_code == _INTERRUPTED:
                stop.set()
            yield outcome
            if stop.is_set():
                return


def _do(localizer: Localizer, item: Item, plan: OutputPlan, asked: Request) -> _Outcome:
    """Localize in one item; its errors become part of the outcome."""
    name = shown_name(item.text)
    try:
        source = item.open(timeout=asked.timeout, reconnect=asked.reconnect)
        asked.check_smoothing(source)
        if not source.moving:  # perhaps a picture on a web server, whose URL tells nothing
            plan = plan.of_still()
        run = run_one(localizer, source, name, plan, asked)
    except CunetError as error:
        text = describe(error)
        return _Outcome(error=f"failed: {text if name in text else f'{name}: {text}'}", exit_code=error.exit_code)
    except KeyboardInterrupt:
        return _Outcome(exit_code=_INTERRUPTED)
    except OSError as error:
        return _Outcome(error=f"failed: {name}: {error.strerror or error}", exit_code=1)
    remarks = tuple(f"{name}: {line}" for line in left_out_lines(source))
    if isinstance(run.failure, KeyboardInterrupt):
        return _Outcome((run.line,), remarks, exit_code=_INTERRUPTED, licence=run.remark)
    if run.failure is not None:
        why = f"incomplete: {name}: {describe(run.failure)}"
        return _Outcome((run.line,), remarks, why, run.failure.exit_code, run.remark)
    return _Outcome((run.line,), remarks, licence=run.remark)


class _Worker:
    """A process with a network of its own, and the job that it has."""

    def __init__(self, asked: Request) -> None:
        context = multiprocessing.get_context("spawn")
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, asked), daemon=True)
        self.process.start()
        theirs.close()
        self.job: tuple[Item, OutputPlan] | None = None

    def give(self, job: tuple[Item, OutputPlan] | None) -> None:
        """Hand over the next job, or ``None``: there is none."""
        self.job = job
        with contextlib.suppress(OSError):  # it is dead, which is noticed when its outcome is taken
            self.ours.send(job)

    def interrupt(self) -> None:
        """Let it finish what it has begun, and stop."""
        if self.job is not None and self.process.is_alive() and self.process.pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """Wait for its end, but not for long."""
        self.ours.close()
        self.process.join(_END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def outcome(self) -> _Outcome:
        """Outcome of its job, or that it died."""
        try:
            outcome: _Outcome = self.ours.recv()
        except (EOFError, OSError):
            self.process.join(_END_SECONDS)
            if self.process.exitcode == 0:  # interrupted before it had begun, while its network was loaded
                return _Outcome(exit_code=_INTERRUPTED)
            name = "" if self.job is None else f"{shown_name(self.job[0].text)}: "
            code = self.process.exitcode
            return _Outcome(error=f"failed: {name}its process ended (code {code}); is memory short?", exit_code=1)
        return outcome


def _in_processes(
    jobs: Sequence[tuple[Item, OutputPlan]], asked: Request, stop: threading.Event
) -> Generator[_Outcome, None, None]:
    """Outcomes as they come. A process that dies fails its job alone, and another takes its place."""
    asked.open().close()  # says here, once, what is wrong with the model
    for left in [path for _, plan in jobs for path in plan.unfinished()]:
        click.echo(f"{left}: was left by a run that did not end, and is replaced", err=True)
    waiting, quiet = list(reversed(jobs)), replace(asked, progress="none")
    workers = [_Worker(quiet) for _ in range(min(asked.workers, len(jobs)))]
    told = False
    try:
        for worker in workers:
            worker.give(waiting.pop())
        while any(worker.job is not None for worker in workers):
            if stop.is_set() and not told:
                told, waiting = True, []
                for worker in workers:
                    worker.interrupt()
            ready = wait([worker.ours for worker in workers if worker.job is not None], _POLL_SECONDS)
            for place, worker in enumerate(workers):
                if worker.ours in ready:
                    yield worker.outcome()
                    if not worker.process.is_alive() and waiting:
                        workers[place] = worker = _Worker(quiet)
                    worker.give(waiting.pop() if waiting else None)
    finally:
        for worker in workers:
            worker.end()


def _work(jobs: Connection, asked: Request) -> None:
    """Run a worker: one job after the other until there is none, or its parent is gone."""
    if hasattr(os, "setsid"):
        os.setsid()  # the terminal's Ctrl-C is for the parent, which passes it on
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, EOFError, OSError), asked.open() as localizer:
        import cv2

        cv2.setNumThreads(asked.threads or 1)
        while (job := jobs.recv()) is not None:
            item, plan = job
            jobs.send(_do(localizer, item, plan, asked))
