"""What the bands of a raster are called: by name and wavelength, never by their place in the file alone.

Bands of Sentinel-2 keep their published names (B2, B8A); those of other sensors are called by what they see (blue, nir,
swir1), as their numbers mean something else on every satellite.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rsfm.raster.collection import Band, Entry
from rsfm.raster.known_sensors import SENSORS, recognise, recognise_bands

SYNONYMS = {
    "b2": "blue", "b3": "green", "b4": "red", "b8": "nir", "b": "blue", "g": "green", "r": "red", "n": "nir",
    "b1": "coastal", "b11": "swir1", "b12": "swir2", "near infrared": "nir", "near_infrared": "nir",
}  # fmt: skip
COLOURS = (
    ("coastal", 400, 452), ("blue", 452, 520), ("green", 520, 585), ("yellow", 585, 626), ("red", 626, 695),
    ("rededge", 695, 760), ("nir", 760, 925), ("vapour", 925, 970), ("cirrus", 1350, 1410), ("swir1", 1550, 1760),
    ("swir2", 2080, 2360), ("thermal", 10000, 12600),
)  # fmt: skip
"""Names and the range of centres in nanometres they stand for."""
_CENTRES = {
    "coastal": 443.0, "blue": 490.0, "green": 560.0, "yellow": 605.0, "red": 660.0, "rededge": 705.0, "nir": 842.0,
    "cirrus": 1375.0, "swir1": 1610.0, "swir2": 2200.0, "b5": 704.1, "b6": 740.5, "b7": 782.8, "b8a": 864.7,
    "b9": 945.1, "b10": 1373.5,
}  # fmt: skip
"""Where a band of a name is looked for when no band has the name."""
_WORDS = (
    (r"coastal|aerosol|ultra ?blue", "coastal"), (r"red[ _-]?edge|\bre\b|rededge", "rededge"),
    (r"\bnir|near[ _-]?infra|\bn\.?i\.?r", "nir"), (r"swir[ _-]?(?:1|16)|swir1", "swir1"),
    (r"swir[ _-]?(?:2|22)|swir2", "swir2"), (r"cirrus", "cirrus"), (r"thermal|\btir|lwir", "thermal"),
    (r"panchrom|\bpan\b", "pan"), (r"\bblue\b|^b$", "blue"), (r"\bgreen\b|^g$", "green"), (r"\bred\b|^r$", "red"),
    (r"\byellow\b", "yellow"),
)  # fmt: skip
_NUMBERED = re.compile(r"(?:(?:sr|st|toa)_)?b(?:and)?[ _-]?0*(\d{1,2}a?)", re.IGNORECASE)
_POLARISATION = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
_NANOMETRES = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet|um|µm|μm|micromet)", re.IGNORECASE)
WAVELENGTH_TAGS = (
    "CENTRAL_WAVELENGTH_UM",
    "CENTRAL_WAVELENGTH_NM",
    "CENTRAL_WAVELENGTH",
    "WAVELENGTH",
    "CENTER_WAVELENGTH",
)
TOLERANCE_NM = 30.0
"""Bands whose centres lie closer may stand for each other when their names differ."""


class Described(NamedTuple):
    """What a file says of one band."""

    number: int
    description: str
    tags: Mapping[str, str]
    colour: str = ""


class Named(NamedTuple):
    """The sensor, empty if unknown, and the bands."""

    sensor: str
    bands: tuple[Band, ...]


def canonical(band: str) -> str:
    """Write a band's name in one way: "B04", "b4" and "Red" are the same, and so are "B8a" and "B08A"."""
    name = band.strip().lower()
    match = re.fullmatch(r"b0*(\d+a?)", name)
    name = f"b{match.group(1)}" if match else name
    return SYNONYMS.get(name, name)


def name_bands(described: Sequence[Described], hints: Sequence[str]) -> Named:
    """Name the bands of a file and tell their wavelengths.

    Args:
        described: its bands without alpha, in the file's order.
        hints: what may name the sensor: the name of the file first, then its metadata and its folders.
    """
    own = [_own_number(band.description) for band in described]
    sensor = recognise(hints) or recognise_bands([name for name in own if name])
    known = SENSORS[sensor].bands if sensor else {}
    if sensor and not any(band.description or wavelength(band.tags) for band in described):
        own = _by_layout(sensor, described, hints) or own
    bands: list[Band] = []
    for band, number in zip(described, own, strict=True):
        name, centre = known.get(number, ("", None)) if number else ("", None)
        told = wavelength(band.tags) or _in_text(band.description)
        if not name:
            name = _word(band.description) or number or _by_wavelength(told, described) or band.description.strip()
            centre = next((centre for word, centre in known.values() if canonical(word) == canonical(name)), None)
        bands.append(Band(number=band.number, name=name, wavelength_nm=told or centre))
    return Named(sensor, _told_apart(_by_colour(bands, described)))


