import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform as reproject
from rsfm.errors import UserError
from rsfm.raster.labels import read_labels
from rsfm.raster.reader import open_raster
from rsfm.sample import main
from rsfm.scene.classes import CLASSES, FOREST, INDUSTRIAL, NARROW, ORCHARD, PAIRS, RESIDENTIAL, WATER, WIDE
from rsfm.scene.layout import lay_out
from rsfm.scene.patterns import equalise, mix
from rsfm.scene.polygons import draw_polygons
from rsfm.scene.render import ACQUISITIONS, AFTER, BEFORE, compose, photograph
from rsfm.scene.spectra import BANDS
from scipy.stats import ks_2samp

SIZE = 256
DATES = ("2023-04-20", "2023-07-15", "2023-10-05", "2024-07-12")


@pytest.fixture(scope="module")
def layout():
    return lay_out(512, 0)


@pytest.fixture(scope="module")
def fraction_2HW(layout):
    return mix(layout, 0)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    assert main([str(folder), "--size", str(SIZE), "--seed", "3"]) == 0
    return folder


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def neighbour_correlation(fraction_HW, class_HW, value, distance):
    """How alike pixels of one class are that lie `distance` rows or columns apart."""
    pairs = []
    for first, second in (
        (np.s_[distance:, :], np.s_[:-distance, :]),
        (np.s_[:, distance:], np.s_[:, :-distance]),
    ):
        both = (class_HW[first] == value) & (class_HW[second] == value)
        pairs.append(np.stack([fraction_HW[first][both], fraction_HW[second][both]]))
    return np.corrcoef(np.concatenate(pairs, 1))[0, 1]


def test_same_seed_gives_the_same_pixels_and_another_seed_others(sample, tmp_path):
    main([str(tmp_path / "again"), "--size", str(SIZE), "--seed", "3"])
    main([str(tmp_path / "other"), "--size", str(SIZE), "--seed", "4"])
    for path in sample.glob("*.tif"):
        assert (read(path) == read(tmp_path / "again" / path.name)).all()
        assert (read(path) != read(tmp_path / "other" / path.name)).any()


def test_all_rasters_share_one_grid(sample):
    grids = set()
    for path in sample.glob("*.tif"):
        with rasterio.open(path) as file:
            grids.add((file.crs, file.transform, file.shape))
    assert grids == {(CRS.from_epsg(32633), rasterio.Affine(10, 0, 498_000, 0, -10, 5_102_000), (SIZE, SIZE))}


def test_every_promised_file_is_there_and_nothing_else(sample):
    expected = {f"scene_{day}.tif" for day in DATES}
    expected |= {f"truth_classes_{day}.tif" for day in ("2023-07-15", "2024-07-12")}
    expected |= {"truth_change.tif", "labels.gpkg", "README.md"}
    assert {path.name for path in sample.iterdir()} == expected
    text = (sample / "README.md").read_text()
    assert all(name in text or "truth_classes_DATE" in text for name in expected - {"README.md"})


def test_bands_carry_names_and_wavelengths_and_the_date_is_told(sample):
    with rasterio.open(sample / "scene_2023-10-05.tif") as file:
        assert (file.count, file.dtypes[0], file.nodata) == (9, "uint16", 0)
        assert file.descriptions == tuple(f"{name} {wavelength} nm" for name, wavelength in BANDS.items())
        assert [file.tags(band)["wavelength"] for band in file.indexes] == [str(nm) for nm in BANDS.values()]
        assert file.tags()["ACQUISITIONDATETIME"].startswith("2023-10-05T")


def test_change_is_where_the_classes_differ_and_is_rare(sample):
    before, after = (read(sample / f"truth_classes_{day}.tif")[0] for day in ("2023-07-15", "2024-07-12"))
    change = read(sample / "truth_change.tif")[0]
    assert (change == (before != after)).all()
    assert 0.01 < change.mean() < 0.06


