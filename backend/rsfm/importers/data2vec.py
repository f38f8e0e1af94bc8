"""data2vec of SSL4EO-S12: the network that was trained; the authors evaluate that one, not its average."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Backbone, Found, Importer, side_of, vit_config, without
from rsfm.sensors import SSL4EO, UNKNOWN

TABLE = "rel_pos_bias.relative_position_bias_table"
OUTSIDE = ("mask_token", "lm_head.", "rel_pos_bias.relative_position_index")
"""The index is made anew: averaging has broken it in some files."""


class Data2vec(Importer):
    name = "data2vec"
    title = "data2vec (training checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("model", {})
        if TABLE not in state or "patch_embed.proj.weight" not in state:
            return None
        weights, left_out = without(state, *OUTSIDE)
        embed = state["patch_embed.proj.weight"]
        config = vit_config(weights, embed, "mean") | {"name": "vit_relative"}
        for unused in ("size", "pooling"):
            config.pop(unused)
        ways = side_of(weights[TABLE].shape[0] - 3)
        config |= {"heads": weights[TABLE].shape[1], "window": (ways + 1) // 2 * embed.shape[-1]}
        sensor = SSL4EO.get(embed.shape[1], UNKNOWN)
        return Found(Backbone(config, embed.shape[1], weights), "data2vec", sensor.band_names, sensor.scaling, left_out)
