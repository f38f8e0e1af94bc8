"""Finds the rasters that files, folders, patterns, STAC items and collections stand for.

Bands that lie in a file each, as in SSL4EO-S12, Landsat scenes and Sentinel-2 products, are one raster.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rsfm.errors import UserError
from rsfm.raster import collection, stac_item
from rsfm.raster.describing import Told
from rsfm.raster.known_sensors import SENSORS, recognise

SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".jp2", ".vrt", ".img", ".ntf", ".nitf", ".kea", ".bil"})
PICTURES = frozenset({".png", ".jpg", ".jpeg"})
WORLD_FILES = (".pgw", ".pngw", ".jgw", ".jpgw", ".wld", ".png.aux.xml", ".jpg.aux.xml")
SPLITS = {"s1": "Sentinel-1", "s2c": "Sentinel-2 L1C", "s2a": "Sentinel-2 L2A", "s1_grd": "Sentinel-1",
          "s2_l1c": "Sentinel-2 L1C", "s2_l2a": "Sentinel-2 L2A"}  # fmt: skip
"""Folders of SSL4EO-S12."""
_BAND = r"(?:SR_|ST_)?B(?:0?[1-9]|1[0-2]|8A)|VV|VH|HH|HV"
_BAND_FILE = re.compile(rf"(?P<before>(?:.*[_.-])?)(?P<band>{_BAND})(?P<metres>_(?:10|15|20|30|60)m)?", re.IGNORECASE)
_PLACE = re.compile(r"\d{7}")


class Found(NamedTuple):
    """A raster.

    Attributes:
        path: the file; for bands in a file each, what the raster is known by.
        bands: name -> file of each band; empty for a raster in one file.
    """

    path: str
    bands: tuple[tuple[str, str], ...] = ()
    told: Told = Told()


class Sources(NamedTuple):
    """What was found: new rasters, entries that other collections hold, and what to tell the user."""

    rasters: list[Found]
    known: list[collection.Entry]
    warnings: list[str]


def find_rasters(sources: Sequence[str]) -> Sources:
    """Find all rasters once, in the order given and by name within a folder.

    Raises:
        UserError: nothing was found at all.
    """
    rasters: list[Found] = []
    known: list[collection.Entry] = []
    warnings: list[str] = []
    for source in sources:
        try:
            if collection.is_collection(source):
                known += collection.load(source).entries
                continue
            found = list(_find(source))
        except UserError as error:
            warnings.append(str(error))
            continue
        rasters += found
        if not found:
            warnings.append(_nothing(source))
    unique = list({found.path: found for found in rasters}.values())
    if not unique and not known:
        raise UserError(" ".join(warnings) or "No raster was given. Add files or a folder under 'Rasters'.", "rasters")
    return Sources(unique, known, warnings)


def _find(source: str) -> Iterator[Found]:
    path = Path(source).expanduser()
    if path.suffix == ".json" and path.is_file():
        yield from (Found(*parts) for parts in stac_item.read(str(path)))
    elif path.is_dir():
        yield from group_bands(_walk(path.resolve()))
    elif not path.exists() and glob.has_magic(source):
        paths = (Path(each).resolve() for each in sorted(glob.glob(str(path), recursive=True)))
        yield from group_bands([each for each in paths if each.is_file()])
        for folder in (Path(each) for each in sorted(glob.glob(str(path), recursive="**" in source))):
            if folder.is_dir() and "**" not in source:
                yield from group_bands(_walk(folder.resolve()))
    else:
        yield Found(str(path.absolute()) if _is_plain(source) else source)


def group_bands(paths: Sequence[Path]) -> Iterator[Found]:
    """Put files of single bands together; of a band in several pixel sizes the finest is taken."""
    groups: dict[tuple[Path, str], list[tuple[str, Path]]] = defaultdict(list)
    for path in paths:
        match = _BAND_FILE.fullmatch(path.stem)
        if match is None:
            groups[path, ""].append(("", path))
            continue
        folder = path.parent.parent if re.fullmatch(r"R\d0m", path.parent.name) else path.parent
        groups[folder, match["before"].lower()].append((_band_name(match["band"]), path))
    for (folder, before), files in groups.items():
        bands: dict[str, list[Path]] = defaultdict(list)
        for band, path in files:
            bands[band].append(path)
        if len(bands) > 1:
            yield _scene(folder, before, bands)
        else:
            yield from (Found(str(path), told=_of_archive(path)) for _, path in files)


def _scene(folder: Path, before: str, bands: dict[str, list[Path]]) -> Found:
    name = before.rstrip("_.-") or folder.name
    sample = next(iter(bands.values()))[0]
    told = _of_archive(sample)
    sensor = told.sensor or recognise([sample.name, *(each.name for each in list(sample.parents)[:5])])
    ordered = list(SENSORS[sensor].bands) if sensor else []
    names = sorted(bands, key=lambda band: (ordered.index(band) if band in ordered else 99, band))
    files = tuple((band, str(min(bands[band], key=_metres))) for band in names)
    stem = re.sub(r"[_.-]+$", "", sample.stem[: len(before)]) or name
    return Found(str(folder / stem), files, told._replace(sensor=sensor))


def _of_archive(path: Path) -> Told:
    """Recognise a place of SSL4EO-S12: split / seven digits / scene / bands, or split / seven digits / scene.tif."""
    for depth in (1, 0):
        place, split = path.parents[depth], path.parents[depth].parent if len(path.parents) > depth + 1 else path
        if _PLACE.fullmatch(place.name) and split.name.lower() in SPLITS:
            return Told(place=place.name, sensor=SPLITS[split.name.lower()])
    return Told()


def _walk(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, folder)]
    found += [path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and _has_world_file(path)]
    return sorted(path for path in found if path.is_file())


def _hidden(path: Path, folder: Path) -> bool:
    """Leave out hidden files, and the quality layers and previews inside a Sentinel-2 product."""
    parts = path.relative_to(folder).parts
    return any(part.startswith(".") or part in {"QI_DATA", "AUX_DATA", "HTML", "rep_info"} for part in parts) or bool(
        re.search(r"_(?:TCI|PVI)(?:_\d0m)?$", path.stem)
    )


def _has_world_file(path: Path) -> bool:
    return any(path.with_suffix(suffix).is_file() for suffix in WORLD_FILES)


def _band_name(text: str) -> str:
    name = re.sub(r"^(?:SR_|ST_)", "", text.upper())
    return re.sub(r"^B0+", "B", name)


def _metres(path: Path) -> tuple[int, str]:
    match = re.search(r"_(\d\d)m$", path.stem)
    return int(match[1]) if match else 0, path.stem


def _is_plain(source: str) -> bool:
    """Tell a file from GDAL's other ways to name a raster, such as NETCDF:"a.nc":b or /vsizip/a.zip."""
    return "://" not in source and ":" not in source[2:] and not source.startswith("/vsi")


def _nothing(source: str) -> str:
    what = "The folder" if Path(source).is_dir() else "The pattern"
    return f"{what} '{source}' holds no raster. Choose another one under 'Rasters'."
