"""Makes toolbox parameters of fields, and values of a config of what the user gave.

An area that may be polygons has a second parameter for them, AREA.polygons. A group's and a choice's own fields are
named CHOICE.FIELD; CHOICE.OPTION.FIELD where two options differ in a field.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCsException,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis.area_text import polygons_text
from rsfm_qgis.collection import SUFFIX
from rsfm_qgis.schema import Choice, Field, Option

ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced
POLYGONS, POINTS = QgsProcessing.SourceType.TypeVectorPolygon, QgsProcessing.SourceType.TypeVectorPoint
RASTERS = QgsProcessing.SourceType.TypeRaster
OUTLINES = ".polygons"


class Named(NamedTuple):
    """A field with the name and the label of its parameter."""

    name: str
    label: str
    field: Field
    advanced: bool


def named_fields(fields: tuple[Field, ...], prefix: str = "", label: str = "") -> Iterator[Named]:
    """List the parameters of fields, nested ones flattened, each name once."""
    for field in fields:
        name, title = prefix + field.name, f"{label}{field.title}"
        if field.kind == "group":
            yield from named_fields(field.fields, f"{name}.", f"{title}: ")
        elif field.kind == "choice":
            choices = tuple(Choice(option.name, option.title) for option in field.options)
            default = (field.default or {}).get("name", field.options[0].name)
            yield Named(name, title, field._replace(kind="option", choices=choices, default=default), False)
            for option in field.options:
                for own in option.fields:
                    inner = own._replace(name=option_name(field, option, own))
                    yield from _once(field, option, own, named_fields((inner,), f"{name}.", f"{option.title}: "))
        else:
            yield Named(name, title, field, field.advanced or bool(prefix))
            if _may_be_polygons(field):
                outlines = field._replace(kind="outlines", required=False)
                yield Named(
                    name + OUTLINES, _tr("{0}: polygons").format(title), outlines, field.advanced or bool(prefix)
                )


def _may_be_polygons(field: Field) -> bool:
    return field.kind == "area" and not field.details.get("rectangle")


def option_name(choice: Field, option: Option, field: Field) -> str:
    """Name an option's field; the option's name stands before it where another option has a different one."""
    others = [each for other in choice.options for each in other.fields if each.name == field.name]
    return field.name if all(each == field for each in others) else f"{option.name}.{field.name}"


def make_parameter(named: Named, all_fields: tuple[Field, ...]) -> QgsProcessingParameterDefinition:
    """Make the parameter of a field."""
    field, optional = named.field, not named.field.required
    unit = f" ({field.unit})" if field.unit else ""
    parameter = _PARAMETERS.get(field.kind, _text)(named.name, named.label + unit, field, optional, all_fields)
    parameter.setHelp(field.help)
    if named.advanced:
        parameter.setFlags(parameter.flags() | ADVANCED)
    return parameter


def read_values(
    algorithm: QgsProcessingAlgorithm,
    fields: tuple[Field, ...],
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    prefix: str = "",
) -> dict[str, Any]:
    """Read the values of a config; what was not given is left to the config's own default."""
    values: dict[str, Any] = {}
    for field in fields:
        name = prefix + field.name
        if field.kind == "group":
            values[field.name] = read_values(algorithm, field.fields, parameters, context, f"{name}.")
        elif field.kind == "choice":
            values[field.name] = _read_choice(algorithm, field, name, parameters, context)
        else:
            value = _read(algorithm, field, name, parameters, context, fields)
            if value is not None:
                values[field.name.rpartition(".")[2]] = value
    return values


def _read_choice(
    algorithm: QgsProcessingAlgorithm,
    field: Field,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
) -> dict[str, Any]:
    chosen = algorithm.parameterAsEnumString(parameters, name, context)
    option = next(each for each in field.options if each.name == chosen)
    inner = tuple(own._replace(name=option_name(field, option, own)) for own in option.fields)
    return {"name": chosen, **read_values(algorithm, inner, parameters, context, f"{name}.")}


