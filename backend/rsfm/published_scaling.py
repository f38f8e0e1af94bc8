"""How published models expect their pixels, by the name of the recipe and of each band.

Every recipe here clips a band and then subtracts and divides, so it is a model file's statistics. The 8-bit steps that
some authors have in between are left out: their 256 levels are a matter of storage. Sources: zhu-xlab/SSL4EO-S12,
sustainlab-group/SatMAE, sustainlab-group/geography-aware-ssl, ServiceNow/seasonal-contrast, torchgeo.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rsfm.raster.band_names import canonical
from rsfm.raster.statistics import Statistics

S2_L1C = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
S2_L2A = tuple(band for band in S2_L1C if band != "B10")
S2_RGB = ("B4", "B3", "B2")
S1 = ("VV", "VH")
RGB = ("red", "green", "blue")
SATMAE_TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")

S1_MEAN = (-12.54847273, -20.19237134)
S1_STD = (5.25697717, 5.91150917)
S2C_MEAN = (
    1605.57504906, 1390.78157673, 1314.8729939, 1363.52445545, 1549.44374991, 2091.74883118, 2371.7172463,
    2299.90463006, 2560.29504086, 830.06605044, 22.10351321, 2177.07172323, 1524.06546312,
)  # fmt: skip
S2C_STD = (
    786.78685367, 850.34818441, 875.06484736, 1138.84957046, 1122.17775652, 1161.59187054, 1274.39184232,
    1248.42891965, 1345.52684884, 577.31607053, 51.15431158, 1336.09932639, 1136.53823676,
)  # fmt: skip
S2A_MEAN = (
    752.40087073, 884.29673756, 1144.16202635, 1297.47289228, 1624.90992062, 2194.6423161, 2422.21248945,
    2517.76053101, 2581.64687018, 2645.51888987, 2368.51236873, 1805.06846033,
)  # fmt: skip
S2A_STD = (
    1108.02887453, 1155.15170768, 1183.6292542, 1368.11351514, 1370.265037, 1355.55390699, 1416.51487101,
    1474.78900051, 1439.3086061, 1582.28010962, 1455.52084939, 1343.48379601,
)  # fmt: skip
FMOW_MEAN = (
    1370.19151926, 1184.3824625, 1120.77120066, 1136.26026392, 1263.73947144, 1645.40315151, 1846.87040806,
    1762.59530783, 1972.62420416, 582.72633433, 14.77112979, 1732.16362238, 1247.91870117,
)  # fmt: skip
FMOW_STD = (
    633.15169573, 650.2842772, 712.12507725, 965.23119807, 948.9819932, 1108.06650639, 1258.36394548, 1233.1492281,
    1364.38688993, 472.37967789, 14.3114637, 1310.36996126, 1087.6020813,
)  # fmt: skip
ANY = 1e9
"""Wider than any raster's values: no clip."""


class Range(NamedTuple):
    """What is done to a band: clip to low and high, subtract mean, divide by std."""

    low: float
    high: float
    mean: float
    std: float


class Scaling(NamedTuple):
    """A recipe.

    Attributes:
        bands: what is done to each band, by its name; empty where all are treated as `other`.
        other: what is done to a band that is not named; None refuses it.
    """

    title: str
    bands: dict[str, Range] = {}
    other: Range | None = None


def two_deviations(names: Sequence[str], means: Sequence[float], deviations: Sequence[float]) -> dict[str, Range]:
    """Stretch mean less and plus two deviations to 0 and 1."""
    return {
        name: Range(mean - 2 * std, mean + 2 * std, mean - 2 * std, 4 * std)
        for name, mean, std in zip(names, means, deviations, strict=True)
    }


def standard(
    names: Sequence[str], means: Sequence[float], deviations: Sequence[float], unit: float = 1.0
) -> dict[str, Range]:
    """Subtract the mean and divide by the deviation, both in units of `unit` pixel values."""
    return {
        name: Range(-ANY, ANY, mean * unit, std * unit)
        for name, mean, std in zip(names, means, deviations, strict=True)
    }


def stretch(names: Sequence[str], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Range]:
    """Stretch a range to 0 and 1."""
    return {name: Range(low, high, low, high - low) for name, low, high in zip(names, lows, highs, strict=True)}


SCALINGS = {
    "ssl4eo_s2": Scaling("SSL4EO-S12, Sentinel-2: 0 to 10000 become 0 to 1", other=Range(0, 10000, 0, 10000)),
    "ssl4eo_s2_stats": Scaling(
        "SSL4EO-S12, Sentinel-2 L1C: two deviations", two_deviations(S2_L1C, S2C_MEAN, S2C_STD)
    ),
    "ssl4eo_s2a_stats": Scaling(
        "SSL4EO-S12, Sentinel-2 L2A: two deviations", two_deviations(S2_L2A, S2A_MEAN, S2A_STD)
    ),
    "ssl4eo_s1": Scaling("SSL4EO-S12, Sentinel-1 in dB: two deviations", two_deviations(S1, S1_MEAN, S1_STD)),
    "torchgeo_s2": Scaling("torchgeo, Sentinel-2: divided by 10000", other=Range(-ANY, ANY, 0, 10000)),
    "torchgeo_s1": Scaling("torchgeo, Sentinel-1 in dB: standardised", standard(S1, (-12.59, -20.26), (5.26, 5.91))),
    "satmae_sentinel": Scaling(
        "SatMAE, Sentinel-2: two deviations of fMoW-Sentinel", two_deviations(S2_L1C, FMOW_MEAN, FMOW_STD)
    ),
    "satmae_rgb": Scaling(
        "SatMAE, 8-bit colour", standard(RGB, (0.4182, 0.4215, 0.3991), (0.2878, 0.2754, 0.2764), 255)
    ),
    "satdino_rgb": Scaling(
        "SatDINO, 8-bit colour", standard(RGB, (0.433, 0.436, 0.407), (0.198, 0.193, 0.195), 255)
    ),
    "imagenet": Scaling(
        "ImageNet, 8-bit colour", standard(RGB, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255)
    ),
    "seco": Scaling("SeCo, 8-bit Sentinel-2: quantiles", stretch(S2_RGB, (0, 2, 3), (129, 103, 88))),
    "identity": Scaling("None: pixels as they are", other=Range(-ANY, ANY, 0, 1)),
}  # fmt: skip


def statistics(name: str, bands: Sequence[str]) -> Statistics | None:
    """Return what a recipe does to bands of these names, in their order; None if it does not know one of them."""
    scaling = SCALINGS[name]
    known = {canonical(band): value for band, value in scaling.bands.items()}
    found = [known.get(canonical(band), scaling.other) for band in bands]
    ranges = [value for value in found if value is not None]
    if len(ranges) != len(bands):
        return None
    return Statistics(
        mean=tuple(value.mean for value in ranges),
        std=tuple(value.std for value in ranges),
        low=tuple(value.low for value in ranges),
        high=tuple(value.high for value in ranges),
        count=(0,) * len(ranges),
    )
