"""Messages of ``cunet-deploy infer``: progress and summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from cunet_deploy.cli._options import progress

if TYPE_CHECKING:
    from cunet_deploy.media import Frame, OutputPlan, Outputs, Source

__all__ = ["Tally", "left_out_lines", "watching"]

_EVERY_SECONDS = 1.0
_MOST_NAMED = 20


@dataclass
class Tally:
    """Count of what was done so far; seconds are wall time of the main thread.

    Attributes:
        total: frames that the source announces; ``None``: unknown.
        live: whether the source is live, so that numbers of frames have gaps where some were dropped.
        frames: done.
        found: of them, with at least one object.
        objects: in the last one.
        dropped: frames of a live source that were not looked at, because others were newer.
        localize: seconds spent on finding landmarks.
        read: seconds of waiting for the next frame, which is decoded in another thread.
        begun: when it began.
        elapsed: seconds in all, known at the end.
    """

    total: int | None = None
    live: bool = False
    frames: int = 0
    found: int = 0
    objects: int = 0
    dropped: int = 0
    localize: float = 0.0
    read: float = 0.0
    begun: float = field(default_factory=time.perf_counter)
    elapsed: float = 0.0

    def add(self, frame: Frame) -> None:
        """Count a frame that was localized."""
        self.frames += 1
        self.objects = len(frame.landmarks)
        self.found += self.objects > 0
        self.localize += frame.seconds
        if self.live:
            self.dropped = frame.index + 1 - self.frames

    def state(self, *, done: bool) -> dict[str, Any]:
        """For programs. The keys are described in the help of ``cunet-deploy infer``."""
        elapsed = time.perf_counter() - self.begun
        fps = self.frames / max(elapsed, 1e-9)
        known = self.total is not None and self.frames > 0 and not done
        left = max((self.total or 0) - self.frames, 0) / fps if known else None
        return {
            "frames": self.frames,
            "total": self.total,
            "fps": round(fps, 2),
            "objects": self.objects,
            "dropped": self.dropped,
            "elapsed_s": round(elapsed, 2),
            "left_s": None if left is None else round(left, 2),
            "done": done,
        }

    def line(self, source: str, outputs: Outputs, plan: OutputPlan) -> str:
        """The summary."""
        stages = {
            "read": self.read,
            "localize": self.localize,
            "draw": outputs.draw_seconds,
            "write": outputs.write_seconds,
        }
        times = ", ".join(f"{name} {seconds / self.frames * 1000:.1f}" for name, seconds in stages.items())
        there = [path for path in plan.files if path.exists() or "%" in path.name]  # not a video that would not play
        shown = ", ".join(map(str, there)) or ("to stdout" if plan.stdout else "nothing")
        if len(there) > 3:
            whole, folders = [path for path in there if not path.is_dir()], [path for path in there if path.is_dir()]
            of_objects = "".join(f", those of each object in {folder}" for folder in folders)
            shown = f"{len(whole)} files in {whole[0].parent}{of_objects}"
        fps = self.frames / max(self.read + self.localize, 1e-9)  # drawing and encoding run beside it
        all_fps = self.frames / max(self.elapsed, 1e-9)
        dropped = f"{self.dropped} dropped, " if self.live else ""
        written = f"{outputs.frames} written, " if outputs.frames != self.frames else ""
        return (
            f"{source}: {self.frames} frames, {self.found} with landmarks, {written}{dropped}{all_fps:.0f} fps, "
            f"{fps:.0f} fps without drawing and encoding (ms a frame: {times}); wrote {shown}"
        )


def left_out_lines(source: Source) -> list[str]:
    """List what gave no picture, one line each; the records hold all of it."""
    lines = []
    for item in source.left_out[:_MOST_NAMED]:
        if item.name:
            lines.append(f"left out: {item.name}: {item.reason}")
        else:
            last = f"s {item.index} to {item.index + item.count - 1}" if item.count > 1 else f" {item.index}"
            lines.append(f"warning: frame{last} (from {item.time_ms / 1000:.2f} s): {item.reason}")
    if len(source.left_out) > _MOST_NAMED:
        lines.append(f"and {len(source.left_out) - _MOST_NAMED} more; the records name them")
    return lines


@contextmanager
def watching(kind: str, tally: Tally) -> Iterator[Callable[[], None]]:
    """Give the function that shows the tally as it is now; call it after each frame.

    Args:
        kind: ``"bar"`` on a terminal, ``"json"``: an object a second on stderr and one at the end, or ``"none"``.
        tally: what is shown.
    """
    if kind == "none":
        yield lambda: None
    elif kind == "json":
        due = tally.begun + _EVERY_SECONDS

        def report() -> None:
            nonlocal due
            if time.perf_counter() >= due:
                due = time.perf_counter() + _EVERY_SECONDS
                _print(tally.state(done=False))

        yield report
        _print(tally.state(done=True))
    else:
        dropped = ("{task.fields[dropped]} dropped",) if tally.live else ()
        with progress("{task.fields[fps]:.0f} fps", "{task.fields[objects]} found", *dropped) as bar:
            task = bar.add_task("infer", total=tally.total, fps=0.0, objects=0, dropped=0)

            def move() -> None:
                fps = tally.frames / max(time.perf_counter() - tally.begun, 1e-9)
                bar.update(task, completed=tally.frames, fps=fps, objects=tally.objects, dropped=tally.dropped)

            yield move


def _print(state: dict[str, Any]) -> None:
    click.echo(json.dumps(state), file=sys.stderr)
