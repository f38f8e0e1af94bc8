"""PerA against SathShen/PerA: parts, tokens, heads, every term, two steps, stochastic depth, schedules and pairs.

Shape letters: B batch, C bands, S side of a view, V views, N = V * B rows, K prototypes, D width, L patches, T tokens.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm.blocks.crops import cut
from rsfm.blocks.distillation import teacher_momentum
from rsfm.blocks.drop_path import SubsetDropPath
from rsfm.blocks.masking import patchify
from rsfm.blocks.regions import Regions, counts, select, split_regions
from rsfm.blocks.resampling import Rectangles
from rsfm.blocks.schedules import climb, warmup_cosine_inclusive
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.golden import Case, Check, Golden
from rsfm.golden_distillation import encoder_config, head_config
from rsfm.golden_step import (
    SCHEDULE,
    VALUE,
    WHOLE,
    check_average,
    check_each,
    check_norms,
    gradients,
    load_weights,
    renaming,
    settings,
)
from rsfm.methods.pera import Compared, Pairs, PerA, PerAConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer, weight_decay

FIELDS = "dim depth heads patch global_px local_px batch globals locals prototypes hidden bottleneck"
FLOATS = "student teacher teacher_temp temperature centre_momentum ce koleo pixel lr momentum clip"
our_name = renaming(
    {
        "student.backbone.": "encoder.",
        "student.cls_head.": "head.",
        "teacher.backbone.": "teacher.",
        "teacher.cls_head.": "teacher_head.",
        "pred_head.mlp0.": "pixel_head.",
        "pred_head.": "pixel_head.",
        "loss.dino_loss.": "centre.",
        "s_mask_token": "mask_token",
    }
)
teacher_name = renaming({"backbone.": "teacher.", "cls_head.": "teacher_head."})
RECIPES = {"sched_vitb": (0.992, 0.03, 0.05), "sched_vitg": (0.998, 0.02, 0.03)}
"""First momentum and both temperatures of the teacher; the rest is the same."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pera(Golden):
    name = "pera"

    def checks(self, case: Case) -> Iterator[Check]:
        config = settings(case, FIELDS, FLOATS)
        yield from check_regions(case, config)
        yield from check_tokens(case, load(case, config))
        yield from check_step(case, config)
        yield from check_drop_path(case)
        yield from check_schedules(case)
        yield from check_views(case)


def load(case: Case, config: dict[str, Any]) -> PerA:
    """Build the method with the case's weights; the weight of the pixels is the case's own, for its bands."""
    bands = case.array("S_global_crops").shape[1]
    values = head_config(config) | {
        "teacher_temperature": config["teacher_temp"],
        "teacher_temperature_end": config["teacher_temp"],
        "temperature_share": 0,
        "student_share": config["student"],
        "teacher_share": config["teacher"],
        "spread_weight": config["koleo"],
        "pixel_weight": config["pixel"] * bands / 3,  # the authors' sum grows with the bands, ours does not
    }
    method = PerA(PerAConfig.model_validate(values), ViTLearned(encoder_config(config), bands))
    load_weights(case, method, our_name)
    return method.train()


def pairs(case: Case) -> tuple[Pairs, Pairs | None]:
    """Return the large and the small pairs, with the authors' own parts."""
    found = []
    for kind in ("global", "local") if "S_local_crops" in case else ("global",):
        student_NCSS, teacher_NCSS = case.tensor(f"S_{kind}_crops"), case.tensor(f"T_{kind}_crops")
        student_NL, teacher_NL = case.tensor(f"{kind}_mask_student"), case.tensor(f"{kind}_mask_teacher")
        regions = Regions(student_NL, ~(student_NL | teacher_NL), teacher_NL)
        valid_NSS = torch.ones_like(student_NCSS[:, 0], dtype=torch.bool)
        usable_N = torch.ones(len(student_NCSS), dtype=torch.bool)
        found.append(Pairs(student_NCSS, teacher_NCSS, valid_NSS, usable_N, regions))
    return found[0], found[1] if len(found) > 1 else None


