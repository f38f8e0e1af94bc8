"""Which dates and which ground the windows of a collection show."""

from datetime import date

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform as project
from rsfm.errors import UserError
from rsfm.raster.class_shares import parse_shares
from rsfm.raster.collection import Entry
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.held_out import HeldOut
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster
from rsfm.raster.same_place import SamePlace
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.raster.timeline import Timeline

PERA = "50=60, 40=10, 90+95=10, 10=10, 80=10"


def noise(bands=1, height=96, width=96, seed=0):
    return np.random.default_rng(seed).integers(1, 3000, (bands, height, width)).astype(np.uint16)


def series(make_entry, *dates, **changes):
    return [make_entry(noise(seed=number), f"{number}.tif", date=day, **changes) for number, day in enumerate(dates)]


def test_dates_of_a_window_differ_and_their_codes_are_theirs(make_entry):
    entries = series(make_entry, "2001-01-05", "2015-07-11T23:30:00-02:00", "2016-12-12", "2020-02-29")
    entries[1] = entries[1].model_copy(update={"hour_known": True})
    codes = [[-1, 0, 10], [13, 6, 1], [14, 11, 10], [18, 1, 10]]
    found = CollectionSampler(entries, 16).batch(0, 40, dates=3)
    assert all(len(set(row)) == 3 for row in found.entry_NT.tolist())
    assert len({tuple(row) for row in found.entry_NT.tolist()}) > 12
    np.testing.assert_array_equal(found.time_NT3, np.array(codes)[found.entry_NT])


def test_all_dates_show_the_window_of_the_first(make_entry):
    entries = series(make_entry, "2020-01-01", "2020-02-01", "2020-03-01")
    found = CollectionSampler(entries, 16).batch(0, 10, dates=3)
    for number in range(10):
        for when in range(3):
            with rasterio.open(entries[found.entry_NT[number, when]].path) as file:
                (x,), (y,) = project("EPSG:4326", file.crs, [found.place_N2[number, 1]], [found.place_N2[number, 0]])
                column, row = (round(value - 8) for value in ~file.transform @ (x, y))
                np.testing.assert_array_equal(
                    found.pixels_NTCHW[number, when], file.read()[:, row : row + 16, column : column + 16]
                )


def test_dates_keep_their_gap_and_one_pass_is_one_date(make_entry):
    days = ["2020-01-01", "2020-01-09", "2020-01-20", "2020-03-01"]
    found = CollectionSampler(series(make_entry, *days), 16, SamplingConfig(min_gap_days=15)).batch(0, 60, dates=3)
    when = [date.fromisoformat(day).toordinal() for day in days]
    for row in found.entry_NT.tolist():
        chosen = [when[entry] for entry in row if entry >= 0]
        assert all(abs(a - b) >= 15 for number, a in enumerate(chosen) for b in chosen[:number])
    moments = ["2020-01-01T10:00:00", "2020-01-01T10:00:14"]
    twins = series(make_entry, *moments, hour_known=True)
    assert not CollectionSampler(twins, 16).check_dates(timed=True)


def test_other_months_come_first_where_they_are_preferred(make_entry):
    entries = series(make_entry, "2019-07-01", "2020-07-03", "2021-07-05", "2021-12-01")
    rules = SamplingConfig(other_months=True)
    found = CollectionSampler(entries, 16, rules).batch(0, 40, dates=2)
    assert ((found.entry_NT == 3).sum(1) == 1).all()
    plain = CollectionSampler(entries, 16).batch(0, 40, dates=2)
    assert not ((plain.entry_NT == 3).sum(1) == 1).all()


def test_a_date_that_is_cloudy_or_nodata_is_not_taken(make_entry, make_raster):
    entries = series(make_entry, "2020-01-01", "2020-02-01", "2020-03-01")
    mask = str(make_raster(np.ones((1, 96, 96), np.uint8), "cloud.tif"))
    entries[1] = entries[1].model_copy(update={"mask": mask, "masked": (1,)})
    entries.append(make_entry(np.zeros((1, 96, 96), np.uint16), "none.tif", {"nodata": 0}, date="2020-04-01"))
    found = CollectionSampler(entries, 16).batch(0, 20, dates=2)
    assert set(found.entry_NT.ravel().tolist()) == {0, 2}
    lacking = CollectionSampler(entries, 16).batch(0, 5, dates=4)
    assert (lacking.entry_NT[:, 2:] == -1).all()
    assert not lacking.valid_NTHW[:, 2:].any()
    assert not lacking.pixels_NTCHW[:, 2:].any()


