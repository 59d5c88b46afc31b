"""Threads beside the network: the next frames are decoded, and the last ones drawn and encoded, while it runs.

OpenCV and ONNX Runtime let other threads run while they work, so threads are enough. Between two stages wait at most
``depth`` items: a slow stage holds back the ones before it, and memory does not grow with the length of a video. With
``depth`` 0 there is no thread and everything happens in turn, which is quicker to start for a single item.

A camera cannot be held back. What it gives is read as it comes, and when the network is slower the oldest items that
wait are dropped: results are late by a frame or two, never more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["DEPTH", "LIVE_DEPTH", "WriteBehind", "read_ahead"]

T = TypeVar("T")

DEPTH = 4
"""Items between two stages: enough to go on while a frame is searched, which takes several times as long as others."""


LIVE_DEPTH = 2
"""Items of a live source that wait: so a frame that takes a little longer than others costs none."""

_POLL_SECONDS = 0.05
_JOIN_SECONDS = 1.0
"""A thread that reads from something that stalls cannot be ended; it is left behind after that long."""


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def read_ahead(
    items: Iterable[T], depth: int = DEPTH, *, drop_old: bool = False, stop: threading.Event | None = None
) -> Generator[T, None, None]:
    """The same items in the same order, with up to ``depth`` taken in advance by a thread; 0: without a thread.

    Beside those, the thread has one item in hand. An error of ``items`` is raised here, after the items before it. The
    thread ends with this iterator, also when it is closed early; one that is stuck in ``items`` then is left behind.

    Args:
        items: what is read.
        depth: how many may wait.
        drop_old: where ``depth`` wait and another comes, drop the one that waits longest instead of holding back the
            thread: for what comes when it wants to.
        stop: when it is set, the iterator ends before the next item, even while ``items`` stalls.
    """
    if not depth:
        for item in items:
            if stop is not None and stop.is_set():
                return
            yield item
        return
    ready: queue.Queue[_Item[T] | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                if drop_old and ready.full():
                    with contextlib.suppress(queue.Empty):  # this thread alone adds: there is room afterwards
                        ready.get_nowait()
                ready.put(_Item(item))
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  handed over and raised in the reader's thread
            ready.put(_End(error))
        else:
            ready.put(_End())

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(entry := _take(ready, stop), _End):
            yield entry.value
            del entry  # not kept alive while waiting for the next one
        if entry.error is not None:
            raise entry.error
    finally:
        stopped.set()
        _drain(ready)  # the thread may wait for room: once more at most, then it sees that it shall stop
        thread.join(_JOIN_SECONDS)


def _take(ready: queue.Queue[_Item[T] | _End], stop: threading.Event | None) -> _Item[T] | _End:
    """The next entry, or an end as soon as ``stop`` is set."""
    if stop is None:
        return ready.get()
    while not stop.is_set():
        with contextlib.suppress(queue.Empty):
            return ready.get(timeout=_POLL_SECONDS)
    return _End()


class WriteBehind(Generic[T]):
    """Hands items to a function in a thread, in order. In ``with``: leaving the block waits for the last one.

    An error of the function is raised by the next `put`, or when the block is left; items after it are dropped. However
    the block is left, the function does not run any more then; see `stop` about signals.
    """

    def __init__(self, function: Callable[[T], object], depth: int = DEPTH) -> None:
        """Take a function.

        Args:
            function: called with each item, in the thread.
            depth: items that may wait; then `put` waits. 0: `put` calls the function itself.
        """
        self._function = function
        self._waiting: queue.Queue[_Item[T] | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._dropping = False
        self._ended = threading.Event()  # a join of Python 3.11 that a signal ends takes the thread for ended
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True) if depth else None

    def put(self, item: T) -> None:
        """Hand over an item."""
        if self._thread is None:
            self._function(item)
            return
        self._raise()
        self._waiting.put(_Item(item))

    def __enter__(self) -> WriteBehind[T]:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        try:
            self._finish(self._thread)
        except BaseException:  # Ctrl-C while waiting: what the function writes to is about to be closed
            self.stop()
            raise
        if error is None:
            self._raise()

    def stop(self) -> None:
        """Drop what waits, and wait for the end of the thread.

        To be called in a ``finally`` around the block where signals raise: one that comes as the block is left, before
        anything of `__exit__` has run, would leave the thread behind.
        """
        self._dropping = True
        if self._thread is not None and self._thread.ident is not None and not self._ended.is_set():
            self._finish(self._thread)

    def _finish(self, thread: threading.Thread) -> None:
        self._waiting.put(_End())
        self._ended.wait()
        thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._write_all()
        finally:
            self._ended.set()

    def _write_all(self) -> None:
        while not isinstance(entry := self._waiting.get(), _End):
            if self._dropping:
                continue  # keep taking, so that nobody waits for room
            try:
                self._function(entry.value)
            except BaseException as caught:  # noqa: BLE001  handed over and raised in the writer's thread
                self._error, self._dropping = caught, True
            del entry  # not kept alive while waiting for the next one


def _drain(waiting: queue.Queue[T]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