def check_regions(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the counts and the masks that follow from the authors' ranks."""
    ours = []
    for kind in ("global", "local") if "S_local_crops" in case else ("global",):
        patches = case.array(f"{kind}_mask_student").shape[1]
        ours.append(counts(patches, config["student"], config["teacher"]))
        if f"{kind}_rank" in case:
            rank_NL = case.tensor(f"{kind}_rank")
            yield from case.check(f"{kind}_rank", case.tensor(f"{kind}_rand").argsort(dim=1))
            regions = split_regions(rank_NL, config["student"], config["teacher"])
            for name, mask_NL in zip(("student", "learnable", "teacher"), regions, strict=True):
                yield from case.check(f"{kind}_mask_{name}", mask_NL)
    yield from case.check("counts_s_l_t_global_local", ours)


@torch.no_grad()
def check_tokens(case: Case, method: PerA) -> Iterator[Check]:
    """Compare the tokens that enter, those in the middle and those that leave, of both networks."""
    large, small = pairs(case)
    encoder, teacher, half = method.encoder, method.teacher, len(method.encoder.blocks) // 2
    yield from case.check("insert_block_index", half)
    yield from case.check("student_global_in", method.student_input(large), **VALUE)
    yield from case.check("learnable_tokens", method.learnable_input(large), **VALUE)
    middle_NTD, asked_NT = method.insert(encoder.blocks[:half](method.student_input(large)), large)
    yield from case.check("cls_and_student_mask_in_student_seq", ~asked_NT)
    yield from case.check("student_global_before_mid_block_with_inserted", middle_NTD, **VALUE)
    yield from case.check("student_global_norm_tokens", encoder.norm(encoder.blocks[half:](middle_NTD)), **VALUE)
    target_NLP = patchify(large.student_NCSS, encoder.patch_size)
    target_NKP = select(target_NLP, large.regions.learnable_BL)
    yield from case.check("pixel_target", target_NKP, **VALUE)
    yield from case.check("student_out/global_patch_target", target_NKP, **VALUE)
    for kind, pair in (("global", large), ("local", small)):
        if pair is None:
            continue
        class_ND, imagined_NKP = method.see(pair, imagine=kind == "global")
        watched_ND = method.watch(pair)
        tokens_NTD = teacher.sequence(select(teacher.embed(pair.teacher_NCSS), pair.regions.teacher_BL))
        yield from case.check(f"teacher_{kind}_in", tokens_NTD, **VALUE)
        yield from case.check(f"teacher_{kind}_cls_norm", watched_ND, **VALUE)
        yield from case.check(f"student_out/{kind}_cls_tokens", method.head(class_ND), **VALUE)
        yield from case.check(f"teacher_out/{kind}_cls_tokens", method.teacher_head(watched_ND), **VALUE)
        if kind == "global":
            yield from case.check("student_out/global_pred_tokens", imagined_NKP, **VALUE)
        else:
            yield from case.check("student_local_in", method.student_input(pair), **VALUE)
            yield from case.check("student_local_cls_norm", class_ND, **VALUE)


def check_step(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare every term, the gradients, a plain step, the teacher that follows it, and the second loss."""
    method, (large, small) = load(case, config), pairs(case)
    yield from case.check("center_before", method.centre.center)
    yield from case.check("center_buffer_after_forward_not_yet_updated", method.centre.center)
    found = method.compare(large, small, config["batch"], 0)
    yield from check_terms(case, config, found)
    yield from case.check("center_after_pending_applied", method.centre.center, **VALUE)
    yield from case.check("center_buffer_step2", method.centre.center, **VALUE)
    torch.autograd.backward(found.total)
    names = [str(name) for name in case.array("grad_names").tolist()]
    found_gradients = gradients(method, our_name, names)
    yield from check_norms(case, "grad_norms_preclip", names, found_gradients)
    yield from check_each(case, "grad/", found_gradients.get, VALUE)
    trained = [value for value in method.parameters() if value.requires_grad]
    whole = torch.nn.utils.clip_grad_norm_(trained, config["clip"] or float("inf"))
    yield from case.check("grad_global_norm", whole, **WHOLE)
    training = TrainingConfig(optimizer="sgd", learning_rate=config["lr"], weight_decay=0)
    make_optimizer(method, training).step()
    tensors = dict(method.named_parameters())
    yield from check_each(case, "sgd_after/", lambda name: tensors.get(our_name(name)), VALUE)
    method.after_step(0)
    names = [str(name) for name in case.array("ema_names").tolist()]
    averages = {name: tensors[teacher_name(name)] for name in names}
    averages |= {f"teacher.{name}": tensor for name, tensor in averages.items()}
    yield from check_average(case, averages, names)
    with torch.no_grad():
        again = method.compare(large, small, config["batch"], 0)
    yield from case.check("loss_step2_same_masks", again.total, **VALUE)


def check_terms(case: Case, config: dict[str, Any], found: Compared) -> Iterator[Check]:
    """Compare probabilities, the terms of all views, and the values that the authors log on scales of their own."""
    large = config["globals"]
    bands = case.array("S_global_crops").shape[1]
    pixel = found.pixel * bands / 3
    yield from case.check("teacher_probs_by_crop", found.probabilities_VBK, **VALUE)
    yield from case.check("cls_ce_terms_by_crop", found.terms_V, **VALUE)
    yield from case.check("koleo_per_global_crop", found.spread_V, **VALUE)
    yield from case.check("pixel_loss_raw", pixel, **WHOLE)
    yield from case.check("loss", found.total, **VALUE)
    views = len(found.terms_V)
    yield from case.check("reported/global_dino_loss", found.terms_V[:large].sum() / views, **VALUE)
    yield from case.check("reported/local_dino_loss", found.terms_V[large:].sum() / views, **VALUE)
    yield from case.check("reported/koleo_loss", found.spread_V.sum() / large, **VALUE)
    yield from case.check("reported/mae_loss", pixel / (100 * large), **VALUE)


@torch.no_grad()
def check_drop_path(case: Case) -> Iterator[Check]:
    """Compare the attention of a block that is left out for a part of a batch."""
    name = "droppath_out_attn_residual_block0_after_sgd"
    if name not in case:
        return
    tokens_BTD, order_B = case.tensor("droppath_x"), case.tensor("droppath_perm")
    heads = int(case.array("cfg")[FIELDS.split().index("heads")])
    width = tokens_BTD.shape[2]
    block: Any = ViTLearned(ViTLearnedConfig(width=width, depth=1, heads=heads), 1).blocks[0]
    start = "droppath_block/"
    weights = {key.removeprefix(start): case.tensor(key) for key in case.arrays if key.startswith(start)}
    missing = block.load_state_dict(weights, strict=False)
    yield Check("droppath_block", len(missing.unexpected_keys), 0)
    drop = SubsetDropPath(0.3)
    branch_BTD = drop.keep(block.attn(block.norm1(tokens_BTD)), order_B)
    yield from case.check("droppath_kept", order_B[: int((branch_BTD.abs().amax((1, 2)) > 0).sum())])
    yield from case.check(name, tokens_BTD + branch_BTD, **VALUE)


def check_schedules(case: Case) -> Iterator[Check]:
    """Compare the recipes' schedules: 200 epochs of 7 steps."""
    if "sched_iters" not in case:
        return
    steps, every = case.array("sched_iters").tolist(), 1400
    training = TrainingConfig(weight_decay=0.04, decay_growth=5)
    for start, (momentum, first, last) in RECIPES.items():
        rates = [warmup_cosine_inclusive(step, every, 140, 1e-3, 1e-6) for step in steps]
        yield from case.check(f"{start}_lr", rates, **SCHEDULE)
        yield from case.check(f"{start}_wd", [weight_decay(training, step / every) for step in steps], **SCHEDULE)
        momenta = [teacher_momentum(PerAConfig(momentum=momentum), step / every) for step in steps]
        yield from case.check(f"{start}_mom", momenta, **SCHEDULE)
        warm = [climb(step / every, 210 / every, first, last, 210) for step in steps]
        yield from case.check(f"{start}_ttemp", warm, **SCHEDULE)


def check_views(case: Case) -> Iterator[Check]:
    """Compare the rectangles of pairs.

    The authors' colours were not recorded: what is compared is the place, by the correlation of our uncoloured view
    with both of theirs.
    """
    if "aug_boxes_ijhw_g0g1l0l1l2" not in case:
        return
    source_1CHW = case.tensor("aug_src_uint8_hwc").permute(2, 0, 1)[None].float() / 255
    valid_1HW = torch.ones_like(source_1CHW[:, 0], dtype=torch.bool)
    boxes, flips = case.tensor("aug_boxes_ijhw_g0g1l0l1l2"), case.tensor("aug_flip_h_v").bool()
    start = 0
    for kind in ("global", "local"):
        theirs = {side: case.tensor(f"aug_{side}_{kind}_crops") for side in ("student", "teacher")}
        count, size = len(theirs["student"]), theirs["student"].shape[-1]
        box, flip = boxes[start : start + count].float(), flips[start : start + count]
        start += count
        crop = Rectangles(box[:, 0], box[:, 1], box[:, 2], box[:, 3], flip[:, 0], flip[:, 1])
        view = cut(source_1CHW.expand(count, -1, -1, -1), valid_1HW.expand(count, -1, -1), crop, size, "bilinear")
        for side, pixels_NCSS in theirs.items():
            apart = [1 - correlation(*pair) for pair in zip(view.pixels_BCHW, pixels_NCSS, strict=True)]
            yield Check(f"aug_{side}_{kind}_crops, place", max(apart), 0.3)  # about 1 for another place or mirroring


def correlation(ours_CSS: Tensor, theirs_CSS: Tensor) -> float:
    """Correlate two views by their mean over the bands, theirs brought back from the authors' mean and deviation."""
    mean_C11, std_C11 = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pair = np.stack([ours_CSS.mean(0).flatten(), (theirs_CSS * std_C11 + mean_C11).mean(0).flatten()])
    return float(np.corrcoef(pair)[0, 1])