def wavelength(tags: Mapping[str, str]) -> float | None:
    """Return the centre of a band in nanometres as its metadata tells it."""
    known = {name.upper(): str(value) for name, value in tags.items()}
    for name in WAVELENGTH_TAGS:
        match = re.match(r"\s*(\d+(?:\.\d+)?)", known.get(name, ""))
        if match is None or float(match[1]) == 0:
            continue
        unit = (known.get(f"{name}_UNITS") or known.get("WAVELENGTH_UNITS") or known[name] + name[-3:]).lower()
        value = float(match[1])
        if "nano" in unit or "nm" in unit:
            return value
        if "micro" in unit or "um" in unit or "µm" in unit or "μm" in unit:
            return round(value * 1000, 3)
        return value if value > 100 else round(value * 1000, 3)
    return None


def shared_bands(entries: Sequence[Entry]) -> list[str]:
    """Return the names of the bands that all entries have, in the order and by the names of the first."""
    if not entries:
        return []
    shared = [band.name for band in entries[0].bands]
    for bands in {entry.bands for entry in entries[1:]}:
        found = _match(bands, shared)
        shared = [name for name, number in zip(shared, found, strict=True) if number is not None]
    return shared


def band_numbers(entry: Entry, names: Sequence[str]) -> list[int | None]:
    """Return the numbers in the entry's file of bands of these names, None for one it lacks.

    A band is found by its name, also in another spelling, and else by the wavelength the name stands for.
    """
    return _match(entry.bands, names)


def _match(bands: Sequence[Band], names: Sequence[str]) -> list[int | None]:
    exact = {band.name.lower(): band.number for band in reversed(bands)}
    spelled = {canonical(band.name): band.number for band in reversed(bands)}
    found = [exact.get(name.lower(), spelled.get(canonical(name))) for name in names]
    taken = {number for number in found if number is not None}
    for index, name in enumerate(names):
        wanted = _CENTRES.get(canonical(name)) or _in_text(name)
        if found[index] is None and wanted is not None:
            free = [(abs(band.wavelength_nm - wanted), band.number) for band in bands
                    if band.wavelength_nm is not None and band.number not in taken]  # fmt: skip
            distance, number = min(free, default=(float("inf"), 0))
            if distance <= TOLERANCE_NM:
                found[index] = number
                taken.add(number)
    return found


def _own_number(description: str) -> str:
    """Return a band's name in its sensor's numbering: "B4" of "B04", "SR_B4", "Band 4 - Red"; empty if it has none."""
    match = _NUMBERED.match(description.strip())
    if match and not description.strip()[match.end() : match.end() + 1].isalnum():
        return f"B{match[1].upper()}"
    radar = _POLARISATION.search(description.replace("_", " "))
    return radar[1].upper() if radar else ""


def _by_layout(sensor: str, described: Sequence[Described], hints: Sequence[str]) -> list[str]:
    """Name bands that the file leaves nameless: by what such files hold, or one band by the file's name."""
    layout = SENSORS[sensor].layouts.get(len(described))
    if layout is not None:
        return list(layout)
    if len(described) == 1:
        tokens = re.split(r"[^A-Za-z0-9]+", " ".join(hints[:2]))
        own = [_own_number(token) for token in tokens]
        return [name for name in own if name in SENSORS[sensor].bands][:1]
    return []


def _word(description: str) -> str:
    text = description.lower().replace("_", " ")
    return next((name for pattern, name in _WORDS if re.search(pattern, text)), "")


def _in_text(description: str) -> float | None:
    match = _NANOMETRES.search(description)
    if match is None:
        return None
    return float(match[1]) * (1 if match[2].lower().startswith("n") else 1000)


def _by_wavelength(told: float | None, described: Sequence[Described]) -> str:
    """Name a nameless band by its wavelength: as a colour where it is the only one, else in nanometres."""
    if told is None:
        return ""
    all_told = [wavelength(band.tags) or _in_text(band.description) for band in described]
    colours = [_colour(each) for each in all_told if each is not None]
    mine = _colour(told)
    return mine if mine and colours.count(mine) == 1 else f"{told:g} nm"


def _colour(centre: float) -> str:
    return next((name for name, low, high in COLOURS if low <= centre < high), "")


def _by_colour(bands: list[Band], described: Sequence[Described]) -> list[Band]:
    """Name what has no name yet by how the file shows it, and else by its number."""
    named = []
    for band, told in zip(bands, described, strict=True):
        shown = told.colour if told.colour in {"red", "green", "blue"} else ""
        named.append(band.model_copy(update={"name": band.name or shown or f"Band {band.number}"}))
    return named


def _told_apart(bands: list[Band]) -> tuple[Band, ...]:
    """Add the number to names that several bands have."""
    names = [band.name for band in bands]
    return tuple(
        band.model_copy(update={"name": f"{band.name} {band.number}"}) if names.count(band.name) > 1 else band
        for band in bands
    )


def describe_bands(dataset: Any, numbers: Sequence[int]) -> list[Described]:
    """Read what an open file says of its bands."""
    return [
        Described(
            number,
            dataset.descriptions[number - 1] or "",
            {**dataset.tags(number), **dataset.tags(number, ns="IMAGERY")},
            dataset.colorinterp[number - 1].name,
        )
        for number in numbers
    ]