def test_windows_are_drawn_where_dates_overlap_but_a_lonely_raster_is_learned_from_too(make_entry):
    shifted = {"crs": "EPSG:32633", "transform": from_origin(500480, 5100000, 10, 10)}
    far = {"crs": "EPSG:32633", "transform": from_origin(600000, 5100000, 10, 10)}
    entries = [
        make_entry(noise(seed=1), "a.tif", date="2020-01-01"),
        make_entry(noise(seed=2), "b.tif", shifted, date="2020-02-01"),
    ]
    sampler = CollectionSampler(entries, 16)
    assert (sampler.batch(0, 40, dates=2).entry_NT >= 0).all()
    lonely = CollectionSampler([*entries, make_entry(noise(seed=3), "c.tif", far, date="2020-03-01")], 16)
    assert lonely.check_dates(timed=True)
    assert not CollectionSampler(entries[:1], 16).check_dates(timed=True)
    alone = CollectionSampler([lonely.entries[2]], 16).batch(0, 4, dates=2)
    assert (alone.entry_NT == [0, -1]).all()


def test_pixels_more_than_twice_as_large_and_missing_dates_are_refused(make_entry):
    fine = make_entry(noise(), "fine.tif", date="2020-01-01")
    coarse = make_entry(
        noise(height=40, width=40), "coarse.tif", {"transform": from_origin(500000, 5100000, 25, 25)}, date="2020-02-01"
    )
    with pytest.raises(UserError, match=r"'coarse.tif' \(25 m\) are 2.5 times as large as those of 'fine.tif'"):
        CollectionSampler([fine, coarse], 16).check_dates(timed=False)
    undated = fine.model_copy(update={"date": None})
    sampler = CollectionSampler([undated, fine], 16)
    assert sampler.check_dates(timed=False)
    with pytest.raises(UserError, match=r"The date of 1 of 2 rasters is not known \('fine.tif'\)"):
        sampler.check_dates(timed=True)
    with pytest.raises(UserError, match="is not like 2020-07-31"):
        Timeline([fine.model_copy(update={"date": "last summer"})])


def test_places_by_name_and_across_the_date_line_are_found():
    west = Entry(path="w", footprint=(179.9, -17.0, -179.9, -16.0))
    east = Entry(path="e", footprint=(-179.95, -16.5, -179.0, -16.0))
    far = Entry(path="f", footprint=(0.0, -17.0, 1.0, -16.0))
    named = [Entry(path=path, place="0001", footprint=west.footprint) for path in "ab"]
    places = SamePlace([west, east, far, *named])
    assert places.find(0, (179.95, -16.4, 180.04, -16.3)).tolist() == [0]
    assert places.find(0, (179.95, -16.4, 180.08, -16.3)).tolist() == [0, 1]
    assert places.find(1, (-179.94, -16.4, -179.93, -16.3)).tolist() == [0, 1]
    assert places.find(3, (179.95, -16.4, 180.08, -16.3)).tolist() == [3, 4]


def test_rasters_without_a_crs_meet_by_name_only(make_entry):
    here = {"crs": "EPSG:4326", "transform": from_origin(0, 9.6e-4, 1e-5, 1e-5)}
    with_crs = make_entry(noise(seed=1), "crs.tif", here, date="2020-01-01")
    plain = Entry(**{**with_crs.model_dump(), "path": "", "crs": "", "footprint": None})
    entries = [with_crs]
    for number in range(2):
        path = make_entry(noise(seed=number), f"{number}.tif", here).path
        moved = {"path": path, "transform": (1, 0, 0, 0, -1, 96), "date": f"2020-0{number + 2}-01"}
        entries.append(plain.model_copy(update=moved))
    assert (CollectionSampler(entries, 16).batch(0, 12, dates=2).entry_NT[:, 1] == -1).all()
    named = [entry.model_copy(update={"place": "yard"}) for entry in entries]
    found = CollectionSampler(named, 16).batch(0, 30, dates=2).entry_NT
    assert {tuple(row) for row in found.tolist()} <= {(0, -1), (1, 2), (2, 1)}
    assert (found[found[:, 0] > 0, 1] > 0).all()


def pixel_centres(window_place, size, pixel):
    """Return longitudes and latitudes of the pixels of a window of a UTM raster, given its centre."""
    (x,), (y,) = project("EPSG:4326", "EPSG:32633", [window_place[1]], [window_place[0]])
    steps = (np.arange(size) + 0.5 - size / 2) * pixel
    xs, ys = np.meshgrid(x + steps, y + steps)
    return project("EPSG:32633", "EPSG:4326", xs.ravel(), ys.ravel())


@pytest.mark.parametrize("seed", [0, 5])
def test_validation_windows_never_touch_training_windows(make_entry, seed):
    finer = {"crs": "EPSG:32633", "transform": from_origin(500123, 5100377, 7, 7)}
    entries = [make_entry(noise(height=400, width=400), "a.tif"), make_entry(noise(1, 500, 500), "b.tif", finer)]
    rules = SamplingConfig(held_out=0.4, held_out_block=700)
    held = HeldOut(0.4, 700, seed)
    for validation in (False, True):
        found = CollectionSampler(entries, 16, rules, seed=seed, validation=validation).batch(0, 60)
        for place, gsd in zip(found.place_N2, found.gsd_N, strict=True):
            for longitude, latitude in zip(*pixel_centres(place, 16, round(float(gsd))), strict=True):
                assert held.touches((longitude, latitude, longitude, latitude)) == validation


