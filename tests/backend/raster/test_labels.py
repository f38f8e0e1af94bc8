import re
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as reproject
from rsfm.errors import UserError
from rsfm.raster.labels import PALETTE, choose_colours, read_labels
from rsfm.raster.reader import open_raster

NORTH, EAST = 5_100_000, 500_000


def square(row, column, height, width):
    """A rectangle of whole pixels of the 10 m raster."""
    return shapely.box(EAST + 10 * column, NORTH - 10 * (row + height), EAST + 10 * (column + width), NORTH - 10 * row)


def write_labels(path, shapes, classes, crs="EPSG:32633", field="class", layer="labels", append=False, **columns):
    data = {field: classes, **columns}
    pyogrio.raw.write(
        path,
        np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], object),
        field_data=[np.array(values) if not _texts(values) else np.array(values, object) for values in data.values()],
        fields=np.array(list(data), object),
        layer=layer,
        geometry_type="Unknown",
        crs=crs,
        driver="GPKG",
        append=append,
    )
    return str(path)


def _texts(values):
    return any(value is None or isinstance(value, str) for value in values)


@pytest.fixture
def raster(make_raster):
    pixels_CHW = np.ones((2, 40, 60), np.uint16)
    pixels_CHW[:, :, 50:] = 0
    with open_raster(str(make_raster(pixels_CHW, nodata=0))) as opened:
        yield opened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.gpkg"


def pixels(labels):
    """(row, column) -> class name."""
    found = zip(labels.rows_N.tolist(), labels.columns_N.tolist(), labels.class_N.tolist(), strict=True)
    return {(row, column): labels.names[value] for row, column, value in found}


def filled(row, column, height, width, name):
    return {(r, c): name for r in range(row, row + height) for c in range(column, column + width)}


def test_polygons_take_the_pixels_whose_centre_they_cover(raster, path):
    labels = read_labels(write_labels(path, [square(2, 3, 4, 5), square(20, 10, 3, 3)], ["b", "a"]), "class", raster)
    assert labels.names == ("a", "b")
    assert pixels(labels) == filled(2, 3, 4, 5, "b") | filled(20, 10, 3, 3, "a")
    assert labels.polygons == (1, 1)
    assert labels.notes == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=st.lists(st.tuples(st.floats(-5, 45), st.floats(2, 49)), min_size=3, max_size=7, unique=True))
def test_burning_equals_asking_each_pixel_centre(raster, tmp_path_factory, points):
    shape = shapely.convex_hull(shapely.MultiPoint([(EAST + 10 * c, NORTH - 10 * r) for r, c in points]))
    rows, columns = np.mgrid[:40, :50]
    x, y = EAST + 10 * columns + 5, NORTH - 10 * rows - 5
    sure_HW, possible_HW = (shapely.contains_xy(shape.buffer(by), x, y) for by in (-0.01, 0.01))
    assume(sure_HW.any())
    source = write_labels(tmp_path_factory.mktemp("labels") / "l.gpkg", [shape, square(39, 0, 1, 1)], ["x", "corner"])
    labels = read_labels(source, "class", raster)
    found_HW = np.zeros((40, 50), bool)
    found_HW[labels.rows_N, labels.columns_N] = labels.class_N == labels.names.index("x")
    assert (sure_HW <= found_HW).all()
    assert (found_HW <= possible_HW).all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32634"])
def test_labels_in_another_crs_land_on_the_same_pixels(raster, tmp_path, crs):
    shapes = [square(2, 3, 4, 5), square(20, 10, 9, 3), shapely.Point(EAST + 305, NORTH - 305)]

    def move(points):
        return np.stack(reproject(CRS.from_epsg(32633), CRS.from_string(crs), points[:, 0], points[:, 1]), 1)

    moved = [shapely.transform(shape, move) for shape in shapes]
    names = ["a", "b", "a"]
    own = read_labels(write_labels(tmp_path / "own.gpkg", shapes, names), "class", raster)
    other = read_labels(write_labels(tmp_path / "other.gpkg", moved, names, crs=crs), "class", raster)
    assert pixels(own) == pixels(other)
    assert own.polygon_N.tolist() == other.polygon_N.tolist()


