"""What holds for a view of any number of bands: pixels and mask move together, and nodata stays to itself.

Shape letters: B batch, C bands, H rows, W columns, S side of a view.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.blocks import resampling
from rsfm.blocks.crops import cut, draw_crop
from rsfm.blocks.multicrop import draw_views
from rsfm.blocks.photometry import Chances, Light, draw_light, relight
from rsfm.blocks.pieces import split
from rsfm.blocks.resampling import Rectangles, resize_valid
from rsfm.blocks.view import View
from rsfm.blocks.views import turned_crop
from torch import Tensor

CPU = torch.device("cpu")
BANDS = st.sampled_from([1, 2, 4, 13])
EVERY = Chances(jitter=1, gray=0.5, blur=1, invert=0.5)


def windows(count: int, bands: int, height: int, width: int, seed: int) -> View:
    generator = torch.Generator().manual_seed(seed)
    valid_BHW = torch.rand(count, height // 4 + 1, width // 4 + 1, generator=generator) > 0.3
    valid_BHW = valid_BHW.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    return View(torch.randn(count, bands, height, width, generator=generator) * valid_BHW[:, None], valid_BHW)


def unchanged(count: int) -> Light:
    none = torch.zeros(count, dtype=torch.bool)
    return Light((0, 1, 2, 3), torch.tensor([[1.0], [1], [1], [0]]).expand(4, count), none, none, none.float(), none)


@settings(max_examples=40, deadline=None)
@given(bands=BANDS, height=st.integers(20, 150), width=st.integers(20, 150), seed=st.integers(0, 999))
def test_a_pixel_brings_its_own_validity_along(bands, height, width, seed):
    """Pixels hold their index, and those of an odd index are invalid."""
    torch.manual_seed(seed)
    index_HW = torch.arange(height * width).reshape(height, width) + 1
    valid_BHW = (index_HW % 2 == 0).expand(3, -1, -1)
    pixels_BCHW = index_HW.float()[None, None].expand(3, bands, -1, -1) * valid_BHW[:, None]
    view = turned_crop(pixels_BCHW, valid_BHW, 16)
    assert torch.equal(view.pixels_BCHW > 0, view.valid_BHW[:, None].expand_as(view.pixels_BCHW))
    place = draw_crop(3, height, width, (0.1, 0.9), CPU, turn=0.5)
    place = place._replace(
        top_B=torch.zeros(3), left_B=torch.ones(3), height_B=torch.full((3,), 12.0), width_B=torch.full((3,), 12.0)
    )
    view = cut(pixels_BCHW, valid_BHW, place, 12, "bicubic")
    assert torch.equal(view.pixels_BCHW > 0, view.valid_BHW[:, None].expand_as(view.pixels_BCHW))
    assert torch.equal(view.pixels_BCHW, view.pixels_BCHW.round())


@settings(max_examples=40, deadline=None)
@given(bands=BANDS, side=st.integers(8, 160), seed=st.integers(0, 999), kernel=st.sampled_from(["bilinear", "bicubic"]))
def test_what_invalid_pixels_hold_reaches_no_view(bands, side, seed, kernel):
    window = windows(3, bands, side, side + 3, seed)
    dirty = window.pixels_BCHW.masked_fill(~window.valid_BHW[:, None], 1e4)
    torch.manual_seed(seed)
    crop = draw_crop(3, side, side + 3, (0.2, 1), CPU, turn=0.5)
    light = draw_light(3, EVERY, 1, CPU)
    sides = []
    for pixels_BCHW in (window.pixels_BCHW, dirty):
        resized = View(*resize_valid(pixels_BCHW, window.valid_BHW, crop, (24, 24), kernel))
        sides.append(relight(resized, light))
    torch.testing.assert_close(sides[0].pixels_BCHW, sides[1].pixels_BCHW, atol=1e-4, rtol=1e-4)
    assert torch.equal(sides[0].valid_BHW, sides[1].valid_BHW)
    assert not sides[0].pixels_BCHW[~sides[0].valid_BHW[:, None].expand_as(sides[0].pixels_BCHW)].any()


@settings(max_examples=30, deadline=None)
@given(bands=st.sampled_from([1, 2, 3, 4, 13]), side=st.integers(8, 150), seed=st.integers(0, 999))
def test_identity_gives_the_window_back(bands, side, seed):
    window = windows(2, bands, side, side, seed)
    assert torch.equal(relight(window, unchanged(2)).pixels_BCHW, window.pixels_BCHW)
    all_ones = unchanged(2)._replace(jittered_B=torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(relight(window, all_ones).pixels_BCHW, window.pixels_BCHW, atol=1e-5, rtol=0)
    zeros, whole, no = torch.zeros(2), torch.full((2,), float(side)), torch.zeros(2, dtype=torch.bool)
    view = cut(*window, Rectangles(zeros, zeros, whole, whole, no, no), side, "bicubic")
    assert torch.equal(view.valid_BHW, window.valid_BHW)
    torch.testing.assert_close(view.pixels_BCHW, window.pixels_BCHW, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_dark_is_kept_and_bright_inverted_about_the_mean_of_a_band(bands):
    pixels = torch.linspace(-2, 2, 41).reshape(1, 1, 1, 41).expand(1, bands, 1, 41)
    light = unchanged(1)._replace(inverted_B=torch.ones(1, dtype=torch.bool))
    inverted = relight(View(pixels, torch.ones(1, 1, 41, dtype=torch.bool)), light).pixels_BCHW
    torch.testing.assert_close(inverted, -pixels.abs())


@settings(max_examples=25, deadline=None)
@given(
    bands=BANDS, height=st.integers(65, 200), width=st.integers(65, 200), size=st.integers(8, 180),
    kernel=st.sampled_from(["bilinear", "bicubic"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_windows_cut_one_by_one_are_those_of_the_matrices(bands, height, width, size, kernel, seed):
    window = windows(3, bands, height, width, seed)
    torch.manual_seed(seed)
    place = draw_crop(3, height, width, (0.1, 1), CPU, turn=0.5)
    one_by_one = resize_valid(*window, place, (size, size), kernel)
    limit, resampling.SMALL = resampling.SMALL, 1000
    by_matrix = resize_valid(*window, place, (size, size), kernel)
    resampling.SMALL = limit
    assert torch.equal(one_by_one[1], by_matrix[1])
    torch.testing.assert_close(one_by_one[0], by_matrix[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_a_view_does_not_depend_on_its_batch_or_the_threads(bands, threads, monkeypatch):
    window = windows(5, bands, 90, 80, 0)
    views: list[list[Tensor]] = []
    before = torch.get_num_threads()
    for values in (10, 2**30):
        monkeypatch.setattr("rsfm.blocks.pieces.PIECE", values)
        monkeypatch.setattr("rsfm.blocks.pieces.SMALLEST", values)
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        drawn = draw_views(window, (64, 24), [(0.4, 1), (0.4, 1), (0.1, 0.4), (0.1, 0.4)])
        assert torch.get_num_threads() == threads
        torch.set_num_threads(before)
        views.append([one.view.pixels_BCHW for one in drawn])
    assert len(split(5, bands * 64**2, CPU)) == 1
    for small, whole in zip(*views, strict=True):
        torch.testing.assert_close(small, whole, atol=1e-4, rtol=1e-4)


def test_colours_of_a_batch_are_those_of_its_windows_alone():
    window = windows(6, 3, 30, 30, 1)
    torch.manual_seed(0)
    light = draw_light(6, Chances(0.5, 0.5, 0.5, 0.5), 1, CPU)
    together = relight(window, light).pixels_BCHW
    alone = [relight(window.of(slice(i, i + 1)), light.of(slice(i, i + 1))).pixels_BCHW for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