def test_the_share_of_held_out_ground_is_the_one_asked_for():
    held = HeldOut(0.3, 2000, 1)
    places = np.random.default_rng(0).uniform((-180, -60), (180, 75), (4000, 2))
    assert np.mean([held.touches((*place, *place)) for place in places]) == pytest.approx(0.3, abs=0.03)
    assert not HeldOut(0, 2000, 1).touches((0, 0, 180, 80))


@pytest.fixture
def land_cover(make_raster):
    """Four classes in strips of very different widths, on pixels three times as large and in degrees."""
    classes = np.full((1, 120, 160), 40, np.uint8)
    classes[:, :, 80:88] = 50
    classes[:, :, 88:120] = 80
    classes[:, :40, 120:] = 10
    classes[:, 60:64, 120:] = 95
    coarse = {"crs": "EPSG:4326", "transform": from_origin(14.9999, 46.0537, 3.9e-4, 2.7e-4), "nodata": 0}
    return str(make_raster(classes, "cover.tif", **coarse))


def class_at(path, place):
    with rasterio.open(path) as file:
        return next(file.sample([(place[1], place[0])]))[0]


def test_classes_get_their_shares_whatever_their_area(make_entry, land_cover):
    entry = make_entry(noise(height=300, width=400))
    rules = SamplingConfig(land_cover=land_cover, shares=PERA)
    sampler = CollectionSampler([entry], 16, rules)
    places = np.concatenate([sampler.batch(index, 100).place_N2 for index in range(8)])
    values = np.array([class_at(land_cover, place) for place in places])
    for classes, share in [((50,), 0.6), ((40,), 0.1), ((90, 95), 0.1), ((10,), 0.1), ((80,), 0.1)]:
        assert np.isin(values, classes).mean() == pytest.approx(share, abs=0.05)
    assert sampler.notes == ()
    equal = CollectionSampler([entry], 16, SamplingConfig(land_cover=land_cover))
    values = np.array([class_at(land_cover, place) for place in equal.batch(0, 500).place_N2])
    assert np.unique(values, return_counts=True)[1] / 500 == pytest.approx([0.2] * 5, abs=0.06)


def test_a_class_that_is_absent_leaves_its_share_to_the_others_and_it_is_said(make_entry, land_cover):
    entry = make_entry(noise(height=300, width=400))
    sampler = CollectionSampler([entry], 16, SamplingConfig(land_cover=land_cover, shares="70=50, 50=25, 40=25"))
    assert "Class 70 does not occur in 'cover.tif'" in sampler.notes[0]
    values = [class_at(land_cover, place) for place in sampler.batch(0, 200).place_N2]
    assert np.mean(np.array(values) == 50) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(UserError, match=r"holds none of the classes asked for .*\(it holds 10, 40, 50, 80, 95"):
        CollectionSampler([entry], 16, SamplingConfig(land_cover=land_cover, shares="7=1"))


@pytest.mark.parametrize("text", ["50", "a=1", "50=-1", "50=1, 50=2", "50=nan", "=3"])
def test_shares_that_are_not_understood_are_refused(text):
    with pytest.raises(UserError, match="were not understood") as caught:
        parse_shares(text)
    assert caught.value.field == "sampling.shares"


def entries_of(files, day, mask=None):
    found = []
    for file in files:
        with open_raster(str(file)) as raster:
            clouds = {"mask": str(mask(file)), "masked": (1,)} if mask else {}
            found.append(plain_entry(raster).model_copy(update={"date": day(file), **clouds}))
    return found


def test_real_series_give_windows_at_several_dates_without_clouds(data):
    slovenia = data / "s2_slovenia"
    entries = entries_of(
        sorted(slovenia.glob("S2_L1C_*.tif")),
        lambda file: f"{file.stem[7:11]}-{file.stem[11:13]}-{file.stem[13:]}",
        lambda file: slovenia / f"cloudmask_{file.stem[7:]}.tif",
    )
    found = CollectionSampler(entries, 32).batch(0, 32, dates=3)
    names = np.array([entry.path[-12:-4] for entry in entries])[found.entry_NT]
    assert (found.entry_NT >= 0).all()
    assert not {"20150731", "20150820", "20161222"} & set(names.ravel().tolist())
    assert len(np.unique(found.time_NT3[:, :, :2].reshape(-1, 2), axis=0)) > 3
    naip = sorted((data / "naip_dakota").glob("naip_west_*.tif"))
    found = CollectionSampler(entries_of(naip, lambda file: f"{file.stem[-8:-4]}-08-01"), 64).batch(0, 16, dates=3)
    assert (found.entry_NT >= 0).all()
    assert found.gsd_N == pytest.approx(5, rel=1e-3)
    ucayali = sorted((data / "landsat_ucayali").glob("landsat_*.tif"))
    found = CollectionSampler(entries_of(ucayali, lambda file: f"{file.stem[-4:]}-07-01"), 64).batch(0, 16, dates=3)
    assert (found.entry_NT >= 0).all()
    assert (found.time_NT3[..., 0] < 0).any()
