"""Types of parameters: each carries its unit and the widget that edits it, so that a form needs nothing else.

A parameter is declared once, as a field of a `Config`; its JSON Schema draws the form, the toolbox and the command
line. Every number gives both of its bounds in its field, inclusive (`ge`, `le`), because a spin box cannot show an open
interval.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Hint:
    """Adds entries, such as `unit` or `widget`, to the JSON Schema of a type."""

    def __init__(self, **entries: Any) -> None:
        self.entries = entries

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), **self.entries}


class Config(BaseModel):
    """Base of all configs: immutable, refuses unknown names, validates defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


AUTOMATIC = Hint(zero="automatic")
"""Of a number that the program chooses where the user leaves it 0."""

Pixels = Annotated[int, Hint(unit="px")]
Metres = Annotated[float, Hint(unit="m")]
SquareMetres = Annotated[float, Hint(unit="m²")]
Minutes = Annotated[float, Hint(unit="min")]
Percent = Annotated[float, Hint(unit="%")]
Fraction = Annotated[float, Hint(decimals=3)]
Channels = Annotated[int, Hint(advanced=True)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1), Hint(advanced=True)]

RasterPath = Annotated[str, Field(min_length=1), Hint(widget="raster")]
OptionalRasterPath = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="raster", optional=True)]
RasterPaths = Annotated[list[str], Field(min_length=1), Hint(widget="rasters")]
VectorPath = Annotated[str, Field(min_length=1), Hint(widget="vector")]
"""A file, or "file|layername=name" as QGIS writes it."""
OptionalVectorPath = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="vector", optional=True)]
"""The schema entry `geometry` says of what: "point", or "any" for polygons and points; polygons where it is absent."""
FieldName = Annotated[str, Hint(widget="field")]
"""Name of an attribute; the schema entry `of` names the vector parameter it belongs to."""
FilePath = Annotated[str, Field(min_length=1), Hint(widget="file")]
"""A file that is no layer; the schema entry `filter` names its kinds, such as "Weights (*.pth *.ckpt)"."""
ModelPath = Annotated[str, Field(min_length=1), Hint(widget="model")]
OptionalModelPath = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="model", optional=True)]
Rectangle = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="area", optional=True, rectangle=True)]
"""West, south, east, north in the raster's own CRS, separated by commas; None is the whole raster."""
Area = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="area", optional=True)]
"""A rectangle, or polygons as WKT or in a vector file (`raster/area.py`); None is the whole raster."""
Points = Annotated[str | None, BeforeValidator(_empty_is_none), Hint(widget="points", optional=True)]
"""Places "x,y; x,y" in the CRS of the first raster of the form; None is none."""
Device = Annotated[str, Hint(widget="device", advanced=True)]
