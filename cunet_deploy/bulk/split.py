"""Split points of long videos, so that several workers share one: at key frames, found without decoding anything."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from pathlib import Path

from cunet_deploy.bulk.items import Part
from cunet_deploy.media import LeftOut, Picture
from cunet_deploy.media.readers.container import VideoContainer, picture_times

__all__ = ["parts_of", "read_part"]


def parts_of(path: Path, part_seconds: float, warm_up: int) -> list[Part]:
    """The parts of a video; none where it is short, or cannot be cut because its packets have no times of their own.

    Args:
        path: of the video.
        part_seconds: about how long a part is.
        warm_up: frames before each part but the first that are localized with it.

    Raises:
        InputError: it is not a video.
    """
    with VideoContainer(path) as video:
        if video.count is None or video.count / video.fps < 2 * part_seconds:
            return []
        frames = max(round(part_seconds * video.fps), warm_up + 1)
    packets = picture_times(path)
    if packets is None or len(packets) < 2 * frames:
        return []
    times = [time for time, _ in packets]
    keys = [index for index, (_, is_key) in enumerate(packets) if is_key]
    count = len(times) // frames
    parts = []
    for number in range(count):
        first = number * frames
        last = None if number == count - 1 else first + frames
        if number == 0:
            parts.append(Part(0, 0, None, 0, 0, last))
            continue
        key = keys[max(bisect.bisect_right(keys, first - warm_up) - 1, 0)]
        parts.append(Part(number, first, times[key], key, warm_up, last))
    return parts


def read_part(path: Path, part: Part, left_out: list[LeftOut], threads: int | None = None) -> Iterator[Picture]:
    """The pictures of a part, from its warm-up on.

    Args:
        path: of the video.
        part: of it.
        left_out: gets the gaps between the part's own frames, when they have been read.
        threads: of the decoder, as `VideoContainer` takes it.

    Raises:
        CunetError: the video breaks off.
    """
    begin = None if part.seek is None else (part.seek, part.seek_index)
    last = math.inf if part.last is None else part.last
    with VideoContainer(path, begin=begin, threads=threads) as video:
        for index, time_ms, image in video:
            if index >= last:
                break
            if index >= part.first - part.warm_up:
                yield Picture(index, time_ms, image)
        left_out += [gap for gap in video.left_out if part.first <= gap.index < last]
