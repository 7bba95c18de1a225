"""Threads before and after the model: bounded, in order, and never silent."""

import threading
import time
from functools import partial

import pytest

from autosam.inference.ahead_and_behind import Behind, made_ahead


def numbers(count, made, *, fails_at=None):
    """Says of each number that it is made, by which thread; and when it is closed."""
    try:
        for number in range(count):
            if number == fails_at:
                raise ValueError(f"no {number}")
            made.append((number, threading.current_thread()))
            yield number
    finally:
        made.append(("closed", threading.current_thread()))


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("total", [0, 1, 7])
def test_items_come_in_their_order(count, total):
    with made_ahead(numbers(total, []), count=count) as items:
        assert list(items) == list(range(total))


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_wait_than_were_allowed(count):
    made = []
    with made_ahead(numbers(20, made), count=count) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 20
        while len(made) < 1 + count and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(made) == 1 + count  # the one that was taken, and those that wait
    threads = {thread for _, thread in made}
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert made[-1][0] == "closed"  # in the thread that made them


def interrupted(context, *tasks):
    """Hand over tasks, or take an item, and stop as if somebody had pressed Ctrl-C."""
    with context as given:
        for task in tasks:
            given.hand(task)
        if not tasks:
            next(given)
        raise KeyboardInterrupt


def hand_all(tasks, *, threaded):
    with Behind(threaded=threaded) as behind:
        for task in tasks:
            behind.hand(task)


@pytest.mark.parametrize("count", [0, 2])
def test_what_goes_wrong_is_raised_where_its_item_would_have_come(count):
    with made_ahead(numbers(9, [], fails_at=3), count=count) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="no 3"):
            next(items)


@pytest.mark.parametrize("count", [0, 2])
def test_an_interrupted_block_closes_what_makes_the_items(count):
    made = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(made_ahead(numbers(9, made), count=count))
    assert made[-1][0] == "closed"


@pytest.mark.parametrize("threaded", [False, True])
def test_things_are_done_in_order_and_all_before_the_end(threaded):
    done = []
    hand_all([partial(done.append, number) for number in range(5)], threaded=threaded)
    assert done == list(range(5))


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("tasks_after", [0, 1, 2])
def test_what_goes_wrong_behind_is_raised_here_and_nothing_comes_after(threaded, tasks_after):
    done = []

    def fails():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        hand_all([fails, *[partial(done.append, 1)] * tasks_after], threaded=threaded)
    assert done == []


def test_what_was_handed_over_is_done_though_the_block_was_interrupted():
    done = []

    def slow():
        time.sleep(0.05)
        done.append("written")

    with pytest.raises(KeyboardInterrupt):
        interrupted(Behind(threaded=True), slow)
    assert done == ["written"]
