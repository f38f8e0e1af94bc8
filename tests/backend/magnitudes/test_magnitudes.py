"""Properties that every magnitude has: independent of strips and areas, the same in both orders of the dates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from rsfm import magnitudes, model_file, registry
from rsfm.inference_config import TilingConfig
from rsfm.jobs.detect_change import METHODS, READ_ENCODER
from rsfm.magnitude import Magnitude, Scene
from rsfm.model_file import Card
from rsfm.raster.grid import Window
from rsfm.raster.pair import open_pair
from rsfm.raster.pair_sample import take_sample
from rsfm.raster.statistics import Statistics
from scipy import ndimage
from sklearn.metrics import roc_auc_score

MEMBERS = registry.members(magnitudes, Magnitude)  # type: ignore[type-abstract]
FIELD = slice(60, 100), slice(90, 140)


def scene_pixels(bands: int = 4, height: int = 200, width: int = 230) -> np.ndarray:
    random = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, height, width)), (0, 3, 3))
    return np.asarray(fields / fields.std() * 30 + 120 + random.normal(size=fields.shape) * 2, np.float32)


def changed(before_CHW: np.ndarray) -> np.ndarray:
    after_CHW = before_CHW + np.random.default_rng(1).normal(size=before_CHW.shape).astype(np.float32) * 2
    after_CHW[:, FIELD[0], FIELD[1]] = 240 - after_CHW[:, FIELD[0], FIELD[1]]
    return np.asarray(after_CHW, np.float32)


@pytest.fixture(params=["conv_small", "vit"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An untrained encoder of four bands."""
    return write_model(tmp_path / "model.safetensors", request.param)