def test_south_up_raster_gets_the_same_ground(make_raster, path):
    south_up = make_raster(np.ones((1, 40, 60), "uint8"), "up.tif", transform=Affine(10, 0, EAST, 0, 10, NORTH - 400))
    source = write_labels(path, [square(2, 3, 4, 5), square(20, 10, 3, 3)], ["b", "a"])
    with open_raster(str(south_up)) as raster:
        labels = read_labels(source, "class", raster)
    assert pixels(labels) == filled(40 - 6, 3, 4, 5, "b") | filled(40 - 23, 10, 3, 3, "a")


def test_large_polygon_on_a_large_raster_is_burnt_in_pieces(tmp_path, path):
    big = tmp_path / "big.tif"
    form = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:32633", "tiled": True, "sparse_ok": True}
    transform = Affine(10, 0, EAST, 0, -10, NORTH)
    with rasterio.open(big, "w", height=6000, width=6000, transform=transform, **form):
        pass
    line = shapely.LineString([(EAST + 5, NORTH - 5), (EAST + 59995, NORTH - 59995)])
    with open_raster(str(big)) as raster:
        labels = read_labels(write_labels(path, [line, square(2046, 2100, 4, 4)], ["line", "square"]), "class", raster)
    found = pixels(labels)
    assert {(at, at) for at in range(6000)} <= {at for at, name in found.items() if name == "line"}
    assert {at for at, name in found.items() if name == "square"} == set(filled(2046, 2100, 4, 4, ""))


def test_numbers_are_sorted_by_size(raster, path):
    shapes = [square(at * 3, 0, 2, 2) for at in range(3)]
    assert read_labels(write_labels(path, shapes, [10, 2, 1]), "class", raster).names == ("1", "2", "10")


def test_text_with_numbers_is_sorted_naturally(raster, path):
    shapes = [square(at * 3, 0, 2, 2) for at in range(3)]
    names = read_labels(write_labels(path, shapes, ["class 10", "class 9", "bare"]), "class", raster).names
    assert names == ("bare", "class 9", "class 10")


def test_parts_of_a_multi_polygon_are_polygons_of_their_own(raster, path):
    multi = shapely.MultiPolygon([square(0, 0, 2, 2), square(10, 0, 2, 2)])
    labels = read_labels(write_labels(path, [multi, square(20, 0, 2, 2)], ["a", "b"]), "class", raster)
    assert labels.polygons == (2, 1)
    assert len(np.unique(labels.polygon_N)) == 3


def test_points_and_lines_take_what_they_touch(raster, path):
    line = shapely.LineString([(EAST + 5, NORTH - 5), (EAST + 35, NORTH - 5)])
    labels = read_labels(
        write_labels(path, [line, shapely.Point(EAST + 105, NORTH - 105)], ["line", "point"]), "class", raster
    )
    assert pixels(labels) == filled(0, 0, 1, 4, "line") | {(10, 10): "point"}


def test_polygon_smaller_than_a_pixel_takes_one_and_says_so(raster, path):
    tiny = shapely.box(EAST + 41, NORTH - 43, EAST + 43, NORTH - 41)
    labels = read_labels(write_labels(path, [tiny, square(20, 0, 2, 2)], ["tiny", "b"]), "class", raster)
    assert pixels(labels)[4, 4] == "tiny"
    assert labels.notes == ("1 of 2 polygons cover no pixel centre; each takes the pixel in its middle.",)


