"""Sensors whose bands are known by number: their names and the centre of each, in nanometres.

Sources: ESA Sentinel-2 user guide (S2A), USGS Landsat missions, USDA NAIP (typical camera).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class KnownSensor(NamedTuple):
    """A sensor.

    Attributes:
        bands: name in the sensor's own numbering -> name it is known by here, and its centre in nanometres.
        layouts: number of bands -> the bands such a file holds, in order, where it does not name them.
        pattern: what its scenes are called, or what metadata calls it.
    """

    bands: dict[str, tuple[str, float | None]]
    layouts: dict[int, tuple[str, ...]]
    pattern: str


def _numbered(*bands: tuple[str, float]) -> dict[str, tuple[str, float | None]]:
    return {f"B{number}": band for number, band in enumerate(bands, 1)}


_S2_WAVELENGTHS = {
    "B1": 442.7, "B2": 492.4, "B3": 559.8, "B4": 664.6, "B5": 704.1, "B6": 740.5, "B7": 782.8, "B8": 832.8,
    "B8A": 864.7, "B9": 945.1, "B10": 1373.5, "B11": 1613.7, "B12": 2202.4,
}  # fmt: skip
_S2: dict[str, tuple[str, float | None]] = {name: (name, centre) for name, centre in _S2_WAVELENGTHS.items()}
_S2_L2A = {name: band for name, band in _S2.items() if name != "B10"}
_OLI = _numbered(
    ("coastal", 443.0), ("blue", 482.0), ("green", 561.4), ("red", 654.6), ("nir", 864.7), ("swir1", 1608.9),
    ("swir2", 2200.7), ("pan", 589.5), ("cirrus", 1373.4), ("thermal1", 10895.0), ("thermal2", 12005.0),
)  # fmt: skip
_ETM = _numbered(
    ("blue", 483.0), ("green", 560.0), ("red", 662.0), ("nir", 835.0), ("swir1", 1648.0), ("thermal", 11450.0),
    ("swir2", 2206.0), ("pan", 720.0),
)  # fmt: skip
_TM = {name: band for name, band in _ETM.items() if name != "B8"}
_RADAR: dict[str, tuple[str, float | None]] = {name: (name, None) for name in ("VV", "VH", "HH", "HV")}
_REFLECTIVE = ("B1", "B2", "B3", "B4", "B5", "B7")
_RGBN: dict[str, tuple[str, float | None]] = {
    "red": ("red", 640.0), "green": ("green", 550.0), "blue": ("blue", 460.0), "nir": ("nir", 830.0),
}  # fmt: skip
_EDGE = r"(?:^|[^A-Za-z0-9])"
_END = r"(?![A-Za-z0-9])"

SENSORS = {
    "Sentinel-2 L1C": KnownSensor(
        _S2, {13: tuple(_S2)}, rf"{_EDGE}S2[ABC]?_(?:MSI)?L1C|S2MSI1C|SENTINEL[ _-]?2[ABC]?[ _-]L1C"
    ),
    "Sentinel-2 L2A": KnownSensor(
        _S2_L2A, {12: tuple(_S2_L2A)}, rf"{_EDGE}S2[ABC]?_(?:MSI)?L2A|S2MSI2A|SENTINEL[ _-]?2[ABC]?[ _-]L2A"
    ),
    "Sentinel-2": KnownSensor(
        _S2,
        {13: tuple(_S2), 12: tuple(_S2_L2A)},
        rf"{_EDGE}S2[ABC]?{_END}|SENTINEL[ _-]?2|HLS\.S30|{_EDGE}T\d\d[A-Z]{{3}}_\d{{8}}T\d{{6}}",
    ),
    "Landsat 8/9": KnownSensor(
        _OLI,
        {11: tuple(_OLI), 7: tuple(_OLI)[:7], 6: tuple(_OLI)[1:7]},
        rf"{_EDGE}L[CO]0?[89]|LANDSAT[ _-]?[89]|{_EDGE}L[89]{_END}|OLI_TIRS|HLS\.L30",
    ),
    "Landsat 7": KnownSensor(
        _ETM, {6: _REFLECTIVE, 7: tuple(_ETM)[:7], 8: tuple(_ETM)}, rf"{_EDGE}LE0?7|LANDSAT[ _-]?7|{_EDGE}L7{_END}"
    ),
    "Landsat 5": KnownSensor(
        _TM, {6: _REFLECTIVE, 7: tuple(_TM)}, rf"{_EDGE}LT0?[45]|LANDSAT[ _-]?[45]{_END}|{_EDGE}L5{_END}"
    ),
    "Sentinel-1": KnownSensor(_RADAR, {2: ("VV", "VH")}, rf"{_EDGE}S1[ABCD]?{_END}|SENTINEL[ _-]?1"),
    "NAIP": KnownSensor(
        _RGBN, {3: ("red", "green", "blue"), 4: tuple(_RGBN)}, rf"NAIP|{_EDGE}m_\d{{7}}_[ns][ew]_\d\d_"
    ),
}
"""In the order in which they are looked for."""
_PATTERNS = {name: re.compile(sensor.pattern, re.IGNORECASE) for name, sensor in SENSORS.items()}
RADAR = frozenset(_RADAR)
_POLARISED = re.compile(r"(?<![a-z])(?:vv|vh|hh|hv)(?![a-z])", re.IGNORECASE)
PLATFORM_TAGS = frozenset(
    (
        *("SPACECRAFT_NAME", "SPACECRAFT_ID", "DATATAKE_1_SPACECRAFT_NAME", "PLATFORM", "SATELLITE", "SATELLITEID"),
        *("MISSION_ID", "SENSOR", "SENSOR_ID", "INSTRUMENT", "PRODUCT_TYPE", "PRODUCT_URI", "LANDSAT_PRODUCT_ID"),
        "TIFFTAG_IMAGEDESCRIPTION",
    )
)


def recognise(hints: Sequence[str]) -> str:
    """Return the name of the sensor that names or metadata speak of; empty if none.

    The first hint counts; a later one may say more of the same sensor, such as the level of a product.
    """
    found = [name for hint in hints for name in _in_hint(hint)]
    if not found:
        return ""
    return max((name for name in found if name.startswith(found[0])), key=len)


def _in_hint(hint: str) -> list[str]:
    return [name for name, pattern in _PATTERNS.items() if pattern.search(hint)][:1]


def recognise_bands(names: Sequence[str]) -> str:
    """Return the sensor that has bands of these names, in its own numbering; empty where several may."""
    found = set(names)
    if found and found <= RADAR and "VV" in found:
        return ""
    if "B8A" in found and found <= set(_S2):
        return "Sentinel-2 L1C" if "B10" in found else "Sentinel-2 L2A" if len(found) == 12 else "Sentinel-2"
    if {"B10", "B11"} <= found <= set(_OLI) and len(found) >= 9:
        return "Landsat 8/9"
    return "Sentinel-2" if "B12" in found and found <= set(_S2) else ""


def is_radar(band: str) -> bool:
    """Tell a radar's band by its name, which holds a polarisation: VV, "Sigma0_VH_db", "HH"."""
    return _POLARISED.search(band) is not None
