"""Describes a raster that is not in a collection, so that it can be sampled like one that is."""

from rsfm.raster.collection import Band, Entry
from rsfm.raster.footprint import footprint
from rsfm.raster.reader import Raster


def plain_entry(raster: Raster) -> Entry:
    """Return the entry of an open raster; its date is not known."""
    grid = raster.grid
    names = zip(raster.numbers, raster.band_names, strict=True)
    return Entry(
        path=raster.path,
        bands=tuple(Band(number=number, name=name) for number, name in names),
        crs=grid.crs.to_wkt() if grid.crs else "",
        transform=tuple(grid.transform)[:6],
        height=grid.height,
        width=grid.width,
        dtype=str(raster.dtype),
        gsd=grid.gsd,
        footprint=footprint(grid) if grid.crs else None,
    )
