"""Video files of any container, read through FFmpeg's libraries (PyAV).

What a header says of rate, count and length is a guess of its writer. Times are those of the pictures' own time stamps,
counted from the start of the file, and numbers count the packets that hold pictures: damage in the middle leaves a gap
in both, which `VideoContainer.left_out` tells, and reading goes on behind it. A file is cut off where its end is
missing: where it announces more than there is, or nothing behind the damage can be decoded.
"""

from __future__ import annotations

import heapq
import io
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media._libav import load_av
from cunet_deploy.media.frames import LeftOut
from cunet_deploy.media.readers.display import PictureConverter
from cunet_deploy.media.readers.exif import jpeg_orientation
from cunet_deploy.media.readers.gif import with_durations

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["VideoContainer", "picture_times"]

_MOST_PIXELS = 1 << 26
"""Twice those of 8K."""
_DEFAULT_FPS = 25.0
_MOST_FPS = 240.0
"""Rates above are the unit of the time stamps and not a rate, as in the WebM files of browsers."""
_PROBED_PACKETS = 64
_MOST_FAILURES = 100
"""Reads in a row that fail before the rest counts as unreadable."""
_SLACK_FRAMES = 2
"""Headers of whole files are off by this much: a container may announce frames that nothing shows."""
_LONGEST_STEP_BACK_MS = 500.0
"""Time stamps that fall back further begin anew, as in streams that were joined; shorter steps are jitter."""
_LONGEST_DECODE_STEP_BACK_MS = 100.0
"""Limit for times of decoding, which only jitter lets step back: a part may begin within a group of pictures."""
_DECODER_OPTIONS = {"idct": "simple"}
"""Inverse transform of MPEG-4 part 2, MJPEG and the like that gives the same bits on every processor. FFmpeg chooses it
by itself on x86, but another one on Arm."""
_SILENT_CODECS = (
    "vp8",
    "vp9",
    "av1",
    "mpeg4",
    "msmpeg4v3",
    "msmpeg4v2",
    "mpeg1video",
    "mpeg2video",
    "vc1",
    "wmv3",
    "gif",
)
"""Their whole files hold packets that show nothing: only what raises an error is missing."""
_JPEG_CODEC = "mjpeg"
_EXIF_BYTES = 1 << 17
"""Bytes of a picture in which its EXIF data end."""
_TRUSTED_LENGTHS = ("mov", "matroska", "avi", "flv", "asf")
"""Containers whose header states a length. Of others FFmpeg estimates it from what is there."""
_COUNTED = "avi"
"""Its header states a number of frames, and no length of its own."""
_COUNTS_FROM_ZERO = "matroska"
"""Writers of these take the end of the last picture for the length, also where the first begins late."""


