"""Bands are told apart by name and wavelength, never by their place in the file alone."""

import pytest
from rsfm.raster.band_names import Described, band_numbers, name_bands, shared_bands, wavelength
from rsfm.raster.collection import Band, Entry
from rsfm.raster.known_sensors import SENSORS, recognise


def named(*descriptions: str, hint: str = "") -> list[str]:
    bands = [Described(number, text, {}) for number, text in enumerate(descriptions, 1)]
    return [band.name for band in name_bands(bands, [hint]).bands]


def entry(*names: str, waves: tuple[float | None, ...] = ()) -> Entry:
    waves = waves or (None,) * len(names)
    bands = tuple(Band(number=n, name=name, wavelength_nm=wave)
                  for n, (name, wave) in enumerate(zip(names, waves, strict=True), 1))  # fmt: skip
    return Entry(path="a.tif", bands=bands)


@pytest.mark.parametrize(
    ("text", "sensor"),
    [
        ("S2A_MSIL1C_20170105T013442", "Sentinel-2 L1C"), ("S2_L1C_20150711.tif", "Sentinel-2 L1C"),
        ("S2B_MSIL2A_20200105", "Sentinel-2 L2A"), ("S2_scene.tif", "Sentinel-2"), ("SENTINEL-2A", "Sentinel-2"),
        ("T33UUP_20200101T101010_B04", "Sentinel-2"), ("LC09_L2SP_190025", "Landsat 8/9"),
        ("L8_elkton.tif", "Landsat 8/9"), ("LANDSAT_8", "Landsat 8/9"), ("LE07_L1TP", "Landsat 7"),
        ("landsat7_toa.tif", "Landsat 7"), ("LT05_L1TP", "Landsat 5"), ("S1B_IW_GRDH_1SDV", "Sentinel-1"),
        ("m_4609915_sw_14_1_20100629.tif", "NAIP"), ("naip_west.tif", "NAIP"), ("scene.tif", ""),
        ("islands2_a.tif", ""),
    ],
)  # fmt: skip
def test_the_sensor_is_recognised_by_name(text, sensor):
    assert recognise([text]) == sensor


def test_the_same_number_is_another_colour_on_another_satellite():
    assert named("B2", "B3", "B4", "B5", hint="LC08_a.tif") == ["blue", "green", "red", "nir"]
    assert named("B1", "B2", "B3", "B4", hint="LE07_a.tif") == ["blue", "green", "red", "nir"]
    assert named("B02", "B03", "B04", "B08", hint="S2A_a.tif") == ["B2", "B3", "B4", "B8"]


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Red", "red"), ("vis-red", "red"), ("red?", "red"), ("Near Infrared", "nir"), ("NIR", "nir"), ("B08A", "B8A"),
        ("Gamma0_VV", "VV"), ("sigma0 vh dB", "VH"), ("Red Edge 1", "rededge"), ("SWIR_2", "swir2"), ("B", "blue"),
        ("Coastal aerosol", "coastal"), ("elevation_m", "elevation_m"), ("20150711", "20150711"), ("", "Band 1"),
    ],
)  # fmt: skip
def test_a_description_gives_the_name(description, name):
    assert named(description) == [name]


def test_nameless_bands_of_a_known_sensor_are_named_by_its_layout():
    assert named(*[""] * 13, hint="S2A_MSIL1C_x.tif") == list(SENSORS["Sentinel-2 L1C"].bands)
    assert "B10" not in named(*[""] * 12, hint="S2A_MSIL2A_x.tif")
    assert named(*[""] * 4, hint="naip.tif") == ["red", "green", "blue", "nir"]
    assert named("", hint="LC08_L1TP_190025_20200815_20200920_02_T1_B4.TIF") == ["red"]
    assert named(*[""] * 5, hint="S2A_x.tif") == [f"Band {n}" for n in range(1, 6)]  # nobody can know which five


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"wavelength": "665", "wavelength_units": "Nanometers"}, 665),
        ({"wavelength": "0.665", "wavelength_units": "Micrometers"}, 665),
        ({"CENTRAL_WAVELENGTH_UM": "0.842"}, 842),
        ({"WAVELENGTH": "1.61"}, 1610),
        ({"WAVELENGTH": "1610"}, 1610),
        ({"WAVELENGTH": "unknown"}, None),
        ({"WAVELENGTH": "0"}, None),
        ({}, None),
    ],
)
def test_wavelengths_are_read_in_nanometres(tags, expected):
    assert wavelength(tags) == expected


def test_nameless_bands_are_named_by_wavelength_and_many_in_one_colour_by_number():
    bands = [Described(n, "", {"wavelength": str(nm)}) for n, nm in enumerate((490, 560, 665, 842), 1)]
    assert [band.name for band in name_bands(bands, [""]).bands] == ["blue", "green", "red", "nir"]
    bands = [Described(n, "", {"wavelength": str(nm)}) for n, nm in enumerate((650, 660, 670), 1)]
    assert [band.name for band in name_bands(bands, [""]).bands] == ["650 nm", "660 nm", "670 nm"]


def test_names_are_told_apart():
    assert named("red", "red", "nir") == ["red 1", "red 2", "nir"]


def test_shared_bands_follow_the_first_and_cross_sensors_and_orders():
    sentinel, aerial = entry("B2", "B3", "B4", "B8", "B11"), entry("nir", "red", "green", "blue")
    assert shared_bands([sentinel, aerial]) == ["B2", "B3", "B4", "B8"]
    assert shared_bands([aerial, sentinel]) == ["nir", "red", "green", "blue"]
    assert band_numbers(sentinel, ["nir", "red", "green", "blue"]) == [4, 3, 2, 1]
    assert band_numbers(aerial, ["B2", "B3", "B11"]) == [4, 3, None]
    assert shared_bands([]) == []


def test_a_band_without_the_name_is_found_by_its_wavelength_once():
    found = entry("a", "b", waves=(664.0, 864.7))
    assert band_numbers(found, ["red", "nir"]) == [1, 2]
    assert band_numbers(found, ["red", "B4"]) == [1, None]
    assert band_numbers(entry("a", waves=(1000.0,)), ["red"]) == [None]


def test_rasters_with_other_bands_share_none():
    assert shared_bands([entry("VV", "VH"), entry("red", "green")]) == []
    assert shared_bands([entry("Band 1", "Band 2"), entry("Band 1", "Band 2")]) == ["Band 1", "Band 2"]
