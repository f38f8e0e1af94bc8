"""What a published model is likely to read, by the number of its bands."""

from typing import NamedTuple

from rsfm.published_scaling import RGB, S1, S2_L1C, S2_L2A


class Sensor(NamedTuple):
    """Bands in their published order, and how their pixels were scaled."""

    band_names: tuple[str, ...]
    scaling: str


SSL4EO = {
    13: Sensor(S2_L1C, "ssl4eo_s2"),
    12: Sensor(S2_L2A, "ssl4eo_s2"),
    2: Sensor(S1, "ssl4eo_s1"),
}
"""SSL4EO-S12, Wang et al., 2023, arXiv:2211.07044."""
IMAGENET = {3: Sensor(RGB, "imagenet")}
SATDINO = {3: Sensor(RGB, "satdino_rgb")}
"""Straka et al., 2025, SatDINO on fMoW."""
PUBLISHED = SSL4EO | IMAGENET
UNKNOWN = Sensor((), "")
