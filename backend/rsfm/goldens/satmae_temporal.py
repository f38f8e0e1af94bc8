"""SatMAE on dates against sustainlab-group/SatMAE (models_mae_temporal, models_vit_temporal).

Shape letters: B batch, T dates, C bands, L patches of a date, P pixels of a patch, V values of a patch (P * C).
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.dates import encode_time
from rsfm.encoders.vit_temporal import ViTTemporal, ViTTemporalConfig
from rsfm.golden import Case, Check, Golden
from rsfm.golden_masking import ACTIVATION, check_step, decoder_config, encoder_config
from rsfm.golden_satmae import check_both, check_features, run_both, whole_cube
from rsfm.golden_step import load_weights
from rsfm.methods.satmae import SatMAE, SatMAEConfig

OFFICIAL_WIDTHS = {"temporal_enc_official": 384, "temporal_dec_official": 192}


class SatmaeTemporal(Golden):
    name = "satmae_temporal"

    def checks(self, case: Case) -> Iterator[Check]:
        config = json.loads(str(case.array("config_json")))
        cube = whole_cube(case.tensor("imgs"), case.tensor("timestamps"))
        make = partial(load, case, config)
        for start, masking in (("indep", "independent"), ("same", "consistent")):
            if f"{start}_noise" not in case:
                continue
            both = run_both(case, start, make, masking, cube)
            method, found = both["loss_norm"]
            yield from case.check(f"{start}_ids_restore", found.split.restore_BL)
            yield from case.check(f"{start}_mask", found.split.hidden_BL)
            yield from case.check(f"{start}_pred", band_fastest(found.rebuilt_BTCLP), **ACTIVATION)
            yield from check_both(case, start, both, "loss_norm", our_name)
            if start == "indep" and "adamw_lr" in case:
                yield from check_step(case, method, our_name)
        valid_BTLP = torch.ones_like(found.rebuilt_BTCLP[:, :, 0])
        yield from case.check("target", band_fastest(make(norm_pix="off").target(cube.pixels_BTCHW, valid_BTLP)))
        yield from check_features(case, make, cube)
        widths = OFFICIAL_WIDTHS | {"temporal_enc": 3 * config["te"], "temporal_dec": 3 * config["td"]}
        for name, width in widths.items():
            yield from case.check(name, encode_time(cube.time_BT3, width), atol=1e-6)
        encoder = make().encoder
        positions_BND = encoder.positions(cube.time_BT3, encoder.grid, encoder.grid)
        yield from case.check("enc_position", positions_BND, atol=1e-6)


def load(
    case: Case, config: dict[str, Any], masking: Any = "independent", norm_pix: Any = "patch", pooling: str = "class"
) -> SatMAE:
    """Build the method with the case's weights."""
    encoder = ViTTemporalConfig.model_validate(encoder_config(config, pooling) | {"time_width": 3 * config["te"]})
    dates = case.array("imgs").shape[1]
    values = decoder_config(config) | {"mask_ratio": config["mr"], "decoder_told": 3 * config["td"], "dates": dates}
    method_config = SatMAEConfig.model_validate(values | {"masking": masking, "norm_pix": norm_pix})
    method = SatMAE(method_config, ViTTemporal(encoder, config["in_chans"]))
    load_weights(case, method, our_name)
    return method


def our_name(name: str) -> str:
    """Translate a name of the authors' into ours: the encoder is a part, and outputs are listed by group of bands."""
    if name.startswith("decoder_pred."):
        return name.replace("decoder_pred.", "decoder_pred.0.")
    return name if name.startswith(("decoder", "mask_token")) else f"encoder.{name}"


def band_fastest(values_BTCLP: Tensor) -> Tensor:
    """Lay values out as the authors do, values_BNV: date by date, the band fastest in a patch."""
    return values_BTCLP.permute(0, 1, 3, 4, 2).flatten(3).flatten(1, 2)