def test_bad_outline_is_repaired_and_counted(raster, path):
    bow = shapely.Polygon([(EAST, NORTH), (EAST + 100, NORTH - 100), (EAST + 100, NORTH), (EAST, NORTH - 100)])
    labels = read_labels(write_labels(path, [bow, square(20, 0, 2, 2)], ["bow", "b"]), "class", raster)
    assert "1 of 2 shapes were repaired" in labels.notes[0]
    assert {(1, 0), (1, 9)} <= pixels(labels).keys()
    assert (0, 5) not in pixels(labels)


def test_pixels_on_nodata_are_dropped_and_counted(raster, path):
    labels = read_labels(write_labels(path, [square(0, 48, 2, 4), square(9, 9, 2, 2)], ["a", "b"]), "class", raster)
    assert pixels(labels) == filled(0, 48, 2, 2, "a") | filled(9, 9, 2, 2, "b")
    assert labels.notes == ("4 labelled pixels are on nodata and were left out.",)


def test_pixels_claimed_by_two_classes_are_dropped_and_by_one_class_kept_once(raster, path):
    shapes = [square(0, 0, 4, 4), square(2, 2, 4, 4), square(1, 1, 2, 1)]
    labels = read_labels(write_labels(path, shapes, ["a", "b", "a"]), "class", raster)
    assert not {(2, 2), (3, 3)} & pixels(labels).keys()
    assert len(labels.rows_N) == len(pixels(labels)) == 12 + 12
    assert labels.notes == ("4 labelled pixels are claimed by two classes and were left out.",)


def test_what_has_no_class_or_lies_elsewhere_is_left_out_and_counted(raster, path):
    shapes = [square(0, 0, 2, 2), square(5, 5, 2, 2), square(9, 9, 2, 2), square(900, 0, 2, 2), None]
    labels = read_labels(write_labels(path, shapes, ["a", "b", None, "c", "a"]), "class", raster)
    assert labels.names == ("a", "b")
    assert labels.notes == (
        "2 of 5 features have no shape or no class and were left out.",
        "1 of 3 polygons lie outside the raster.",
        "Class 'c' has no pixel on this raster.",
    )


def test_colours_of_the_file_win_and_the_palette_fills_in(raster, path):
    shapes = [square(at * 3, 0, 2, 2) for at in range(3)]
    source = write_labels(path, shapes, ["a", "b", "c"], Colour=["#AABBCC", "red", None])
    assert read_labels(source, "class", raster).colours == ("#aabbcc", PALETTE[0], PALETTE[1])


def test_many_classes_get_colours_that_differ():
    names = tuple(str(at) for at in range(60))
    colours = choose_colours(names, {"3": PALETTE[2]})
    assert len(set(colours)) == 60
    assert colours[3] == PALETTE[2]


def test_layer_is_found_by_name_and_by_default_the_first_is_read_and_named(raster, path):
    write_labels(path, [square(0, 0, 2, 2), square(5, 5, 2, 2)], ["a", "b"], layer="one")
    write_labels(path, [square(0, 0, 2, 2), square(5, 5, 2, 2)], ["c", "d"], layer="two", append=True)
    assert read_labels(f"{path}|layername=two", "class", raster).names == ("c", "d")
    labels = read_labels(str(path), "class", raster)
    assert labels.names == ("a", "b")
    assert labels.notes == ("'labels.gpkg' has the layers one, two; 'one' was read.",)


def test_subset_of_the_project_is_kept(raster, path):
    source = write_labels(path, [square(0, 0, 2, 2), square(5, 5, 2, 2), square(9, 9, 2, 2)], ["a", "b", "c"])
    assert read_labels(f"{source}|subset=\"class\" != 'c'", "class", raster).names == ("a", "b")


TWO = [square(0, 0, 2, 2), square(5, 5, 2, 2)]
FAR = [square(5000, 0, 2, 2), square(5010, 0, 2, 2)]
HIDDEN = [square(0, 52, 2, 2), square(5, 52, 2, 2)]
POINTS = [shapely.Point(EAST + 525, NORTH - 5), shapely.Point(EAST + 545, NORTH - 25)]
CROWD = [shapely.Point(EAST + 5, NORTH - 5)] * 300