def _read(
    algorithm: QgsProcessingAlgorithm,
    field: Field,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    fields: tuple[Field, ...],
) -> Any:
    if _may_be_polygons(field) and parameters.get(name + OUTLINES) is not None:
        return _read_outlines(algorithm, name, parameters, context, fields)
    if parameters.get(name) is None and algorithm.parameterDefinition(name).defaultValue() is None:
        return None
    if field.kind == "raster":
        return _collection(parameters, field) or algorithm.parameterAsRasterLayer(parameters, name, context).source()
    if field.kind == "rasters":
        return [layer.source() for layer in algorithm.parameterAsLayerList(parameters, name, context)]
    if field.kind == "vector":
        return _read_vector(algorithm, name, parameters, context)
    if field.kind == "area":
        return _read_area(algorithm, name, parameters, context, fields)
    if field.kind == "number":
        integer = field.decimals == 0
        read = algorithm.parameterAsInt if integer else algorithm.parameterAsDouble
        return read(parameters, name, context)
    if field.kind == "flag":
        return algorithm.parameterAsBoolean(parameters, name, context)
    if field.kind == "option":
        return algorithm.parameterAsEnumString(parameters, name, context)
    if field.kind == "list":
        return [float(part) for part in algorithm.parameterAsString(parameters, name, context).split(",") if part]
    return algorithm.parameterAsString(parameters, name, context) or None


def _read_vector(
    algorithm: QgsProcessingAlgorithm, name: str, parameters: dict[str, Any], context: QgsProcessingContext
) -> str:
    path, layer = algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(
        parameters, name, context, ["gpkg"], "gpkg"
    )
    return f"{path}|layername={layer}" if layer else str(path)


def _read_area(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    fields: tuple[Field, ...],
) -> str | None:
    """Express an extent in the CRS of the first raster; for a collection, of several, as a polygon in degrees."""
    if _any_collection(parameters, fields):
        degrees = QgsCoordinateReferenceSystem("EPSG:4326")
        box = algorithm.parameterAsExtent(parameters, name, context, degrees)
        return None if box.isEmpty() else f"SRID=4326;{box.asWktPolygon()}"
    raster = _first_raster(algorithm, fields, parameters, context)
    box = algorithm.parameterAsExtent(parameters, name, context, raster.crs()) if raster is not None else None
    if box is None or box.isEmpty():
        return None
    return ",".join(f"{edge:.12g}" for edge in (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()))


def _read_outlines(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    fields: tuple[Field, ...],
) -> str:
    """Express polygons in the CRS of the first raster; for a collection, of several, name the CRS.

    Raises:
        QgsProcessingException: there are none, a rectangle is given too, or the CRS does not suit.
    """
    if parameters.get(name) is not None:
        raise QgsProcessingException(_tr("The area is given twice, as a rectangle and as polygons. Leave one empty."))
    source = algorithm.parameterAsSource(parameters, name + OUTLINES, context)
    shapes = [feature.geometry() for feature in source.getFeatures() if feature.hasGeometry()] if source else []
    if not shapes:
        raise QgsProcessingException(
            _tr("The layer of the area holds no polygon, or none is selected. Choose another, or leave it empty.")
        )
    own, crs = source.sourceCrs(), None
    if not _any_collection(parameters, fields):
        raster = _first_raster(algorithm, fields, parameters, context)
        crs = raster.crs() if raster is not None and raster.crs().isValid() else own
    try:
        return polygons_text(shapes, own, crs, context.transformContext())
    except QgsCsException as error:
        raise QgsProcessingException(_tr("The area cannot be expressed in the raster's CRS.")) from error


def _any_collection(parameters: dict[str, Any], fields: tuple[Field, ...]) -> bool:
    return any(_collection(parameters, field) for field in fields if field.kind == "raster")


def _tr(text: str) -> str:
    return str(QCoreApplication.translate("Parameters", text))


