"""What runs over a tile: raw pixels in, features, embeddings or logits out, normalisation included.

Shape letters: B batch, C bands, S side of a tile, D features, K outputs, h and w rows and columns of the result.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.normalisation import Normalisation
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.head import Decoder, PixelHead
from rsfm.inference import TileNetwork
from rsfm.model_file import Model
from rsfm.raster.statistics import Statistics
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.sources.pixels import Pixels
from rsfm.sources.texture import Texture


class FeatureNetwork(TileNetwork):
    """Features per pixel of a source."""

    def __init__(self, source: Source, statistics: Statistics) -> None:
        super().__init__()
        self.normalisation, self.source = Normalisation.from_statistics(statistics), source
        self.outputs, self.stride, self.margin, self.multiple = source.width, 1, source.margin, source.multiple
        self.window = source.window

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        return self.source.features(self.normalisation(pixels_BCSS, valid_BSS))


class HeadNetwork(TileNetwork):
    """Logits per pixel of a head on a source."""

    def __init__(self, source: Source, head: PixelHead, statistics: Statistics) -> None:
        super().__init__()
        self.features, self.head = FeatureNetwork(source, statistics), head
        self.outputs, self.stride, self.margin, self.multiple = head.classes, 1, source.margin, source.multiple
        self.window = source.window

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        logits_BKHW: Tensor = self.head(self.features(pixels_BCSS, valid_BSS))
        return logits_BKHW


class DecoderNetwork(TileNetwork):
    """Logits per pixel of a decoder on the maps of an encoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder, statistics: Statistics, window: int = 0) -> None:
        super().__init__()
        self.normalisation, self.encoder = Normalisation.from_statistics(statistics), encoder
        self.decoder = decoder
        self.outputs, self.stride, self.margin, self.window = decoder.classes, 1, None, window
        self.multiple = math.lcm(encoder.stride, decoder.multiple)

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        maps = self.encoder.feature_maps(self.normalisation(pixels_BCSS, valid_BSS))
        logits_BKSS: Tensor = self.decoder(maps, *pixels_BCSS.shape[-2:])
        return logits_BKSS


class EncoderNetwork(TileNetwork):
    """The last feature map of an encoder, one cell for `stride` pixels, projected if a projection is given.

    Args:
        mean_D, components_KD: project features to K components; features themselves without them.
        dense: one value a pixel, bilinear between the cells.
        with_features: the features follow their projection.
    """

    def __init__(
        self,
        encoder: Encoder,
        statistics: Statistics,
        mean_D: Tensor | None = None,
        components_KD: Tensor | None = None,
        dense: bool = False,
        with_features: bool = False,
    ) -> None:
        super().__init__()
        self.normalisation, self.encoder = Normalisation.from_statistics(statistics), encoder
        self.mean_D, self.components_KD = mean_D, components_KD
        self.dense, self.with_features = dense, with_features
        projected = 0 if components_KD is None else len(components_KD)
        self.outputs = projected + (encoder.width if with_features or components_KD is None else 0)
        self.stride, self.margin, self.multiple = encoder.stride, encoder.margin, encoder.stride
        self.window = encoder.window
        if dense:
            self.stride = 1
            self.margin = None if encoder.margin is None else encoder.margin + encoder.stride

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        features_BDhw = self.encoder.feature_maps(self.normalisation(pixels_BCSS, valid_BSS))[-1].features_BDhw
        outputs_BKhw = self._project(features_BDhw)
        if not self.dense:
            return outputs_BKhw
        return functional.interpolate(outputs_BKhw, size=pixels_BCSS.shape[-2:], mode="bilinear", align_corners=False)

    def _project(self, features_BDhw: Tensor) -> Tensor:
        """Project before interpolation, which is linear too, so that fewer numbers are interpolated."""
        if self.mean_D is None or self.components_KD is None:
            return features_BDhw
        centred = features_BDhw - self.mean_D.to(features_BDhw)[:, None, None]
        projected_BKhw = torch.einsum("kd,bdhw->bkhw", self.components_KD.to(features_BDhw), centred)
        return torch.cat([projected_BKhw, features_BDhw], dim=1) if self.with_features else projected_BKhw


class BandNetwork(TileNetwork):
    """The bands of a raster in their true values, projected if a projection is given.

    Args:
        scaling: scale and offset of each band.
        mean_C, components_KC: project bands to K components; bands themselves without them.
    """

    def __init__(
        self,
        scaling: Sequence[tuple[float, float]],
        mean_C: Tensor | None = None,
        components_KC: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("scale_C", torch.tensor([scale for scale, _ in scaling], dtype=torch.float32))
        self.register_buffer("offset_C", torch.tensor([offset for _, offset in scaling], dtype=torch.float32))
        self.mean_C, self.components_KC = mean_C, components_KC
        self.outputs = len(scaling) if components_KC is None else len(components_KC)
        self.stride, self.margin, self.multiple = 1, 0, 1

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        scale_C, offset_C = self.get_buffer("scale_C"), self.get_buffer("offset_C")
        values_BCSS = pixels_BCSS * scale_C[:, None, None] + offset_C[:, None, None]
        if self.mean_C is None or self.components_KC is None:
            return values_BCSS
        centred_BCSS = values_BCSS - self.mean_C.to(values_BCSS)[:, None, None]
        return torch.einsum("kc,bchw->bkhw", self.components_KC.to(values_BCSS), centred_BCSS)


def make_source(name: str, model: Model) -> Source:
    """Build the feature source a model's head reads."""
    if name == "pixels":
        return Pixels(model.card.bands)
    if name == "texture":
        return Texture(model.card.bands)
    return Encoded(model.encoder())


def head_network(model: Model) -> HeadNetwork | DecoderNetwork:
    """Build the network of a fine-tuned model.

    Raises:
        UserError: it reads no single pixels.
    """
    if model.card.objects is not None:
        raise UserError(
            "This model learnt classes of whole polygons or tiles and knows none of single pixels. Use it under "
            "'Classify Polygons or Tiles', or choose a model made by 'Fine-Tune on Polygons'.",
            "model",
        )
    if model.decodes:
        encoder = model.encoder()
        return DecoderNetwork(encoder, model.decoder(encoder), model.card.statistics, model.card.window).eval()
    source = make_source(model.card.source, model)
    return HeadNetwork(source, model.head(source.width), model.card.statistics).eval()
