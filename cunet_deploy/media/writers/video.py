"""Annotated video files: H.264, or what else the container takes, encoded by FFmpeg's libraries (PyAV).

Frames last as long as they did in the source. What has been written can be played at any moment, also after a power
cut: MP4 and MOV files are written in fragments and become plain ones when they are finished.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import unwritable
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media._libav import load_av
from cunet_deploy.media.writers.sound import Sound
from cunet_deploy.media.writers.timeline import Clock, Timeline

__all__ = ["WRITABLE_SUFFIXES", "VideoWriter", "fitted"]

# Without frames that refer to later ones, fragments need no table of when each is shown.
_H264 = ("libx264", {"preset": "ultrafast", "crf": "22", "bf": "0"})
_MPEG4 = ("mpeg4", {"qscale": "3", "flags": "+qscale"})
_MJPEG = ("mjpeg", {"qscale": "3", "flags": "+qscale"})
_FRAGMENTS = {"movflags": "hybrid_fragmented+delay_moov+frag_keyframe"}


@dataclass(frozen=True)
class _Container:
    """A kind of video file.

    Attributes:
        format: FFmpeg's name.
        codecs: the first that this FFmpeg has is taken, with its options.
        options: of the container.
        constant: whether all frames last equally long.
    """

    format: str
    codecs: tuple[tuple[str, dict[str, str]], ...]
    options: dict[str, str]
    constant: bool = False


_CONTAINERS = {
    ".mp4": _Container("mp4", (_H264, _MPEG4), _FRAGMENTS),
    ".m4v": _Container("mp4", (_H264, _MPEG4), _FRAGMENTS),
    ".mov": _Container("mov", (_H264, _MPEG4), _FRAGMENTS),
    ".mkv": _Container("matroska", (_H264, _MPEG4), {"cluster_time_limit": "1000", "flush_packets": "1"}),
    ".avi": _Container("avi", (_MJPEG,), {}, constant=True),
}
"""One row for each kind of file that can be written."""

WRITABLE_SUFFIXES = tuple(_CONTAINERS)

_TICKS = 90_000
"""Time stamps per second."""
_BT601, _LIMITED = 6, 1
"""Matrix and range of the colours as OpenCV converts them, which the file states so that players turn them back."""
_GROUP_SECONDS = 2
"""Between frames that need no other: what a fragment holds, and the most that a power cut costs."""


class VideoWriter:
    """Writes BGR frames into a video file; one of another size than the first is fitted into that.

    Attributes:
        playable: after `close`, also when that raises: whether the file holds something that plays.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size: tuple[int, int],
        *,
        name: Path | None = None,
        audio: Path | None = None,
    ) -> None:
        """Start a file.

        Args:
            path: where to write.
            fps: frames per second, of the file where that is constant (AVI), else of frames without times.
            size: (width, height).
            name: what the file will be called, whose suffix chooses the format, see `WRITABLE_SUFFIXES`; ``None``: as
                ``path``.
            audio: a video whose sound is copied.

        Raises:
            InputError: the suffix is not one that can be written.
            CunetError: the file cannot be written.
        """
        self._name = path if name is None else name
        kind = _CONTAINERS.get(self._name.suffix.lower())
        if kind is None:
            raise InputError(
                f"{self._name}: video is written as {', '.join(WRITABLE_SUFFIXES)}; choose one of these suffixes"
            )
        self._av, self._path, self._size, self._fps = load_av(), path, size, fps
        self._clock, self._timeline = Clock(fps), Timeline(fps) if kind.constant else None
        self._frames = 0
        self._held: tuple[Any, int] | None = None  # a frame and its time: how long it lasts, the next one says
        self._tick = Fraction(1, _TICKS)
        self._image: NDArray[np.uint8] | None = None  # the last one, where the rate is constant
        self.playable = False
        self._file: IO[bytes] | None = None
        try:
            self._file = path.open("wb")
            self._open(kind, audio)
        except OSError as error:
            self.abort()
            raise unwritable(self._name, error) from error
        except self._av.error.FFmpegError as error:
            self.abort()
            raise CunetError(
                f"{self._name}: video of {size[0]}x{size[1]} cannot be written ({error}); try another suffix"
            ) from error

    def _open(self, kind: _Container, audio: Path | None) -> None:
        self._output: Any = self._av.open(self._file, "w", format=kind.format, options=kind.options)
        codec, options = next((row for row in kind.codecs if _can_encode(self._av, row[0])), kind.codecs[-1])
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream: Any = self._output.add_stream(codec, rate=rate, options=options)
        context = self._stream.codec_context
        # sides of H.264 as players know it are even: a column or row is added, as none is to be lost
        context.width, context.height = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        context.gop_size = max(round(_GROUP_SECONDS * self._fps), 1)
        self._full_range = codec == "mjpeg"
        if not self._full_range:
            context.colorspace = context.color_primaries = context.color_trc = _BT601
            context.color_range = _LIMITED
        if self._timeline is None:
            context.time_base = self._stream.time_base = self._tick
            context.flags |= int(self._av.codec.context.Flags.frame_duration)
        else:
            context.time_base = self._tick = 1 / rate
        self._sound = None if audio is None else Sound(audio, self._output)

    def write(self, image: NDArray[np.uint8], time_ms: float | None = None) -> None:
        """Append a frame.

        Args:
            image: (H, W, 3) BGR.
            time_ms: when it is shown, since the start of the video; ``None``: after the one before.

        Raises:
            CunetError: the file cannot be written.
        """
        time_ms = self._frames * 1000 / self._fps if time_ms is None else time_ms
        self._frames += 1
        if self._timeline is None:
            self._put(image, round(self._clock.add(time_ms) * _TICKS / 1000))
            return
        again, once = self._timeline.add(time_ms)
        for shown in [*[self._image if self._image is not None else image] * again, *[image] * once]:
            self._put(shown, 0 if self._held is None else self._held[1] + 1)
        self._image = image if once else self._image

    def _put(self, image: NDArray[np.uint8], ticks: int) -> None:
        """Encode the frame that is held, which lasts until this one, and hold this one."""
        frame = self._converted(image)
        if self._held is not None:
            self._encode(self._held[0], self._held[1], max(ticks - self._held[1], 1))
            self._duration = max(ticks - self._held[1], 1)
        self._held = (frame, ticks)

    def _encode(self, frame: Any, ticks: int, duration: int) -> None:
        frame.pts, frame.time_base, frame.duration = ticks, self._tick, duration
        self._mux(lambda: self._stream.encode(frame), float((ticks + duration) * self._tick))

    def _mux(self, packets: Any, until: float) -> None:
        try:
            self._output.mux(packets())
            if self._sound is not None:
                self._sound.write_until(until)
        except OSError as error:  # PyAV's own errors of the system are such too
            raise unwritable(self._name, error) from error
        except self._av.error.FFmpegError as error:
            raise CunetError(f"{self._name}: cannot be written: {error}") from error

    def _converted(self, image: NDArray[np.uint8]) -> Any:
        image = fitted(image, self._size)
        right, below = self._size[0] % 2, self._size[1] % 2
        if right or below:
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        if self._full_range:
            frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
            return frame.reformat(format="yuvj420p", dst_color_range=2)
        frame = self._av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        frame.colorspace, frame.color_range = _BT601, _LIMITED
        return frame

    def close(self) -> None:
        """Finish the file.

        Raises:
            CunetError: it is not whole.
        """
        failure: CunetError | None = None
        try:
            if self._held is not None:
                self._encode(*self._held, getattr(self, "_duration", max(round(1 / self._fps / self._tick), 1)))
            self._mux(lambda: self._stream.encode(None), -1.0)
            self._finish()
        except CunetError as error:
            failure = error
        self.abort()
        self.playable = self._frames > 0 and self._plays()
        if failure is None and not self.playable:
            failure = CunetError(f"{self._name}: not all of {self._frames} frames were written; is the disk full?")
        if failure is not None:
            raise failure

    def _finish(self) -> None:
        try:
            self._output.close()
            assert self._file is not None
            self._file.close()
        except OSError as error:
            raise unwritable(self._name, error) from error
        except self._av.error.FFmpegError as error:
            raise CunetError(f"{self._name}: cannot be written: {error}") from error

    def abort(self) -> None:
        """Stop writing; what has been written stays."""
        sound = getattr(self, "_sound", None)
        if sound is not None:
            sound.close()
        output = getattr(self, "_output", None)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if output is not None:
            with contextlib.suppress(Exception):  # its end cannot be written into a closed file
                output.close()

    def _plays(self) -> bool:
        try:
            with self._av.open(f"file:{self._path}") as video:
                return next(video.decode(video=0), None) is not None
        except (self._av.error.FFmpegError, OSError, IndexError):
            return False


def fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image in the middle of a black one of (width, height), scaled without changing its proportions."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    share = min(size[0] / width, size[1] / height)
    inner = (max(min(round(width * share), size[0]), 1), max(min(round(height * share), size[1]), 1))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR)
    canvas[top : top + inner[1], left : left + inner[0]] = small
    return canvas


def _can_encode(av: Any, codec: str) -> bool:
    try:
        return bool(av.codec.Codec(codec, "w"))
    except (av.error.FFmpegError, ValueError):
        return False
