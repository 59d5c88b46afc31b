"""Ctrl-C and SIGTERM, which every command takes for the same."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupt_flag", "saying_what_is_kept", "sigterm_interrupts"]


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    # ``None``: a program in C that runs Python handles it, and its handler could not be put back
    before = {number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) is not None}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def sigterm_interrupts() -> contextlib.AbstractContextManager[None]:
    """Handle SIGTERM as Python does Ctrl-C: within the block it raises `KeyboardInterrupt`."""
    return _handled((signal.SIGTERM,), signal.default_int_handler)


@contextmanager
def interrupt_flag() -> Iterator[threading.Event]:
    """Set a flag when Ctrl-C or SIGTERM comes within the block, which takes effect later; the second one raises."""
    flag = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    with _handled((signal.SIGINT, signal.SIGTERM), handle):
        yield flag


@contextmanager
def saying_what_is_kept(text: Callable[[], str]) -> Iterator[None]:
    """Add to `KeyboardInterrupt` what was done and how to go on; the command line tells it."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(text()) from error
