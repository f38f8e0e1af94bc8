"""SatMAE on groups of bands: a patch embedding for each group, whose bands the file does not name."""

import re

from torch import Tensor

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Backbone, Found, Importer, last_norm, side_of, vit_config, without
from rsfm.published_scaling import SATMAE_TEN

OUTSIDE = ("decoder", "mask_token", "head.", "channel_cls_embed")
PUBLISHED_GROUPS = "1,2,3,7; 4,5,6,8; 9,10"
PUBLISHED_SIZES = (4, 4, 2)


class SatmaeGroup(Importer):
    name = "satmae_group"
    title = "SatMAE on groups of bands"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("model") or checkpoint.states.get("") or {}
        if "channel_embed" not in state or "patch_embed.0.proj.weight" not in state:
            return None
        weights, left_out = without(last_norm(state), *OUTSIDE)
        embeds = _embeds(weights)
        sizes = tuple(embed.shape[1] for embed in embeds)
        published = sizes == PUBLISHED_SIZES
        config = vit_config(weights, embeds[0], "mean") | {
            "name": "vit_grouped",
            "group_width": weights["channel_embed"].shape[-1],
            "window": side_of(weights["pos_embed"].shape[1] - 1) * embeds[0].shape[-1],
            "groups": PUBLISHED_GROUPS if published else _in_order(sizes),
        }
        note = (
            "The file does not say which bands its groups hold; "
            f"{'the published ones' if published else 'bands in order'} are assumed: {config['groups']}. "
            "Name others under 'Groups'."
        )
        bands, scaling = (SATMAE_TEN, "satmae_sentinel") if published else ((), "")
        return Found(Backbone(config, sum(sizes), weights), "satmae", bands, scaling, left_out, (note,))


def _embeds(weights: dict[str, Tensor]) -> list[Tensor]:
    count = sum(re.fullmatch(r"patch_embed\.\d+\.proj\.weight", name) is not None for name in weights)
    return [weights[f"patch_embed.{index}.proj.weight"] for index in range(count)]


def _in_order(sizes: tuple[int, ...]) -> str:
    """Name bands from 1 on, group by group."""
    starts = [1 + sum(sizes[:index]) for index in range(len(sizes))]
    groups = [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return "; ".join(",".join(map(str, group)) for group in groups)