def write_model(path: Path, kind: str = "conv_small", bands: int = 4, std: float = 30) -> str:
    torch.manual_seed(3)
    vit = {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch_size": 8}
    config = {"name": "conv_small", "width": 32} if kind == "conv_small" else vit
    statistics = Statistics(
        mean=(120,) * bands, std=(std,) * bands, low=(-1e9,) * bands, high=(1e9,) * bands, count=(9,) * bands
    )
    card = Card(bands=bands, statistics=statistics, gsd=10, encoder=config, method={"name": "mae"})
    model_file.save(path, card, model_file.parts(encoder=model_file.build_encoder(config, bands)))
    return str(path)


@contextmanager
def opened(before: Path, after: Path, model: str, **values: object) -> Iterator[Scene]:
    with open_pair(str(before), str(after)) as pair:
        yield Scene(pair, model, **values)  # type: ignore[arg-type]


def measure(
    name: str, before: Path, after: Path, model: str, window: Window | None = None, **values: object
) -> tuple[np.ndarray, np.ndarray]:
    """Return magnitude_HW, NaN where invalid, and values_N of the sample."""
    with opened(before, after, model, **values) as scene:
        magnitude, found_N = MEMBERS[name].fit(scene, take_sample(scene.pair))
        strips: list[np.ndarray] = []
        magnitude.write(
            scene, window or scene.pair.window, lambda found, valid: strips.append(np.where(valid, found, np.nan))
        )
        return np.concatenate(strips), found_N


@pytest.fixture
def pair(make_raster: Callable[..., Path]) -> tuple[Path, Path]:
    before_CHW = scene_pixels()
    after_CHW = changed(before_CHW)
    before_CHW[:, 20:30, 20:30], after_CHW[:, 150:170, 40:60] = -1, -1
    return make_raster(before_CHW, "before.tif", nodata=-1), make_raster(after_CHW, "after.tif", nodata=-1)


def test_the_form_offers_every_member_and_asks_for_a_model_where_one_is_read() -> None:
    assert set(METHODS) - {"automatic"} == set(MEMBERS)
    assert {name for name, member in MEMBERS.items() if member.reads_encoder} == READ_ENCODER


@pytest.mark.parametrize("name", MEMBERS)
def test_what_changed_stands_out_and_nodata_of_either_date_is_left_out(
    name: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    found_HW, values_N = measure(name, *pair, write_model(tmp_path / "m.safetensors"))
    step = 200 // len(found_HW)
    field = tuple(slice(part.start // step + 2, part.stop // step - 2) for part in FIELD)
    assert np.median(found_HW[field]) > 1.5 * np.nanmedian(found_HW)
    assert np.isnan(found_HW[tuple(slice(22 // step + 1, 28 // step) for _ in range(2))]).all()
    assert np.isnan(found_HW[154 // step : 166 // step, 44 // step : 56 // step]).all()
    assert np.isfinite(found_HW).mean() > 0.98
    assert np.isfinite(values_N).all()
    assert np.median(values_N) == pytest.approx(np.nanmedian(found_HW), rel=0.1)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_order_of_the_dates_changes_nothing(name: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    one_HW, one_N = measure(name, *pair, model)
    other_HW, other_N = measure(name, *pair[::-1], model)
    np.testing.assert_array_equal(one_HW, other_HW)
    np.testing.assert_array_equal(one_N, other_N)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_height_of_strips_changes_nothing(
    name: str, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "m.safetensors")
    whole_HW, whole_N = measure(name, *pair, model)
    monkeypatch.setattr("rsfm.raster.pair.STRIP_BYTES", 11 * 4 * 4 * 230)
    monkeypatch.setattr("rsfm.canvas.FINISH_BYTES", 3 * 4 * 230)
    strips_HW, strips_N = measure(name, *pair, model)
    np.testing.assert_array_equal(strips_HW, whole_HW)
    np.testing.assert_array_equal(strips_N, whole_N)


@pytest.mark.parametrize("name", MEMBERS)
def test_an_area_gives_the_crop_of_the_whole(name: str, pair: tuple[Path, Path], model: str) -> None:
    whole_HW, _ = measure(name, *pair, model)
    window = Window(48, 72, 96, 112)
    part_HW, _ = measure(name, *pair, model, window)
    step = round(200 / len(whole_HW))
    cells = window.cells(step)
    expected_HW = whole_HW[cells.row : cells.row + cells.height, cells.column : cells.column + cells.width]
    np.testing.assert_array_equal(part_HW, expected_HW)


@pytest.mark.parametrize("name", sorted(READ_ENCODER))
@pytest.mark.parametrize("level", ["early", "late"])
def test_tiles_of_a_finite_network_change_nothing_but_rounding(
    name: str, level: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.safetensors")
    found = [
        measure(name, *pair, model, level=level, tiling=TilingConfig(tile_size=size, tile_overlap=32))[0]
        for size in (96, 256)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=2e-4 * np.nanmax(found[1]))


@pytest.mark.parametrize("name", sorted(READ_ENCODER))
def test_gain_and_offset_of_a_date_hardly_change_what_an_encoder_sees(
    name: str, make_raster: Callable[..., Path], model: str
) -> None:
    before_CHW = scene_pixels()
    after_CHW = changed(before_CHW)
    before = make_raster(before_CHW, "before.tif")
    plain_HW, _ = measure(name, before, make_raster(after_CHW, "after.tif"), model)
    gained_HW, _ = measure(
        name, before, make_raster(after_CHW * np.float32(0.2) + np.float32(900), "gained.tif"), model
    )
    np.testing.assert_allclose(gained_HW, plain_HW, atol=0.02 * np.nanmax(plain_HW))
    assert np.corrcoef(gained_HW.ravel(), plain_HW.ravel())[0, 1] > 0.999


def test_the_sample_of_a_large_overlap_does_not_depend_on_tiles(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 32 px in place of 256: the overlap is too large to be looked at as a whole."""
    monkeypatch.setattr("rsfm.differences.encoded_dates.BLOCK", 32)
    monkeypatch.setattr("rsfm.differences.encoded_dates.BLOCKS", 3)
    model = write_model(tmp_path / "m.safetensors")
    found = [
        measure("deep", *pair, model, tiling=TilingConfig(tile_size=size, tile_overlap=32))[1] for size in (96, 256)
    ]
    assert 300 < len(found[0]) < 9 * 16 * 16 + 1
    np.testing.assert_allclose(found[0], found[1], atol=1e-3 * found[0].max())


def test_one_date_twice_has_no_difference(make_raster: Callable[..., Path], model: str) -> None:
    path = make_raster(scene_pixels(), "one.tif")
    for name in MEMBERS:
        if MEMBERS[name].has_histogram:
            found_HW, _ = measure(name, path, path, model)
            assert np.nanmax(found_HW) < 0.1, name


RIVERS = [("1985", "2000"), ("2000", "2020"), ("1985", "2020")]


@pytest.mark.parametrize("years", RIVERS)
def test_an_untrained_encoder_ranks_moved_rivers_high(years: tuple[str, str], data: Path, tmp_path: Path) -> None:
    import rasterio

    folder = data / "landsat_ucayali"
    with rasterio.open(folder / f"change_water_west_{years[0]}_{years[1]}.tif") as dataset:
        truth_HW = dataset.read(1) == 1
    paths = [folder / f"landsat_ucayali_west_{year}.tif" for year in years]
    found_HW, _ = measure("deep", paths[0], paths[1], write_model(tmp_path / "m.safetensors"))
    step = round(truth_HW.shape[0] / len(found_HW))
    dense_HW = found_HW.repeat(step, 0).repeat(step, 1)[: truth_HW.shape[0], : truth_HW.shape[1]]
    valid_HW = np.isfinite(dense_HW)
    assert roc_auc_score(truth_HW[valid_HW], dense_HW[valid_HW]) > 0.90