def _collection(parameters: dict[str, Any], field: Field) -> str:
    """Return the collection that is given in place of a raster; empty where none is."""
    value = parameters.get(field.name)
    return value if isinstance(value, str) and value.endswith(SUFFIX) and "collections" in field.details else ""


def _first_raster(
    algorithm: QgsProcessingAlgorithm,
    fields: tuple[Field, ...],
    parameters: dict[str, Any],
    context: QgsProcessingContext,
) -> QgsRasterLayer | None:
    for field in fields:
        if field.kind == "raster":
            return algorithm.parameterAsRasterLayer(parameters, field.name, context)
        if field.kind == "rasters":
            layers = algorithm.parameterAsLayerList(parameters, field.name, context)
            return layers[0] if layers else None
    return None


def _once(choice: Field, option: Option, own: Field, named: Iterator[Named]) -> Iterator[Named]:
    """Pass over a field that an option before this one shares."""
    before = choice.options[: choice.options.index(option)]
    shared = any(own == each for other in before for each in other.fields)
    if not shared or "." in option_name(choice, option, own):
        yield from named


class RasterOrCollection(QgsProcessingParameterRasterLayer):
    """A raster, or the file of a collection."""

    def checkValueIsAcceptable(self, value: Any, context: QgsProcessingContext | None = None) -> bool:
        if isinstance(value, str) and value.endswith(SUFFIX):
            return Path(value).is_file()
        return bool(super().checkValueIsAcceptable(value, context))


def _raster(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    kind = RasterOrCollection if "collections" in field.details else QgsProcessingParameterRasterLayer
    return kind(name, label, None, optional)


def _rasters(name: str, label: str, _field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterMultipleLayers(name, label, RASTERS, None, optional)


def _vector(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    shapes = {"point": [POINTS], "any": [POLYGONS, POINTS]}.get(field.details.get("geometry", ""), [POLYGONS])
    return QgsProcessingParameterVectorLayer(name, label, shapes, None, optional)


def _attribute(
    name: str, label: str, field: Field, optional: bool, all_fields: tuple[Field, ...]
) -> QgsProcessingParameterDefinition:
    parent = field.details.get("of") or next((each.name for each in all_fields if each.kind == "vector"), "")
    return QgsProcessingParameterField(name, label, field.default, parent, optional=optional)


def _model(name: str, label: str, _field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterFile(name, label, extension="safetensors", optional=optional)


def _file(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterFile(name, label, optional=optional, fileFilter=field.details.get("filter", ""))


def _area(name: str, label: str, _field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterExtent(name, label, None, optional)


def _outlines(name: str, label: str, _field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterFeatureSource(name, label, [POLYGONS], None, optional)


def _number(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    kinds = QgsProcessingParameterNumber.Type
    parameter = QgsProcessingParameterNumber(
        name, label, kinds.Integer if field.decimals == 0 else kinds.Double, field.default, optional
    )
    if field.minimum is not None:
        parameter.setMinimum(field.minimum)
    if field.maximum is not None:
        parameter.setMaximum(field.maximum)
    return parameter


def _flag(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    return QgsProcessingParameterBoolean(name, label, field.default, optional)


def _option(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    values = [choice.value for choice in field.choices]
    return QgsProcessingParameterEnum(name, label, values, False, field.default, optional, True)


def _text(name: str, label: str, field: Field, optional: bool, _all: Any) -> QgsProcessingParameterDefinition:
    default = ",".join(map(str, field.default)) if isinstance(field.default, (list, tuple)) else field.default
    return QgsProcessingParameterString(name, label, default, False, optional)


_PARAMETERS: dict[str, Any] = {
    "raster": _raster,
    "rasters": _rasters,
    "vector": _vector,
    "field": _attribute,
    "file": _file,
    "model": _model,
    "area": _area,
    "outlines": _outlines,
    "number": _number,
    "flag": _flag,
    "option": _option,
}