class VideoContainer:
    """A video file that is being read: iterate once over ``(index, time_ms, (H, W, 3) BGR)``. Use it in ``with``.

    Attributes:
        count: how many frames it announces, about; ``None``: unknown.
        fps: mean rate by the time stamps.
        left_out: gaps so far.
    """

    def __init__(
        self,
        path: Path | str | bytes,
        *,
        name: str | None = None,
        timeout: float | None = None,
        begin: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> None:
        """Open a video.

        Args:
            path: a file, a URL as text, or the content of a GIF.
            name: what errors call it.
            timeout: seconds to wait for the server of a URL.
            begin: time stamp and index of the key frame to begin at, of those that `picture_times` gives.
            threads: of the decoder; ``None``: one less than there are processors.

        Raises:
            InputError: it is not a video, or holds no pictures.
            MissingDependencyError: PyAV is not installed.
        """
        self._av = load_av()
        # what reading damaged files raises
        self._failures = (self._av.error.FFmpegError, OSError, ValueError, IndexError, NotImplementedError)
        self._name = str(path) if name is None else name
        try:
            self._container = self._av.open(_where(path), timeout=timeout, metadata_errors="ignore")
        except self._failures as error:
            raise InputError(f"{self._name}: is cut off, damaged or not a video; copy it again") from error
        try:
            self._open_stream(threads)
            self._begin = -math.inf
            if begin is not None:
                self._seek(*begin)
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self, threads: int | None) -> None:
        pictures = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        if not pictures:
            raise InputError(f"{self._name}: holds no moving pictures; give an image or a video")
        pictures = [stream for stream in pictures if stream.codec_context is not None]
        if not pictures:
            raise InputError(f"{self._name}: no decoder knows its pictures; copy it again, or convert it to H.264")
        self._stream = max(pictures, key=lambda stream: (stream.width or 0) * (stream.height or 0))
        if (self._stream.width or 0) * (self._stream.height or 0) > _MOST_PIXELS:
            size = f"{self._stream.width}x{self._stream.height}"
            raise InputError(f"{self._name}: states frames of {size}, which are too large; scale the video down")
        context = self._stream.codec_context
        # decoding runs beside the network: on every core it would take turns with it, and both would be slower
        context.options = {**context.options, **_DECODER_OPTIONS}
        context.thread_type = "AUTO"
        context.thread_count = threads or max((os.cpu_count() or 2) - 1, 1)
        context.flags |= int(self._av.codec.context.Flags.output_corrupt)  # as players: better damaged than nothing
        self._codec = str(context.name)
        self._silent = self._codec in _SILENT_CODECS
        self._demuxed: Iterator[Any] = self._packets()
        rate = float(self._stream.average_rate or 0)
        if not 0 < rate <= _MOST_FPS:
            probed = list(itertools.islice(self._demuxed, _PROBED_PACKETS))
            rate = _measured_rate([_seconds(packet) for packet in probed])
            self._demuxed = itertools.chain(probed, self._demuxed)
        self.fps = rate
        self.count = self._stream.frames or self._announced_count()
        self.left_out: list[LeftOut] = []
        self._converter = PictureConverter(self._stream.sample_aspect_ratio)
        start = self._container.start_time
        self._start = None if start is None else start / 1e6
        self._packets_seen = self._errors = 0
        self._end = 0.0  # of the last packet of any kind, in seconds of the file
        self._decode_time = -math.inf  # of the last packet
        self._part = self._shown_part = 0  # of the last packet and the last picture: a joined stream has several
        self._waiting: list[tuple[int, float]] = []  # part and time of packets whose pictures have not come yet
        self._orientations: dict[int | None, int] = {}  # by time stamp, of JPEG pictures to come
        self._stamped = True  # whether all packets have the times of their pictures
        self._index = 0

    def _seek(self, stamp: int, index: int) -> None:
        """Begin at a key frame; pictures of packets behind it that are shown before it need what came before."""
        self._container.seek(stamp, stream=self._stream)
        self._demuxed = self._packets()
        self._begin, self._index, self._packets_seen = float(stamp * self._stream.time_base) - 1e-6, index, index

    def __iter__(self) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """Frames with their numbers and times.

        Raises:
            InputError: not a single frame can be decoded.
            CunetError: the video ends before its end; the frames until there came before.
        """
        time_ms, offset, read = -math.inf, 0.0, 0
        step = 1000 / self.fps
        for frame in self._decoded():
            seconds = frame.time if frame.pts is not None else None
            shown = -math.inf
            if seconds is not None:
                if seconds < self._begin:
                    continue
                if self._start is None or (not read and seconds < self._start):
                    self._start = seconds
                shown = (seconds - self._start) * 1000 + offset
                if shown < time_ms - _LONGEST_STEP_BACK_MS:
                    offset += time_ms + step - shown
                    shown = time_ms + step
                self._count_missing(seconds, shown, read)
            time_ms = shown if shown > time_ms else max(time_ms, -step) + step
            try:
                image = self._converter.convert(frame, self._orientations.pop(frame.pts, 0))
            except self._failures as error:
                self.left_out.append(LeftOut(self._index, f"cannot be shown ({error})", 1, time_ms))
                self._index += 1
                continue
            yield self._index, time_ms, image
            read += 1
            self._index += 1
        if not read:
            raise InputError(f"{self._name}: holds no frame that can be decoded; copy or record it again")
        if self._is_cut_off(time_ms):
            announced = f" of {self.count}" if self.count and self.count > self._index else ""
            raise CunetError(f"{self._name}: breaks off after frame {self._index}{announced}; copy or record it again")

    def _packets(self) -> Iterator[Any]:
        """Packets of all streams: those of the others tell how far the file reaches. Goes on behind what is damaged."""
        failures = 0
        while failures < _MOST_FAILURES:
            try:
                for packet in self._container.demux():
                    failures = 0
                    yield packet
                return
            except self._failures:
                failures += 1

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self._demuxed:
            if packet.stream.index != self._stream.index:
                self._see_end(packet)
                continue
            if packet.size:
                self._packets_seen += 1
                self._see_end(packet)
                self._see_part(packet)
                if self._codec == _JPEG_CODEC:
                    self._orientations[packet.pts] = jpeg_orientation(bytes(memoryview(packet)[:_EXIF_BYTES]))
                if packet.pts is None:
                    self._stamped = False
                elif not packet.is_discard and packet.pts * packet.time_base >= self._begin:
                    heapq.heappush(self._waiting, (self._part, float(packet.pts * packet.time_base)))
            try:
                frames: list[VideoFrame] = packet.decode()
            except self._failures:
                self._errors += 1
                continue
            yield from frames

    def _see_end(self, packet: Any) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self._end = max(self._end, float((stamp + (packet.duration or 0)) * packet.time_base))

    def _see_part(self, packet: Any) -> None:
        """Count the parts of a joined stream: one begins where the times of decoding begin anew."""
        if packet.dts is None:
            return
        seconds = float(packet.dts * packet.time_base)
        back_ms = (self._decode_time - seconds) * 1000
        self._part += back_ms > _LONGEST_DECODE_STEP_BACK_MS or (back_ms > 0 and packet.is_keyframe)
        self._decode_time = seconds

    def _count_missing(self, seconds: float, shown: float, read: int) -> None:
        """Note the packets before a frame of this time that gave no picture, and count them.

        Packets of the next part may be waiting while frames of the last one still come.
        """
        part = min((part for part, time in self._waiting if abs(time - seconds) < 1e-6), default=self._shown_part)
        self._shown_part = part
        missing: list[tuple[int, float]] = []
        while self._waiting and self._waiting[0] < (part, seconds - 1e-6):
            missing.append(heapq.heappop(self._waiting))
        while self._waiting and self._waiting[0] < (part, seconds + 1e-6):
            heapq.heappop(self._waiting)
        if not read:  # what comes before the first picture, such as frames that refer to one that was cut off
            self._errors = 0
            return
        exact = self._stamped and not self._silent  # then each packet is a picture, and known by its time
        count = len(missing) if exact else self._errors if not self._stamped else min(self._errors, len(missing))
        self._errors = 0
        if count:
            before = (seconds - missing[0][1]) * 1000 if missing and missing[0][0] == part else 0.0
            reason = "cannot be decoded" if count == 1 else f"{count} frames cannot be decoded"
            self.left_out.append(LeftOut(self._index, reason, count, shown - before))
            self._index += count

    def _announced_count(self) -> int | None:
        seconds = self._announced_seconds()
        begun = (self._container.start_time or 0) / 1e6
        if seconds is not None and _COUNTS_FROM_ZERO in self._container.format.name and seconds > begun:
            seconds -= begun
        return round(seconds * self.fps) or None if seconds is not None else None

    def _announced_seconds(self) -> float | None:
        """The length that the header states, of the longest stream."""
        duration = self._container.duration
        return duration / 1e6 if duration is not None and duration > 0 else None

    def _is_cut_off(self, time_ms: float) -> bool:
        """Return whether the end is missing, by what could be decoded and by time."""
        if self._errors > _SLACK_FRAMES or (self._stamped and not self._silent and len(self._waiting) > _SLACK_FRAMES):
            return True  # nothing behind the damage
        name = self._container.format.name
        if name == _COUNTED and self._packets_seen + _SLACK_FRAMES < self._stream.frames:
            return True
        length = self._announced_seconds()
        if length is None or name.split(",")[0] not in _TRUSTED_LENGTHS:
            return False
        begun = 0.0 if _COUNTS_FROM_ZERO in name else (self._container.start_time or 0) / 1e6
        return self._end - begun < length - (1 + _SLACK_FRAMES) / self.fps

    def __enter__(self) -> VideoContainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()


