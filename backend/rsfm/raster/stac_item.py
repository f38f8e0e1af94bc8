"""Reads a STAC item on disk: which of its assets are the raster, and what it says of them.

STAC 1.0 and 1.1 with the extensions eo, raster, proj; assets that lie on the net are refused, not fetched.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsfm.errors import UserError
from rsfm.raster.collection import Band
from rsfm.raster.describing import Told
from rsfm.raster.known_sensors import recognise

RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff")
NO_DATA_ROLES = frozenset({"thumbnail", "overview", "visual", "metadata", "saturation", "snow-ice", "water-mask"})
MASK_ROLES = frozenset({"cloud", "cloud-shadow", "mask", "data-mask"})
COMMON_NAMES = {"rededge": "rededge", "nir08": "nir_narrow", "nir09": "vapour", "swir16": "swir1", "swir22": "swir2",
                "lwir11": "thermal1", "lwir12": "thermal2", "lwir": "thermal"}  # fmt: skip


def read(path: str) -> Iterator[tuple[str, tuple[tuple[str, str], ...], Told]]:
    """Yield path, file of each band, and what the item says of it; one raster for all assets of single bands.

    Raises:
        UserError: the file is no STAC item, or none of its assets is a raster, or they lie on the net.
    """
    file = Path(path)
    item = _parse(file)
    told = _told(item)
    assets = [_Asset(name, asset, file.parent) for name, asset in item.get("assets", {}).items()]
    rasters = [asset for asset in assets if asset.is_raster]
    imagery = [asset for asset in rasters if not asset.roles & (NO_DATA_ROLES | MASK_ROLES)]
    if not imagery:
        raise UserError(
            f"None of the {len(assets)} assets of the STAC item '{file.name}' is a raster of measurements. Choose the "
            "files themselves under 'Rasters'.",
            "rasters",
        )
    remote = next((asset.path for asset in imagery if "://" in asset.path), None)
    if remote is not None:
        raise UserError(
            f"The rasters of the STAC item '{file.name}' lie on the net ({remote}), and nothing is fetched from there. "
            "Download them beside the item, or choose files under 'Rasters'.",
            "rasters",
        )
    single = [asset for asset in imagery if len(asset.bands) == 1]
    if len(single) > 1:
        files = tuple((asset.bands[0].name, asset.path) for asset in single)
        bands = tuple(asset.bands[0].model_copy(update={"number": n}) for n, asset in enumerate(single, 1))
        yield str(file.with_suffix("")), files, told._replace(bands=bands, **single[0].scaling)
    others = [asset for asset in imagery if len(single) < 2 or len(asset.bands) != 1]
    for asset in others:
        yield asset.path, (), told._replace(name="", bands=asset.bands, **asset.scaling)
    for asset in rasters:
        if asset.roles & MASK_ROLES and "://" not in asset.path:
            yield asset.path, (), Told(date=told.date)


class _Asset:
    """An asset of an item.

    Attributes:
        path: absolute; an address of the net is left as it is.
    """

    def __init__(self, name: str, asset: Mapping[str, Any], folder: Path) -> None:
        href = str(asset.get("href", "")).removeprefix("file://")
        self.path = href if "://" in href else str((folder / href).resolve())
        self.roles = frozenset(str(role) for role in asset.get("roles") or ())
        told = [*zip_bands(asset)]
        self.bands = tuple(_band(number, band, name) for number, band in enumerate(told, 1))
        kind = str(asset.get("type", "")).lower()
        ends = Path(href).suffix.lower() in {".tif", ".tiff", ".jp2", ".vrt"}
        self.is_raster = kind.startswith(RASTER_TYPES) or (not kind and ends)
        self.scaling = _scaling(told, asset)


def zip_bands(asset: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Put together what the extensions say of each band."""
    lists = [asset.get(key) or [] for key in ("bands", "eo:bands", "raster:bands")]
    for number in range(max((len(each) for each in lists), default=0)):
        merged: dict[str, Any] = {}
        for each in lists:
            merged.update(each[number] if number < len(each) else {})
        yield merged


def _parse(file: Path) -> dict[str, Any]:
    try:
        item = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"'{file.name}' cannot be read as JSON: {error}. Choose another file.", "rasters") from error
    if not isinstance(item, dict) or item.get("type") != "Feature" or not isinstance(item.get("assets"), dict):
        raise UserError(
            f"'{file.name}' is no STAC item: it needs the type Feature and assets. Choose an item, a raster or a "
            "folder under 'Rasters'.",
            "rasters",
        )
    return item


def _told(item: Mapping[str, Any]) -> Told:
    about = item.get("properties") or {}
    words = f"{about.get('platform') or ''} {about.get('constellation') or ''} {item.get('collection') or ''}"
    date = str(about.get("datetime") or about.get("start_datetime") or "")
    tags = {name: str(about[name]) for name in ("s2:processing_baseline", "processing:version") if name in about}
    if "processing:version" in tags:
        tags["PROCESSING_BASELINE"] = tags["processing:version"]
    return Told(name=str(item.get("id") or ""), date=date, sensor=recognise([words.strip()]), tags=tags)


def _band(number: int, told: Mapping[str, Any], asset: str) -> Band:
    common = str(told.get("eo:common_name") or told.get("common_name") or "")
    own = str(told.get("name") or told.get("description") or asset)
    centre = told.get("eo:center_wavelength") or told.get("center_wavelength")
    name = COMMON_NAMES.get(common, common) or own
    return Band(number=number, name=name, wavelength_nm=round(float(centre) * 1000, 3) if centre else None)


def _scaling(bands: list[dict[str, Any]], asset: Mapping[str, Any]) -> dict[str, Any]:
    """Return nodata, scale and offset that hold for all bands of an asset."""
    found: dict[str, Any] = {}
    for ours, theirs in (("nodata", "nodata"), ("scale", "scale"), ("offset", "offset")):
        values = {band.get(theirs, band.get(f"raster:{theirs}", asset.get(f"raster:{theirs}"))) for band in bands}
        values.add(None) if not bands else None
        value = values.pop() if len(values) == 1 else None
        if isinstance(value, int | float):
            found[ours] = float(value)
    return found
