"""A model of a collection reads any raster as the collection read its own: bands by name, in units."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rsfm import cli, model_file
from rsfm.errors import UserError
from rsfm.raster.in_units import in_units
from rsfm.raster.reader import open_raster

from .toy_model import make_model, pixels, run_job, write_config

NAMES = ("blue", "green", "red")


def write(path: Path, pixels_CHW: np.ndarray, names: tuple[str, ...], scale: float = 1, offset: float = 0) -> Path:
    count, height, width = pixels_CHW.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels_CHW.dtype,
        crs="EPSG:32633", transform=Affine(10, 0, 500000, 0, -10, 5100000),
    ) as file:  # fmt: skip
        file.write(pixels_CHW)
        file.descriptions = names
        file.scales, file.offsets = [scale] * count, [offset] * count
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[Path, Path]:
    """The same picture: as it is, and stored with an offset, in another order, with one band more."""
    random = np.random.default_rng(0)
    plain_CHW = random.integers(200, 4000, (3, 96, 128)).astype(np.uint16)
    more_CHW = np.concatenate([plain_CHW[::-1], random.integers(1, 9, (1, 96, 128)).astype(np.uint16)])
    plain = write(tmp_path / "plain.tif", plain_CHW, NAMES)
    return plain, write(tmp_path / "other.tif", more_CHW + np.uint16(1000), (*NAMES[::-1], "extra"), offset=-1000)


def test_bands_are_found_by_name_and_scaled(scenes: tuple[Path, Path]) -> None:
    plain, other = (open_raster(str(path)) for path in scenes)
    with in_units(other, NAMES) as seen, plain:
        for window in (plain.grid.window, plain.grid.window._replace(row=-7, height=50)):
            expected_CHW, expected_HW = plain.read(window, "reflect")
            found_CHW, found_HW = seen.read(window, "reflect")
            np.testing.assert_array_equal(found_CHW, expected_CHW)
            np.testing.assert_array_equal(found_HW, expected_HW)


@pytest.mark.parametrize(("job", "file"), [("embed", "embedding.tif"), ("segment", "segmentation.tif")])
def test_a_map_does_not_depend_on_how_the_pixels_are_stored(
    scenes: tuple[Path, Path], tmp_path: Path, job: str, file: str
) -> None:
    path = make_model(tmp_path / "model.safetensors", scenes[0])
    made = model_file.load(str(path))
    card = made.card.model_copy(update={"units": True, "band_names": NAMES})
    model_file.save(path, card, made.tensors)
    first, second = (run_job(tmp_path, job, each.stem, raster=str(each), model=str(path)) for each in scenes)
    np.testing.assert_array_equal(pixels(first / file), pixels(second / file))


def test_missing_bands_are_named(scenes: tuple[Path, Path]) -> None:
    with open_raster(str(scenes[0])) as raster, pytest.raises(UserError, match="needs nir, swir1 too") as caught:
        in_units(raster, ("red", "nir", "swir1", "green"))
    assert caught.value.field == "raster"


def test_an_encoder_of_a_collection_reads_in_units_and_hands_it_to_what_is_taught(
    scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    collected = tmp_path / "two.collection.json"
    config = write_config(tmp_path, "c", rasters=[str(path) for path in scenes], output=str(collected))
    assert cli.main(["run", "collect", str(config), "--run", str(tmp_path / "collect")]) == 0
    training = {"minutes": 0, "epochs": 1, "batch_size": 4}
    outputs = run_job(tmp_path, "pretrain", "pretrain", rasters=[str(collected)], training=training, window=32)
    card = model_file.load(str(outputs / "encoder.safetensors")).card
    assert card.units
    assert card.band_names == NAMES
    first, second = (
        run_job(tmp_path, "embed", each.stem, raster=str(each), model=str(outputs / "encoder.safetensors"))
        for each in scenes
    )
    np.testing.assert_array_equal(pixels(first / "embedding.tif"), pixels(second / "embedding.tif"))
