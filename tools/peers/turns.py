"""Peers that take turns in one process, so that ratios hold even where the clock or the load of the machine changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.bench.latency import Scene, drawn_picture, take_turns
from tools.peers.adapters import Peer

__all__ = ["STAGES", "ratio_to_first", "time_peers", "timed_row", "warn_of_threads"]

STAGES = ("prepare", "network", "finish")


def warn_of_threads(threads: int) -> None:
    """Say that ratios do not hold with several threads."""
    if threads > 1:
        click.echo(
            "all peers stay open, and pools of several threads spin: ratios hold with --threads 1 only", err=True
        )


def time_peers(peers: Sequence[Peer], rounds: int, calls: int) -> NDArray[np.float64]:
    """(P, 3, R, C) ms of `STAGES`, the peers in turns; the first call of a turn is not counted."""
    scene = Scene.centred(drawn_picture())
    box = np.asarray(scene.box, np.float64)
    for peer in peers:
        for _ in range(10):
            _timed(peer, scene.image, box)

    def take(index: int) -> list[tuple[float, float, float]]:
        return [_timed(peers[index], scene.image, box) for _ in range(1 + calls)][1:]

    seconds: NDArray[np.float64] = np.array(take_turns(len(peers), rounds, take))  # (P, R, C, 3)
    return np.ascontiguousarray(np.moveaxis(seconds, 3, 1)) * 1000


def timed_row(peer: Peer, timings: NDArray[np.float64], index: int) -> dict[str, Any]:
    """Make the row of a peer's file and times in a report; see `time_peers`."""
    mine = timings[index]
    return {
        "name": peer.name,
        "file_bytes": peer.bytes,
        **{f"{stage}_p50_ms": round(float(np.median(mine[i])), 4) for i, stage in enumerate(STAGES)},
        "total_p50_ms": round(float(np.median(mine.sum(axis=0))), 4),
        "network_ratio_to_first": ratio_to_first(timings, index, slice(1, 2)),
        "total_ratio_to_first": ratio_to_first(timings, index, slice(0, 3)),
    }


def ratio_to_first(timings: NDArray[np.float64], index: int, stages: slice) -> dict[str, float]:
    """Ratio of a peer's time for some of `STAGES` to that of the first one; see `time_peers`."""
    return metrics.ratio_of_medians(timings[[index, 0]][:, stages].sum(axis=1).transpose(1, 0, 2)).to_dict()


def _timed(peer: Peer, image: NDArray[np.uint8], box: NDArray[np.float64]) -> tuple[float, float, float]:
    marks = [time.perf_counter()]
    prepared = peer.prepare(image, box)
    marks.append(time.perf_counter())
    output = peer.network(prepared)
    marks.append(time.perf_counter())
    peer.finish(prepared, output)
    marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]
