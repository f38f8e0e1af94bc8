import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rsfm.raster import polygons as polygons_module
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.objects import ObjectFinder
from rsfm.raster.polygons import Outlines, polygonise
from skimage.measure import label

NAMES = {0: "none", 1: "water", 2: "forest", 3: "field"}


def random_classes(height, width, seed, nodata=255):
    from scipy import ndimage

    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(height, width)), 1.5)
    classes = np.digitize(fields, np.quantile(fields, [0.3, 0.6, 0.8])).astype(np.uint8)
    classes[random.random((height, width)) < 0.1] = 2
    classes[: height // 4, : width // 3] = nodata
    return classes


def read(path):
    meta, _, geometry, fields = pyogrio.raw.read(path)
    return shapely.from_wkb(geometry), dict(zip(meta["fields"], fields, strict=True)), meta


@pytest.fixture
def write(make_raster):
    def write_it(classes_HW, **profile):
        return make_raster(classes_HW[None], "classes.tif", **{"nodata": 255, **profile})

    return write_it


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("minimum", [0, 1500])
def test_polygons_cover_the_valid_pixels_without_gap_or_overlap(rows, minimum, write, tmp_path, monkeypatch):
    classes_HW = random_classes(50, 61, rows)
    monkeypatch.setattr(polygons_module, "STRIP_PIXELS", rows * 61)
    count = polygonise(write(classes_HW), tmp_path / "out.gpkg", NAMES, Outlines(minimum))
    polygons, table, _ = read(tmp_path / "out.gpkg")
    assert count == len(polygons) > 5
    assert shapely.is_valid(polygons).all()
    valid = int((classes_HW != 255).sum()) * 100
    assert shapely.area(polygons).sum() == pytest.approx(valid, rel=1e-12)
    assert shapely.area(shapely.union_all(polygons)) == pytest.approx(valid, rel=1e-12), "polygons overlap"
    assert table["area_m2"] == pytest.approx(shapely.area(polygons), rel=2e-3)
    places = zip(polygons, table["class"], strict=True)
    drawn_HW = rasterize(places, classes_HW.shape, 255, transform=from_origin(500000, 5100000, 10, 10), dtype="uint8")
    if minimum == 0:
        np.testing.assert_array_equal(drawn_HW, classes_HW)
    else:
        np.testing.assert_array_equal(drawn_HW == 255, classes_HW == 255)
        assert table["area_m2"].min() > 1490


def test_the_height_of_strips_changes_no_polygon(write, tmp_path, monkeypatch):
    path, found = write(random_classes(40, 33, 5)), []
    for rows in (1000, 9, 1):
        monkeypatch.setattr(polygons_module, "STRIP_PIXELS", rows * 33)
        polygonise(path, tmp_path / f"{rows}.gpkg", NAMES)
        polygons, table, _ = read(tmp_path / f"{rows}.gpkg")
        polygons = shapely.normalize(shapely.simplify(polygons, 0))
        found.append(sorted(zip(shapely.to_wkt(polygons), table["class"], table["area_m2"].round(3), strict=True)))
    assert found[0] == found[1] == found[2]


def test_classes_have_their_names_in_the_field_asked_for_and_others_their_number(write, tmp_path):
    classes_HW = np.repeat(np.array([[0, 1, 2, 7]], np.uint8), 4, axis=0)
    polygonise(write(classes_HW), tmp_path / "out.gpkg", NAMES, value_field="land_cover")
    _, table, meta = read(tmp_path / "out.gpkg")
    found = dict(zip(table["land_cover"].tolist(), table["name"].tolist(), strict=True))
    assert found == {0: "none", 1: "water", 2: "forest", 7: "7"}
    assert "32633" in meta["crs"]


def test_a_small_polygon_joins_its_largest_neighbour(write, tmp_path):
    classes_HW = np.ones((10, 20), np.uint8)
    classes_HW[:, 14:] = 2
    classes_HW[4:6, 13:15] = 3
    polygonise(write(classes_HW), tmp_path / "out.gpkg", NAMES, Outlines(minimum_area=500))
    _, table, _ = read(tmp_path / "out.gpkg")
    areas = dict(zip(table["class"].tolist(), table["area_m2"].tolist(), strict=True))
    assert areas == pytest.approx({1: 14200, 2: 5800}, rel=2e-3)


def test_a_raster_of_nodata_makes_an_empty_layer(write, tmp_path):
    assert polygonise(write(np.full((5, 6), 255, np.uint8)), tmp_path / "out.gpkg", NAMES) == 0
    polygons, table, _ = read(tmp_path / "out.gpkg")
    assert len(polygons) == 0
    assert set(table) == {"class", "name", "area_m2"}


def test_a_run_that_is_ended_leaves_no_file(write, tmp_path):
    def end(part):
        if part > 0.5:
            raise KeyboardInterrupt

    path = write(random_classes(30, 30, 0))
    with pytest.raises(KeyboardInterrupt):
        polygonise(path, tmp_path / "out.gpkg", NAMES, done=end)
    assert not list(tmp_path.glob("*.gpkg*"))


def test_many_polygons_are_written_in_batches(write, tmp_path, monkeypatch):
    monkeypatch.setattr(polygons_module, "BATCH", 7)
    checkers_HW = (np.indices((10, 11)).sum(0) % 2).astype(np.uint8)
    assert polygonise(write(checkers_HW), tmp_path / "out.gpkg", NAMES) == 110
    assert len(read(tmp_path / "out.gpkg")[0]) == 110


@settings(max_examples=40, deadline=None)
@example(height=14, width=3, rows=2, seed=62, share=1.0)  # two parts of one object end in other rows of the last strip
@given(
    height=st.integers(1, 30), width=st.integers(1, 20), rows=st.integers(1, 8), seed=st.integers(0, 99),
    share=st.floats(0, 1),
)  # fmt: skip
def test_objects_of_strips_are_those_of_the_whole(height, width, rows, seed, share):
    random = np.random.default_rng(seed)
    values_HW = random.integers(0, 3, (height, width)) * (random.random((height, width)) < share)
    weights_HW, finder = random.random((height, width)), ObjectFinder()
    strips = [values_HW[row : row + rows] for row in range(0, height, rows)]
    for row, strip in enumerate(strips):
        place = slice(row * rows, row * rows + len(strip))
        finder.add(strip, np.full(strip.shape, 2.0), weights_HW[place])
    objects = finder.finish()
    expected_HW = label(values_HW, background=0, connectivity=1)
    found_HW = np.concatenate([objects.label(index, strip) for index, strip in enumerate(strips)])
    pairs = set(zip(expected_HW.ravel().tolist(), found_HW.ravel().tolist(), strict=True))
    assert len(objects) == expected_HW.max() == len(pairs - {(0, 0)})
    for number in range(1, len(objects) + 1):
        inside_HW = found_HW == number
        assert (values_HW[inside_HW] == objects.value_N[number - 1]).all()
        assert objects.pixels_N[number - 1] == inside_HW.sum()
        assert objects.area_N[number - 1] == pytest.approx(2 * inside_HW.sum())
        assert objects.weight_N[number - 1] == pytest.approx(weights_HW[inside_HW].sum())
        assert objects.last_row_N[number - 1] == np.nonzero(inside_HW)[0].max()


def test_objects_that_are_left_out_lose_their_number_and_the_others_close_ranks():
    values_HW = np.array([[1, 0, 2, 0, 1], [1, 0, 2, 0, 0]])
    finder = ObjectFinder()
    finder.add(values_HW[:1], np.ones((1, 5)))
    finder.add(values_HW[1:], np.ones((1, 5)))
    objects = finder.finish()
    kept = objects.keep(objects.pixels_N == 2).keep(np.array([False, True]))
    assert kept.label(0, values_HW[:1]).tolist() == [[0, 0, 1, 0, 0]]
    assert kept.label(1, values_HW[1:]).tolist() == [[0, 0, 1, 0, 0]]
    assert len(kept) == 1


EARTH_M2 = 510_065_621_724_088
"""Surface of the WGS 84 ellipsoid."""


def test_the_pixels_of_the_globe_have_the_surface_of_the_ellipsoid():
    grid = Grid(rasterio.CRS.from_epsg(4326), from_origin(-180, 90, 1, 1), 180, 360)
    areas_HW = GroundArea(grid).read(grid.window)
    assert areas_HW.sum() == pytest.approx(EARTH_M2, rel=1e-9)
    assert areas_HW[90, 0] == pytest.approx(111_319.5 * 110_574.4 * 0.99995, rel=1e-5)  # degrees at the equator


@pytest.mark.parametrize(
    ("crs", "x", "y", "metres2"),
    [
        (32631, 500000, 100000, 100 / 0.9996**2),  # the zone's middle is drawn 0.04 % too small
        (6933, 1e6, 4e6, 100),  # keeps areas
        (3035, 4321000, 3210000, 100),
        (32660, 833970, 100000, None),  # the date line
    ],
)
def test_pixels_of_a_projection_have_their_area_on_the_ground(crs, x, y, metres2):
    grid = Grid(rasterio.CRS.from_epsg(crs), Affine(10, 0, x, 0, -10, y), 20, 30)
    areas_HW = GroundArea(grid).read(grid.window)
    assert areas_HW == pytest.approx(metres2 or areas_HW[0, 0], rel=2e-5)
    assert 95 < areas_HW[0, 0] < 105


def test_areas_between_the_computed_places_are_interpolated_right():
    grid = Grid(rasterio.CRS.from_epsg(3857), from_origin(0, 8e6, 30, 30), 3000, 40)
    whole = GroundArea(grid).read(Window(1234, 5, 2, 3))
    alone = GroundArea(grid.crop(Window(1234, 5, 2, 3))).read(Window(0, 0, 2, 3))
    np.testing.assert_allclose(whole, alone, rtol=1e-6)
    assert whole[0, 0] < 900 * 0.4, "Web Mercator enlarges this latitude more than that"
