"""The classes of the scene, in the order of their names, so that a map learnt from the labels numbers them alike."""

from typing import NamedTuple


class LandClass(NamedTuple):
    """Attributes: name: as in the labels; colour: "#rrggbb"; share: of the parcels that start out as this class."""

    name: str
    colour: str
    share: float


ROAD = 0
"""Roads have no class: they are too narrow to be labelled, and the truth leaves them out."""
CLASSES = (
    LandClass("bare soil", "#d9c39a", 0.11),
    LandClass("forest", "#1b6e3c", 0.15),
    LandClass("industrial", "#8c6bb1", 0.11),
    LandClass("narrow rows", "#e6c229", 0.18),
    LandClass("orchard", "#8fce5a", 0.14),
    LandClass("residential", "#d7301f", 0.13),
    LandClass("water", "#2b7bba", 0.0),
    LandClass("wide rows", "#b8860b", 0.18),
)
BARE, FOREST, INDUSTRIAL, NARROW, ORCHARD, RESIDENTIAL, WATER, WIDE = range(1, len(CLASSES) + 1)
PAIRS = ((FOREST, ORCHARD), (INDUSTRIAL, RESIDENTIAL), (NARROW, WIDE))
"""Classes that share their spectra to the last pixel value and differ in pattern only."""
