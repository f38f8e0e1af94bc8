"""GASSL: MoCo v2 whose two views of a place come from two dates, and which may also learn where a place is.

Ayush et al., 2021, "Geography-Aware Self-Supervised Learning", arXiv:2011.09980.

Shape letters: B batch, T dates, C bands, H rows, W columns, D features compared, K clusters of places, N places.
"""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.dates import on_two_dates
from rsfm.blocks.momentum_contrast import MomentumContrast, MomentumContrastConfig, contrast, top
from rsfm.blocks.places import Clusters, extent_km, lloyd, nearest, spread_centres, unit_vectors
from rsfm.blocks.recipes import MOCO_EVENING, MOCO_QUICK, MOCO_TRAINING, SMALL_CONV
from rsfm.blocks.view import View
from rsfm.blocks.views import draw_view
from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.method import Loss, Sample
from rsfm.params import Fraction, Hint

FEWEST_CLUSTERS = 5
PLACES_OF_A_CLUSTER = 50
NARROW_KM = 50.0
ONE_DATE = (
    "Each window has one date only, so GASSL learns as MoCo v2 does. "
    "Choose rasters of the same place at several dates under 'Rasters'."
)
NO_PLACES = "No places are known, so GASSL does not learn where a window is. Choose rasters with a CRS under 'Rasters'."


class GASSLConfig(MomentumContrastConfig):
    """Learns that a place stays the same from date to date. For rasters of many dates; not for finding change."""

    name: Literal["gassl"] = "gassl"
    smallest_crop: Fraction = Field(
        0.2, ge=0.01, le=1, description="Share of a window that a view covers at least; for views as published."
    )
    learn_places: bool = Field(False, description="Learn also where on Earth a window is; for rasters of many places.")
    clusters: int = Field(100, ge=2, le=10000, description="Areas of the Earth that are told apart, at most.")
    clustering: Annotated[Literal["sphere", "degrees"], Hint(advanced=True)] = Field(
        "sphere",
        description="How places are put into areas.",
        json_schema_extra={
            "choices": ["sphere", "degrees"],
            "titles": ["On the globe", "By degrees as published; cuts areas at 180° of longitude"],
        },
    )


