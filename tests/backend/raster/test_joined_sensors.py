"""Radar and optical rasters of one place become one raster."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rsfm import cli
from rsfm.raster.collection import Collection, load

from tests.backend.raster.test_gather import write

SIDE = 96


def optical(seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 3000, (13, side, side)).astype("uint16")


def radar(seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).normal(-12, 2, (2, side, side)).astype("float32")


def collect(tmp_path: Path, *sources: Path, days: int = 30, name: str = "made") -> Collection:
    target = tmp_path / f"{name}.collection.json"
    rasters = json.dumps([str(source) for source in sources])
    flags = ["--rasters", rasters, "--output", str(target), "--join-sensors", str(days)]
    assert cli.main(["collect", *flags, "--run", str(tmp_path / f"run_{name}_{days}")]) == 0
    return load(str(target))


def ssl4eo(folder: Path, places: int = 2) -> Path:
    for place in range(places):
        for month in ("01", "04"):
            scene = f"2020{month}05T101010_2020{month}05T101310_T33TWM"
            write(folder / "s2c" / f"{place:07d}" / f"{scene}.tif", optical(place))
            for day, seed in (("09", 5), ("25", 6)):  # the nearer one is taken
                name = f"S1A_IW_GRDH_1SDV_2020{month}{day}T053415_2020{month}{day}T053440_030662_038394_4F2C"
                write(folder / "s1" / f"{place:07d}" / f"{name}.tif", radar(seed + place), ("VV", "VH"))
    return folder


def test_places_of_ssl4eo_become_rasters_of_15_bands_of_the_nearest_dates(tmp_path):
    folder = ssl4eo(tmp_path / "ssl4eo")
    found = collect(tmp_path, folder)
    assert len(found.entries) == 2 * (2 + 4) + 4
    joined = found.imagery
    assert [len(entry.bands) for entry in joined] == [15] * 4
    assert {entry.sensor for entry in joined} == {"Sentinel-2 L1C and Sentinel-1"}
    assert [entry.bands[index].name for entry in joined[:1] for index in (0, 8, 12, 13, 14)] == [
        "B1", "B8A", "B12", "VV", "VH"
    ]  # fmt: skip
    assert all(entry.decibel and "4 days apart" in entry.note for entry in joined)
    assert {entry.date[:7] for entry in joined if entry.date} == {"2020-01", "2020-04"}
    for entry in joined:
        place = int(entry.place)
        with rasterio.open(entry.path) as file:
            assert file.descriptions[13:] == ("VV", "VH")
            pixels = file.read()
        np.testing.assert_array_equal(pixels[:13], optical(place))
        np.testing.assert_array_equal(pixels[13:], radar(5 + place))


def test_joined_rasters_are_learned_from_across_sensors(tmp_path):
    collect(tmp_path, ssl4eo(tmp_path / "ssl4eo", 1))
    flags = ["--preset", "quick", "--rasters", json.dumps([str(tmp_path / "made.collection.json")])]
    small = ["--training.minutes", "0", "--training.samples", "16", "--training.batch-size", "8", "--device", "cpu"]
    across = ["--method.other-sensor", "true", "--learning-map", "false"]
    assert cli.main(["pretrain", *flags, *small, *across, "--run", str(tmp_path / "run")]) == 0
    card = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert card["method"]["other_sensor"] is True
    assert list((tmp_path / "run" / "outputs").glob("*.safetensors"))


def test_grids_that_lie_apart_are_joined_where_both_reach_and_radar_is_resampled(tmp_path):
    ramp = np.add.outer(np.zeros(SIDE), np.arange(SIDE)).astype("float32")[None].repeat(2, 0) - 100
    plain = {"crs": "EPSG:32633"}
    write(tmp_path / "a" / "S2A_MSIL1C_20200105T101010_T33TWM.tif", optical(), **plain)
    shifted = rasterio.transform.from_origin(500000 - 25, 5100000 + 10, 10, 10)
    write(tmp_path / "a" / "S1A_IW_GRDH_20200107T053415.tif", ramp, ("VV", "VH"), transform=shifted)
    (entry,) = collect(tmp_path, tmp_path / "a").imagery
    assert (entry.height, entry.width) == (SIDE - 1, SIDE - 3)  # 2.5 columns and a row beyond the radar's edge
    with rasterio.open(entry.path) as file:
        assert file.transform.c == 500000
        pixels = file.read()
    np.testing.assert_array_equal(pixels[:13], optical()[:, : SIDE - 1, : SIDE - 3])
    inside = pixels[13, :, 1:-1]
    expected = np.arange(SIDE - 3)[1:-1] + 2.5 - 100  # of a ramp, bilinear is exact
    np.testing.assert_allclose(inside, np.broadcast_to(expected, inside.shape), atol=1e-3)


def test_nodata_of_either_raster_is_nodata_of_both_and_scales_stay_apart(tmp_path):
    bands, backscatter = optical(), radar()
    bands[:, :10], backscatter[:, :, :5] = 0, -9999
    tags = {"PROCESSING_BASELINE": "05.00"}
    write(tmp_path / "S2A_MSIL2A_N0500_20220605T101010_T33TWM.tif", bands[:12], nodata=0, tags=tags)
    write(tmp_path / "S1A_IW_GRDH_20220607T053415.tif", backscatter, ("VV", "VH"), nodata=-9999)
    found = collect(tmp_path, *tmp_path.glob("*.tif"))
    (entry,) = found.imagery
    source = next(each for each in found.entries if each.sensor == "Sentinel-2 L2A" and not each.used)
    with rasterio.open(entry.path) as file:
        pixels = file.read()
    assert (entry.scale, entry.offset, entry.nodata) == (1, 0, 0)
    assert source.offset == -1000
    np.testing.assert_array_equal(pixels[0, 20:], bands[0, 20:].astype("float32") * source.scale + source.offset)
    assert (pixels[:12, :10] == 0).all()
    assert (pixels[12:, :, :5] == 0).all()
    np.testing.assert_array_equal(pixels[12:, :, 5:], backscatter[:, :, 5:])


@pytest.mark.parametrize(
    ("change", "days"),
    [({}, 1), ({"crs": "EPSG:32634"}, 30), ({"transform": rasterio.transform.from_origin(5e5, 5.1e6, 30, 30)}, 30),
     ({"transform": rasterio.transform.from_origin(5e5 + 700, 5.1e6, 10, 10)}, 30)],
    ids=["days", "crs", "pixel size", "overlap"],
)  # fmt: skip
def test_what_does_not_fit_is_left_out_and_said(tmp_path, capsys, change, days):
    write(tmp_path / "a" / "S2A_MSIL1C_20200105T101010_T33TWM.tif", optical())
    write(tmp_path / "a" / "S1A_IW_GRDH_20200115T053415.tif", radar(), ("VV", "VH"), **change)
    target, rasters = tmp_path / "made.collection.json", json.dumps([str(tmp_path / "a")])
    flags = ["--rasters", rasters, "--output", str(target), "--join-sensors", str(days)]
    assert cli.main(["collect", *flags, "--run", str(tmp_path / "run")]) != 0
    assert f"1 of 1 optical rasters have no radar raster of the same place and CRS within {days} days" in "".join(
        capsys.readouterr()
    )


def test_a_collection_that_is_extended_keeps_what_was_joined_and_corrected(tmp_path):
    folder = ssl4eo(tmp_path / "ssl4eo", 1)
    first = collect(tmp_path, folder)
    again = collect(tmp_path, folder, days=31)
    assert [entry.path for entry in again.imagery] == [entry.path for entry in first.imagery]
    assert len(again.entries) == len(first.entries)


def test_rasters_of_one_name_in_different_folders_stay_apart(tmp_path):
    for month in ("01", "04"):
        folder = tmp_path / "a" / f"2020-{month}-05"
        write(folder / "S2_L1C.tif", optical(int(month)), tags={"ACQUISITIONDATETIME": f"2020-{month}-05T10:00:00Z"})
        tags = {"ACQUISITIONDATETIME": f"2020-{month}-07T05:00:00Z"}
        write(folder / "S1_GRD.tif", radar(int(month)), ("VV", "VH"), tags=tags)
    found = collect(tmp_path, tmp_path / "a").imagery
    assert len({entry.path for entry in found}) == len(found) == 2
    for entry in found:
        month = int((entry.date or "")[5:7])
        with rasterio.open(entry.path) as file:
            np.testing.assert_array_equal(file.read([1, 14]), [optical(month)[0], radar(month)[0]])
