"""Labelled pixels of rectangles, for the tests of splits."""

import numpy as np
from affine import Affine
from hypothesis import strategies as st
from rasterio.crs import CRS
from rsfm.raster.grid import Grid
from rsfm.raster.labels import Labels

SIDE = 200
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_100_000), SIDE, SIDE)


def make_labels(rectangles):
    """Labels from (row, column, height, width, class); a pixel goes to the first rectangle that covers it."""
    owner_HW, class_HW = np.full((SIDE, SIDE), -1), np.full((SIDE, SIDE), -1)
    for polygon, (row, column, height, width, value) in enumerate(rectangles):
        free = owner_HW[row : row + height, column : column + width] < 0
        owner_HW[row : row + height, column : column + width][free] = polygon
        class_HW[row : row + height, column : column + width][free] = value
    rows_N, columns_N = np.nonzero(owner_HW >= 0)
    polygon_N = np.unique(owner_HW[rows_N, columns_N], return_inverse=True)[1]
    values, class_N = np.unique(class_HW[rows_N, columns_N], return_inverse=True)
    counts = tuple(len(np.unique(polygon_N[class_N == value])) for value in range(len(values)))
    names = tuple(f"c{value}" for value in values)
    return Labels(names, ("#000000",) * len(names), rows_N, columns_N, class_N, polygon_N, counts, ())


def scattered(seed=0, polygons=40, classes=4, side=8):
    random = np.random.default_rng(seed)
    corners = random.permutation(np.stack(np.mgrid[5 : SIDE - 15 : 20, 5 : SIDE - 15 : 20], -1).reshape(-1, 2))
    return make_labels([(*corner, side, side, at % classes) for at, corner in enumerate(corners[:polygons])])


rectangles = st.lists(
    st.tuples(
        st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, 30), st.integers(1, 30), st.integers(0, 4)
    ),
    min_size=1,
    max_size=25,
)
