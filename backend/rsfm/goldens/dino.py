"""DINO against facebookresearch/dino: both networks, two steps, schedules, views and the nearest neighbours.

Shape letters: B batch, C bands, H rows, W columns, V views, Q large views, K prototypes, D width, T tokens.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm.blocks.crops import cut
from rsfm.blocks.distillation import teacher_temperature
from rsfm.blocks.multicrop import in_passes
from rsfm.blocks.neighbours import neighbour_votes
from rsfm.blocks.photometry import Light, change_light
from rsfm.blocks.positions import scale_positions
from rsfm.blocks.resampling import Rectangles
from rsfm.encoders.vit_learned import ViTLearned
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_distillation import (
    FIELDS,
    FLOATS,
    all_usable,
    check_schedules,
    check_terms,
    encoder_config,
    method_config,
    our_name,
    views_of,
)
from rsfm.golden_step import (
    ADAMW,
    SCHEDULE,
    VALUE,
    check_average,
    check_each,
    check_names,
    check_norms,
    decayed,
    gradients,
    load_weights,
    settings,
    without_keys,
)
from rsfm.methods.dino import DINO, DINOConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, make_optimizer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Dino(Golden):
    name = "dino"

    def checks(self, case: Case) -> Iterator[Check]:
        config = settings(case, FIELDS, FLOATS)
        views = views_of(case, config)
        yield from check_tokens(case, load(case, config, views), views)
        yield from check_inference(case, load(case, config, views))
        yield from check_loss(case, load(case, config, views), config, views)
        yield from check_adamw(case, config, views)
        yield from check_sgd(case, config, views)
        yield from check_schedules(case, epochs=100, peak=0.0005 * 512 / 256, last=1e-6)
        yield from check_neighbours(case)
        yield from check_views(case)


def load(case: Case, config: dict[str, Any], views: list[Tensor], freeze: bool = False) -> DINO:
    """Build the method with the case's weights."""
    encoder = ViTLearned(encoder_config(config), views[0].shape[1])
    method = DINO(DINOConfig.model_validate(method_config(config, freeze)), encoder)
    load_weights(case, method, our_name)
    return method.train()


@torch.no_grad()
def check_tokens(case: Case, method: DINO, views: list[Tensor]) -> Iterator[Check]:
    """Compare the student's tokens, block by block, and the attention of the last one."""
    encoder = method.encoder
    assert isinstance(encoder, ViTLearned)  # noqa: S101  it was just built
    for name, view in (("global0", views[0]), ("local0", views[min(2, len(views) - 1)])):
        tokens_BTD = encoder.sequence(encoder.embed(view))
        yield from case.check(f"student_tokens_in_{name}", tokens_BTD, **VALUE)
        for index, block in enumerate(encoder.blocks):
            if index == len(encoder.blocks) - 1:
                yield from case.check(f"student_last_attn_{name}", attention(block, tokens_BTD), **VALUE)
            tokens_BTD = block(tokens_BTD)
            yield from case.check(f"student_block{index}_{name}", tokens_BTD, **VALUE)
        yield from case.check(f"student_norm_tokens_{name}", encoder.norm(tokens_BTD), **VALUE)


def attention(block: Any, tokens_BTD: Tensor) -> Tensor:
    """Return the attention of a block as weights of all pairs of tokens, for each head."""
    qkv = block.attn.qkv(block.norm1(tokens_BTD)).unflatten(2, (3, block.attn.num_heads, -1))
    query, key = qkv[:, :, 0].transpose(1, 2), qkv[:, :, 1].transpose(1, 2)
    return torch.softmax(query @ key.mT * block.attn.scale, dim=-1)