def test_truth_has_the_palette_and_names_of_the_classes(sample):
    with rasterio.open(sample / "truth_classes_2023-07-15.tif") as file:
        assert file.nodata == 255
        for value, land_class in enumerate(CLASSES, start=1):
            assert file.tags()[f"CLASS_{value}"] == land_class.name
            assert "#{:02x}{:02x}{:02x}".format(*file.colormap(1)[value][:3]) == land_class.colour
        values = set(np.unique(file.read(1)).tolist())
    assert values == {*range(1, len(CLASSES) + 1), 255}


def test_labels_read_from_the_file_are_the_truth_of_both_summers(sample):
    with open_raster(str(sample / "scene_2023-07-15.tif")) as raster:
        labels = read_labels(str(sample / "labels.gpkg"), "class", raster)
    assert labels.names == tuple(land_class.name for land_class in CLASSES)
    assert labels.colours == tuple(land_class.colour for land_class in CLASSES)
    assert labels.notes == ()
    assert min(labels.polygons) >= 5
    assert max(labels.polygons) <= 12
    for day in ("2023-07-15", "2024-07-12"):
        truth_N = read(sample / f"truth_classes_{day}.tif")[0, labels.rows_N, labels.columns_N]
        assert (truth_N == labels.class_N + 1).all()


def test_labels_are_stored_in_degrees_and_lie_on_the_scene(sample):
    meta, _, wkb, _ = pyogrio.raw.read(sample / "labels.gpkg")
    assert CRS.from_user_input(meta["crs"]) == CRS.from_epsg(4326)
    west, south, east, north = shapely.total_bounds(shapely.from_wkb(wkb))
    (left, right), (bottom, top) = reproject(CRS.from_epsg(4326), CRS.from_epsg(32633), [west, east], [south, north])
    assert 498_000 < left < right < 498_000 + 10 * SIZE
    assert 5_102_000 - 10 * SIZE < bottom < top < 5_102_000


def test_polygons_do_not_touch_each_other(layout):
    shapes = [shapely.Polygon(polygon.vertices_V2) for polygon in draw_polygons(layout, 0)]
    assert all(shape.is_valid for shape in shapes)
    assert min(one.distance(other) for at, one in enumerate(shapes) for other in shapes[:at]) > 0


def test_only_the_date_with_a_collar_has_nodata(sample):
    shares = {day: (read(sample / f"scene_{day}.tif") == 0).all(0).mean() for day in DATES}
    assert 0.05 < shares.pop("2023-04-20") < 0.2
    assert set(shares.values()) == {0}


def test_clouds_are_brighter_in_blue_than_anything_on_a_clear_date(sample):
    clear, cloudy = (read(sample / f"scene_{day}.tif")[0] for day in ("2023-07-15", "2023-10-05"))
    assert 0.05 < (cloudy > clear.max()).mean() < 0.3


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(CLASSES[value - 1].name for value in pair))
@pytest.mark.parametrize("taken", ACQUISITIONS, ids=lambda taken: str(taken.date))
def test_paired_classes_have_the_same_values_in_every_band(layout, fraction_2HW, pair, taken):
    pixels_CHW = compose(layout, fraction_2HW, taken)
    class_HW = (layout.before_HW, layout.after_HW)[taken.summer]
    for band_HW in pixels_CHW:
        assert ks_2samp(*(band_HW[class_HW == value] for value in pair)).statistic < 0.03


def test_classes_of_different_pairs_do_not_have_the_same_values(layout, fraction_2HW):
    infrared_HW = compose(layout, fraction_2HW, BEFORE)[list(BANDS).index("B8")]
    values = [infrared_HW[layout.before_HW == value] for value in (FOREST, RESIDENTIAL, NARROW, WATER)]
    for at, one in enumerate(values):
        assert all(ks_2samp(one, other).statistic > 0.2 for other in values[:at])