@pytest.mark.parametrize(
    ("shapes", "classes", "options", "field", "sentence"),
    [
        (TWO, ["a", "a"], {}, "class_field", "has one class, 'a', in 'class'; learning needs two"),
        (TWO, ["a", "b"], {"field": "kind"}, "class_field", "has no attribute 'class'; it has 'kind'"),
        (TWO, [None, None], {}, "class_field", "'class' is empty throughout"),
        (TWO, ["a", "b"], {"crs": None}, "labels", "has no CRS"),
        ([], np.array([], object), {}, "labels", "is empty: it holds no shape"),
        (FAR, ["a", "b"], {}, "labels", "lie outside 'raster.tif'"),
        (HIDDEN, ["a", "b"], {}, "labels", "All 8 labelled pixels of 'labels.gpkg' lie on nodata"),
        (POINTS, ["a", "b"], {}, "labels", "All 2 labelled pixels of 'labels.gpkg' lie on nodata"),
        (CROWD, list(range(300)), {}, "class_field", "has 300 different values; at most 255"),
        ([*TWO[:1], *FAR], ["a", "b", "c"], {}, "class_field", "only class 'a' has pixels on the raster"),
        (TWO[:1] * 2, ["a", "b"], {}, "class_field", "its polygons lie on top of each other"),
        (TWO, ["a", "b"], {"layer": "other"}, "labels", "has no layer 'labels'; it has other"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_words(raster, path, shapes, classes, options, field, sentence):
    source = write_labels(path, shapes, classes, **options) + "|layername=labels"
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        read_labels(source, "class", raster)
    assert caught.value.field == field
    assert ("'Labels'" if field == "labels" else "'Class field'") in str(caught.value) or "QGIS" in str(caught.value)


def test_outside_says_where_both_are(raster, path):
    with pytest.raises(UserError, match=r"at 500000, 5049880, 500020, 5050000, the raster at 500000, 5099600, 500600"):
        read_labels(write_labels(path, FAR, ["a", "b"]), "class", raster)


def test_missing_file_is_refused(raster, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.gpkg' does not exist"):
        read_labels(str(tmp_path / "nowhere.gpkg"), "class", raster)


@pytest.mark.parametrize("name", ["text.gpkg", "text.txt"])
def test_file_that_is_no_vector_file_is_refused(raster, tmp_path, name):
    path: Path = tmp_path / name
    path.write_text("not a layer")
    with pytest.raises(UserError, match=f"'{name}' cannot be read as a vector file"):
        read_labels(str(path), "class", raster)


def test_table_without_shapes_is_refused(raster, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("class,size\na,1\nb,2\n")
    with pytest.raises(UserError, match="is a table without shapes"):
        read_labels(str(table), "class", raster)


def test_real_polygons_land_on_their_ground(data):
    """The bundle's polygons were derived from NDWI, so water must be darker in near infrared than vegetation."""
    with open_raster(str(data / "demo_bundle" / "pretrain_20160816.tif")) as raster:
        labels = read_labels(str(data / "demo_bundle" / "labels.gpkg"), "class_name", raster)
        pixels_CHW, _ = raster.read(raster.grid.window)
    infrared_N = pixels_CHW[3, labels.rows_N, labels.columns_N]
    means = {name: infrared_N[labels.class_N == value].mean() for value, name in enumerate(labels.names)}
    assert means["water"] < 0.5 * means["green vegetation"]


def test_water_is_blue_and_no_colour_is_given_twice():
    names = ("bare ground", "forest", "green vegetation", "open water", "7")
    colours = choose_colours(names, {})
    assert colours[0] == "#e69f00"
    assert colours[1] == "#009e73"
    assert colours[3] == "#0072b2"
    assert len(set(colours)) == 5
