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
from rsfm.methods.mae import MAE, MAEConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer

ACTIVATION = {"atol": 2e-5, "rtol": 1e-4}
L2 = {"rtol": 1e-4, "atol": 1e-9}


class Mae(Golden):
    name = "mae"

    def checks(self, case: Case) -> Iterator[Check]:
        config = json.loads(str(case.array("config_json")))
        method = load(case, config, norm_pix=True)
        yield from check_patches(case, config)
        yield from check_forward(case, config, method)
        yield from check_step(case, method)
        yield from check_features(case, config)
        yield from check_positions(case)
        yield from check_schedule(case, config)


def load(case: Case, config: dict[str, Any], norm_pix: bool, pooling: str = "class") -> MAE:
    """Build the method with the case's weights."""
    encoder = ViTConfig.model_validate(
        {
            "window": config["img"],
            "patch_size": config["p"],
            "width": config["d"],
            "depth": config["depth"],
            "heads": config["h"],
            "pooling": pooling,
        }
    )
    method = MAE(
        MAEConfig(
            mask_ratio=float(case.array("mask_ratio")),
            norm_pix=norm_pix,
            decoder_width=config["dd"],
            decoder_depth=config["ddepth"],
            decoder_heads=config["dh"],
        ),
        ViT(encoder, config["in_chans"]),
    )
    method.load_state_dict({our_name(name): value for name, value in case.weights("weights.safetensors").items()})
    return method


def our_name(name: str) -> str:
    """Translate a name of the authors' into ours: the encoder is a part of the method."""
    return name if name.startswith(("decoder", "mask_token")) else f"encoder.{name}"


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
    if "grad_l2" in case:
        names = [our_name(name) for name in case.array("grad_names").tolist()]
        yield from case.check("grad_l2", [_norm(gradients[name]) for name in names], **L2)
    for key, name in (
        ("grad_cls_token", "encoder.cls_token"),
        ("grad_mask_token", "mask_token"),
        ("grad_patch_bias", "encoder.patch_embed.proj.bias"),
    ):
        yield from case.check(key, gradients[name], **ACTIVATION)


def check_step(case: Case, method: MAE) -> Iterator[Check]:
    """Compare the groups of weight decay and one step of AdamW on the gradients at hand."""
    rate, decay = float(case.array("adamw_lr")), float(case.array("adamw_wd"))
    training = TrainingConfig(learning_rate=rate, weight_decay=decay, decay_all=False, beta2=0.95)
    optimizer = make_optimizer(method, training)
    if "no_decay_names" in case:
        kept = {
            id(tensor) for group in optimizer.param_groups if not group["weight_decay"] for tensor in group["params"]
        }
        ours = {name for name, tensor in method.named_parameters() if id(tensor) in kept}
        theirs = {our_name(name) for name in case.array("no_decay_names").tolist()}
        yield Check("no_decay_names", len(ours ^ theirs), 0)
    optimizer.step()
    tensors = method.state_dict()
    if "step1_l2" in case:
        norms = [_norm(tensors[our_name(name)]) for name in case.array("step1_names").tolist()]
        yield from case.check("step1_l2", norms, rtol=1e-4, atol=5e-5)
    yield from case.check("step1_cls_token", tensors["encoder.cls_token"], atol=5e-6)
    yield from case.check("step1_mask_token", tensors["mask_token"], atol=5e-6)
    with torch.no_grad():
        yield from case.check("loss_norm_after_step", _loss(case, method)[2], rtol=1e-4)


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
    rebuilt_BLP = method.rebuild(latent_BKD, split, pixels_BCHW.shape[2] // method.encoder.patch_size)
    return latent_BKD, rebuilt_BLP, method.error(rebuilt_BLP, View(pixels_BCHW, valid_BHW), split.hidden_BL)


def _norm(tensor: Tensor | None) -> float:
    return float("nan") if tensor is None else tensor.double().norm().item()
