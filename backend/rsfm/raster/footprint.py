"""Where on earth a raster lies."""

from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from rsfm.raster.grid import Grid


def footprint(grid: Grid) -> tuple[float, float, float, float]:
    """Return west, south, east, north in degrees; nan without a CRS."""
    if grid.crs is None:
        return (float("nan"),) * 4
    west, south, east, north = transform_bounds(grid.crs, CRS.from_epsg(4326), *grid.bounds)
    return west, south, east, north
