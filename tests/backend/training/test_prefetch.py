import threading
import time

import pytest
from rsfm.training.prefetch import Prefetch


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_come_in_order_and_each_once_whatever_the_threads(threads):
    made = []

    def make(index):
        time.sleep(0.002 * (index % 3))
        made.append(index)
        return index

    with Prefetch(make, 7, threads) as coming:
        assert [coming.take() for _ in range(40)] == list(range(7, 47))
    assert len(set(made)) == len(made) <= 40 + threads


def test_four_threads_make_four_at_a_time():
    together = threading.Barrier(4, timeout=10)
    with Prefetch(lambda index: together.wait() >= 0, 0, 4) as coming:
        assert [coming.take() for _ in range(8)] == [True] * 8
        together.abort()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_where_its_result_is_taken(threads):
    def make(index):
        if index == 2:
            raise ValueError("damaged")
        return index

    with Prefetch(make, 0, threads) as coming:
        assert [coming.take(), coming.take()] == [0, 1]
        with pytest.raises(ValueError, match="damaged"):
            coming.take()
