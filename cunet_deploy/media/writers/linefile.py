"""A text file that is written line by line and ends on a whole line, whatever happens."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from cunet_deploy._files import atomic_path, unwritable

__all__ = ["LineFile"]

T = TypeVar("T", bound="LineFile")

_HELD_BYTES = 1 << 14
_HELD_SECONDS = 1.0


class LineFile:
    """Lines on their way to a file, which gets its name at the end. In ``with``: an error leaves no file.

    Lines are held for a second at most as long as more come, and are written whole: the temporary file of a process
    that is killed ends on a whole line too. When the disk is full, what was begun is cut off again.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Choose a file; it is created when the block is entered.

        Args:
            path: where it shall be.
            overwrite: whether to replace one that exists.
        """
        self._path, self._overwrite = path, overwrite
        self._stack = ExitStack()
        self._held = bytearray()
        self._whole = 0
        self._flushed = time.monotonic()

    def add(self, text: str) -> None:
        """Add whole lines.

        Raises:
            CunetError: they cannot be written. The file ends on a whole line and can be finished.
        """
        self._held += text.encode("utf-8")
        now = time.monotonic()
        if len(self._held) > _HELD_BYTES or now - self._flushed > _HELD_SECONDS:
            self.flush()
            self._flushed = now

    def flush(self) -> None:
        """Write what is held.

        Raises:
            CunetError: it cannot be written.
        """
        data, written = bytes(self._held), 0
        self._held.clear()
        try:
            while written < len(data):
                written += self._file.write(memoryview(data)[written:]) or 0
        except OSError as error:
            self._whole += data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
                self._file.seek(self._whole)
            raise unwritable(self._path, error) from error
        self._whole += written

    def __enter__(self: T) -> T:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path, overwrite=self._overwrite))
            self._file = stack.enter_context(temporary.open("wb", buffering=0))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late: BaseException | None = None
        if error is None:
            try:
                self.flush()
            except Exception as failure:  # noqa: BLE001  raised below, when the file has its name
                late = failure
        self._stack.__exit__(kind, error, trace)
        if late is not None:
            raise late
