"""Polygons of classes as a coverage: against the slow obvious version, and their topology whatever the strips."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes
from rasterio.warp import transform as transform_coordinates
from rsfm.raster import polygons as polygons_module
from rsfm.raster.grid import Grid
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.polygons import ALONG_PIXELS, Outlines, TooManyPolygons, polygonise
from skimage.measure import label

NODATA = 255
NAMES = {0: "none", 1: "water", 2: "forest"}
NORTH_UP = Affine(10, 0, 500000, 0, -10, 5100000)
GRIDS = {
    "north up": NORTH_UP,
    "south up": Affine(10, 0, 500000, 0, 10, 5100000),
    "rotated": Affine.translation(500000, 5100000) @ Affine.rotation(27) @ Affine.scale(10, -10),
    "oblong": Affine(10, 0, 500000, 0, -25, 5100000),
}


def make_polygons(
    classes_HW, outlines=ALONG_PIXELS, rows=10**6, transform=NORTH_UP, crs="EPSG:32633", confidence_HW=None
):
    """Polygonise classes and return geometry_N and the columns of the table."""
    height, width = classes_HW.shape
    shape = {"driver": "GTiff", "count": 1, "height": height, "width": width, "crs": crs, "transform": transform}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons_module, "STRIP_PIXELS", rows * width)
        path, target = Path(folder) / "classes.tif", Path(folder) / "out.gpkg"
        with rasterio.open(path, "w", dtype="uint8", nodata=NODATA, **shape) as file:
            file.write(classes_HW.astype("uint8"), 1)
        confidence_path = None
        if confidence_HW is not None:
            confidence_path = Path(folder) / "confidence.tif"
            with rasterio.open(confidence_path, "w", dtype="float32", nodata=np.nan, **shape) as file:
                file.write(confidence_HW.astype("float32"), 1)
        polygonise(path, target, NAMES, outlines, confidence_path=confidence_path)
        meta, _, geometry, fields = pyogrio.raw.read(target)
    return shapely.from_wkb(geometry), dict(zip(meta["fields"], fields, strict=True))


def pixel_area(classes_HW, transform):
    """The valid pixels as one geometry, square by square."""
    rows, columns = np.nonzero(classes_HW != NODATA)
    boxes = shapely.box(columns, rows, columns + 1, rows + 1)
    return shapely.union_all(shapely.transform(boxes, lambda points: np.stack(transform @ points.T, axis=1)))


def plain(polygons, values):
    """Geometry and class without regard to order and to vertices on straight edges."""
    return sorted(zip(shapely.to_wkt(shapely.normalize(shapely.simplify(polygons, 0))), values, strict=True))


rasters = st.builds(
    lambda height, width, seed, share, coarse: random_classes(height, width, seed, share, coarse),
    st.integers(1, 24), st.integers(1, 24), st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 4),
)  # fmt: skip


def random_classes(height, width, seed, share, coarse):
    """Noise, or patches of it, of which a share is valid."""
    random = np.random.default_rng(seed)
    classes_HW = np.kron(random.integers(0, 3, (height, width)), np.ones((coarse, coarse), int))[:height, :width]
    flipped_HW = random.random((height, width)) < 0.1
    classes_HW[flipped_HW] = random.integers(0, 3, int(flipped_HW.sum()))
    return np.where(random.random((height, width)) <= share, classes_HW, NODATA)


@settings(max_examples=100, deadline=None)
@given(classes_HW=rasters, rows=st.integers(1, 9), grid=st.sampled_from(sorted(GRIDS)))
def test_polygons_are_those_of_the_whole_raster_at_once(classes_HW, rows, grid):
    polygons, table = make_polygons(classes_HW, rows=rows, transform=GRIDS[grid])
    expected = [
        (
            shapely.transform(shapely.Polygon(*_rings(geometry)), lambda p: np.stack(GRIDS[grid] @ p.T, axis=1)),
            int(value),
        )
        for geometry, value in shapes(classes_HW.astype("uint8"), mask=classes_HW != NODATA, connectivity=4)
    ]
    if grid == "rotated":  # coordinates are not whole numbers: straight edges are not exactly straight
        assert len(polygons) == len(expected)
        assert shapely.area(polygons).sum() == pytest.approx(sum(polygon.area for polygon, _ in expected))
        return
    assert (
        plain(polygons, table["class"].tolist()) == plain(*zip(*expected, strict=True))
        if expected
        else not len(polygons)
    )


def _rings(geometry):
    shell, *holes = geometry["coordinates"]
    return shell, holes


@settings(max_examples=150, deadline=None)
@given(
    classes_HW=rasters,
    rows=st.integers(1, 12),
    grid=st.sampled_from(sorted(GRIDS)),
    outlines=st.builds(
        Outlines, st.sampled_from([0, 250, 900]), st.sampled_from([0, 1200]), st.sampled_from([0, 8, 15, 40, 300])
    ),
)
def test_polygons_cover_the_valid_area_once_whatever_is_joined_and_smoothed(classes_HW, rows, grid, outlines):
    polygons, table = make_polygons(classes_HW, outlines, rows, GRIDS[grid])
    if (classes_HW == NODATA).all():
        assert not len(polygons)
        return
    assert shapely.is_valid(polygons).all()
    assert {polygon.geom_type for polygon in polygons} == {"Polygon"}
    assert shapely.coverage_is_valid(polygons), "vertices of common edges are not common, or polygons overlap"
    expected, found = pixel_area(classes_HW, GRIDS[grid]), shapely.union_all(polygons)
    assert shapely.area(shapely.symmetric_difference(found, expected)) <= 1e-7 * expected.area
    assert shapely.area(polygons).sum() == pytest.approx(expected.area, rel=1e-9)
    assert table["area_m2"].sum() == pytest.approx(expected.area, rel=2e-3)  # the zone's scale


@settings(max_examples=60, deadline=None)
@given(classes_HW=rasters, rows=st.integers(2, 12))
def test_smoothing_keeps_every_polygon_with_its_class(classes_HW, rows):
    edged, edged_table = make_polygons(classes_HW, rows=rows)
    smooth, smooth_table = make_polygons(classes_HW, Outlines(smoothing=12), rows)
    assert sorted(edged_table["class"].tolist()) == sorted(smooth_table["class"].tolist())
    assert shapely.get_num_coordinates(smooth).sum() <= shapely.get_num_coordinates(edged).sum()


def test_smoothing_straightens_a_staircase_and_leaves_the_rim():
    classes_HW = (np.indices((60, 60)).sum(0) > 60).astype(int)
    polygons, table = make_polygons(classes_HW, Outlines(smoothing=15))
    assert shapely.get_num_coordinates(make_polygons(classes_HW)[0]).min() > 110
    assert shapely.get_num_coordinates(polygons).max() < 25
    assert shapely.total_bounds(polygons).tolist() == [500000, 5099400, 500600, 5100000]
    edged = int((classes_HW == 1).sum()) * 100
    assert shapely.area(polygons)[table["class"] == 1] == pytest.approx(edged, rel=0.02)


def slow_join(classes_HW, minimum, height=1.0, width=1.0):
    """Join small patches by looking at all pixels again in every round."""
    classes_HW = classes_HW.copy()
    while True:
        labels_HW = label(classes_HW + 1, background=NODATA + 1, connectivity=1)
        labels_HW[classes_HW == NODATA] = 0
        first = [int(np.flatnonzero(labels_HW.ravel() == n)[0]) for n in range(1, labels_HW.max() + 1)]
        size = {n: int((labels_HW == n).sum()) for n in range(1, labels_HW.max() + 1)}
        rank = {n: (size[n], first[n - 1]) for n in size}
        border: dict[int, dict[int, float]] = {n: {} for n in size}
        for a_HW, b_HW, length in (
            (labels_HW[:, 1:], labels_HW[:, :-1], height),
            (labels_HW[1:], labels_HW[:-1], width),
        ):
            for a, b in zip(a_HW.ravel().tolist(), b_HW.ravel().tolist(), strict=True):
                if a != b and a and b:
                    border[a][b] = border[a].get(b, 0) + length
                    border[b][a] = border[b].get(a, 0) + length
        small = {n for n in size if size[n] < minimum and border[n]}
        movers = [n for n in small if not any(m in small and rank[m] < rank[n] for m in border[n])]
        if not movers:
            return classes_HW
        targets = {n: max(border[n], key=lambda m: (border[n][m], size[m], -first[m - 1])) for n in movers}
        values = {n: classes_HW.ravel()[first[targets[n] - 1]] for n in movers}
        for n in movers:
            classes_HW[labels_HW == n] = values[n]


@settings(max_examples=80, deadline=None)
@given(classes_HW=rasters, minimum=st.integers(2, 8), oblong=st.booleans())
def test_small_patches_join_as_if_all_pixels_were_looked_at_in_every_round(classes_HW, minimum, oblong):
    transform = GRIDS["oblong"] if oblong else NORTH_UP
    pixel_m2 = 250 if oblong else 100
    outlines = Outlines(minimum_area=(minimum - 0.5) * pixel_m2)
    found, table = make_polygons(classes_HW, outlines, transform=transform, crs=None)  # all pixels are as large
    joined_HW = slow_join(classes_HW, minimum, *((2.5, 1) if oblong else (1, 1)))
    expected, expected_table = make_polygons(joined_HW, transform=transform, crs=None)
    assert plain(found, table["class"].tolist()) == plain(expected, expected_table["class"].tolist())


@settings(max_examples=60, deadline=None)
@given(classes_HW=rasters, minimum=st.integers(2, 8), rows=st.integers(1, 7))
def test_no_polygon_is_smaller_than_asked_for_unless_it_has_no_neighbour_also_across_seams(classes_HW, minimum, rows):
    polygons, table = make_polygons(classes_HW, Outlines(minimum_area=(minimum - 0.5) * 100), rows)
    for small in np.flatnonzero(table["area_m2"] < (minimum - 0.5) * 99):
        common = shapely.length(shapely.intersection(polygons[small], np.delete(polygons, small)))
        assert common.max(initial=0) == 0


def slow_fill(classes_HW, largest):
    """Fill what cannot be reached from nodata or from beyond the edge once a patch is taken away."""
    padded_HW = np.pad(classes_HW, 1, constant_values=NODATA)
    labels_HW = label(padded_HW, connectivity=1, background=NODATA)
    into = {n: n for n in range(labels_HW.max() + 1)}
    for patch in range(1, labels_HW.max() + 1):
        reached = {0}
        pairs = {
            (int(a), int(b))
            for one, other in ((labels_HW[:, 1:], labels_HW[:, :-1]), (labels_HW[1:], labels_HW[:-1]))
            for x, y in zip(one.ravel(), other.ravel(), strict=True)
            for a, b in ((x, y), (y, x))
            if a != b and patch not in (a, b)
        }
        while more := {b for a, b in pairs if a in reached} - reached:
            reached |= more
        enclosed = set(range(1, labels_HW.max() + 1)) - reached - {patch}
        while enclosed:
            group = {next(iter(enclosed))}
            while more := {b for a, b in pairs if a in group} - group:
                group |= more
            enclosed -= group
            if sum(int((labels_HW == n).sum()) for n in group) < largest:
                into |= {n: patch for n in group if into[n] == n or patch not in group}
    filled_HW = padded_HW.copy()
    for n in into:
        root = n
        while into[root] != root:
            root = into[root]
        if n:
            filled_HW[labels_HW == n] = padded_HW[labels_HW == root][0]
    return filled_HW[1:-1, 1:-1]


@settings(max_examples=80, deadline=None)
@given(classes_HW=rasters, largest=st.integers(2, 12), rows=st.integers(1, 30))
def test_holes_are_filled_as_if_every_patch_were_taken_away_in_turn(classes_HW, largest, rows):
    found, table = make_polygons(classes_HW, Outlines(fill_holes=(largest - 0.5) * 100), rows)
    expected, expected_table = make_polygons(slow_fill(classes_HW, largest))
    assert plain(found, table["class"].tolist()) == plain(expected, expected_table["class"].tolist())


def test_a_hole_of_two_classes_is_filled_as_a_whole_and_nodata_stays_a_hole():
    classes_HW = np.zeros((9, 12), int)
    classes_HW[2:4, 2:6] = np.repeat([[1, 2]], 2, axis=1)
    classes_HW[6, 9] = NODATA
    polygons, table = make_polygons(classes_HW, Outlines(fill_holes=801))
    assert table["class"].tolist() == [0]
    assert len(polygons[0].interiors) == 1
    assert polygons[0].area == (9 * 12 - 1) * 100
    assert len(make_polygons(classes_HW, Outlines(fill_holes=799))[0]) == 3


def test_mean_confidence_is_that_of_the_pixels_of_the_polygon():
    random = np.random.default_rng(0)
    classes_HW = random_classes(20, 30, 3, 0.9, 5)
    confidence_HW = np.where(classes_HW == NODATA, np.nan, random.random(classes_HW.shape))
    _, table = make_polygons(classes_HW, rows=7, confidence_HW=confidence_HW)
    labels_HW = label(classes_HW, connectivity=1, background=NODATA)
    expected = sorted(confidence_HW[labels_HW == n].mean() for n in range(1, labels_HW.max() + 1))
    assert sorted(table["confidence"]) == pytest.approx(expected, abs=6e-5)


def test_one_class_everywhere_is_one_polygon_without_a_seam():
    polygons, table = make_polygons(np.ones((40, 30), int), Outlines(500, 500, 20), rows=7)
    assert len(polygons) == 1
    assert polygons[0].equals(shapely.box(500000, 5099600, 500300, 5100000))
    assert table["name"].tolist() == ["water"]


def test_pixels_that_touch_by_a_corner_are_two_polygons():
    polygons, table = make_polygons(np.eye(2, dtype=int), rows=1)
    assert table["class"].tolist().count(1) == 2
    assert shapely.coverage_is_valid(polygons)


def test_noise_ends_with_a_sentence_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(polygons_module, "MOST_POLYGONS", 1000)
    checkers_HW = np.indices((60, 60)).sum(0) % 2
    with pytest.raises(TooManyPolygons, match=r"more than 1,000 patches.*'Minimum Area'"):
        make_polygons(checkers_HW, rows=10)
    polygons, _ = make_polygons(checkers_HW, Outlines(minimum_area=2500), rows=10)
    assert shapely.coverage_is_valid(polygons)
    assert 1 <= len(polygons) < 150


def ellipsoid_area(polygons, crs):
    """Densify, go to an equal-area projection, take the plane area."""
    dense = shapely.segmentize(polygons, 20 if not crs.is_geographic else 2e-4)

    def project(points):
        x, y = transform_coordinates(crs, "EPSG:6933", *points.T)
        return np.stack([x, y], axis=1)

    return shapely.area(shapely.transform(dense, project))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (32633, NORTH_UP),
        (4326, Affine(1e-4, 0, 12, 0, -1e-4, 61)),
        (2229, Affine(30, 0, 6.5e6, 0, -30, 1.85e6)),  # US survey feet
        (32760, Affine(10, 0, 833500, 0, -10, 8000000)),  # south, over the date line
        (3857, Affine(10, 0, 1e6, 0, -10, 8e6)),
        (32633, GRIDS["rotated"]),
    ],
)
@pytest.mark.parametrize("smoothing", [0, 15])
def test_areas_are_those_of_the_polygons_on_the_ellipsoid(crs, transform, smoothing):
    classes_HW = random_classes(60, 70, 1, 0.97, 8)
    polygons, table = make_polygons(classes_HW, Outlines(smoothing=smoothing), 25, transform, f"EPSG:{crs}")
    expected = ellipsoid_area(polygons, rasterio.CRS.from_epsg(crs))
    if crs == 32760:
        near = expected < 1e8  # the projection compared with breaks polygons at the date line
        assert near.mean() > 0.8
        assert table["area_m2"].sum() == pytest.approx((classes_HW != NODATA).sum() * 100, rel=3e-3)
    else:
        near = np.ones(len(polygons), bool)
    assert table["area_m2"][near] == pytest.approx(expected[near], rel=2e-6, abs=1e-3)


def test_areas_of_polygons_are_the_sums_of_their_pixels_on_a_grid_of_half_the_world():
    classes_HW = np.kron(np.arange(12).reshape(3, 4), np.ones((300, 500), int))
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(0.05, 0, -50, 0, -0.05, 25), *classes_HW.shape)
    pixels_HW = GroundArea(grid).read(grid.window)
    boxes = [shapely.box(c, r, c + 500, r + 300) for r in (0, 300, 600) for c in (0, 500, 1000, 1500)]
    expected = np.bincount(classes_HW.ravel(), pixels_HW.ravel())
    assert GroundArea(grid).of_polygons(np.array(boxes)) == pytest.approx(expected, rel=2e-6)
