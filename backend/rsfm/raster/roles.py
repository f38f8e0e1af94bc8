"""What a raster is for: imagery to learn from, a mask of clouds, labels, or something else such as heights.

By its name and how it is stored; the analyst sees it and may correct it.
"""

import re

from rsfm.raster.collection import Role

_EDGE, _END = r"(?:^|[^a-z0-9])", r"(?![a-z])"
_MASK = re.compile(
    rf"cloud|{_EDGE}(?:clm|cld|scl|qa|bqa|fmask|udm2?|qa60|qa_pixel|qa_radsat|pixel_qa|usm|s2cloudless){_END}"
)
_LABELS = re.compile(
    rf"label|lulc|land_?cover|land_?use|{_EDGE}(?:mask|truth|class|classes|classification|reference|gt|annotation|"
    rf"change|corine|worldcover){_END}|segmentation|ground_?truth"
)
_OTHER = re.compile(
    rf"{_EDGE}(?:dem|dsm|dtm|chm|srtm|elevation|altitude|height|slope|aspect|hillshade|ndvi|ndwi|evi|savi|magnitude|"
    rf"confidence|probability|embedding|incidence|angle){_END}"
)
_SCL = re.compile(rf"{_EDGE}scl{_END}")
SCL_CLOUDS = (1, 3, 8, 9, 10)
"""Of Sentinel-2's scene classification: defective, shadow, cloud twice, cirrus; 0 is its nodata."""
FEW_VALUES = 16
"""Whole numbers of at most so many values in a sample are classes."""


def find_role(name: str, bands: tuple[str, ...], palette: bool, whole: bool, values: tuple[int, ...]) -> Role:
    """Tell what a raster is for.

    Args:
        name: of the file, without its folders.
        bands: as the file describes them.
        whole: whether its values are whole numbers.
        values: that a sample of a single band holds; empty if they are many.
    """
    text = name.lower().replace("-", "_")
    words = " ".join(bands).lower().replace("-", "_")
    if len(bands) == 1 and (_MASK.search(text) or _MASK.search(words)):
        return "mask"
    if _OTHER.search(text) or (len(bands) == 1 and _OTHER.search(words)):
        return "other"
    if len(bands) == 1 and (palette or (whole and _LABELS.search(f"{text} {words}"))):
        return "labels"
    if len(bands) == 1 and whole and 2 <= len(values) <= FEW_VALUES and max(values) < 256:
        return "labels"
    return "imagery"


def find_masked(name: str, values: tuple[int, ...]) -> tuple[int, ...]:
    """Tell which values of a mask are to be left out; empty where only the analyst can know.

    Args:
        values: that a sample of it holds.
    """
    text = name.lower().replace("-", "_")
    if _SCL.search(text):
        return SCL_CLOUDS
    if set(values) <= {0, 1} or set(values) <= {0, 255}:
        return (max(values, default=1) or 1,)
    return ()
