"""The sound of the original, in a video that is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cunet_deploy.media._libav import load_av

__all__ = ["Sound"]

_LOG = logging.getLogger(__name__)
_CODEC = "aac"
_COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac", "alac")
"""Codecs that players take in every container that holds them."""


class Sound:
    """Sound of a file on its way into another one: copied where that can hold it, else encoded as AAC.

    It stays where it was against the pictures, since both keep their times in the file. Packets are taken as far as the
    pictures have come, so that what was written until a power cut has its sound.
    """

    def __init__(self, path: Path, output: Any) -> None:
        """Open the sound of a file and announce it to an ``av`` output container; there may be none."""
        av = load_av()
        self._av, self._output = av, output
        self._stream: Any = None
        self._next: Any = None
        try:
            self._input = av.open(f"file:{path}", metadata_errors="ignore")
        except (av.error.FFmpegError, OSError):
            return
        tracks = [track for track in self._input.streams.audio if track.codec_context.sample_rate]
        if not tracks:
            self._input.close()
            return
        self._source: Any = tracks[0]
        self._start = (self._input.start_time or 0) / 1e6
        self._copied = self._source.codec_context.name in {*_COPIED} & {*output.supported_codecs}
        try:
            self._stream = output.add_stream_from_template(self._source) if self._copied else self._encoder(output)
        except (av.error.FFmpegError, ValueError) as error:
            _LOG.warning("%s: its sound does not fit into this kind of file and is left out (%s)", path, error)
            self._input.close()
            return
        self._packets = self._encoded()

    def _encoder(self, output: Any) -> Any:
        """A stream of AAC, stereo where the original has several channels."""
        rate = self._source.codec_context.sample_rate
        layout = "stereo" if self._source.codec_context.channels > 1 else "mono"
        self._resampler = self._av.AudioResampler(format="fltp", layout=layout, rate=rate)
        stream = output.add_stream(_CODEC, rate=rate)
        stream.codec_context.layout = layout
        return stream

    def write_until(self, seconds: float) -> None:
        """Copy what is heard before a time of the file."""
        if self._stream is None:
            return
        while True:
            packet = self._next if self._next is not None else next(self._packets, None)
            self._next = None
            if packet is None:
                self.close()
                return
            if packet.pts is not None and float(packet.pts * packet.time_base) >= seconds:
                self._next = packet
                return
            self._output.mux(packet)

    def close(self) -> None:
        """Stop reading."""
        if self._stream is not None:
            self._input.close()
            self._stream = None

    def _encoded(self) -> Iterator[Any]:
        for packet in self._demuxed():
            if self._copied:
                if packet.dts is None:
                    continue
                shift = round(self._start / packet.time_base)
                packet.dts -= shift
                packet.pts = packet.dts if packet.pts is None else packet.pts - shift
                packet.stream = self._stream
                yield packet
            else:
                yield from self._transcoded(packet)
        if not self._copied:
            yield from self._stream.encode(None)

    def _transcoded(self, packet: Any) -> Iterator[Any]:
        try:
            frames: Any = packet.decode()
        except (self._av.error.FFmpegError, OSError):
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._start / frame.time_base)
            for part in self._resampler.resample(frame):
                yield from self._stream.encode(part)

    def _demuxed(self) -> Iterator[Any]:
        try:
            yield from self._input.demux(self._source)
        except (self._av.error.FFmpegError, OSError):
            return
