"""An IP camera: MJPEG over HTTP on the loopback interface, which tests cut, let stall and bring back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import cv2
import numpy as np

__all__ = ["MjpegServer"]


class MjpegServer:
    """Serves ``picture(number)`` at ``url``, endlessly, and numbers go on over reconnections. Use it in ``with``.

    Attributes:
        sent: frames so far.
        connections: accepted so far.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], fps: float = 50) -> None:
        self.picture, self.fps = picture, fps
        self.sent = self.connections = 0
        self._port = 0
        self._stalled = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/camera.mjpg"

    def start(self) -> None:
        """Listen, at the port of before where there was one."""
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
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stall(self) -> None:
        """Keep connections open, and send nothing any more."""
        self._stalled.set()

    def resume(self) -> None:
        """Send again."""
        self._stalled.clear()

    def cut(self) -> None:
        """Close all connections and do not listen."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._open:
            with contextlib.suppress(OSError):  # closed by the other side
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        self.connections += 1
        self._open.append(handler.connection)
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        begun, first = time.monotonic(), self.sent
        while True:
            while self._stalled.is_set():
                time.sleep(0.01)
            data = cv2.imencode(".jpg", self.picture(self.sent), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            self.sent += 1
            time.sleep(max(begun + (self.sent - first) / self.fps - time.monotonic(), 0))

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
