"""MAE against facebookresearch/mae, and its copy for many bands in zhu-xlab/SSL4EO-S12.

Shape letters: B batch, C bands, H rows, W columns, L patches, D encoder width, P values of a patch.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.masking import kept_count, patchify, split_patches
from rsfm.blocks.positions import resize_positions, sincos_2d
from rsfm.blocks.schedules import warmup_cosine
from rsfm.blocks.view import View
from rsfm.encoders.vit import ViT, ViTConfig
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_masking import ACTIVATION, check_gradients, check_step, decoder_config, encoder_config, our_name
from rsfm.golden_step import load_weights
from rsfm.methods.mae import MAE, MAEConfig


class Mae(Golden):
    name = "mae"

    def checks(self, case: Case) -> Iterator[Check]:
        config = json.loads(str(case.array("config_json")))
        method = load(case, config, norm_pix=True)
        yield from check_patches(case, config)
        yield from check_forward(case, config, method)
        yield from check_step(case, method)
        with torch.no_grad():
            yield from case.check("loss_norm_after_step", _loss(case, method)[2], rtol=1e-4)
        yield from check_features(case, config)
        yield from check_positions(case)
        yield from check_schedule(case, config)


def load(case: Case, config: dict[str, Any], norm_pix: bool, pooling: str = "class") -> MAE:
    """Build the method with the case's weights."""
    values = decoder_config(config) | {"mask_ratio": float(case.array("mask_ratio")), "norm_pix": norm_pix}
    encoder = ViT(ViTConfig.model_validate(encoder_config(config, pooling)), config["in_chans"])
    method = MAE(MAEConfig.model_validate(values), encoder)
    load_weights(case, method, our_name)
    return method


def check_patches(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the cutting into patches and the drawing of the hidden ones."""
    pixels_BCHW, noise_BL = case.tensor("imgs"), case.tensor("noise")
    yield from case.check("target_patchify", patchify(pixels_BCHW, config["p"]))
    split = split_patches(noise_BL, kept_count(noise_BL.shape[1], float(case.array("mask_ratio"))))
    yield from case.check("ids_restore", split.restore_BL)
    yield from case.check("mask", split.hidden_BL)


def check_forward(case: Case, config: dict[str, Any], method: MAE) -> Iterator[Check]:
    """Compare activations, both losses and the gradients, which stay in the method."""
    pixels_BCHW = case.tensor("imgs")
    valid_BLP = torch.ones_like(patchify(pixels_BCHW, config["p"]))
    latent_BKD, rebuilt_BLP, loss_norm = _loss(case, method)
    yield from case.check("latent", latent_BKD, **ACTIVATION)
    yield from case.check("pred", rebuilt_BLP, **ACTIVATION)
    yield from case.check("loss_norm", loss_norm, rtol=1e-4)
    yield from case.check("loss_raw", _loss(case, load(case, config, norm_pix=False))[2], rtol=1e-4)
    yield from case.check("target_norm", method.target(pixels_BCHW, valid_BLP), **ACTIVATION)
    torch.autograd.backward(loss_norm)
    gradients = {name: parameter.grad for name, parameter in method.named_parameters()}
    yield from check_gradients(case, "", method)
    for key, name in (
        ("grad_cls_token", "encoder.cls_token"),
        ("grad_patch_bias", "encoder.patch_embed.proj.bias"),
    ):
        yield from case.check(key, gradients[name], **ACTIVATION)


@torch.no_grad()
def check_features(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare what is used after pretraining: the dense map and a window's vector."""
    pixels_BCHW = case.tensor("imgs")
    encoder = load(case, config, norm_pix=True).encoder
    yield from case.check("features_mask0", encoder.encode(encoder.embed(pixels_BCHW)), **ACTIVATION)
    if "features_mask0" in case:
        dense_BLD = encoder.feature_maps(pixels_BCHW)[-1].features_BDhw.flatten(2).mT
        yield compare("features_mask0, as a map", dense_BLD, case.tensor("features_mask0")[:, 1:], **ACTIVATION)
    yield from case.check("vit_cls", encoder.embedding(pixels_BCHW), **ACTIVATION)
    pooled = load(case, config, norm_pix=True, pooling="mean").encoder
    yield from case.check("vit_global_pool", pooled.embedding(pixels_BCHW), **ACTIVATION)


def check_positions(case: Case) -> Iterator[Check]:
    """Compare the tables of positions, named sincos2d_WIDTH_SIDE, and the resizing of one."""
    for name in case.arrays:
        if name.startswith("sincos2d_"):
            width, side = (int(part) for part in name.split("_")[1:])
            yield from case.check(name, sincos_2d(width, side, side, class_token=True), atol=1e-10)
    if "interp_out" in case:
        side = math.isqrt(case.array("interp_out").shape[1] - 1)
        yield from case.check("interp_out", resize_positions(case.tensor("interp_in"), side, side), **ACTIVATION)


def check_schedule(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the learning rate of every step; its moments are given."""
    if "sched_lr" in case:
        peak = config["blr"] * config["effb"] / 256
        rates = [
            warmup_cosine(epoch, config["ep"], config["we"], peak, config["minlr"])
            for epoch in case.array("sched_epoch").tolist()
        ]
        yield from case.check("sched_lr", rates, atol=1e-12, rtol=1e-9)


def _loss(case: Case, method: MAE) -> tuple[Tensor, Tensor, Tensor]:
    """Return latent_BKD, rebuilt_BLP and the loss with the case's own noise."""
    pixels_BCHW, noise_BL = case.tensor("imgs"), case.tensor("noise")
    valid_BHW = torch.ones_like(pixels_BCHW[:, 0], dtype=torch.bool)
    split = split_patches(noise_BL, kept_count(noise_BL.shape[1], method.config.mask_ratio))
    latent_BKD = method.see(pixels_BCHW, split)
    rebuilt_BLP = method.rebuild(latent_BKD, split, *method.encoder.patches(pixels_BCHW))
    return latent_BKD, rebuilt_BLP, method.error(rebuilt_BLP, View(pixels_BCHW, valid_BHW), split.hidden_BL)
