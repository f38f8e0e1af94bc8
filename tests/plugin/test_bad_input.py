"""What goes wrong in practice is said in QGIS's message bar, in one sentence, and leaves no output behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from qgis.gui import QgsMessageBar

from rsfm_qgis.gui.results import Results


@pytest.fixture
def refused(workspace: Any, wait: Any, tmp_path: Path) -> Any:
    """Run a job that must be refused; return what the message bar says."""
    bar = QgsMessageBar()
    results = Results(workspace, bar)

    def run(job: str, **config: Any) -> str:
        started: list[Any] = []
        workspace.client.start()
        wait(lambda: workspace.client.greeting)
        workspace.runs.start(job, config, job, lambda result, error: started.append((result, error)))
        wait(lambda: started)
        folder = started[0][0]["run"]
        results.expect(folder)
        wait(lambda: bar.currentItem() is not None, 60)
        assert workspace.runs.get(folder).state == "failed"
        assert list((Path(folder) / "outputs").iterdir()) == []
        return str(bar.currentItem().text())

    yield run
    bar.deleteLater()


def image(bands: int = 4, size: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 3000, (bands, size, size)).astype("uint16")


def test_raster_without_crs(refused, tmp_path):
    path = tmp_path / "nowhere.tif"
    gdal.GetDriverByName("GTiff").Create(str(path), 96, 96, 1, gdal.GDT_Byte).FlushCache()
    assert "CRS" in refused("pretrain", rasters=[str(path)])


def test_raster_of_nodata_alone(refused, make_raster):
    path = make_raster(np.zeros((2, 96, 96), "uint16"), nodata=0)
    assert "nodata" in refused("pretrain", rasters=[str(path)])


def test_truncated_file(refused, make_raster, tmp_path):
    path = tmp_path / "truncated.tif"
    path.write_bytes(make_raster(image()).read_bytes()[:20000])
    assert "truncated.tif" in refused("pretrain", rasters=[str(path)])


def test_text_file_named_tif(refused, tmp_path):
    path = tmp_path / "text.tif"
    path.write_text("this is no raster")
    assert "text.tif" in refused("pretrain", rasters=[str(path)])


@pytest.mark.parametrize(
    ("squares", "word"),
    [([(10, 10, 8, "a"), (40, 40, 8, "a")], "one class"), ([(5000, 10, 8, "a"), (5000, 40, 8, "b")], "outside")],
)
def test_labels_that_cannot_be_used(refused, make_raster, make_polygons, squares, word):
    raster, labels = make_raster(image()), make_polygons(squares)
    assert word in refused("finetune", raster=str(raster), labels=str(labels), class_field="class")


def test_pair_that_does_not_overlap(refused, make_raster, tmp_path):
    before = make_raster(image(), "before.tif")
    after = tmp_path / "after.tif"
    gdal.Translate(str(after), str(before), outputBounds=[900000, 5100000, 900960, 5099040])
    assert "overlap" in refused("detect_change", before=str(before), after=str(after))
