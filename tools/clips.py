"""Small video files of the kinds that people have, made with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

__all__ = ["make_clip", "moving_square", "spoil"]

Draw = Callable[[int], np.ndarray]


def moving_square(index: int, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A picture with a square that moves, and a corner that is like that of no other frame."""
    image = np.full((size[1], size[0], 3), (90, 110, 130), np.uint8)
    left = 40 + index % 40
    image[40:80, left : left + 40] = (40, 200, 90)
    image[:16, :16] = 4 * index % 256
    return image


def make_clip(
    path: Path,
    times_ms: Sequence[float],
    *,
    codec: str = "mpeg4",
    container: str | None = None,
    options: dict[str, str] | None = None,
    draw: Draw = moving_square,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    aspect: Fraction | None = None,
    turn: tuple[float, bool, bool] | None = None,
    colours: dict[str, int] | None = None,
    sound_ms: tuple[float, float] | None = None,
    sound: str = "aac",
    rate: int | None = None,
    group: int = 12,
) -> Path:
    """Write a clip whose frames have these times.

    Args:
        path: where.
        times_ms: of the frames.
        codec: of the pictures.
        container: FFmpeg's name; ``None``: by the suffix.
        options: of the container.
        draw: gives the picture of an index, (height, width, 3) BGR.
        size: (width, height) of the stored picture.
        pix_fmt: of the stored picture.
        aspect: width of a pixel by its height.
        turn: of the display matrix: degrees counterclockwise, mirrored left and right, up and down.
        colours: ``colorspace``, ``color_range``, ``color_trc`` and ``color_primaries``.
        sound_ms: from when to when there is a tone.
        sound: its codec.
        rate: frames per second that the header states.
        group: frames between those that need no other.
    """
    output: Any = av.open(str(path), "w", format=container, options=options or {})
    stream: Any = output.add_stream(codec, rate=rate or 1000)
    stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
    stream.codec_context.gop_size, stream.codec_context.max_b_frames = group, 0
    stream.codec_context.time_base = Fraction(1, rate or 1000)
    for name, value in (colours or {}).items():
        setattr(stream.codec_context, name, value)
    if aspect is not None:
        stream.codec_context.sample_aspect_ratio = aspect
    if turn is not None:
        stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
    tone: Any = output.add_stream(sound, rate=44100) if sound_ms is not None else None
    packets = _encoded(stream, [draw(index) for index in range(len(times_ms))], times_ms, rate or 1000, colours or {})
    if sound_ms is not None:
        packets += _tone(tone, sound_ms)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
    for packet in packets:
        output.mux(packet)
    output.close()
    return path


def _encoded(
    stream: Any, images: Sequence[np.ndarray], times_ms: Sequence[float], rate: int, colours: dict[str, int]
) -> list[Any]:
    """Packets of all images."""
    packets: list[Any] = []
    usual = {"colorspace": 5, "color_range": 2 if stream.pix_fmt.startswith("yuvj") else 1}
    tags = usual | colours
    for image, time_ms in zip(images, times_ms, strict=True):
        frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        frame = frame.reformat(
            width=stream.width,
            height=stream.height,
            format=stream.pix_fmt,
            dst_colorspace=tags["colorspace"],
            dst_color_range=tags["color_range"],
        )
        for name, value in colours.items():
            setattr(frame, name, value)
        frame.pts, frame.time_base = round(time_ms * rate / 1000), Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def spoil(path: Path, first: int, count: int) -> Path:
    """Write zeros over the pictures of some packets of a file, whose tables stay as they are."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        contents = [bytes(packet) for packet in packets[first : first + count]]
    for content in contents:
        place = data.find(content)
        assert place > 0
        data[place : place + len(content)] = bytes(len(content))
    path.write_bytes(data)
    return path


def _tone(stream: Any, span_ms: tuple[float, float]) -> list[Any]:
    rate, packets = 44100, []
    start, end = (round(time * rate / 1000) for time in span_ms)
    for place in range(start, end, 1024):
        wave = np.sin(np.arange(place, place + 1024) * 0.06).astype(np.float32)[None]
        frame: Any = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))