class GASSL(MomentumContrast):
    name = "gassl"
    title = "GASSL"
    Config = GASSLConfig
    presets = (
        Preset(
            "gassl_quick",
            "GASSL: quick, minutes on a CPU",
            "A small variant, not the paper's model; for rasters of one place at several dates.",
            {
                "method": {"name": "gassl", "views": "quick", "view_size": 32, "queue": 2048, "momentum": 0.99},
                "encoder": SMALL_CONV,
                "training": MOCO_QUICK,
                "window": 40,
            },
        ),
        Preset(
            "gassl_gpu",
            "GASSL: evening on a GPU, ResNet-50",
            "Four hours on one GPU: the paper's network, dates and places on smaller windows. Its worth is not "
            "measured.",
            {
                "method": {
                    "name": "gassl",
                    "views": "published",
                    "view_size": 112,
                    "smallest_crop": 0.08,
                    "queue": 16384,
                    "temperature": 0.02,
                    "momentum": 0.999,
                    "dimension": 128,
                    "learn_places": True,
                    "clusters": 100,
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": MOCO_EVENING,
                "window": 224,
            },
            for_gpu=True,
        ),
        Preset(
            "gassl_official",
            "GASSL: as published, ResNet-50, days on a GPU",
            "The paper's model and recipe, dates and places: 200 passes over the windows, days on a GPU.",
            {
                "method": {
                    "name": "gassl",
                    "views": "published",
                    "view_size": 224,
                    "smallest_crop": 0.08,
                    "queue": 65536,
                    "temperature": 0.02,
                    "momentum": 0.999,
                    "dimension": 128,
                    "learn_places": True,
                    "clusters": 100,
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": MOCO_TRAINING,
                "window": 448,
            },
            for_gpu=True,
        ),
    )
    config: GASSLConfig
    dates = 2

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.placed = config.learn_places
        self.geo_head: nn.Sequential | None = None
        self.register_buffer("centres_KD", None)

    def prepare(self, places_N2: Tensor) -> tuple[str, ...]:
        """Put all places that will be learned from into clusters, and make the head that tells them apart.

        Returns:
            Why places are not learned, if they are not: they lie too close together, or are too few.
        """
        if not self.config.learn_places:
            return ()
        if not len(places_N2):
            return (NO_PLACES,)
        extent = extent_km(unit_vectors(places_N2))
        count = cluster_count(len(places_N2), self.config.clusters)
        if extent < NARROW_KM or count < FEWEST_CLUSTERS:
            return (
                f"{len(places_N2)} places within {extent:.0f} km are not enough to learn where a window is: it would "
                f"learn its position in one scene. 'Learn places' is off; it needs {NARROW_KM:.0f} km and "
                f"{FEWEST_CLUSTERS * PLACES_OF_A_CLUSTER} places.",
            )
        clusters = self.cluster(places_N2, count)
        self.tell_places(clusters.centres_KD)
        return ()

    def kept(self) -> dict[str, Tensor]:
        """Return the centres, so that later places get the nearest one."""
        return {} if self.centres_KD is None else {"centres_KD": self.centres_KD}

    def cluster(self, places_N2: Tensor, count: int, seed: int = 0) -> Clusters:
        """Put places into at most `count` clusters, none of them empty."""
        points_ND = self.points(places_N2)
        return lloyd(points_ND, spread_centres(points_ND, count, seed), self.config.clustering == "sphere")

    def points(self, places_N2: Tensor) -> Tensor:
        """Turn places into what is clustered."""
        return unit_vectors(places_N2) if self.config.clustering == "sphere" else places_N2.double()

    def tell_places(self, centres_KD: Tensor) -> None:
        """Take centres, which are kept with the weights, and make the head that tells them apart."""
        self.make_head(len(centres_KD))
        self.centres_KD = centres_KD.to(next(self.encoder.parameters()).device, torch.float64)

    def make_head(self, clusters: int) -> None:
        """Make the head that tells clusters apart, of fresh weights."""
        device = next(self.encoder.parameters()).device
        self.geo_head = nn.Sequential(nn.ReLU(), nn.Linear(self.config.dimension, clusters)).to(device)

    def loss(self, sample: Sample, progress: float) -> Loss:
        query, key, alone = self._views(sample)
        query_BD = self.project(query.pixels_BCHW)
        logits_BK = self.compare_projected(query_BD, key.pixels_BCHW)
        total = contrast(logits_BK)
        parts = {"contrast": total.detach(), "top1": top(logits_BK, 1), "one_date": alone}
        if self.geo_head is not None and sample.dates is not None and self.centres_KD is not None:
            label_B = nearest(self.points(sample.dates.place_B2), self.centres_KD)
            place = self.place_error(query_BD, label_B)
            total, parts = total + place, {**parts, "place": place.detach()}
        return Loss(total, parts, self._warnings(sample))

    def place_error(self, query_BD: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of the cluster of each place, told from the query before it is brought to length 1."""
        return functional.cross_entropy(self.place_logits(query_BD).float(), label_B)

    def place_logits(self, query_BD: Tensor) -> Tensor:
        """Return logits_BK of the clusters."""
        if self.geo_head is None:
            raise RuntimeError("tell_places comes first")
        logits_BK: Tensor = self.geo_head(query_BD)
        return logits_BK

    def _views(self, sample: Sample) -> tuple[View, View, Tensor]:
        """Draw a view of the window's own date and, apart from it, one of another; tell how many have no other."""
        first, second, alone = on_two_dates(sample)
        config = self.config
        size, smallest = config.view_size, config.smallest_crop
        query, key = (draw_view(config.views, view, size, smallest, self.drop) for view in (first, second))
        return query, key, alone

    def _warnings(self, sample: Sample) -> tuple[str, ...]:
        if sample.dates is None:
            return (ONE_DATE, NO_PLACES) if self.config.learn_places else (ONE_DATE,)
        return (ONE_DATE,) if sample.dates.valid_BTHW.shape[1] == 1 else ()


def cluster_count(places: int, most: int) -> int:
    """Tell how many clusters there can be: one for 50 places, at least 2."""
    return min(most, max(2, places // PLACES_OF_A_CLUSTER))
