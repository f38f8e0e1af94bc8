import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsfm.blocks.schedules import cosine_by_epoch, steps_by_epoch, warmup_cosine


@given(epoch=st.floats(0, 20), later=st.floats(0, 20))
def test_after_the_warm_up_the_rate_only_falls(epoch, later):
    first, second = sorted((3 + epoch * 0.85, 3 + later * 0.85))
    assert warmup_cosine(first, 20, 3, 1, 0.1) >= warmup_cosine(second, 20, 3, 1, 0.1) - 1e-12


def test_no_warm_up_starts_at_the_peak():
    assert warmup_cosine(0, 10, 0, 0.3) == pytest.approx(0.3)


def test_steps_and_cosine_by_epoch_by_hand():
    assert [round(steps_by_epoch(epoch, [2, 4]), 3) for epoch in range(6)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [cosine_by_epoch(epoch, 4) for epoch in (0, 0.9, 2, 2.9)] == pytest.approx([1, 1, 0.5, 0.5])
