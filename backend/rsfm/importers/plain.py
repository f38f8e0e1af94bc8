"""An encoder alone, in a file that is its state: torchgeo's weights, DINO's backbones, other exports."""

import torch
from torch import Tensor

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, last_norm, under, without
from rsfm.sensors import SSL4EO, UNKNOWN

OUTSIDE = ("fc.", "head.", "decoder", "mask_token")
WRAPPED = "module."
NO_NORM = "The file has no last norm; one that changes nothing stands in for it."


class Plain(Importer):
    name = "plain"
    title = "an encoder alone (ResNet or ViT, such as torchgeo's or DINO's)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        """Take a file that is a state of ordinary names; what it was trained on it does not tell, but for its bands."""
        state = checkpoint.states.get("") or checkpoint.states.get("state_dict") or {}
        if all(name.startswith(WRAPPED) for name in state):
            state = under(state, WRAPPED)
        weights, left_out = without(last_norm(state), *OUTSIDE)
        if "pos_embed" in weights and weights["pos_embed"].shape[-1] != weights["cls_token"].shape[-1]:
            return None
        notes: tuple[str, ...] = ()
        if "pos_embed" in weights and "norm.weight" not in weights:
            weights, notes = _with_norm(weights), (NO_NORM,)
        backbone = backbone_of(weights, "class")
        if backbone is None:
            return None
        sensor = SSL4EO.get(backbone.bands, UNKNOWN)
        return Found(backbone, "", sensor.band_names, sensor.scaling, left_out, notes)


def _with_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    width = weights["pos_embed"].shape[-1]
    return {**weights, "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
