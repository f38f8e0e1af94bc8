"""A collection is made of whatever the user has, and says of each raster what it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rsfm.errors import Stopped, UserError
from rsfm.raster.collection import Collection, Entry, load, save
from rsfm.raster.gather import gather

S2_METRES = {"B1": 60, "B2": 10, "B3": 10, "B4": 10, "B5": 20, "B6": 20, "B7": 20, "B8": 10, "B8A": 20, "B9": 60,
             "B10": 60, "B11": 20, "B12": 20}  # fmt: skip


def write(path: Path, pixels_CHW: Any, names: tuple[str, ...] = (), metres: float = 10, **profile: Any) -> Path:
    pixels_CHW = np.asarray(pixels_CHW)
    count, height, width = pixels_CHW.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    grid = {"crs": "EPSG:32633", "transform": from_origin(500000, 5100000, metres, metres)}
    tags = profile.pop("tags", {})
    with rasterio.open(path, "w", driver="GTiff", **shape, **{**grid, **profile}) as file:
        file.write(pixels_CHW)
        if tags:
            file.update_tags(**tags)
        if names:
            file.descriptions = names
    return path


def noise(bands: int = 3, side: int = 32, low: int = 100, high: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (bands, side, side)).astype("uint16")


def collect(tmp_path: Path, *sources: Path | str) -> Collection:
    return gather([str(source) for source in sources], "test", tmp_path / "out.collection.json").collection


def only(tmp_path: Path, source: Path) -> Entry:
    (entry,) = collect(tmp_path, source).entries
    return entry


def test_an_entry_says_what_must_be_known(tmp_path):
    path = write(tmp_path / "naip_20160816.tif", noise(4).astype("uint8"), nodata=0, metres=1)
    entry = only(tmp_path, path)
    assert (entry.path, entry.role, entry.sensor) == (str(path), "imagery", "NAIP")
    assert (entry.date, entry.date_source, entry.hour_known) == ("2016-08-16T10:00:00+00:00", "name", False)
    assert [band.name for band in entry.bands] == ["red", "green", "blue", "nir"]
    assert (entry.nodata, entry.crs, entry.height, entry.width) == (0, "EPSG:32633", 32, 32)
    assert (entry.dtype, entry.gsd) == ("uint8", pytest.approx(1))
    west, south, east, north = entry.footprint
    assert 14.9 < west < east < 15.1
    assert 46.0 < south < north < 46.1


def test_pixel_size_is_in_metres_at_the_latitude_of_the_raster(tmp_path):
    for latitude, metres in ((0, 111.0), (60, 78.7)):
        grid = from_origin(10, latitude, 0.001, 0.001)
        path = write(tmp_path / f"at{latitude}.tif", noise(), crs="EPSG:4326", transform=grid)
        assert only(tmp_path, path).gsd == pytest.approx(metres, rel=0.01)


def test_files_folders_patterns_and_collections_are_found_once(tmp_path):
    for name in ("a/one.tif", "a/b/two.tif", "a/b/note.txt", "a/.hidden/three.tif", "c/four.tif"):
        write(tmp_path / name, noise()) if name.endswith("tif") else (tmp_path / name).write_text("x")
    names = [Path(entry.path).stem for entry in collect(tmp_path, tmp_path / "a", tmp_path / "a/one.tif").entries]
    assert sorted(names) == ["one", "two"]
    assert len(collect(tmp_path, f"{tmp_path}/a/*.tif").entries) == 1
    assert len(collect(tmp_path, f"{tmp_path}/**/*.tif").entries) == 3
    save(tmp_path / "first.collection.json", collect(tmp_path, tmp_path / "a"))
    assert len(collect(tmp_path, tmp_path / "first.collection.json", tmp_path / "c").entries) == 3


def test_what_cannot_be_used_says_why_and_does_not_stop_the_others(tmp_path):
    good = write(tmp_path / "good.tif", noise())
    write(tmp_path / "nowhere.tif", noise(), crs=None)
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "cut.tif").write_bytes(good.read_bytes()[:-500])
    write(tmp_path / "empty.tif", noise() * 0, nodata=0)
    collection = collect(tmp_path, tmp_path, tmp_path / "none.tif")
    problems = {Path(entry.path).name: entry.problem for entry in collection.entries}
    assert [Path(entry.path).name for entry in collection.imagery] == ["good.tif"]
    words = {
        "nowhere.tif": "CRS",
        "text.tif": "raster",
        "cut.tif": "damaged",
        "empty.tif": "nodata",
        "none.tif": "exist",
    }
    assert all(words[name] in problems[name] for name in words), problems
    assert problems["good.tif"] == ""


def test_nothing_found_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no raster"):
        collect(tmp_path, tmp_path / "empty")
    write(tmp_path / "a.tif", noise())
    gathered = gather([str(tmp_path / "empty"), str(tmp_path / "a.tif")], "x", tmp_path / "o.collection.json")
    assert len(gathered.collection.entries) == 1
    assert "holds no raster" in gathered.warnings[0]


@pytest.mark.parametrize(
    ("name", "pixels", "names", "role"),
    [
        ("cloudmask_20200101.tif", "flags", (), "mask"), ("a_SCL_20m.tif", "flags", (), "mask"),
        ("LC08_x_QA_PIXEL.tif", "flags", (), "mask"), ("lulc_2020.tif", "flags", (), "labels"),
        ("plain.tif", "flags", (), "labels"), ("change_mask.tif", "flags", (), "labels"),
        ("dem.tif", "heights", (), "other"), ("copernicus_DEM_10.tif", "heights", (), "other"),
        ("area.tif", "heights", ("elevation",), "other"), ("demolition.tif", "heights", (), "imagery"),
        ("pan.tif", "counts", (), "imagery"), ("cloudy_scene.tif", "colour", (), "imagery"),
    ],
)  # fmt: skip
def test_the_role_is_told_by_name_and_values(tmp_path, name, pixels, names, role):
    made = {"flags": noise(1) % 3, "heights": noise(1).astype("float32"), "counts": noise(1), "colour": noise(3)}
    assert only(tmp_path, write(tmp_path / name, made[pixels].astype(
        "uint8" if pixels == "flags" else made[pixels].dtype), names)).role == role  # fmt: skip


def test_imagery_gets_the_cloud_mask_of_its_day(tmp_path):
    for day in ("20200101", "20200202"):
        write(tmp_path / f"S2_{day}.tif", noise(4))
        write(tmp_path / f"cloudmask_{day}.tif", (noise(1) % 2).astype("uint8"))
    write(tmp_path / "S2_20200303.tif", noise(4))
    masks = {Path(entry.path).stem: entry for entry in collect(tmp_path, tmp_path).imagery}
    assert Path(masks["S2_20200101"].mask or "").stem == "cloudmask_20200101"
    assert Path(masks["S2_20200202"].mask or "").stem == "cloudmask_20200202"
    assert masks["S2_20200202"].masked == (1,)
    assert masks["S2_20200303"].mask is None


@pytest.mark.parametrize(
    ("name", "tags", "low", "offset"),
    [
        ("S2A_MSIL1C_20220105T101010_N0301_R022_T33UUP.tif", {}, 1000, 0),
        ("S2A_MSIL1C_20220205T101010_N0400_R022_T33UUP.tif", {}, 1000, -1000),
        ("S2A_MSIL2A_20180205T101010_N0500_R022_T33UUP.tif", {}, 1000, -1000),  # processed anew
        ("S2A_L2A_20230205.tif", {"PROCESSING_BASELINE": "05.09"}, 100, -1000),
        ("S2A_L2A_20230205.tif", {"PROCESSING_BASELINE": "03.01"}, 1100, 0),
        ("S2A_L2A_20230205.tif", {}, 1100, -1000),
        ("S2A_L2A_20230205.tif", {}, 100, 0),  # somebody took it off
        ("S2A_L2A_harmonized_20230205.tif", {}, 1100, 0),
        ("S2A_L2A_20210205.tif", {}, 1100, 0),
        ("LC08_20230205.tif", {}, 1100, 0),
    ],
)
def test_the_offset_of_sentinel_2_since_2022(tmp_path, name, tags, low, offset):
    entry = only(tmp_path, write(tmp_path / name, noise(12, low=low), tags=tags))
    assert (entry.scale, entry.offset) == (1, offset)


def test_a_declared_scale_is_taken_and_different_ones_are_not(tmp_path):
    path = write(tmp_path / "a.tif", noise(2))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001, 0.0001), (-0.1, -0.1)
    entry = only(tmp_path, path)
    assert (entry.scale, entry.offset) == (0.0001, -0.1)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.0001, 0.001)
    entry = only(tmp_path, path)
    assert (entry.scale, entry.offset) == (1, 0)
    assert "different scales" in entry.note


@pytest.mark.parametrize(
    ("name", "shift", "decibel"), [("S1_VV_VH.tif", -15, True), ("S1_lin.tif", 2, False), ("S1_db.tif", 20, True),
                                   ("scene.tif", -15, False)],
)  # fmt: skip
def test_radar_is_in_decibels_by_name_or_by_negative_values(tmp_path, name, shift, decibel):
    pixels = np.random.default_rng(0).normal(shift, 0.2, (2, 32, 32)).astype("float32")
    names = ("VV", "VH") if name.startswith("S1") else ("a", "b")
    assert only(tmp_path, write(tmp_path / name, pixels, names)).decibel is decibel


def test_a_folder_of_ssl4eo_becomes_places_with_a_raster_for_each_season(tmp_path):
    for place in ("0000007", "0000008"):
        for month in ("01", "04", "07", "10"):
            scene = f"2020{month}05T101010_2020{month}05T101310_T33TWM"
            for band, metres in S2_METRES.items():
                write(tmp_path / "ssl/s2c" / place / scene / f"{band}.tif", noise(1, 240 // metres * 4), metres=metres)
            radar = f"S1A_IW_GRDH_1SDV_2020{month}05T053415_2020{month}05T053440_030662_038394_4F2C"
            for band in ("VH", "VV"):
                pixels = np.random.default_rng(0).normal(-12, 1, (1, 96, 96)).astype("float32")
                write(tmp_path / "ssl/s1" / place / radar / f"{band}.tif", pixels)
    entries = collect(tmp_path, tmp_path / "ssl").imagery
    assert {(entry.place, entry.sensor) for entry in entries} == {
        (place, sensor) for place in ("0000007", "0000008") for sensor in ("Sentinel-1", "Sentinel-2 L1C")
    }
    assert len(entries) == 16
    optical = [entry for entry in entries if entry.sensor == "Sentinel-2 L1C" and entry.place == "0000007"]
    assert [entry.date[:7] for entry in optical if entry.date] == ["2020-01", "2020-04", "2020-07", "2020-10"]
    assert [band.name for band in optical[0].bands] == list(S2_METRES)
    radar = [entry for entry in entries if entry.sensor == "Sentinel-1"]
    assert [band.name for band in radar[0].bands] == ["VV", "VH"]
    assert all(entry.decibel and entry.date and entry.date[11:16] == "05:34" for entry in radar)
    with rasterio.open(optical[0].path) as file:
        assert file.shape == (96, 96)
        blue = rasterio.open(tmp_path / "ssl/s2c/0000007/20200105T101010_20200105T101310_T33TWM/B2.tif").read(1)
        assert (file.read(2) == blue).all()


def test_ssl4eo_with_all_bands_in_one_file_has_places_too(tmp_path):
    for date in ("20200105T101010", "20200405T101010"):
        write(tmp_path / "s2a/0000003" / f"{date}_x_T33TWM.tif", noise(12))
    entries = collect(tmp_path, tmp_path / "s2a").imagery
    assert [(entry.place, entry.sensor, len(entry.bands)) for entry in entries] == [
        ("0000003", "Sentinel-2 L2A", 12)
    ] * 2


def test_a_landsat_scene_and_a_sentinel_product_are_one_raster_each(tmp_path):
    scene = "LC08_L2SP_190025_20200815_20200920_02_T1"
    for number in (2, 3, 4, 5):
        write(tmp_path / "l" / f"{scene}_SR_B{number}.TIF", noise(1), metres=30)
    write(tmp_path / "l" / f"{scene}_QA_PIXEL.TIF", noise(1))
    product = tmp_path / "S2A_MSIL2A_20200105T101010_N0500_R022_T33UUP_20200105T121212.SAFE/GRANULE/L2A_x/IMG_DATA"
    for metres, bands in ((10, ("B02", "B03")), (20, ("B02", "B8A", "SCL", "TCI"))):
        for band in bands:
            pixels = noise(1, 320 // metres) if band != "SCL" else noise(1, 16) % 11
            write(product / f"R{metres}m" / f"T33UUP_20200105T101010_{band}_{metres}m.tif", pixels, metres=metres)
    found = {entry.sensor: entry for entry in collect(tmp_path, tmp_path / "l", product.parents[2]).imagery}
    landsat, sentinel = found["Landsat 8/9"], found["Sentinel-2 L2A"]
    assert [band.name for band in landsat.bands] == ["blue", "green", "red", "nir"]
    assert (landsat.date, landsat.gsd) == ("2020-08-15T10:00:00+00:00", pytest.approx(30, rel=0.01))
    assert [band.name for band in sentinel.bands] == ["B2", "B3", "B8A"]
    assert (sentinel.gsd, sentinel.offset) == (pytest.approx(10, rel=0.01), -1000)
    assert sentinel.masked == (1, 3, 8, 9, 10)
    assert "SCL" in (sentinel.mask or "")


def stac(tmp_path: Path, **assets: Any) -> Path:
    about = {"datetime": "2021-06-07T08:09:10+02:00", "platform": "sentinel-2b"}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "item_1", "properties": about, "assets": assets}
    file = tmp_path / "item.json"
    file.write_text(json.dumps(item))
    return file


def test_a_stac_item_tells_date_bands_and_scaling(tmp_path):
    write(tmp_path / "all.tif", noise(2))
    bands = [{"name": "x", "common_name": "red", "center_wavelength": 0.665}, {"name": "y", "common_name": "swir16"}]
    scaling = [{"nodata": 7, "scale": 0.0001, "offset": -0.1}] * 2
    asset = {"href": "./all.tif", "type": "image/tiff; application=geotiff", "eo:bands": bands, "raster:bands": scaling}
    entry = only(tmp_path, stac(tmp_path, data=asset, preview={"href": "p.png", "type": "image/png"}))
    assert (entry.date, entry.hour_known) == ("2021-06-07T06:09:10+00:00", True)
    assert [(band.name, band.wavelength_nm) for band in entry.bands] == [("red", 665), ("swir1", None)]
    assert (entry.nodata, entry.scale, entry.offset) == (7, 0.0001, -0.1)


def test_a_stac_item_of_single_bands_is_one_raster(tmp_path):
    assets = {}
    for band, name in (("B02", "blue"), ("B04", "red")):
        write(tmp_path / f"x/{band}.tif", noise(1))
        described = [{"name": band, "common_name": name}]
        assets[name] = {"href": f"x/{band}.tif", "type": "image/tiff", "roles": ["data"], "eo:bands": described}
    entry = only(tmp_path, stac(tmp_path, **assets))
    assert [band.name for band in entry.bands] == ["blue", "red"]
    assert entry.sensor.startswith("Sentinel-2")
    assert not entry.problem


def test_json_that_is_no_item_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"type": "Point"}')
    with pytest.raises(UserError, match="no STAC item"):
        collect(tmp_path, tmp_path / "a.json")
    with pytest.raises(UserError, match="None of the 1 assets"):
        collect(tmp_path, stac(tmp_path, preview={"href": "p.png", "type": "image/png"}))


def test_assets_on_the_net_are_not_fetched_and_do_not_stop_the_others(tmp_path):
    asset = {"href": "https://localhost:1/a.tif", "type": "image/tiff", "eo:bands": [{"name": "red"}]}
    item, good = stac(tmp_path, data=asset), write(tmp_path / "a.tif", noise())
    with pytest.raises(UserError, match="lie on the net"):
        collect(tmp_path, item)
    gathered = gather([str(item), str(good)], "x", tmp_path / "out.collection.json")
    assert [entry.path for entry in gathered.collection.imagery] == [str(good)]
    assert "lie on the net" in gathered.warnings[0]


def test_corrections_survive_when_a_collection_is_made_again(tmp_path):
    write(tmp_path / "d/a_20200101.tif", noise())
    (tmp_path / "d/b.tif").write_text("no raster yet")
    target = tmp_path / "out.collection.json"
    first = collect(tmp_path, tmp_path / "d")
    a, b = first.entries
    corrected = a.model_copy(update={"date": "1999-01-01T10:00:00+00:00", "date_source": "table", "used": False})
    save(target, first.model_copy(update={"entries": (corrected, b)}))
    write(tmp_path / "d/b.tif", noise())
    write(tmp_path / "d/c.tif", noise())
    again = collect(tmp_path, tmp_path / "d")
    assert [Path(entry.path).stem for entry in again.entries] == ["a_20200101", "b", "c"]
    assert again.entries[0] == corrected
    assert not again.entries[1].problem


def test_stop_keeps_what_was_looked_at_and_the_next_run_goes_on(tmp_path):
    for number in range(40):
        write(tmp_path / f"d/{number:02}.tif", noise())
    target = tmp_path / "out.collection.json"

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == 3:
            raise Stopped

    first = gather([str(tmp_path / "d")], "x", target, stop)
    assert (first.stopped, first.new) == (True, 3)
    save(target, first.collection)
    rest = gather([str(tmp_path / "d")], "x", target)
    assert (rest.stopped, rest.new, len(rest.collection.imagery)) == (False, 37, 40)


def test_a_collection_moves_together_with_its_rasters(tmp_path):
    write(tmp_path / "one/d/a.tif", noise())
    for band in ("B2", "B3"):
        write(tmp_path / f"one/s/S2_{band}.tif", noise(1))
    target = tmp_path / "one/x.collection.json"
    save(target, gather([str(tmp_path / "one")], "x", target).collection)
    shutil.move(tmp_path / "one", tmp_path / "two")
    entries = load(str(tmp_path / "two/x.collection.json")).entries
    assert len(entries) == 2
    for entry in entries:
        with rasterio.open(entry.path) as file:
            assert file.read().max() > 0
