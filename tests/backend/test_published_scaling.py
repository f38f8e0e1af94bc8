"""Scaling of published models: against the authors' numbers, and its pitfalls one by one."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from rsfm.blocks.normalisation import Normalisation
from rsfm.blocks.resampling import mirrored_blur_weights, opencv_reach
from rsfm.blocks.views import published_view
from rsfm.published_scaling import S1, S1_MEAN, S1_STD, S2_L1C, S2_L2A, SCALINGS, statistics
from rsfm.raster.band_names import canonical
from torch import Tensor

from tests.backend.methods.golden_run import authors_folder, failures


def scale(name: str, bands: tuple[str, ...], values: list[float]) -> Tensor:
    """Scale windows of one pixel a value, the same in all bands."""
    found = statistics(name, bands)
    assert found is not None
    pixels = torch.tensor(values)[None, None, None].expand(1, len(bands), 1, -1)
    return Normalisation.from_statistics(found)(pixels, torch.ones(1, 1, len(values), dtype=torch.bool))[0, :, 0]


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("ssl4eo_s12"), capsys) == []


def test_ssl4eo_E1_bright_clouds_are_clipped_and_do_not_wrap():
    assert scale("ssl4eo_s2", S2_L1C, [0, 5000, 10000, 10200, 20000])[7].tolist() == [0, 0.5, 1, 1, 1]


def test_ssl4eo_E2_nothing_is_rounded():
    values = scale("ssl4eo_s2", S2_L1C, [1.0, 39.0])[0]
    torch.testing.assert_close(values, torch.tensor([1e-4, 39e-4]))


def test_ssl4eo_E3_bands_are_scaled_by_name_and_L2A_has_no_B10():
    assert tuple(band for band in S2_L1C if band != "B10") == S2_L2A
    assert S2_L1C.index("B8A") == S2_L1C.index("B8") + 1
    whole, few = statistics("ssl4eo_s2_stats", S2_L1C), statistics("ssl4eo_s2_stats", ("B12", "B08A", "b04"))
    assert whole is not None
    assert few is not None
    assert few.mean == (whole.mean[12], whole.mean[8], whole.mean[3])
    assert statistics("ssl4eo_s2a_stats", ("B10",)) is None


def test_ssl4eo_E4_division_by_10000_is_not_followed_by_standardising():
    torch.testing.assert_close(scale("ssl4eo_s2", S2_L1C, [2500.0])[:, 0], torch.full((13,), 0.25))
    torch.testing.assert_close(scale("torchgeo_s2", S2_L1C, [25000.0])[:, 0], torch.full((13,), 2.5))


def test_ssl4eo_E5_two_deviations_of_decibels_become_0_to_1():
    for band, (mean, std) in enumerate(zip(S1_MEAN, S1_STD, strict=True)):
        found = scale("ssl4eo_s1", S1, [mean - 3 * std, mean - 2 * std, mean, mean + 2 * std, 0.9])[band]
        torch.testing.assert_close(found[:4], torch.tensor([0, 0, 0.5, 1]), atol=1e-6, rtol=0)
        assert found[4].item() == pytest.approx(1)


def test_ssl4eo_E7_brightness_and_contrast_do_not_wrap():
    torch.manual_seed(0)
    bright = torch.full((64, 13, 16, 16), 1.9)
    view = published_view(bright, torch.ones(64, 16, 16, dtype=torch.bool), 16)
    assert view.pixels_BCHW.min() > 0.2  # 40 % darker is the least; wrapping would give black


def test_ssl4eo_E11_quantiles_of_seco_belong_to_red_green_blue():
    found = statistics("seco", ("B4", "B3", "B2"))
    assert found is not None
    assert (found.low, found.high) == ((0, 2, 3), (129, 103, 88))
    assert scale("seco", ("B2",), [3, 88, 200])[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("B04", "red", True),
        ("B8a", "B08A", True),
        (" b2", "Blue", True),
        ("B8", "NIR", True),
        ("B8", "B8A", False),
        ("B1", "B11", False),
        ("Band 1", "B1", False),
        ("vv", "VV", True),
    ],
)
def test_names_of_bands_are_the_same_in_all_spellings(one, other, same):
    assert (canonical(one) == canonical(other)) is same


def test_every_recipe_has_a_title_and_no_empty_range():
    assert len({scaling.title for scaling in SCALINGS.values()}) == len(SCALINGS)
    for scaling in SCALINGS.values():
        for low, high, _, std in [*scaling.bands.values(), *([scaling.other] if scaling.other else [])]:
            assert low < high
            assert std > 0


@pytest.mark.parametrize(("sigma", "cells", "reach"), [(1.1, 9, 5), (0.3, 4, 1), (2.0, 5, 8), (1.0, 1, 3)])
def test_blur_mirrors_its_edges_without_repeating_them(sigma, cells, reach):
    weights = mirrored_blur_weights(sigma, cells, reach).numpy()
    values = np.random.default_rng(0).normal(size=cells)
    padded = np.pad(values, reach, mode="reflect") if cells > 1 else np.repeat(values, 2 * reach + 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    expected = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    np.testing.assert_allclose(weights @ values, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("sigma", "eight_bit", "reach"), [(1.1, True, 4), (1.1, False, 5), (0.1, False, 1), (2, True, 6)]
)
def test_blur_reaches_as_far_as_opencvs(sigma, eight_bit, reach):
    assert opencv_reach(sigma, eight_bit) == reach


def test_moments_with_seconds_and_fractions_have_a_code():
    from rsfm.blocks.dates import time_code

    assert time_code(datetime.fromisoformat("2015-07-04T16:05:00.123Z")) == (13, 6, 16)
    assert time_code(datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)) == (17, 11, 23)
