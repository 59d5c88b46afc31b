"""An IP camera: MJPEG over HTTP on the loopback interface, which tests cut, let stall and bring back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from loopback import PictureServer

__all__ = ["MjpegServer"]


class MjpegServer(PictureServer):
    """See `PictureServer`.

    Attributes:
        connections: accepted so far of those who watch.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], fps: float = 50) -> None:
        super().__init__(picture, fps)
        self.connections = 0
        self._stalled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/camera.mjpg"

    def _listen(self, port: int) -> ThreadingHTTPServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._serve(self)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *arguments: object) -> None:
                pass  # the connection was cut

        self._stalled.clear()
        return Server(("127.0.0.1", port), Handler)

    def stall(self) -> None:
        """Keep connections open, and send nothing any more."""
        self._stalled.set()

    def resume(self) -> None:
        """Send again."""
        self._stalled.clear()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        if "urllib" in handler.headers["User-Agent"]:  # only asks what it is: it gets no picture that others miss
            return
        self.connections += 1
        self._open.append(handler.connection)
        begun, first = time.monotonic(), self.sent
        while True:
            while self._stalled.is_set():
                time.sleep(0.01)
            data = cv2.imencode(".jpg", self.picture(self.sent), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            self.sent += 1
            time.sleep(max(begun + (self.sent - first) / self.fps - time.monotonic(), 0))
