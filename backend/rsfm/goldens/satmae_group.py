"""SatMAE on groups of bands against sustainlab-group/SatMAE (models_mae_group_channels, models_vit_group_channels).

Shape letters: B batch, T dates, C bands, G groups, L patches, P pixels of a patch.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.masking import Split
from rsfm.blocks.positions import sincos_1d
from rsfm.encoders.vit_grouped import ViTGrouped, ViTGroupedConfig
from rsfm.golden import Case, Check, Golden
from rsfm.golden_masking import ACTIVATION, check_step, decoder_config, encoder_config, our_name
from rsfm.golden_satmae import check_both, check_features, run, run_both, whole_cube
from rsfm.golden_step import load_weights
from rsfm.methods.satmae import Cube, SatMAE, SatMAEConfig

OFFICIAL_WIDTHS = {"channel_embed_official": 256, "decoder_channel_embed_official": 128}


class SatmaeGroup(Golden):
    name = "satmae_group"

    def checks(self, case: Case) -> Iterator[Check]:
        config = json.loads(str(case.array("config_json")))
        pixels_BCHW = case.tensor("imgs")
        cube = whole_cube(pixels_BCHW[:, None], torch.zeros(len(pixels_BCHW), 1, 3, dtype=torch.long))
        make = partial(load, case, config)
        yield from check_groups(case, make())
        for start, masking in (("indep", "independent"), ("spatial", "consistent")):
            if f"{start}_noise" not in case:
                continue
            both = run_both(case, start, make, masking, cube)
            method, found = both["loss_raw"]
            groups = len(config["groups"])
            restore = found.split.restore_BL if start == "indep" else places(found.split, groups)
            yield from case.check(f"{start}_ids_restore", restore)
            yield from case.check(f"{start}_mask", found.split.hidden_BL.reshape(len(pixels_BCHW), groups, -1))
            yield from case.check(f"{start}_pred", found.rebuilt_BTCLP[:, 0], **ACTIVATION)
            yield from check_both(case, start, both, "loss_raw", our_name)
            if start == "indep":
                corrected = run(make(pairing="corrected", norm_pix="off"), cube, case.tensor("indep_noise"))
                yield from case.check("indep_loss_raw_reordered", corrected.loss, rtol=1e-4)
                if "adamw_lr" in case:
                    yield from check_step(case, method)
        yield from check_targets(case, make, cube)
        yield from check_features(case, make, cube)
        for name, width in OFFICIAL_WIDTHS.items():
            if name in case:
                yield from case.check(name, sincos_1d(width, torch.arange(len(case.array(name)))), atol=1e-10)


def load(
    case: Case,
    config: dict[str, Any],
    masking: Any = "independent",
    norm_pix: Any = "off",
    pooling: str = "class",
    pairing: Any = "official",
) -> SatMAE:
    """Build the method with the case's weights."""
    groups = "; ".join(", ".join(str(band + 1) for band in group) for group in config["groups"])
    values = encoder_config(config, pooling) | {"groups": groups, "group_width": config["ce"]}
    encoder = ViTGrouped(ViTGroupedConfig.model_validate(values), config["in_chans"])
    values = decoder_config(config) | {"mask_ratio": config["mr"], "decoder_told": config["dce"], "pairing": pairing}
    method_config = SatMAEConfig.model_validate(values | {"masking": masking, "norm_pix": norm_pix})
    method = SatMAE(method_config, encoder)
    load_weights(case, method, our_name)
    return method


def check_groups(case: Case, method: SatMAE) -> Iterator[Check]:
    """Compare the groups that the encoder has read."""
    groups = method.encoder.groups
    yield from case.check("groups_flat", [band for group in groups for band in group])
    yield from case.check("groups_len", [len(group) for group in groups])


def check_targets(case: Case, make: Any, cube: Cube) -> Iterator[Check]:
    """Compare what is rebuilt; the band is slowest in a patch."""
    for name, norm_pix in (("target_patchify", "off"), ("target_norm", "patch")):
        if name in case:
            method: SatMAE = make(norm_pix=norm_pix)
            patches, pixels = method.encoder.grid**2, method.encoder.patch_size**2
            valid_BTLP = torch.ones(len(cube.pixels_BTCHW), 1, patches, pixels)
            target_BTCLP = method.target(cube.pixels_BTCHW, valid_BTLP)
            tolerance = {} if norm_pix == "off" else ACTIVATION
            yield from case.check(name, target_BTCLP[:, 0].transpose(1, 2).flatten(2), **tolerance)


def places(split: Split, groups: int) -> Tensor:
    """Return for each patch its place among those of its group, restore_BL, from the places among all tokens."""
    kept = split.keep_BK.shape[1]
    restore_BL = split.restore_BL[:, : split.restore_BL.shape[1] // groups]
    return torch.where(restore_BL < kept, restore_BL, restore_BL - kept + kept // groups)
