"""A server of pictures on the loopback interface, which tests cut and bring back; see `mjpeg` and `rtsp`."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import numpy as np

__all__ = ["PictureServer"]

Self = TypeVar("Self", bound="PictureServer")


class PictureServer(ABC):
    """Serves ``picture(number)``, endlessly, and numbers go on over reconnections. Use it in ``with``.

    Attributes:
        sent: pictures so far, over all connections.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], fps: float) -> None:
        self.picture, self.fps, self.sent = picture, fps, 0
        self._port = 0
        self._server: socketserver.TCPServer | None = None
        self._open: list[socket.socket] = []

    @abstractmethod
    def _listen(self, port: int) -> socketserver.TCPServer:
        """A server that puts its connections into ``_open``."""

    def start(self) -> None:
        """Listen, at the port of before where there was one."""
        self._server = self._listen(self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

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

    def __enter__(self: Self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
