"""Dates: what is one is found, what is none never becomes one, and the time of writing a file is never looked at."""

import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsfm.raster.acquisition import Acquisition, date_raster, from_name, from_path, from_tags, parse_tag


def said(found: Acquisition | None) -> str | None:
    """Write what is known, and no more."""
    if found is None:
        return None
    length = {"year": 4, "month": 7, "day": 10, "hour": 19}[found.precision]
    return found.moment.isoformat()[:length]


NAMES = {
    "S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ_20170105T013443.SAFE": "2017-01-05T01:34:42",
    "T33UUP_20200101T101010_B04_10m.jp2": "2020-01-01T10:10:10",
    "S1A_IW_GRDH_1SDV_20200105T053415_20200105T053440_030662_038394_4F2C.tif": "2020-01-05T05:34:15",
    "LC08_L1TP_190025_20200815_20200920_02_T1_B4.TIF": "2020-08-15",
    "LE07_L2SP_199026_20030301_20200915_02_T1_SR_B1.TIF": "2003-03-01",
    "LT50300281988227XXX03_B1.tif": "1988-08-14",
    "HLS.L30.T33UUP.2020123T101010.v2.0.B04.tif": "2020-05-02T10:10:10",
    "MOD09GA.A2020366.h18v04.061.tif": "2020-12-31",
    "20200115_183033_1042_3B_AnalyticMS.tif": "2020-01-15T18:30:33",
    "10JAN04103020-M2AS-052301614010_01_P001.TIF": "2010-01-04T10:30:20",
    "m_4609915_sw_14_1_20100629_20100812.tif": "2010-06-29",
    "naip_west_20160816.tif": "2016-08-16",
    "img20160816.tif": "2016-08-16",
    "fields 2015-07-11.tif": "2015-07-11",
    "fields_2015_07_11.tif": "2015-07-11",
    "fields.2015.07.11.tif": "2015-07-11",
    "scene 2019-01-01 10:20:30.tif": "2019-01-01T10:20:30",
    "scene_17.03.2005.tif": "2005-03-17",
    "scene_03-17-2005.tif": "2005-03-17",
    "5sep2022_flood.tif": "2022-09-05",
    "mosaic_September_2022.tif": "2022-09",
    "global_monthly_2020_06_mosaic.tif": "2020-06",
    "ucayali_west_1985.tif": "1985",
    "1999.tif": "1999",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_the_date(name):
    assert said(from_path(f"/data/{name}")) == NAMES[name]


@pytest.mark.parametrize(
    "name",
    [
        "scene.tif", "YELL_541000_nogeoref.tif", "city_2048.tif", "aerial_1024.tif", "tile_2010.tif", "wgs_1984.tif",
        "epsg_2000.tif", "nad-1983.tif", "change_1985_2020.tif", "fields 2015-2017.tif", "S2_20201301.tif",
        "S2_20200230.tif", "x0.2000.tif", "2000m.tif", "a12345678901234.tif", "190025_s.tif", "1969.tif",
        "19691231.tif",
        "scene_2020999T101010.tif", "20990101.tif", "path_199012.tif", "5b90f92da0d7280005fab355_4310.tif",
        "scene_03-04-2005_or_04-03-2006.tif", "120199901015.tif",
    ],
)  # fmt: skip
def test_a_number_that_is_no_date_gives_none(name):
    assert from_path(f"/data/{name}") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d/2020/06/15/a.tif", "2020-06-15"),
        ("/d/2020/06/a.tif", "2020-06"),
        ("/d/2020/tile_a_06.tif", "2020"),
        ("/d/20200615/a.tif", "2020-06-15"),
        ("/d/20240105_export/ndvi_2018.tif", "2018"),  # a folder may not contradict the name
        ("/d/2018-07-05/mosaic_2018.tif", "2018-07-05"),  # it may say more of the same year
        ("/d/project-1999/a.tif", None),
        ("/d/S2A_MSIL2A_20200105T101010_N0500_R022_T33UUP_20200105T121212.SAFE/R10m/B04.jp2", "2020-01-05T10:10:10"),
        ("/20200101/b/c/d/e/a.tif", None),
    ],
)
def test_folders_tell_the_date_where_the_name_does_not(path, expected):
    assert said(from_path(path)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015:07:11 10:00:06", "2015-07-11T10:00:06"),
        ("2015-07-11T12:00:06+02:00", "2015-07-11T10:00:06"),
        ("2015-07-11T23:30:00-0300", "2015-07-12T02:30:00"),
        ("2017-01-05T01:34:42.026Z", "2017-01-05T01:34:42"),
        ("20170105T013442", "2017-01-05T01:34:42"),
        ("2018-07-16 06:06", "2018-07-16T06:06:00"),
        ("20200831", "2020-08-31"),
        ("2020-08", "2020-08"),
        ("2020", "2020"),
        ("2020-02-30", None),
        ("0000:00:00 00:00:00", None),
        ("2020-08-31T25:00:00", "2020-08-31"),
        ("in spring", None),
        ("", None),
    ],
)
def test_metadata_is_read_in_utc(text, expected):
    assert said(parse_tag(text)) == expected


