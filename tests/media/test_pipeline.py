from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cunet_deploy.media import WriteBehind, read_ahead


def test_items_come_in_order() -> None:
    assert list(read_ahead(iter(range(100)), depth=3)) == list(range(100))


def test_items_before_an_error_come_first() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in read_ahead(broken()):
            seen.append(item)
    assert seen == list(range(5))


def test_reading_runs_while_the_reader_works() -> None:
    def slow() -> Iterator[int]:
        for item in range(8):
            time.sleep(0.02)
            yield item

    start = time.perf_counter()
    for _ in read_ahead(slow()):
        time.sleep(0.02)
    assert time.perf_counter() - start < 8 * 0.04


def test_closing_early_ends_the_thread_and_reads_no_further() -> None:
    taken = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(0)
            yield 0

    before = threading.active_count()
    items = read_ahead(endless(), depth=2)
    next(items)
    items.close()
    assert threading.active_count() == before
    assert len(taken) <= 5


def test_everything_is_written_in_order_when_the_block_ends() -> None:
    written: list[int] = []
    with WriteBehind(written.append, depth=2) as writer:
        for item in range(50):
            writer.put(item)
    assert written == list(range(50))


def test_an_error_of_writing_reaches_the_caller() -> None:
    def write(item: int) -> None:
        if item == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(write, depth=1) as writer:
        for item in range(1000):
            writer.put(item)


def test_an_error_of_the_caller_is_not_replaced() -> None:
    def write(item: int) -> None:
        raise OSError("disk full")

    with pytest.raises(KeyError), WriteBehind(write) as writer:
        writer.put(1)
        raise KeyError("caller")
