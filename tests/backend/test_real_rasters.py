"""Every real raster goes through a map and comes back on its own grid, or is refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rsfm import cli
from rsfm.raster.reader import open_raster

from .conftest import DATA
from .toy_model import make_model, write_config

REFUSED = {
    "all_nodata_uint16.tif": "no pixel other than nodata",
    "corrupt_truncated_tiles.tif": "is damaged",
    "no_transform_gcps_only_uint16.tif": "ground control points",
    "rotated_sar_umbra_yasur_2000.tif": "is rotated",
    "tiny_3x2_float32_nocrs.tif": "has no CRS",
    "landsat7_mask.tif": "has no CRS",
    "landsat7_toa_6band_float32_nocrs.tif": "has no CRS",
    "YELL_541000_nogeoref.png": "has no CRS",
}
RASTERS = sorted(path.relative_to(DATA) for path in DATA.rglob("*") if path.suffix in {".tif", ".png"})
SMALL = 200 * 200
"""Pixels of a raster that is mapped whole; of a larger one, a part around its middle."""

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model for each number of bands."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def find(raster):
        with open_raster(str(raster)) as opened:
            bands = opened.bands
        if bands not in made:
            made[bands] = make_model(folder / f"{bands}.safetensors", raster)
        return str(made[bands])

    return find


@pytest.mark.parametrize("job", ["segment", "embed"])
@pytest.mark.parametrize("name", [path for path in RASTERS if path.name not in REFUSED], ids=str)
def test_a_real_raster_comes_back_on_its_grid(data, models, tmp_path, job, name):
    raster = data / name
    config = write_config(
        tmp_path, "config", raster=str(raster), model=models(raster), device="cpu",
        area=middle(raster), **({"confidence": True} if job == "segment" else {"components": 3}),
    )  # fmt: skip
    assert cli.main(["run", job, str(config), "--run", str(tmp_path / "run")]) == 0
    output = tmp_path / "run" / "outputs" / ("segmentation.tif" if job == "segment" else "embedding.tif")
    with rasterio.open(raster) as source, rasterio.open(output) as made:
        assert made.crs == source.crs
        scale = round(made.transform.a / source.transform.a)
        assert scale == (1 if job == "segment" else 4)
        column, row = ~source.transform @ (made.transform.c, made.transform.f)
        assert (row, column) == pytest.approx((round(row), round(column)), abs=1e-3)
        assert round(row) % scale == round(column) % scale == 0
        if job == "segment":
            window = rasterio.windows.Window(round(column), round(row), made.width, made.height)
            with open_raster(str(raster)) as opened:
                from rsfm.raster.grid import Window

                valid = opened.read(Window(round(row), round(column), made.height, made.width))[1]
            np.testing.assert_array_equal(made.read(1) != 255, valid)
            assert (window.height, window.width) == valid.shape


@pytest.mark.parametrize("job", ["segment", "embed"])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_odd_raster_is_refused_with_a_sentence(data, models, tmp_path, capsys, job, name):
    raster = next(data.rglob(name))
    with rasterio.open(raster) as source:
        bands = source.count
    good = {
        1: "worldview/rotterdam_pan_uint16.tif",
        3: "neon_trees/HARV_022.tif",
        4: "naip_dakota/naip_west_20090818.tif",
        6: "landsat/L7_ETM_olinda_6band.tif",
    }
    model = models(data / good[bands])
    config = write_config(tmp_path, "config", raster=str(raster), model=model, device="cpu")
    assert cli.main(["run", job, str(config), "--run", str(tmp_path / "run")]) == 2
    assert REFUSED[name] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def middle(raster: Path, side: int = 96) -> str | None:
    """Return an area around the middle one of the valid pixels, enough to see where pixels go; None for a small one."""
    with rasterio.open(raster) as source:
        if source.height * source.width <= SMALL:
            return None
    with open_raster(str(raster)) as opened:
        rows, columns = np.nonzero(opened.read(opened.grid.window)[1])
    with rasterio.open(raster) as source:
        row = max(int(rows[len(rows) // 2]) - side // 2, 0)
        column = max(int(columns[len(rows) // 2]) - side // 2, 0)
        bottom, right = min(row + side, source.height), min(column + side, source.width)
        xs, ys = zip(source.transform @ (column, row), source.transform @ (right, bottom), strict=True)
    return f"{min(xs)!r},{min(ys)!r},{max(xs)!r},{max(ys)!r}"
