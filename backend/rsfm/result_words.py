"""What the numbers of a result are called where a person reads them, with their units."""

from typing import Any

TITLES = {
    "accuracy": "Overall accuracy",
    "accuracy_blocks": "Overall accuracy on what was held out",
    "accuracy_polygons": "Overall accuracy by cross-validation over polygons",
    "area_changed_m2": "Outlined area, m²",
    "area_changed_then_m2": "Area that changed, m²",
    "areas": "Area on the ground with its standard error and 95 % interval, m²",
    "area_m2": "Area of each class on the ground, m²",
    "calibration_error": "Calibration error: how far confidence is from the share that is right",
    "cell_m": "Cell size, m",
    "chosen": "Features used",
    "classes": "Classes on what was held out",
    "comparisons": "Comparisons of two dates",
    "components": "Components",
    "confusion": "Pixels held out: truth in rows, map in columns",
    "correlation": "Correlation of the band that is most alike",
    "correlations": "Correlation of each band between the dates",
    "dates": "Changes of each date",
    "explained": "Variance that the components keep",
    "f1": "F1",
    "findings": "Check of the pair",
    "first": "First date",
    "from_to": "What became what",
    "from_to_m2": "What became what where it changed, m²: before in rows, after in columns",
    "f1_ir_mad": "F1 of IR-MAD with a fitted threshold",
    "f1_ir_mad_automatic": "F1 of IR-MAD with the automatic threshold",
    "gate": "Do the dates differ",
    "imagery": "Rasters of imagery",
    "iou": "IoU",
    "kappa": "Kappa: agreement beyond chance",
    "kind": "Kind of checkpoint",
    "last": "Last date",
    "linear_dino": "Linear layer, trained as DINO's",
    "linear_satdino": "Linear layer, trained as SatDINO's",
    "logistic": "Logistic regression",
    "logistic_pixels": "Logistic regression on raw pixels",
    "mean_f1": "Mean F1",
    "mean_iou": "Mean IoU",
    "mean_iou_blocks": "Mean IoU on what was held out",
    "mean_iou_polygons": "Mean IoU on held-out polygons (cross-validation)",
    "most_changes": "Most changes of a pixel",
    "most_frequent": "The most frequent class for all",
    "neighbours_10": "10 nearest neighbours",
    "neighbours_20": "20 nearest neighbours",
    "neighbours_100": "100 nearest neighbours",
    "neighbours_200": "200 nearest neighbours",
    "neighbours_of_scales": "20 nearest neighbours, mean of four scales (SatDINO)",
    "new": "New rasters",
    "pixels_compared": "Pixels compared",
    "points": "Points in each class of the map",
    "polygons": "Polygons",
    "right": "Right on held-out places",
    "scaling": "Scaling of the pixels",
    "shift": "How far the later date lies off",
    "share": "Pixels beyond what a shift of one pixel explains",
    "share_changed": "Outlined pixels",
    "share_changed_then": "Pixels that changed",
    "share_ever_changed": "Pixels that changed at least once",
    "share_first_changed": "Pixels that changed for the first time",
    "split": "How it was held out",
    "strong": "Smoothed pixels beyond what a shift explains in 99.9 % of them",
    "tensors": "Weights found",
    "threshold": "Threshold of the magnitude",
    "unusable": "Rasters that cannot be used",
}
UNITS = {"_m2": "m²", "_m": "m", "_px": "px", "_seconds": "s", "_minutes": "min"}
"""Of a number that has no title, by the end of its name."""
SHARES = {
    "accuracy", "accuracy_blocks", "accuracy_polygons", "explained", "other_class_share", "same_class_share", "share",
    "share_changed", "share_changed_then", "share_ever_changed", "share_first_changed", "strong",
}  # fmt: skip
"""From 0 to 1, shown as per cent."""

NAMED_BY_THE_USER = {"area_m2", "areas", "classes", "confusion", "from_to_m2", "points"}
"""Tables with a row for each class."""


def title(name: str) -> str:
    """Return what a number is called; a name that a user gave stays as it is."""
    if name in TITLES:
        return TITLES[name]
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return f"{_words(name.removesuffix(ending))}, {unit}"
    return _words(name)


def show(value: Any, name: str = "") -> str:
    """Return a value as text, with three digits at least and separators between thousands."""
    if value is None:
        return "-"
    if name in SHARES:
        return f"{value:.2%}".replace("%", " %")
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return "; ".join(show(part) for part in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def area(square_metres: float) -> str:
    """Return an area in the unit that suits its size."""
    unit, size = next((pair for pair in (("km²", 1e6), ("ha", 1e4)) if square_metres >= pair[1]), ("m²", 1.0))
    number = square_metres / size
    return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize() if name.islower() else name
