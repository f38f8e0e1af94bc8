import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.raster.block_layout import draw, lay_out
from rsfm.raster.grid import Window

areas = st.builds(Window, st.integers(0, 300), st.integers(0, 300), st.integers(1, 400), st.integers(1, 400))
blocks = st.sampled_from([(1, 700), (16, 16), (64, 64), (128, 32), (512, 512), (700, 700), (3, 5)])


@settings(max_examples=150, deadline=None)
@given(area=areas, block=blocks, fewest=st.integers(1, 20_000), more=st.integers(1, 8))
def test_windows_cover_every_pixel_once_and_nothing_outside(area, block, fewest, more):
    layout = lay_out(area, block, fewest, fewest * more)
    hits = np.zeros((area.row + area.height, area.column + area.width), int)
    for window in layout.windows():
        assert window == window.intersection(area)
        hits[window.row : window.row + window.height, window.column : window.column + window.width] += 1
    assert (hits[area.row :, area.column :] == 1).all()
    assert hits.sum() == area.height * area.width


@given(area=areas, block=blocks, fewest=st.integers(1, 20_000), more=st.integers(1, 8))
def test_windows_are_whole_file_blocks_unless_these_are_too_large(area, block, fewest, more):
    layout = lay_out(area, block, fewest, fewest * more)
    if block[0] * block[1] <= fewest * more:
        assert layout.height % block[0] == 0
        assert layout.width % block[1] == 0
    else:
        assert layout.height * layout.width <= fewest * more


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=20), count=st.integers(1, 300), seed=st.integers(0, 99))
def test_drawn_windows_are_distinct_and_spread_in_proportion(sizes, count, seed):
    layouts = [lay_out(Window(0, 0, size, 10), (1, 10), 10, 10) for size in sizes]
    if not sum(sizes):
        return
    drawn = draw(layouts, count, seed)
    expected = min(count, sum(sizes))
    assert sum(len(numbers) for numbers in drawn) == expected
    for numbers, size in zip(drawn, sizes, strict=True):
        assert numbers == sorted(set(numbers))
        assert all(0 <= number < size for number in numbers)
        assert abs(len(numbers) - expected * size / sum(sizes)) <= 2
    assert drawn == draw(layouts, count, seed)


def test_every_window_is_drawn_equally_often():
    layouts = [lay_out(Window(0, 0, size, 10), (1, 10), 10, 10) for size in (30, 50)]
    hits = np.zeros(80)
    for seed in range(4000):
        first, second = draw(layouts, 20, seed)
        hits[first] += 1
        hits[[30 + number for number in second]] += 1
    assert np.abs(hits / 4000 - 0.25).max() < 0.04
