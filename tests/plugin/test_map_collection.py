"""A collection in place of a raster: in the form, with an area for rasters of any CRS, and in the toolbox."""

import numpy as np
import pytest
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsRasterLayer,
    QgsRectangle,
)

from rsfm_qgis.gui.form import Form
from rsfm_qgis.schema import jobs
from rsfm_qgis.toolbox.parameters import read_values
from rsfm_qgis.toolbox.provider import Provider

EXTENT = QgsRectangle(500000, 5099000, 501000, 5100000)


@pytest.fixture
def collection(folder, workspace):
    return workspace.collections.create("fields")


@pytest.mark.parametrize("job", ["segment", "embed"])
def test_form_offers_collections_by_name_and_keeps_the_layer_chosen(workspace, collection, make_raster, job):
    layer = QgsRasterLayer(str(make_raster(np.ones((1, 4, 4), "uint8"))), "a layer")
    workspace.project.addMapLayer(layer)
    form = Form(jobs()[job].fields, workspace)
    editor = form.editor("raster")
    assert editor.value() == layer.source()
    assert "All of fields" in editor.choice.combo.additionalItems()
    form.set_values({"raster": collection})
    assert editor.choice.combo.currentText() == "All of fields"
    assert form.values()["raster"] == collection
    workspace.collections.create("more")
    assert form.values()["raster"] == collection
    assert "All of more" in editor.choice.combo.additionalItems()


def test_detect_change_offers_none(workspace, collection):
    form = Form(jobs()["detect_change"].fields, workspace)
    assert not form.editor("before").choice.combo.additionalItems()


@pytest.mark.parametrize(("crs", "code"), [("EPSG:32633", "32633"), ("PROJ:+proj=laea +lat_0=46 +lon_0=15", "4326")])
def test_visible_area_names_its_crs_for_the_rasters_of_a_collection(workspace, collection, crs, code):
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
    workspace.canvas.setExtent(EXTENT)
    form = Form(jobs()["segment"].fields, workspace)
    form.set_values({"raster": collection})
    area = form.editor("area")
    area.combo.setCurrentIndex(1)
    assert area.value().startswith(f"SRID={code};POLYGON((")


def test_toolbox_takes_a_collection_and_no_other_text(qgis_app, project, collection, tmp_path):
    provider = Provider()
    QgsApplication.processingRegistry().addProvider(provider)
    try:
        algorithm, context = provider.algorithm("segment").create(), QgsProcessingContext()
        context.setFeedback(QgsProcessingFeedback())
        said = {
            "raster": collection,
            "model": str(tmp_path / "m.safetensors"),
            "area": "15.0,15.1,46.0,46.1 [EPSG:4326]",
        }
        assert algorithm.checkParameterValues(said, context)[0]
        values = read_values(algorithm, jobs()["segment"].fields, said, context)
        assert values["raster"] == collection
        assert values["area"].startswith("SRID=4326;POLYGON((")
        assert not algorithm.checkParameterValues({**said, "raster": str(tmp_path / "x.collection.json")}, context)[0]
        assert not algorithm.checkParameterValues({**said, "raster": "no raster"}, context)[0]
    finally:
        QgsApplication.processingRegistry().removeProvider(provider)
