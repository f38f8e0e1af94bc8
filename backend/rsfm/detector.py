"""Faster R-CNN on an encoder: boxes of objects in windows of any number of bands.

Ren et al., 2015, "Faster R-CNN", arXiv:1506.01497; torchvision's parts, with anchors and thresholds as PerA sets them
(specification: sizes by octaves from 4 to 512 pixels, sides 1:5 to 5:1, proposals suppressed at 0.8).

Shape letters: B batch, C bands, H rows, W columns, S side of a tile, N boxes, D features.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList

from rsfm.blocks.normalisation import Normalisation
from rsfm.blocks.pyramid import Pyramid
from rsfm.box_inference import BoxNetwork, Found
from rsfm.detector_config import NAME, DetectorConfig
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.model_file import Model
from rsfm.raster.statistics import Statistics

SIZES = ((4, 8), (16, 32), (64, 128), (256, 512))
RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)
MOST_OBJECTS = 1000
"""Objects of a tile."""


class Target(NamedTuple):
    """Boxes of a window: left, top, right, bottom in pixels, and classes, of which 1 is the first."""

    corners_N4: Tensor
    class_N: Tensor


class Detector(nn.Module):
    """An encoder, its pyramid, and the two stages of Faster R-CNN."""

    def __init__(self, config: DetectorConfig, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.pyramid = encoder, Pyramid(encoder, config.width)
        self.pyramid.out_channels = config.width  # type: ignore[assignment] # where torchvision looks for it
        made = FasterRCNN(
            self.pyramid,
            num_classes=None,
            rpn_anchor_generator=AnchorGenerator(SIZES, (RATIOS,) * len(SIZES)),
            rpn_nms_thresh=0.8,
            rpn_pre_nms_top_n_train=2000,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_post_nms_top_n_test=max(config.proposals, MOST_OBJECTS),
            box_head=TwoMLPHead(config.width * 7**2, config.box_features),
            box_predictor=FastRCNNPredictor(config.box_features, classes + 1),
            box_score_thresh=0.01,
            box_detections_per_img=MOST_OBJECTS,
            box_batch_size_per_image=config.samples,
        )
        self.rpn, self.roi_heads = made.rpn, made.roi_heads

    def losses(self, pixels_BCHW: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the four losses of Faster R-CNN, in training mode; pixels are normalised."""
        named = [{"boxes": corners_N4, "labels": class_N} for corners_N4, class_N in targets]
        _, losses = self._both_stages(pixels_BCHW, named)
        return losses

    def find(self, pixels_BCHW: Tensor) -> list[Found]:
        """Return the objects of each window, in eval mode; pixels are normalised."""
        found, _ = self._both_stages(pixels_BCHW, None)
        return [Found(each["boxes"], each["scores"], each["labels"]) for each in found]

    def look_for(self, least_score: float, overlap: float) -> None:
        """Set the least score, and the share of two boxes from which on they are one object."""
        self.roi_heads.score_thresh, self.roi_heads.nms_thresh = least_score, overlap

    def _both_stages(
        self, pixels_BCHW: Tensor, targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        height, width = pixels_BCHW.shape[2:]
        maps = self.pyramid(self.encoder.feature_maps(pixels_BCHW), height, width)
        with torch.autocast(pixels_BCHW.device.type, enabled=False):  # coordinates need all their digits
            features = OrderedDict((str(index), level.float()) for index, level in enumerate(maps))
            sizes = [(height, width)] * len(pixels_BCHW)
            proposals, first = self.rpn(ImageList(pixels_BCHW, sizes), features, targets)
            found, second = self.roi_heads(features, proposals, sizes, targets)
        return found, {**first, **second}


class DetectorNetwork(BoxNetwork):
    """Objects of tiles, from raw pixels."""

    def __init__(self, detector: Detector, statistics: Statistics) -> None:
        super().__init__()
        self.normalisation, self.detector = Normalisation.from_statistics(statistics), detector
        self.multiple = detector.pyramid.multiple

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> list[Found]:
        return self.detector.find(self.normalisation(pixels_BCSS, valid_BSS))


def check_detector(card: Any) -> None:
    """Refuse a model that does not find objects.

    Raises:
        UserError: it is an encoder alone, or maps classes.
    """
    if (card.head or {}).get("name") != NAME:
        found = "maps classes" if card.head else "is an encoder alone"
        raise UserError(
            f"The model '{card.title}' {found} and finds no objects. Choose one made by 'Teach Objects from Boxes' "
            "under 'Model'.",
            "model",
        )


def load_detector(model: Model) -> Detector:
    """Build the detector of a model with its weights, in eval mode.

    Raises:
        UserError: the model finds no objects.
    """
    check_detector(model.card)
    detector = new_detector(model.card.head or {}, model.encoder(), len(model.card.classes))
    weights = {name: tensor for name, tensor in model.tensors.items() if not name.startswith("encoder.")}
    detector.load_state_dict(
        {name.removeprefix("head."): tensor for name, tensor in weights.items()}
        | {f"encoder.{name}": tensor for name, tensor in detector.encoder.state_dict().items()}
    )
    return detector.eval()


def new_detector(config: dict[str, Any], encoder: Encoder, classes: int) -> Detector:
    """Build a detector of fresh weights on an encoder."""
    known = {name: value for name, value in config.items() if name in DetectorConfig.model_fields}
    return Detector(DetectorConfig.model_validate(known), encoder, classes)
