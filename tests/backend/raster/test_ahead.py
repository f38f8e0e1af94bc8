import threading
from contextlib import closing

import pytest
from rsfm.raster.ahead import one_ahead


def test_items_come_in_order_and_one_is_made_while_another_is_used():
    made = [threading.Event() for _ in range(4)]

    def make():
        for number in range(3):
            made[number].set()
            yield number
        made[3].set()

    taken = []
    for number in one_ahead(make()):
        assert made[number + 1].wait(10), "nothing is made ahead"
        taken.append(number)
    assert taken == [0, 1, 2]


def test_what_making_raises_comes_to_whoever_takes():
    def make():
        yield 1
        raise OSError("the disk is gone")

    with closing(one_ahead(make())) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="disk is gone"):
            next(items)


def test_nothing_is_made_after_it_is_closed():
    made = []

    def make():
        for number in range(9):
            made.append(number)
            yield number

    with closing(one_ahead(make())) as items:
        next(items)
    assert len(made) == 2
