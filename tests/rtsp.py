"""An RTSP camera on the loopback interface: JPEG pictures in RTP packets (RFC 2435), within the RTSP connection."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import time
from collections.abc import Callable

import cv2
import numpy as np
from loopback import PictureServer

__all__ = ["RtspServer"]

_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
_CLOCK = 90_000
_PAYLOAD = 1200


class RtspServer(PictureServer):
    """See `PictureServer`; 16 must divide the sides of the pictures."""

    def __init__(self, picture: Callable[[int], np.ndarray], fps: float = 40) -> None:
        super().__init__(picture, fps)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/cam"

    def _listen(self, port: int) -> socketserver.ThreadingTCPServer:
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._open.append(self.connection)
                with contextlib.suppress(OSError):  # the connection was cut
                    outer._talk(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        return Server(("127.0.0.1", port), Handler)

    def _talk(self, handler: socketserver.StreamRequestHandler) -> None:
        while line := handler.rfile.readline():
            method, number = line.split(b" ")[0], b"0"
            while (header := handler.rfile.readline().strip()) != b"":
                if header.lower().startswith(b"cseq:"):
                    number = header[5:].strip()
            extra, body = {
                b"OPTIONS": (b"Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", b""),
                b"DESCRIBE": (b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(_SDP), _SDP),
                b"SETUP": (b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", b""),
            }.get(method, (b"Session: 1\r\n", b""))
            handler.wfile.write(b"RTSP/1.0 200 OK\r\nCSeq: " + number + b"\r\n" + extra + b"\r\n" + body)
            if method == b"PLAY":
                self._play(handler)

    def _play(self, handler: socketserver.StreamRequestHandler) -> None:
        sequence, begun, first = 0, time.monotonic(), self.sent
        while True:
            stamp = int((self.sent - first) / self.fps * _CLOCK)
            for payload, last in _packets(self.picture(self.sent)):
                head = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence & 0xFFFF, stamp, 1)
                handler.wfile.write(struct.pack(">cBH", b"$", 0, len(head) + len(payload)) + head + payload)
                sequence += 1
            self.sent += 1
            time.sleep(max(begun + (self.sent - first) / self.fps - time.monotonic(), 0))


def _packets(image: np.ndarray) -> list[tuple[bytes, bool]]:
    """Payloads of one picture, and whether each is its last."""
    height, width = image.shape[:2]
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tables, at = b"", 2
    while data[at + 1] != 0xDA:  # up to the start of the scan
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDB:
            segment = data[at + 4 : at + 2 + size]
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        at += 2 + size
    scan = data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") : -2]
    packets = []
    for start in range(0, len(scan), _PAYLOAD):
        head = struct.pack(">II", start, 1 << 24 | 255 << 16 | width // 8 << 8 | height // 8)
        if start == 0:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        packets.append((head + scan[start : start + _PAYLOAD], start + _PAYLOAD >= len(scan)))
    return packets
