"""Threads beside the network: the next frames are decoded, and the last ones drawn and encoded, while it runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["WriteBehind", "read_ahead"]

T = TypeVar("T")


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def read_ahead(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """The same items in the same order, with up to ``depth`` taken in advance by a thread.

    An error of ``items`` is raised here, after the items before it. The thread ends with this iterator, also when it is
    closed early.
    """
    ready: queue.Queue[_Item[T] | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(entry: _Item[T] | _End) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not offer(_Item(item)):
                    return
        except BaseException as caught:  # noqa: BLE001  handed over and raised in the reader's thread
            error = caught
        offer(_End(error))

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            entry = ready.get()
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry.value
    finally:
        stopped.set()
        thread.join()


class WriteBehind(Generic[T]):
    """Hands items to a function in a thread, in order. In ``with``: leaving the block waits for the last one.

    An error of the function is raised by the next `put`, or when the block is left; items after it are dropped.
    """

    def __init__(self, function: Callable[[T], object], depth: int = 4) -> None:
        """Take a function.

        Args:
            function: called with each item, in the thread.
            depth: items that may wait; then `put` waits.
        """
        self._function = function
        self._waiting: queue.Queue[_Item[T] | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)

    def put(self, item: T) -> None:
        """Hand over an item."""
        self._raise()
        self._waiting.put(_Item(item))

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(_End(None))
        self._thread.join()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while not isinstance(entry := self._waiting.get(), _End):
            if self._error is not None:
                continue  # keep taking, so that nobody waits for room
            try:
                self._function(entry.value)
            except BaseException as caught:  # noqa: BLE001  handed over and raised in the writer's thread
                self._error = caught
