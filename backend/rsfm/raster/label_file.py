"""Reads polygons with a class from any vector file, and puts them into the CRS of a raster.

Shape letters: F simple geometries (a multi-polygon is several).
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from rsfm.errors import UserError
from rsfm.raster.reader import control

COLOUR_FIELDS = ("color", "colour")


class Parameters(NamedTuple):
    """Names of the parameters that hold the file and the attribute, for errors to point at."""

    labels: str = "labels"
    class_field: str = "class_field"


class Drawing(NamedTuple):
    """What was drawn.

    Attributes:
        name: of the file, for people.
        shapes_F: points, lines and polygons, in the CRS asked for; coordinates it cannot show are not finite.
        classes_F: text of the class.
        colours: class -> "#rrggbb", where the file gives one.
        notes: what was repaired or left out, as sentences.
        sources_F: the feature that each shape is a part of.
    """

    name: str
    shapes_F: list[Any]
    classes_F: list[str]
    colours: dict[str, str]
    notes: tuple[str, ...]
    sources_F: list[int]


def read_drawing(labels: str, class_field: str, crs: CRS, parameters: Parameters) -> Drawing:
    """Read shapes and classes; repair outlines that cross themselves.

    Args:
        labels: a file, or "file|layername=name" as QGIS writes it.
        crs: to which the shapes are brought.

    Raises:
        UserError: in one sentence or two, what is wrong with the file or with its attributes.
    """
    path, options = split_source(labels)
    name = Path(path).name
    layer, notes = find_layer(path, options, parameters)
    info = pyogrio.read_info(path, layer=layer)
    fields = [str(field) for field in info["fields"]]
    if class_field not in fields and info["features"] != 0:
        found = ", ".join(f"'{field}'" for field in fields) or "none"
        raise UserError(
            f"'{name}' has no attribute '{class_field}'; it has {found}. Choose the one that holds the class under "
            f"'{control(parameters.class_field)}'.",
            parameters.class_field,
        )
    colour_field = next((field for field in fields if field.lower() in COLOUR_FIELDS and field != class_field), None)
    wanted = [class_field] + ([colour_field] if colour_field else [])
    subset = options.get("subset") or None
    try:
        meta, _, wkb, data = pyogrio.raw.read(path, layer=layer, columns=wanted, where=subset, force_2d=True)
    except (DataSourceError, DataLayerError, FeatureError, ValueError) as error:
        raise UserError(
            f"'{name}' cannot be read ({str(error).rstrip('.')}). {draw_or_choose(parameters)}", parameters.labels
        ) from error
    columns = dict(zip(meta["fields"], data, strict=True))
    if wkb is None or len(wkb) == 0:
        found = "is empty: it holds no shape" if wkb is not None else "is a table without shapes"
        raise UserError(f"'{name}' {found}. {draw_or_choose(parameters)}", parameters.labels)
    own_crs = read_crs(meta["crs"], name, parameters)
    shapes, sources, told = _simple_shapes(wkb, [_as_text(value) for value in columns[class_field]])
    if not shapes:
        raise UserError(
            f"No shape of '{name}' has a class: '{class_field}' is empty throughout. Fill it in, or choose another "
            f"attribute under '{control(parameters.class_field)}'.",
            parameters.class_field,
        )
    classes = [_as_text(columns[class_field][source]) for source in sources]
    colours = _read_colours(classes, sources, columns.get(colour_field) if colour_field else None)
    return Drawing(name, reproject(shapes, own_crs, crs), classes, colours, (*notes, *told), sources)


def read_outlines(source: str, crs: CRS, parameters: Parameters) -> list[Any]:
    """Read the polygons of a vector file, whatever their attributes; repair outlines that cross themselves.

    Args:
        source: a file, or "file|layername=name" as QGIS writes it.
        crs: to which they are brought.

    Raises:
        UserError: in one sentence or two, what is wrong with the file.
    """
    polygons = _read_shapes(source, crs, parameters, dimension=2)
    if not polygons:
        name = Path(split_source(source)[0]).name
        raise UserError(f"'{name}' holds no polygon. {draw_or_choose(parameters)}", parameters.labels)
    return polygons


def read_points(source: str, crs: CRS, parameters: Parameters) -> list[Any]:
    """Read the points of a vector file, whatever their attributes; the rest is as in `read_outlines`."""
    points = _read_shapes(source, crs, parameters, dimension=0)
    if not points:
        raise UserError(
            f"'{Path(split_source(source)[0]).name}' holds no point. Choose a layer of points under "
            f"'{control(parameters.labels)}'.",
            parameters.labels,
        )
    return points


def _read_shapes(source: str, crs: CRS, parameters: Parameters, dimension: int) -> list[Any]:
    """Read the shapes of that dimension."""
    path, options = split_source(source)
    name = Path(path).name
    layer, _ = find_layer(path, options, parameters)
    try:
        meta, _, wkb, _ = pyogrio.raw.read(
            path, layer=layer, columns=[], where=options.get("subset") or None, force_2d=True
        )
    except (DataSourceError, DataLayerError, FeatureError, ValueError) as error:
        raise UserError(
            f"'{name}' cannot be read ({str(error).rstrip('.')}). {draw_or_choose(parameters)}", parameters.labels
        ) from error
    shapes = [] if wkb is None else _simple_shapes(wkb, ["shape"] * len(wkb))[0]
    found = [shape for shape in shapes if shapely.get_dimensions(shape) == dimension]
    return reproject(found, read_crs(meta["crs"], name, parameters), crs) if found else []


def split_source(labels: str) -> tuple[str, dict[str, str]]:
    """Take "file|layername=a|subset=b" apart."""
    path, *parts = labels.split("|")
    pairs = (part.partition("=") for part in parts)
    return path, {key.lower(): value.strip("'\"") if key.lower() != "subset" else value for key, _, value in pairs}


def find_layer(path: str, options: dict[str, str], parameters: Parameters) -> tuple[str, list[str]]:
    """Return the layer to read, and what to tell about the choice."""
    name = Path(path).name
    if not path.startswith("/vsi") and not Path(path).exists():
        raise UserError(f"'{path}' does not exist. {draw_or_choose(parameters)}", parameters.labels)
    try:
        layers = [str(layer) for layer, _ in pyogrio.list_layers(path)]
    except (DataSourceError, DataLayerError) as error:
        raise UserError(
            f"'{name}' cannot be read as a vector file. {draw_or_choose(parameters)}", parameters.labels
        ) from error
    if not layers:
        raise UserError(f"'{name}' holds no layer. {draw_or_choose(parameters)}", parameters.labels)
    if "layername" in options:
        if options["layername"] not in layers:
            raise UserError(
                f"'{name}' has no layer '{options['layername']}'; it has {', '.join(layers)}. "
                f"{draw_or_choose(parameters)}",
                parameters.labels,
            )
        return options["layername"], []
    if options.get("layerid", "").isdigit() and int(options["layerid"]) < len(layers):
        return layers[int(options["layerid"])], []
    with_shapes = [str(layer) for layer, kind in pyogrio.list_layers(path) if kind is not None] or layers
    several = f"'{name}' has the layers {', '.join(layers)}; '{with_shapes[0]}' was read."
    return with_shapes[0], [several] if len(with_shapes) > 1 else []


def draw_or_choose(parameters: Parameters) -> str:
    return f"Choose a layer of polygons, such as a GeoPackage, under '{control(parameters.labels)}'."


def read_crs(text: str | None, name: str, parameters: Parameters) -> CRS:
    try:
        if text:
            return CRS.from_user_input(text)
    except CRSError:
        pass
    raise UserError(
        f"'{name}' has no CRS, so its place on the map is unknown. Give it one in QGIS with 'Define layer projection'.",
        parameters.labels,
    )


def _as_text(value: Any) -> str:
    """Write a class as text: 3 and 3.0 alike, empty for what is missing."""
    if value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _simple_shapes(wkb: NDArray[Any], texts: list[str]) -> tuple[list[Any], list[int], list[str]]:
    """Take collections apart and repair outlines.

    Returns:
        the shapes, the feature each comes from, and sentences about what was repaired or left out.
    """
    whole = shapely.from_wkb(wkb, on_invalid="ignore")
    usable = [not (shapely.is_missing(shape) or shapely.is_empty(shape)) for shape in whole]
    kept = [feature for feature, text in enumerate(texts) if usable[feature] and text]
    shapes, sources, repaired = [], [], 0
    for feature in kept:
        shape = whole[feature]
        if not shapely.is_valid(shape):
            repaired += 1
            dimension = shapely.get_dimensions(shape)
            parts = [part for part in _parts(shapely.make_valid(shape)) if shapely.get_dimensions(part) == dimension]
            parts = parts or [shapely.point_on_surface(shape)]
        else:
            parts = _parts(shape)
        shapes += parts
        sources += [feature] * len(parts)
    told = []
    if len(kept) < len(texts):
        told.append(f"{len(texts) - len(kept)} of {len(texts)} features have no shape or no class and were left out.")
    if repaired:
        told.append(f"{repaired} of {len(kept)} shapes were repaired, because their outline crossed or touched itself.")
    return shapes, sources, told


def _parts(shape: Any) -> list[Any]:
    """Return the points, lines and polygons in a shape, however deep."""
    if not hasattr(shape, "geoms"):
        return [] if shapely.is_empty(shape) else [shape]
    return [part for inner in shape.geoms for part in _parts(inner)]


def _read_colours(classes_F: list[str], sources_F: list[int], column: NDArray[Any] | None) -> dict[str, str]:
    colours: dict[str, str] = {}
    if column is not None:
        for name, source in zip(classes_F, sources_F, strict=True):
            text = str(column[source]).strip().lower()
            if name not in colours and re.fullmatch(r"#[0-9a-f]{6}([0-9a-f]{2})?", text):
                colours[name] = text[:7]
    return colours


def reproject(shapes_F: list[Any], source: CRS, target: CRS) -> list[Any]:
    """Move vertices to another CRS; edges stay straight, as QGIS draws them."""
    if source == target:
        return shapes_F

    def move(points_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            xs, ys = transform(source, target, points_N2[:, 0], points_N2[:, 1])
        except (RasterioError, CRSError):  # some lie where the target has no coordinates
            return np.full_like(points_N2, np.inf)
        return np.stack([np.asarray(xs, float), np.asarray(ys, float)], 1)

    return [shapely.transform(shape, move) for shape in shapes_F]
