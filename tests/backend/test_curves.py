"""The curves of a report: axes of round numbers, points inside them, and a sentence on what a number means."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsfm import curves


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e7))
def test_ticks_are_a_few_round_numbers_within_the_range(low, span):
    found = curves.ticks(low, low + span)
    assert 2 <= len(found) <= 7
    assert found == sorted(found)
    assert low - 1e-6 * span <= found[0]
    assert found[-1] <= low + span * (1 + 1e-6)
    step = found[1] - found[0]
    assert float(f"{step:.0e}"[0]) in {1, 2, 5}
    assert step == pytest.approx(float(f"{step:.0e}"))


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=40))
def test_all_points_lie_between_the_axes_and_the_highest_is_on_top(values):
    drawn = curves.draw("loss", list(enumerate(values)))
    points = re.search(r'points="([^"]*)"', drawn).group(1)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(places) == len(values)
    assert all(curves.LEFT <= x <= curves.WIDTH - curves.RIGHT for x, _ in places)
    assert all(curves.TOP <= y <= curves.HEIGHT - curves.BOTTOM for _, y in places)
    assert places[values.index(max(values))][1] == min(y for _, y in places)


def test_what_a_number_means_stands_beside_its_curve_and_texts_are_escaped():
    drawn = curves.draw("top1", [(0, 0.1), (10, 0.4)])
    assert "<h3>Views recognised</h3>" in drawn
    assert curves.MEANINGS["top1"].text in drawn
    assert "0.4 at step 10" in drawn
    assert "&lt;b&gt;" in curves.draw("<b>", [(0, 1), (1, 1)])


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=400), st.integers(10, 60))
def test_a_thinned_curve_keeps_its_ends_its_lowest_and_its_highest(values, most):
    points = list(enumerate(values))
    kept = curves.thin(points, most)
    assert len(kept) <= most + 2
    assert set(kept) <= set(points)
    assert [kept[0], kept[-1]] == [points[0], points[-1]]
    assert kept == sorted(kept)
    assert {min(value for _, value in kept), max(value for _, value in kept)} == {min(values), max(values)}


def test_speed_is_counted_between_reports_but_not_over_the_time_that_a_run_was_stopped():
    def event(kind, second, **more):
        return {"type": kind, "time": f"2026-05-01T10:{second // 60:02}:{second % 60:02}.000+00:00", **more}

    told = [(0, 5), (2, 9), (3, 10), (1800, 11), (1802, 15)]
    events = [event("metric", second, name="loss", step=step, value=1.0) for second, step in told]
    events = [event("device", 0, name="cpu"), *events[:3], event("device", 1790, name="cpu"), *events[3:]]
    assert curves.speed(events, batch=10) == [(9, 20.0), (10, 10.0), (15, 20.0)]


def test_the_loss_is_shown_first_and_the_speed_last():
    names = ["windows_per_second", "top1", "learning_rate", "validation_loss", "loss"]
    assert sorted(names, key=curves.rank) == ["loss", "validation_loss", "top1", "learning_rate", "windows_per_second"]
