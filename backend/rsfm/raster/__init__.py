"""Rasters without torch: where they lie, what they hold, how they are cut and written.

GDAL reads the size of its block cache once, at its first use, so it is set here, before any module of this folder can
import rasterio. A striped file that meets a small cache costs seven to eight times the CPU.
"""

import os

os.environ.setdefault("GDAL_CACHEMAX", "512")
