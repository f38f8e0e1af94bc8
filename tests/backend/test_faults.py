"""Three seeds of the campaign of faults; `make faults` runs all of it."""

import pytest

from tests.faults.campaign import try_seed
from tests.faults.run_under_fault import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Bench(tmp_path_factory.mktemp("faults") / "bench", epochs=25)


@pytest.mark.parametrize("fault", ["kill -9 of the worker", "kill -9 of the server", "raster moved away"])
def test_nothing_is_lost_beyond_the_last_checkpoint_and_the_record_is_true(fault, bench):
    assert try_seed(fault, 1, bench).problems == []