def picture_times(path: Path | str) -> list[tuple[int, bool]] | None:
    """Time stamps of all pictures of a video in the order in which they are shown, and which are key frames.

    Nothing is decoded. Time stamps are in units of the stream.

    Returns:
        ``None`` where packets have no time stamps of their own, or these begin anew, or some of them are not shown.

    Raises:
        InputError: as `VideoContainer`.
    """
    with VideoContainer(path) as video:
        found: list[tuple[int, bool]] = []
        for packet in video._demuxed:
            if packet.stream.index != video._stream.index or not packet.size:
                continue
            video._see_part(packet)
            if packet.pts is None or packet.is_discard or packet.is_corrupt or video._part:
                return None
            found.append((packet.pts, packet.is_keyframe))
    return sorted(found)


def _where(path: Path | str | bytes) -> Any:
    """A file or URL as FFmpeg takes it."""
    if isinstance(path, str):
        return path
    if isinstance(path, bytes):
        return io.BytesIO(with_durations(path))
    if path.suffix.lower() == ".gif":
        return _where(path.read_bytes())
    return f"file:{path}"  # keeps a colon in a name from being taken for a protocol


def _is_cover(stream: Any) -> bool:
    """Return whether it is a still picture that goes with sound or stands for the file."""
    return bool(int(stream.disposition) & 0x0C00)  # attached_pic, timed_thumbnails


def _seconds(packet: Any) -> float | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None or packet.stream.type != "video" else float(stamp * packet.time_base)


def _measured_rate(times: list[float | None]) -> float:
    """Frames per second of time stamps."""
    known = sorted({time for time in times if time is not None})
    if len(known) < 2 or known[-1] <= known[0]:
        return _DEFAULT_FPS
    return min((len(known) - 1) / (known[-1] - known[0]), _MOST_FPS)
