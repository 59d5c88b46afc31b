from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cunet_deploy.media import WriteBehind, read_ahead

LIMIT = 20.0
"""Seconds that a test waits for another thread before it fails; no test takes that long."""


class Item:
    """Something that can be counted as long as it lives."""

    def __init__(self, number: int) -> None:
        self.number = number


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise AssertionError(f"{self.name} was started")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_come_in_order(depth: int) -> None:
    assert list(read_ahead(iter(range(100)), depth)) == list(range(100))


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_items_before_an_error_come_first(depth: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in read_ahead(broken(), depth):
            seen.append(item)
    assert seen == list(range(5))


def test_the_next_item_is_read_while_the_last_one_is_used() -> None:
    reading = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        reading.set()
        yield 1

    for item in read_ahead(items()):
        assert item == 1 or reading.wait(LIMIT)
    assert reading.is_set()


@pytest.mark.parametrize("depth", [1, 2])
def test_closing_early_ends_the_thread_and_reads_no_further(depth: int) -> None:
    taken = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(0)
            yield 0

    before = threading.active_count()
    items = read_ahead(endless(), depth)
    next(items)
    items.close()
    assert threading.active_count() <= before
    assert len(taken) <= depth + 3


def test_leaving_a_loop_ends_the_thread_and_the_source() -> None:
    ended = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            ended.append(True)

    before = threading.active_count()
    for _ in read_ahead(endless(), 1):
        break
    assert threading.active_count() <= before
    assert ended == [True]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_everything_is_written_in_order_when_the_block_ends(depth: int) -> None:
    written: list[int] = []
    with WriteBehind(written.append, depth) as writer:
        for item in range(50):
            writer.put(item)
    assert written == list(range(50))


def test_the_caller_goes_on_while_an_item_is_written() -> None:
    went_on = threading.Event()
    seen: list[bool] = []

    def write(item: int) -> None:
        seen.append(went_on.wait(LIMIT))

    with WriteBehind(write) as writer:
        writer.put(1)
        went_on.set()
    assert seen == [True]


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_an_error_of_writing_reaches_the_caller_and_nothing_is_written_after_it(depth: int) -> None:
    written = []

    def write(item: int) -> None:
        written.append(item)
        if item == 3:
            raise OSError("disk full")

    before = threading.active_count()
    with pytest.raises(OSError, match="disk full"), WriteBehind(write, depth) as writer:
        for item in range(1000):
            writer.put(item)
    assert written == [0, 1, 2, 3]
    assert threading.active_count() <= before


def test_an_error_of_the_last_item_is_raised_when_the_block_ends() -> None:
    def write(item: int) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(write) as writer:
        writer.put(1)


def test_an_error_of_the_caller_is_not_replaced() -> None:
    def write(item: int) -> None:
        raise OSError("disk full")

    with pytest.raises(KeyError), WriteBehind(write) as writer:
        writer.put(1)
        raise KeyError("caller")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("stage", ["wait for room", "wait for the end"])
def test_after_ctrl_c_nothing_is_being_written(stage: str) -> None:
    running = threading.Event()
    written = []

    def write(item: int) -> None:
        running.set()
        written.append(item)
        if item == 0:
            time.sleep(0.03)  # the main thread comes to wait meanwhile
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.03)  # and here it would leave the block too early
        running.clear()

    def handle(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, threads = signal.signal(signal.SIGINT, handle), threading.active_count()
    try:
        writer = WriteBehind(write, 2)
        with pytest.raises(KeyboardInterrupt):
            try:
                with writer:
                    for item in range(1000 if stage == "wait for room" else 2):
                        writer.put(item)
            finally:
                writer.stop()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not running.is_set()
    assert threading.active_count() <= threads
    assert written == list(range(len(written)))


def test_a_block_that_a_signal_left_without_waiting_is_stopped_afterwards() -> None:
    started = threading.Event()
    written: list[int] = []
    threads = threading.active_count()

    def write(item: int) -> None:
        started.set()
        while not writer._dropping:
            time.sleep(0.001)
        written.append(item)

    writer = WriteBehind(write, 4).__enter__()
    for item in range(3):
        writer.put(item)
    assert started.wait(10)
    for _ in range(2):
        writer.stop()
    assert written == [0]  # what was being written is written, the rest is dropped
    assert threading.active_count() <= threads


def run_stages(
    items: Iterator[Item], work: Callable[[Item], Item], write: Callable[[Item], object], depth: int
) -> None:
    """Three stages at once, as a video goes through them."""
    with closing(read_ahead(items, depth)) as ahead, WriteBehind(write, depth) as writer:
        for item in ahead:
            writer.put(work(item))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_slow_writer_holds_the_reader_back(depth: int) -> None:
    bound = 2 * depth + 3  # two full queues, and one item in the hands of reader, worker and writer each
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    counts, written = [], []
    full = threading.Event()

    def items() -> Iterator[Item]:
        for number in range(60):
            item = Item(number)
            alive.add(item)
            counts.append(len(alive))
            if len(counts) == bound:
                full.set()
            yield item
            del item

    def write(item: Item) -> None:
        assert full.wait(LIMIT)  # so the first item is written when the reader can go no further
        time.sleep(0.001)
        written.append(item.number)

    run_stages(items(), lambda item: item, write, depth)
    assert written == list(range(60))
    assert max(counts) == bound
    assert len(alive) == 0


@pytest.mark.parametrize("stage", ["read", "work", "write"])
def test_an_error_of_any_stage_comes_as_itself_and_ends_all_threads(stage: str) -> None:
    problem = LookupError("item 20")

    def fail(where: str, item: Item) -> Item:
        if where == stage and item.number == 20:
            raise problem
        return item

    written = []
    before = threading.active_count()
    with pytest.raises(LookupError) as caught:
        run_stages(
            (fail("read", Item(number)) for number in range(1000)),
            lambda item: fail("work", item),
            lambda item: written.append(fail("write", item).number),
            2,
        )
    assert caught.value is problem
    assert threading.active_count() <= before
    assert written == list(range(20))


def test_with_depth_0_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    no_threads(monkeypatch)
    order = []

    def items() -> Iterator[Item]:
        for number in range(3):
            order.append(f"read {number}")
            yield Item(number)

    run_stages(items(), lambda item: item, lambda item: order.append(f"write {item.number}"), 0)
    assert order == ["read 0", "write 0", "read 1", "write 1", "read 2", "write 2"]