def test_landsat_tells_day_and_hour_apart():
    tags = {"DATE_ACQUIRED": "2020-08-15", "SCENE_CENTER_TIME": '"10:03:04.1234560Z"'}
    assert said(from_tags(tags)) == "2020-08-15T10:03:04"


def test_metadata_goes_before_the_name_except_where_it_only_tells_the_writing():
    dated = date_raster({"ACQUISITION_DATE": "2019-05-06"}, "/d/a_20180101.tif")
    assert (said(dated.acquisition), dated.source) == ("2019-05-06", "metadata")
    dated = date_raster({"TIFFTAG_DATETIME": "2021:03:04 11:00:00"}, "/d/a_20180101.tif")
    assert (said(dated.acquisition), dated.source) == ("2018-01-01", "name")
    assert "TIFFTAG_DATETIME" in dated.note
    dated = date_raster({"TIFFTAG_DATETIME": "2021:03:04 11:00:00"}, "/d/a.tif")
    assert (said(dated.acquisition), dated.source) == ("2021-03-04T11:00:00", "metadata")
    assert "check" in dated.note


def test_what_is_missing_is_assumed_and_said():
    year = date_raster({}, "/d/a_2018.tif")
    assert year.acquisition is not None
    assert year.acquisition.iso == "2018-06-15T10:00:00+00:00"
    assert "Only the year" in year.note


def test_the_size_in_pixels_is_no_year():
    assert date_raster({}, "/d/city_2000.tif").acquisition is not None
    assert date_raster({}, "/d/city_2000.tif", frozenset({2000})).acquisition is None


def test_the_time_of_writing_is_never_a_date(make_raster):
    from rsfm.raster.describing import describe_raster

    path = make_raster([[[1, 2], [3, 4]]], "plain.tif")
    os.utime(path, (1_400_000_000, 1_400_000_000))
    assert describe_raster(str(path)).date is None


@given(st.integers(0, 10**16), st.integers(0, 10**9), st.sampled_from(["_", "-", ".", "T", " ", "", "x", "/"]))
def test_no_number_gives_a_date_outside_1970_to_2100(first, second, between):
    for text in (f"a_{first}{between}{second}", f"{first}{between}{second}", f"{first:014}T{second:06}"):
        for found in (from_name(text), from_path(f"/{text}.tif"), parse_tag(text)):
            assert found is None or datetime(1970, 1, 1, tzinfo=UTC) <= found.moment < datetime(2100, 1, 1, tzinfo=UTC)


@given(st.text(alphabet="0123456789-_.:T+Z aBjanSEP/", max_size=30))
def test_no_text_of_a_date_s_letters_breaks_the_reading(text):
    for found in (from_name(text), from_path(text), parse_tag(text)):
        assert found is None or 1970 <= found.moment.year < 2100


@given(st.datetimes(datetime(1970, 1, 1), datetime(2024, 12, 31)))
def test_a_date_written_in_a_name_is_read_back(moment):
    assert said(from_name(f"S2_{moment:%Y%m%dT%H%M%S}_B04")) == moment.isoformat()[:19]
    assert said(from_name(f"scene_{moment:%Y%m%d}")) == moment.isoformat()[:10]
    assert said(from_name(f"scene {moment:%Y-%m-%d}")) == moment.isoformat()[:10]
    assert said(parse_tag(moment.isoformat())) == moment.isoformat()[:19]
