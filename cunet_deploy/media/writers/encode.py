"""H.264, and the sound of the original, through an ``ffmpeg`` program where there is one.

The OpenCV wheels carry no H.264 encoder, and cannot copy sound. ``CUNET_FFMPEG`` names another program, or is ``off``.

Pictures go to ffmpeg through a pipe, into fragments: what has been written can be played even when the disk is full or
the power fails. At the end they are copied into a plain file, together with the sound.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import CunetError

__all__ = ["FfmpegWriter", "Timeline", "find_ffmpeg", "fitted"]

_LOG = logging.getLogger(__name__)
_ENCODERS = {
    "libx264": ("-preset", "veryfast", "-crf", "20"),
    "libopenh264": ("-b:v", "6M"),
}
_LONGEST_GAP_SECONDS = 60
_FINISH_SECONDS = 600


class Timeline:
    """Which frames of a video of constant rate show those that came at their own times: it plays as fast as it was.

    A gap is filled by showing the frame before it longer, up to a minute. Of a live source, frames that come faster
    than the rate are left out; of a file none is, so that a video has at least as many frames as its original.
    """

    def __init__(self, fps: float, *, live: bool) -> None:
        """Start.

        Args:
            fps: of the video.
            live: whether frames that come too fast may be left out.
        """
        self._fps, self._live = fps, live
        self._begun: float | None = None
        self._shown = 0

    def add(self, time_ms: float) -> tuple[int, int]:
        """For the frame of this time: how often to show the one before once more, and then this one, 0 or 1."""
        if self._begun is None:
            self._begun = time_ms
        place = round((time_ms - self._begun) * self._fps / 1000)
        again = place - self._shown
        if again > _LONGEST_GAP_SECONDS * self._fps:  # a clock that jumped, or a source that was away
            self._begun = time_ms - self._shown * 1000 / self._fps
            again = 0
        if again < 0 and self._live:
            return 0, 0
        again = max(again, 0)
        self._shown += again + 1
        return again, 1


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


def find_ffmpeg() -> tuple[str, str] | None:
    """The ffmpeg program and its H.264 encoder; ``None`` where there is none that works."""
    wanted = os.environ.get("CUNET_FFMPEG", "ffmpeg")
    return None if wanted in ("off", "") else _look_for(wanted, os.environ.get("PATH", ""))


@functools.cache
def _look_for(name: str, path: str) -> tuple[str, str] | None:
    program = shutil.which(name, path=path)
    if program is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        known = _run([program, "-hide_banner", "-encoders"]).stdout.decode("utf-8", "replace").split()
        return next(((program, encoder) for encoder in _ENCODERS if encoder in known), None)
    return None


class FfmpegWriter:
    """Writes BGR frames of one size as H.264; see `media.readers.video.VideoWriter`, which has the same methods.

    Attributes:
        playable: after `close`, also when that raises: whether the file holds something that plays.
    """

    def __init__(
        self, path: Path, fps: float, size: tuple[int, int], *, name: Path, ffmpeg: tuple[str, str], audio: Path | None
    ) -> None:
        """Start a file.

        Args:
            path: .mp4, .m4v, .mov or .mkv.
            fps: frames per second.
            size: (width, height).
            name: what errors call it.
            ffmpeg: the program and its encoder.
            audio: a video whose sound is copied.

        Raises:
            CunetError: the program cannot be started.
        """
        self._path, self._name, self._size, self._audio = path, name, size, audio
        self._program, encoder = ffmpeg
        self._fps = fps
        self._frames = 0
        self.playable = False
        rate = str(Fraction(fps).limit_denominator(1001))
        command = [self._program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-framerate", rate, "-i", "-"]
        # sides of H.264 as players know it are even; a column or row is added, as none is to be lost
        command += ["-an", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-c:v", encoder]
        command += [*_ENCODERS[encoder], "-g", str(max(round(2 * fps), 1))]
        if path.suffix.lower() != ".mkv":
            command += ["-movflags", "frag_keyframe+empty_moov+default_base_moof"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by close
        try:
            self._process = subprocess.Popen(
                [*command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us: we end the pipe, and what was encoded is finished
            )
        except OSError as error:
            self._said.close()
            raise CunetError(f"{self._program}: cannot be started ({error.strerror}); set CUNET_FFMPEG=off") from error

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame; one of another size is fitted into the first one's.

        Raises:
            CunetError: ffmpeg has ended; the message has its reason.
        """
        data = memoryview(np.ascontiguousarray(fitted(image, self._size)).reshape(-1).data)
        pipe, sent = self._process.stdin, 0
        assert pipe is not None
        try:
            while sent < len(data):
                sent += pipe.write(data[sent:]) or 0
        except BrokenPipeError:
            self._process.wait()
            raise CunetError(f"{self._name}: cannot be written: {self._reason()}") from None
        self._frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            CunetError: it is not whole.
        """
        with self._said:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            code = self._process.wait()
            reason = self._reason()
            self.playable = self._frames > 0 and self._plays()
            if code == 0 and self.playable:
                self._finish()
        if code or not self.playable:
            raise CunetError(f"{self._name}: not all of {self._frames} frames were written: {reason}")

    def abort(self) -> None:
        """End the program; the file is of no use."""
        with self._said:
            self._process.kill()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process.wait()

    def _reason(self) -> str:
        """What ffmpeg said last, or how it ended."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        full = next((line for line in lines if "No space left" in line or "File too large" in line), None)
        last = full or (lines[-1] if lines else f"it ended with code {self._process.poll()}")
        return f"ffmpeg says: {last.strip()}" if lines else f"ffmpeg: {last}; is the disk full?"

    def _plays(self) -> bool:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        good = capture.isOpened() and capture.grab()
        capture.release()
        return bool(good)

    def _finish(self) -> None:
        """Copy the fragments into a plain file with the sound; where that fails, the fragments stay, and play too."""
        sound = self._audio is not None and self._has_sound(self._audio)
        if sound:
            length = ["-t", f"{self._frames / self._fps:.3f}", "-i", str(self._audio), "-map", "0:v", "-map", "1:a"]
            if self._copied([*length, "-c", "copy"]) or self._copied([*length, "-c:v", "copy", "-c:a", "aac"]):
                return
            _LOG.warning("%s: is without sound: that of the original does not fit into this kind of file", self._name)
        self._copied(["-map", "0:v", "-c", "copy"])

    def _copied(self, how: list[str]) -> bool:
        """Replace the file by what ffmpeg makes of it; false, and it stays, where that does not work."""
        whole = self._path.with_name(f"{self._path.stem}.whole{self._path.suffix}")
        command = [self._program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", str(self._path), *how]
        command += [] if self._path.suffix.lower() == ".mkv" else ["-movflags", "+faststart"]
        try:
            if _run([*command, str(whole)]).returncode or not whole.stat().st_size:
                return False
            whole.replace(self._path)
        except (OSError, subprocess.SubprocessError) as error:
            _LOG.debug("%s: %s", self._name, error)
            return False
        finally:
            with contextlib.suppress(OSError):
                whole.unlink(missing_ok=True)
        return True

    def _has_sound(self, path: Path) -> bool:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return b"Audio:" in _run([self._program, "-hide_banner", "-nostdin", "-i", str(path)]).stderr
        return False


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, out of reach of the terminal's Ctrl-C."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_FINISH_SECONDS, start_new_session=True
    )
