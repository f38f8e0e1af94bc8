import numpy as np
import pytest
import torch
from rsfm.blocks.normalisation import Normalisation
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics


def measure(path, window=None, **options):
    with open_raster(str(path)) as raster:
        return band_statistics([raster], [window or raster.grid.window], seed=0, **options)


def test_statistics_of_a_small_raster_are_those_of_its_clipped_valid_pixels(make_raster):
    pixels = np.random.default_rng(0).gamma(2, 300, (3, 300, 310)).astype(np.float32)
    pixels[1] *= 40
    pixels[:, 50:90] = np.nan
    found = measure(make_raster(pixels))
    for band in range(3):
        valid = pixels[band][np.isfinite(pixels[0])].astype(np.float64)
        low, high = np.percentile(valid, (1, 99))
        low, high = low - (high - low) / 2, high + (high - low) / 2
        clipped = valid.clip(low, high)
        expected = (low, high, clipped.mean(), clipped.std(), valid.size)
        values = (found.low[band], found.high[band], found.mean[band], found.std[band], found.count[band])
        assert values == pytest.approx(expected, rel=1e-4)


def test_only_the_window_counts(make_raster):
    pixels = np.full((1, 300, 300), 9, np.uint8)
    pixels[:, 10:20, 260:280] = np.arange(200).reshape(10, 20) + 1
    found = measure(make_raster(pixels), Window(10, 260, 10, 20))
    assert found.count == (200,)
    assert found.mean[0] == pytest.approx(100.5)


def test_a_sample_is_near_the_truth_and_follows_its_seed(make_raster):
    pixels = np.random.default_rng(0).normal(1000, 200, (2, 1000, 1000)).astype(np.float32)
    path = make_raster(pixels)
    found = measure(path, sample_pixels=200_000)
    assert 200_000 <= found.count[0] < 300_000
    assert found.mean == pytest.approx((1000, 1000), rel=0.01)
    assert found.std == pytest.approx((200, 200), rel=0.02)
    assert found == measure(path, sample_pixels=200_000)
    with open_raster(str(path)) as raster:
        assert found != band_statistics([raster], [raster.grid.window], seed=1, sample_pixels=200_000)


def test_a_sample_goes_on_until_it_has_seen_valid_pixels(make_raster):
    pixels = np.zeros((1, 1500, 1500), np.uint8)
    pixels[:, 700:720, 700:720] = 5
    assert measure(make_raster(pixels, nodata=0), sample_pixels=1000).count[0] > 0


def test_a_constant_band_has_deviation_one_and_a_nearly_constant_one_keeps_its_range(make_raster):
    pixels = np.full((2, 100, 100), 0.1, np.float32)
    pixels[1, 0, :5] = 3
    found = measure(make_raster(pixels))
    assert found.std[0] == 1
    assert found.high[1] >= 3
    assert 0 < found.std[1] < 1


def test_two_rasters_are_measured_together_and_must_have_the_same_bands(make_raster):
    dark, light = np.full((1, 50, 50), 10, np.uint8), np.full((1, 50, 50), 30, np.uint8)
    paths = [make_raster(dark, "dark.tif"), make_raster(light, "light.tif"), make_raster(dark.repeat(2, 0), "two.tif")]
    rasters = [open_raster(str(path), "rasters") for path in paths]
    windows = [raster.grid.window for raster in rasters]
    assert band_statistics(rasters[:2], windows[:2], 0).mean == (20,)
    with pytest.raises(UserError, match=r"'dark.tif' has 1 bands but 'two.tif' has 2") as caught:
        band_statistics(rasters, windows, 0)
    assert caught.value.field == "rasters"
    for raster in rasters:
        raster.close()


def test_all_nodata_is_said(make_raster, data):
    with pytest.raises(UserError, match="no valid pixel"):
        measure(make_raster(np.zeros((1, 40, 40), np.uint8), nodata=0))
    with pytest.raises(UserError, match="no valid pixel"):
        measure(data / "oddities" / "all_nodata_uint16.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_normalised_pixels_have_mean_zero_and_deviation_one_in_every_type(make_raster, dtype):
    pixels = np.random.default_rng(0).integers(1, 250, (3, 80, 90)).astype(dtype)
    pixels[:, :10] = 0
    path = make_raster(pixels, nodata=0)
    normalisation = Normalisation.from_statistics(measure(path))
    with open_raster(str(path)) as raster:
        native_CHW, valid_HW = raster.read_native(raster.grid.window)
    found = normalisation(torch.from_numpy(native_CHW)[None], torch.from_numpy(valid_HW)[None])[0].numpy()
    assert found.dtype == np.float32
    assert (found[:, ~valid_HW] == 0).all()
    np.testing.assert_allclose(found[:, valid_HW].mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(found[:, valid_HW].std(axis=1), 1, atol=1e-4)


def test_normalisation_clips_and_never_lets_a_not_a_number_through():
    normalisation = Normalisation(1)
    normalisation.low.fill_(0)
    normalisation.high.fill_(10)
    normalisation.mean.fill_(4)
    normalisation.std.fill_(2)
    pixels = torch.tensor([[[[-99.0, 4.0, 99.0, float("nan")]]]])
    found = normalisation(pixels, torch.tensor([[[True, True, True, False]]]))
    assert found.flatten().tolist() == [-2, 0, 3, 0]


def test_normalisation_travels_with_the_weights_of_a_network(make_raster):
    path = make_raster(np.random.default_rng(0).integers(1, 250, (2, 30, 30)).astype("uint8"))
    first, second = Normalisation.from_statistics(measure(path)), Normalisation(2)
    second.load_state_dict(first.state_dict())
    pixels, valid = torch.rand(1, 2, 5, 5) * 200, torch.ones(1, 5, 5, dtype=torch.bool)
    assert torch.equal(first(pixels, valid), second(pixels, valid))


def test_how_far_a_sample_may_be_off_is_stated(make_raster):
    random = np.random.default_rng(0)
    level = random.normal(1000, 200, (2, 20, 20)).repeat(60, 1).repeat(60, 2)
    path = make_raster((level + random.normal(0, 50, level.shape)).astype(np.float32))
    exact = measure(path)
    assert exact.measured == "exact"
    assert exact.mean_error == exact.high_error == (0, 0)
    inside = []
    with open_raster(str(path)) as raster:
        for seed in range(40):
            found = band_statistics([raster], [raster.grid.window], seed, sample_pixels=500_000)
            assert found.measured == "sample"
            assert found.pixels == 1200 * 1200
            for name in ("mean", "std", "low", "high"):
                off = np.abs(np.array(getattr(found, name)) - np.array(getattr(exact, name)))
                inside.append(off <= 3 * np.array(getattr(found, f"{name}_error")))
            assert 0 < max(found.mean_error) < 0.2 * min(found.std)
    assert np.mean(inside) >= 0.95
