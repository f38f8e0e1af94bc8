import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rsfm.inference_config import TilingConfig
from rsfm.raster.tiling import any_in_cells, owned, plan_tiles, select_tiles, tile_starts

tilings = st.integers(1, 12).flatmap(
    lambda units: st.builds(
        TilingConfig, tile_size=st.just(units * 32), tile_overlap=st.integers(0, min(units * 16, 1024))
    )
)
multiples = st.sampled_from([1, 4, 8, 14, 16, 32])
strides = st.sampled_from([1, 2, 4])
margins = st.none() | st.integers(0, 60)
sizes = st.integers(1, 1500)


@given(tilings, multiples, strides, margins)
def test_tiles_stand_where_the_network_can_take_them(tiling, multiple, stride, margin):
    plan = plan_tiles(tiling, multiple, stride, margin)
    assert plan.step % math.lcm(multiple, stride, 32) == 0
    assert plan.side % multiple == plan.side % stride == plan.halo % multiple == plan.core % stride == 0
    if margin is None:
        assert plan.halo == 0
        assert plan.core - plan.step >= tiling.tile_overlap
    else:
        assert plan.halo >= margin
        assert plan.core == plan.step
        assert plan.shared == 0


@given(tilings, sizes, multiples, strides, margins)
def test_cores_cover_every_pixel_with_no_tile_too_many(tiling, size, multiple, stride, margin):
    plan = plan_tiles(tiling, multiple, stride, margin)
    starts = tile_starts(size, plan)
    hits = np.zeros(starts[-1] + plan.core, int)
    for start in starts:
        hits[start : start + plan.core] += 1
    assert starts[0] == 0
    assert hits.min() >= 1
    assert len(hits) >= size
    assert len(starts) == 1 or starts[-2] + plan.core < size


@given(tilings, sizes, margins, st.data())
def test_the_tiles_of_an_area_are_all_that_touch_it(tiling, size, margin, data):
    plan = plan_tiles(tiling, 1, 1, margin)
    starts = tile_starts(size, plan)
    first = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(first + 1, size))
    touching = [
        index
        for index, start in enumerate(starts)
        if any(start <= pixel < start + plan.core for pixel in range(first, end))
    ]
    assert list(select_tiles(starts, plan, first, end)) == touching


@given(tilings, sizes, margins)
def test_every_pixel_is_owned_once_and_by_the_last_tile_that_starts_at_or_before_it(tiling, size, margin):
    plan = plan_tiles(tiling, 1, 1, margin)
    starts = tile_starts(size, plan)
    spans = [owned(index, starts, size) for index in range(len(starts))]
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


def test_a_tile_keeps_the_size_asked_for_where_it_can():
    plan = plan_tiles(TilingConfig(tile_size=256, tile_overlap=64), 16, 1, None)
    assert (plan.side, plan.step) == (256, 192)
    plan = plan_tiles(TilingConfig(tile_size=256, tile_overlap=64), 4, 4, 20)
    assert (plan.side, plan.core, plan.halo) == (232, 192, 20)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_cell_is_valid_when_one_of_its_pixels_is(height, width, stride, seed):
    valid_HW = np.random.default_rng(seed).random((height, width)) < 0.1
    cells_HW = any_in_cells(valid_HW, stride)
    for row in range(cells_HW.shape[0]):
        for column in range(cells_HW.shape[1]):
            part = valid_HW[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
            assert cells_HW[row, column] == part.any()
