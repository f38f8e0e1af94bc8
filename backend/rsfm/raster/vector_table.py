"""A layer of a vector file as a table that is written again with more attributes; its own are kept as they are.

Shape letters: N features.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.crs import CRS

from rsfm.errors import UserError
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.label_file import Parameters, draw_or_choose, find_layer, read_crs, split_source

FID_NAMES = ("fid", "feature_id", "original_fid")
"""What the column of feature ids is called: the first that is no attribute."""


class Column(NamedTuple):
    """Values of an attribute; where `missing_N` is set there is none."""

    values_N: NDArray[Any]
    missing_N: NDArray[np.bool_] | None = None


class Table(NamedTuple):
    """The features of a layer.

    Attributes:
        name: of the file, for people.
        layer: its name in the file.
        crs, geometry_type: as the file has them.
        wkb_N: geometries as they are in the file; None where a feature has none.
        columns: attributes in their order.
        notes: what to tell about the choice of the layer.
    """

    name: str
    layer: str
    crs: CRS
    geometry_type: str
    wkb_N: NDArray[Any]
    fid_N: NDArray[np.int64]
    columns: dict[str, Column]
    notes: tuple[str, ...]


def read_table(source: str, parameters: Parameters) -> Table:
    """Read all features of a layer, with their ids.

    Args:
        source: a file, or "file|layername=name" as QGIS writes it.

    Raises:
        UserError: in one sentence or two, what is wrong with the file.
    """
    path, options = split_source(source)
    name = Path(path).name
    layer, notes = find_layer(path, options, parameters)
    try:
        meta, fid_N, wkb_N, data = pyogrio.raw.read(
            path, layer=layer, where=options.get("subset") or None, return_fids=True
        )
    except (DataSourceError, DataLayerError, FeatureError, ValueError) as error:
        raise UserError(
            f"'{name}' cannot be read ({str(error).rstrip('.')}). {draw_or_choose(parameters)}", parameters.labels
        ) from error
    if wkb_N is None or len(wkb_N) == 0:
        found = "is empty: it holds no shape" if wkb_N is not None else "is a table without shapes"
        raise UserError(f"'{name}' {found}. {draw_or_choose(parameters)}", parameters.labels)
    crs = read_crs(meta["crs"], name, parameters)
    columns = {
        str(field): _column(values_N, str(dtype))
        for field, values_N, dtype in zip(meta["fields"], data, meta["dtypes"], strict=True)
    }
    return Table(name, layer, crs, meta["geometry_type"], wkb_N, fid_N, columns, tuple(notes))


def free_name(wanted: str, table: Table) -> str:
    """Return a name that no attribute of a table has, whatever its capitals: "class", else "class_2" ..."""
    taken = {name.casefold() for name in table.columns} | {"geom", *FID_NAMES}
    number, name = 1, wanted
    while name.casefold() in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def write_table(path: Path, table: Table, added: Mapping[str, Column]) -> None:
    """Write a table with more attributes as a GeoPackage, which stands at its path once it is complete."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.unlink(missing_ok=True)
    taken = {name.casefold() for name in table.columns}
    fid = next((name for name in FID_NAMES if name not in taken), "rsfm_fid")
    columns = {fid: Column(table.fid_N), **table.columns, **added}
    try:
        pyogrio.raw.write(  # at once: rows that are appended could not bring ids of their own
            partial,
            table.wkb_N,
            [column.values_N for column in columns.values()],
            list(columns),
            [column.missing_N for column in columns.values()],
            layer=path.stem,
            **GEOPACKAGE,
            geometry_type=table.geometry_type,
            crs=table.crs.to_wkt(),
            layer_options={"FID": fid},
        )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _column(values_N: NDArray[Any], dtype: str) -> Column:
    """Give whole numbers and flags their type back, which missing ones have cost them."""
    whole = dtype == "bool" or np.dtype(dtype).kind in "iu" if dtype != "object" else False
    if not whole or values_N.dtype.kind != "f":
        return Column(values_N)
    missing_N = np.isnan(values_N)
    return Column(np.where(missing_N, 0, values_N).astype(dtype), missing_N)