@pytest.mark.parametrize("pair", [(NARROW, WIDE), (RESIDENTIAL, INDUSTRIAL)])
def test_finer_pattern_of_a_pair_varies_over_a_shorter_distance(layout, fraction_2HW, pair):
    fine, coarse = (neighbour_correlation(fraction_2HW[0], layout.before_HW, value, 2) for value in pair)
    assert fine < coarse - 0.2


def test_orchard_repeats_itself_and_forest_does_not(layout, fraction_2HW):
    spectra = []
    for value in (ORCHARD, FOREST):
        parcel = np.bincount(layout.parcel_HW[layout.before_HW == value]).argmax()
        inside_HW = (layout.parcel_HW == parcel) & (layout.before_HW == value)
        rows, columns = (slice(at.min(), at.max() + 1) for at in np.nonzero(inside_HW))
        part_HW = np.where(inside_HW, fraction_2HW[0] - 0.5, 0)[rows, columns]
        power = np.abs(np.fft.fft2(part_HW)) ** 2
        spectra.append(np.sort(power.ravel())[-20:].sum() / power.sum())
    assert spectra[0] > 1.5 * spectra[1]


def test_crops_are_greenest_in_summer_and_roofs_the_same_all_year(layout, fraction_2HW):
    greenness = {}
    for taken in ACQUISITIONS[:3]:
        pixels_CHW = compose(layout, fraction_2HW, taken)
        red, infrared = (pixels_CHW[list(BANDS).index(name)] for name in ("B4", "B8"))
        index_HW = (infrared - red) / (infrared + red)
        greenness[taken.date.month] = [index_HW[layout.before_HW == value].mean() for value in (NARROW, INDUSTRIAL)]
    crops, roofs = zip(*(greenness[month] for month in (4, 7, 10)), strict=True)
    assert crops[1] > 1.4 * max(crops[0], crops[2])
    assert max(roofs) - min(roofs) < 0.05


def test_ground_that_did_not_change_keeps_its_pattern(layout, fraction_2HW):
    same = ~layout.changed_HW
    assert (fraction_2HW[0][same] == fraction_2HW[1][same]).all()


def test_change_can_be_found_by_a_plain_difference_but_not_perfectly(layout, fraction_2HW):
    before, after = (photograph(layout, fraction_2HW, taken, 0).astype(float) for taken in (BEFORE, AFTER))
    difference_CHW = after - before
    difference_CHW -= np.median(difference_CHW, axis=(1, 2), keepdims=True)
    length_HW = np.sqrt((difference_CHW**2).sum(0))
    changed, same = length_HW[layout.changed_HW], np.sort(length_HW[~layout.changed_HW])
    area = np.searchsorted(same, changed).mean() / len(same)
    assert 0.93 < area < 0.999


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50, unique=True))
def test_equalised_values_keep_their_order_and_depend_on_nothing_else(values):
    equal = equalise(np.array(values, np.float32))
    assert (np.argsort(equal) == np.argsort(values)).all()
    assert np.allclose(np.sort(equal), equalise(np.arange(len(values), dtype=np.float32)))
    assert ((equal >= 0) & (equal <= 1)).all()


@pytest.mark.parametrize("seed", range(4))
def test_smallest_scene_has_every_class_labelled_and_some_change(seed):
    layout = lay_out(128, seed)
    assert layout.changed_HW.any()
    drawn = [polygon.land_class.name for polygon in draw_polygons(layout, seed)]
    assert set(drawn) == {land_class.name for land_class in CLASSES}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "64"], "The size is 64 px. Choose 128 to 4096 with --size"),
        (["--size", "9999"], "The size is 9999 px"),
        (["--seed", "-1"], "The seed is -1. Choose 0 or more with --seed"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_written(tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        main([str(tmp_path / "new"), *arguments])
    assert not (tmp_path / "new").exists()


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(UserError, match="cannot be written to"):
        main([str(tmp_path / "file"), "--size", "128"])