@torch.no_grad()
def check_inference(case: Case, method: DINO) -> Iterator[Check]:
    """Compare what a window of another shape gives: positions, class token, the last blocks."""
    pixels_BCHW, teacher, student = case.tensor("infer_image"), method.teacher, method.encoder
    assert isinstance(teacher, ViTLearned)  # noqa: S101  they were just built
    assert isinstance(student, ViTLearned)  # noqa: S101
    height, width = pixels_BCHW.shape[2:]
    cells = (height // teacher.patch_size, width // teacher.patch_size)
    yield from case.check("infer_pos_embed", scale_positions(student.pos_embed, cells, height == width), **VALUE)
    yield from case.check("infer_cls", teacher.embedding(pixels_BCHW), **VALUE)
    if "infer_last2_tokens" in case:
        tokens_BTD, found = teacher.sequence(teacher.embed(pixels_BCHW)), []
        for block in teacher.blocks:
            tokens_BTD = block(tokens_BTD)
            found.append(teacher.norm(tokens_BTD))
        yield from case.check("infer_last2_tokens", torch.stack(found[-2:]), **VALUE)
        dense_BTD = teacher.feature_maps(pixels_BCHW)[-1].features_BDhw.flatten(2).mT
        yield compare("infer_last2_tokens, as a map", dense_BTD, case.array("infer_last2_tokens")[-1][:, 1:], 1e-5, 0)


def check_loss(case: Case, method: DINO, config: dict[str, Any], views: list[Tensor]) -> Iterator[Check]:
    """Compare heads, probabilities, every term, the centre and the gradients."""
    with torch.no_grad():
        student_ND = in_passes(method.encoder.embedding, views).flatten(0, 1)
        teacher_ND = in_passes(method.teacher.embedding, views[:2]).flatten(0, 1)
        yield from case.check("student_cls", student_ND, **VALUE)
        yield from case.check("teacher_cls", teacher_ND, **VALUE)
        yield from case.check("student_bottleneck_normalised", method.head.direction(student_ND), **VALUE)
        yield from case.check("student_head_out", method.head(student_ND), **VALUE)
        yield from case.check("teacher_head_out", method.teacher_head(teacher_ND), **VALUE)
    progress = config["epoch"] / config["epochs"]
    yield from case.check("teacher_temp", teacher_temperature(method.config, progress), atol=1e-8)
    every = [teacher_temperature(method.config, epoch / config["epochs"]) for epoch in range(config["epochs"])]
    yield from case.check("f64_teacher_temp_schedule", every, **SCHEDULE)
    yield from case.check("center_before", method.centre.center)
    found = method.compare(views, all_usable(views), progress)
    yield from case.check("teacher_probs", found.probabilities_QBK.flatten(0, 1), **VALUE)
    yield from check_terms(case, found.terms_QV)
    yield from case.check("loss", found.total, **VALUE)
    yield from case.check("center_after", method.centre.center, **VALUE)
    torch.autograd.backward(found.total)
    names = [str(name) for name in case.array("grad_names").tolist()]
    found_gradients = gradients(method, our_name, names)
    yield from check_norms(case, "grad_norms_preclip", names, found_gradients)
    yield from check_each(case, "grad/", found_gradients.get, VALUE)
    if config["clip"]:
        clip_each(method.parameters(), config["clip"])
    yield from check_norms(case, "grad_norms_postclip", names, gradients(method, our_name, names))


def stepped(case: Case, config: dict[str, Any], views: list[Tensor], training: TrainingConfig) -> DINO:
    """Take a step of the training, with the rule that freezes the prototypes, but leave the teacher."""
    method = load(case, config, views, freeze=True)
    optimizer = make_optimizer(method, training)
    torch.autograd.backward(method.compare(views, all_usable(views), config["epoch"] / config["epochs"]).total)
    if config["clip"]:
        clip_each(method.parameters(), config["clip"])
    optimizer.step()
    return method


def check_adamw(case: Case, config: dict[str, Any], views: list[Tensor]) -> Iterator[Check]:
    """Compare what decays, what is frozen, and one step of AdamW."""
    training = TrainingConfig(learning_rate=config["lr"], weight_decay=config["wd"], decay_all=False, beta2=0.999)
    method = stepped(case, config, views, training)
    names = {str(name) for key in ("decay_param_names", "nodecay_param_names") for name in case.array(key).tolist()}
    theirs = {our_name(name): name for name in names}
    groups = decayed(make_optimizer(method, TrainingConfig(weight_decay=1, decay_all=False)), method)
    for key, group in zip(("decay_param_names", "nodecay_param_names"), groups, strict=True):
        yield from check_names(case, key, {theirs.get(name, name) for name in group})
    tensors = dict(method.named_parameters())
    held = {name for name, value in tensors.items() if not name.startswith("teacher") and value.grad is None}
    yield from check_names(case, "grad_none_after_freeze", {theirs.get(name, name) for name in held})
    for name in case.arrays:
        if name.startswith("adamw_after/"):
            ours = without_keys(name, tensors[our_name(name.removeprefix("adamw_after/"))])
            yield compare(name, ours, without_keys(name, case.array(name)), ADAMW["atol"], 0)


def check_sgd(case: Case, config: dict[str, Any], views: list[Tensor]) -> Iterator[Check]:
    """Compare a plain step, the teacher that follows it, and the second loss."""
    method = stepped(case, config, views, TrainingConfig(optimizer="sgd", learning_rate=config["lr"], weight_decay=0))
    tensors = dict(method.named_parameters())
    yield from check_each(case, "sgd_after/", lambda name: tensors[our_name(name)], VALUE)
    method.after_step(0)
    names = [str(name) for name in case.array("ema_names").tolist()]
    yield from check_average(case, {name: tensors[our_name(f"teacher.{name}")] for name in names}, names)
    with torch.no_grad():
        again = method.compare(views, all_usable(views), config["epoch"] / config["epochs"])
    yield from case.check("loss_step2", again.total, **VALUE)
    yield from case.check("center_after_step2", method.centre.center, **VALUE)


def check_neighbours(case: Case) -> Iterator[Check]:
    """Compare the classes of the nearest neighbours, and how many are right."""
    if "knn_train_feats" not in case:
        return
    train_ND, asked_MD = case.tensor("knn_train_feats"), case.tensor("knn_test_feats")
    labels_N, truth_M = case.tensor("knn_train_labels"), case.tensor("knn_test_labels")
    classes = int(torch.cat([labels_N, truth_M]).max()) + 1
    scores = []
    for k in sorted(int(name.removeprefix("knn_pred_k")) for name in case.arrays if name.startswith("knn_pred_k")):
        best_MK = neighbour_votes(train_ND, labels_N, asked_MD, k, classes).argsort(dim=1, descending=True)
        yield from case.check(f"knn_pred_k{k}", best_MK[:, 0])
        hits_MK = best_MK[:, :5] == truth_M[:, None]
        top = (100 * hits_MK[:, :count].any(1).double().mean().item() for count in (1, min(5, k)))
        scores.append([k, *top])
    yield from case.check("knn_k_top1_top5", scores, rtol=1e-6)


def check_views(case: Case) -> Iterator[Check]:
    """Compare views with the draws given; PIL rounds to 8 bits after every change, so the README's bound is wide."""
    if "aug_src_uint8_hwc" not in case:
        return
    source_1CHW = case.tensor("aug_src_uint8_hwc").permute(2, 0, 1)[None].float() / 255
    mean_C11, std_C11 = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for name in [name for name in case.arrays if re.fullmatch(r"aug\d+_out", name)]:
        start = name.removesuffix("out")
        out = case.array(name)
        box = case.tensor(f"{start}box_ijhw")
        flags = case.tensor(f"{start}flags_flip_jitter_gray_blur_solar").bool()[:, None]
        factors = case.tensor(f"{start}f_bcsh_blurradius")
        top, left, height, width = box[:, None].float()
        crop = Rectangles(top, left, height, width, flags[0], torch.zeros(1, dtype=torch.bool))
        view = cut(source_1CHW, torch.ones_like(source_1CHW[:, 0], dtype=torch.bool), crop, out.shape[-1], "bicubic")
        order = tuple(case.array(f"{start}jitter_order").tolist()) if flags[1] else ()
        sigma_B = torch.where(flags[3], factors[4:], 0)
        light = Light(order, factors[:4, None], flags[1], flags[2], sigma_B, flags[4])
        ours = (change_light(*view, light)[0] - mean_C11) / std_C11
        yield compare(f"{name}", ours, out, 0.45, 0)
        yield Check(f"{name}, on average", float(np.abs(ours.numpy() - out).mean()), 0.06)
