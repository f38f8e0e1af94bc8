"""PerA: student and teacher see different patches of one rectangle, and the student imagines some of the rest.

Shen et al., 2025, "A Contrastive Learning Foundation Model Based on Perfectly Aligned Sample Pairs for Remote Sensing
Images", arXiv:2505.19447. Where paper and code differ, this follows the code.

Shape letters: B batch, C bands, H rows, W columns, S side of a view, V views, N = V * B rows of a pass, L patches,
K patches of a part or prototypes, D encoder width, T tokens, P values of a patch (C * patch_size ** 2).
"""

from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rsfm.blocks.aligned_views import DrawnPair, make_pairs
from rsfm.blocks.band_drop import ViewsMethod
from rsfm.blocks.centring import Centre, paired_cross_entropy
from rsfm.blocks.crops import draw_crop
from rsfm.blocks.distillation import (
    SMALLEST,
    DistillationConfig,
    make_head,
    teacher_momentum,
    teacher_temperature,
)
from rsfm.blocks.drop_path import drop_by_subset
from rsfm.blocks.learned_vit import LearnedViT
from rsfm.blocks.masking import patchify, unpatchify
from rsfm.blocks.photometry import Chances, draw_light
from rsfm.blocks.projection import ProjectionHead
from rsfm.blocks.ranks import mean_of_all, own_rows, ranks
from rsfm.blocks.recipes import (
    DINO_EVENING,
    DINO_EVENING_HEAD,
    DINO_QUICK,
    DINO_QUICK_HEAD,
    DINO_TRAINING,
    EVENING_LEARNED_VIT,
    SMALL_VIT,
)
from rsfm.blocks.regions import Regions, counts, interleave, select, split_regions
from rsfm.blocks.spread import spread
from rsfm.blocks.teacher import make_teacher, move_average
from rsfm.blocks.view import View
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Picture, Sample
from rsfm.params import Fraction

STRONG = Chances(jitter=0.8, gray=0.1)
WEAK = Chances(jitter=0.1, gray=0.0)
EMPTY = (
    "Half of the windows or more are nodata or of a single value, which teaches nothing. "
    "Choose an 'Area' with more to see, or a larger 'Window'."
)


class PerAConfig(DistillationConfig):
    """Learns from two disjoint halves of a place. For a GPU; minutes on a CPU do not pay."""

    name: Literal["pera"] = "pera"
    student_share: Fraction = Field(0.2, ge=0.01, le=0.98, description="Share of the patches that the student sees.")
    teacher_share: Fraction = Field(0.6, ge=0.01, le=0.98, description="Share of the patches that the teacher sees.")
    spread_weight: Fraction = Field(0.1, ge=0, le=10, description="Weight of keeping windows apart from each other.")
    pixel_weight: Fraction = Field(0.01, ge=0, le=10, description="Weight of imagining the pixels of hidden patches.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.student_share + self.teacher_share > 0.99:
            raise ValueError(
                f"Student share ({self.student_share}) and teacher share ({self.teacher_share}) leave no patch to "
                "imagine. Make them 0.99 or less together."
            )
        return self


class Pairs(NamedTuple):
    """Views of one size, all windows of the first view and then of the next; the student's and teacher's are aligned.

    Attributes:
        valid_NSS: valid pixels, the same for both.
        usable_N: whether at least half of a view is valid, and it shows more than one value.
    """

    student_NCSS: Tensor
    teacher_NCSS: Tensor
    valid_NSS: Tensor
    usable_N: Tensor
    regions: Regions


class Compared(NamedTuple):
    """What a comparison found: a term for each view, one for each large view, and the error of the pixels."""

    total: Tensor
    terms_V: Tensor
    spread_V: Tensor
    pixel: Tensor
    probabilities_VBK: Tensor


class PerA(ViewsMethod):
    name = "pera"
    title = "PerA"
    Config = PerAConfig
    averages = ("centre.center",)
    presets = (
        Preset(
            "pera_quick",
            "PerA: quick, minutes on a CPU",
            "A small variant, not the paper's model. On a CPU 15 minutes of it told no more than texture does.",
            {
                "method": {
                    "name": "pera",
                    **DINO_QUICK_HEAD,
                    "small_views": 4,
                    "split": 0.4,
                    "student_share": 0.2,
                    "teacher_share": 0.6,
                    "spread_weight": 0.1,
                    "pixel_weight": 0.16,
                },
                "encoder": {"name": "vit_learned", **SMALL_VIT, "pooling": "class", "gsd_token": False},
                "training": {**DINO_QUICK, "epsilon": 2e-05, "decay_all": True, "clip_each": False},
                "window": 40,
            },
        ),
        Preset(
            "pera_gpu",
            "PerA: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: the authors' recipe, a smaller network on smaller windows, with 4,096 prototypes. "
            "Its worth is not measured.",
            {
                "method": {
                    "name": "pera",
                    **DINO_EVENING_HEAD,
                    "bottleneck": 384,
                    "teacher_temperature": 0.03,
                    "teacher_temperature_end": 0.05,
                    "momentum": 0.992,
                    "drop_path": 0.3,
                    "small_views": 8,
                    "split": 0.4,
                    "student_share": 0.2,
                    "teacher_share": 0.6,
                    "spread_weight": 0.1,
                    "pixel_weight": 0.01,
                },
                "encoder": EVENING_LEARNED_VIT,
                "training": {
                    **DINO_EVENING,
                    "batch_size": 192,
                    "learning_rate": 1e-3,
                    "final_rate": 1e-3,
                    "decay_growth": 5,
                    "epsilon": 2e-5,
                    "decay_all": True,
                    "clip_each": False,
                },
                "window": 144,
            },
            for_gpu=True,
        ),
        Preset(
            "pera_official",
            "PerA: as published, ViT-B/16, days on a GPU",
            "The authors' recipe of 200 epochs with 192 windows a step: days on several GPUs. With ESA WorldCover as "
            "'Land cover', 60 % of the windows are urban, 10 % each farmland, wetland, forest and water, as theirs.",
            {
                "method": {
                    "name": "pera",
                    "large_size": 448,
                    "small_size": 96,
                    "small_views": 8,
                    "split": 0.4,
                    "prototypes": 131072,
                    "hidden": 2048,
                    "bottleneck": 384,
                    "temperature": 0.1,
                    "teacher_temperature": 0.03,
                    "teacher_temperature_end": 0.05,
                    "temperature_share": 0.15,
                    "temperature_steps": 0,
                    "momentum": 0.992,
                    "centre_momentum": 0.9,
                    "drop_path": 0.3,
                    "student_share": 0.2,
                    "teacher_share": 0.6,
                    "spread_weight": 0.1,
                    "pixel_weight": 0.01,
                },
                "encoder": {
                    "name": "vit_learned",
                    "size": "base",
                    "patch_size": 16,
                    "window": 448,
                    "pooling": "class",
                    "gsd_token": False,
                },
                "training": {
                    **DINO_TRAINING,
                    "epochs": 200,
                    "batch_size": 192,
                    "learning_rate": 0.001,
                    "final_rate": 0.001,
                    "decay_growth": 5,
                    "epsilon": 2e-05,
                    "decay_all": True,
                    "warmup": 0.1,
                    "clip_each": False,
                },
                "window": 512,
                "sampling": {"shares": "50=60, 40=10, 90+95=10, 10=10, 80=10"},
            },
            for_gpu=True,
        ),
    )
    encoder: LearnedViT

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if not isinstance(encoder, LearnedViT) or encoder.last_tokens:
            raise UserError(
                f"PerA hides patches whose positions are learned, and the encoder '{encoder.name}' as it is set has "
                "none of these. Choose the encoder 'vit_learned' without 'Gsd token'.",
                "encoder",
            )
        self.config: PerAConfig = config
        self.encoder = encoder
        self.head = make_head(config, encoder, scaled=True)
        self.teacher, self.teacher_head = make_teacher(encoder), make_teacher(self.head)
        self.pixel_head = ProjectionHead(
            encoder.width, config.hidden, config.bottleneck, encoder.bands * encoder.patch_size**2, scaled=True
        )
        self.mask_token = nn.Parameter(torch.randn(1, 1, encoder.width) * 0.02)
        self.centre = Centre(config.prototypes)
        drop_by_subset(encoder.blocks, config.drop_path)
        if config.spread_weight:
            self.indivisible = "PerA spreads all of them apart."

    def pictures(self, sample: Sample) -> list[Picture]:
        """Show a large view of each window, what the student sees of it, and what it imagines beside it."""
        pair = self.draw(
            View(sample.pixels_BCHW, sample.valid_BHW), 1, self.config.large_size, (self.config.split, 1.0)
        )
        if pair is None:
            return []
        _, imagined_NKP = self.see(pair, imagine=True)
        size, pixels_NCSS = self.encoder.patch_size, pair.student_NCSS.float()
        rows = pixels_NCSS.shape[2] // size
        seen_NL, asked_NL = pair.regions.student_BL, pair.regions.learnable_BL
        patches_NLP = patchify(pixels_NCSS, size)
        filled_NLP = patches_NLP.clone()
        filled_NLP[asked_NL] = imagined_NKP.float().flatten(0, 1)
        valid_NCSS = pair.valid_NSS[:, None].expand_as(pixels_NCSS)
        seen_NCSS, known_NCSS = (
            valid_NCSS & unpatchify(part_NL[:, :, None].expand_as(patches_NLP), size, rows)
            for part_NL in (seen_NL, seen_NL | asked_NL)
        )
        return [
            Picture("View", pixels_NCSS[:, None], valid_NCSS[:, None]),
            Picture("Seen by the student", pixels_NCSS[:, None], seen_NCSS[:, None]),
            Picture("Imagined beside it", unpatchify(filled_NLP, size, rows)[:, None], known_NCSS[:, None]),
        ]

    def loss(self, sample: Sample, progress: float) -> Loss:
        config, window = self.config, View(sample.pixels_BCHW, sample.valid_BHW)
        large = self.draw(window, 2, config.large_size, (config.split, 1.0))
        small = self.draw(window, config.small_views, config.small_size, (SMALLEST, config.split))
        found = self.compare(large, small, len(sample.pixels_BCHW), progress)
        parts = {"distillation": found.terms_V.mean(), "spread": found.spread_V.sum(), "pixel": found.pixel}
        empty = large is not None and not bool(large.usable_N.float().mean() > 0.5)
        return Loss(found.total, {name: part.detach() for name, part in parts.items()}, (EMPTY,) if empty else ())

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.config, progress)
        move_average(self.teacher, self.encoder, momentum)
        move_average(self.teacher_head, self.head, momentum)

    def draw(self, window: View, views: int, size: int, area: tuple[float, float]) -> Pairs | None:
        """Draw pairs of views of the same rectangle, of which each has its own colours, and their three parts."""
        if not views:
            return None
        count, _, height, width = window.pixels_BCHW.shape
        device, drawn = window.pixels_BCHW.device, []
        for _ in range(views):
            crop = draw_crop(count, height, width, area, device, turn=0.5)
            strong, weak = (draw_light(count, chances, 1, device) for chances in (STRONG, WEAK))
            strong = strong._replace(
                jittered_B=strong.jittered_B & ~strong.gray_B, gray_B=strong.jittered_B & strong.gray_B
            )
            drawn.append(DrawnPair(crop, strong, weak))
        student_NCSS, teacher_NCSS, valid_NSS, usable_N = make_pairs(window, drawn, size)
        student_NCSS, teacher_NCSS = self.drop(student_NCSS), self.drop(teacher_NCSS)
        return Pairs(student_NCSS, teacher_NCSS, valid_NSS, usable_N, self.regions(views * count, size, device))

    def regions(self, rows: int, size: int, device: torch.device) -> Regions:
        """Draw the three parts of each view of each window.

        Raises:
            UserError: a part would be empty.
        """
        config, patches = self.config, (size // self.encoder.patch_size) ** 2
        if min(counts(patches, config.student_share, config.teacher_share)) < 1:
            raise UserError(
                f"A view of {size} px has {patches} patches, too few to share out. "
                "Make 'Small size' larger or 'Patch size' smaller.",
                "method.small_size",
            )
        rank_NL = own_rows(torch.rand(rows * ranks(), patches, device=device)).argsort(dim=1)
        return split_regions(rank_NL, config.student_share, config.teacher_share)

    def compare(self, large: Pairs | None, small: Pairs | None, count: int, progress: float) -> Compared:
        """Compare each student view with the teacher's of the same rectangle, then move the centre.

        Args:
            count: of windows, B.
        """
        pairs = [pair for pair in (large, small) if pair is not None]
        seen = [self.see(pair, imagine=pair is large) for pair in pairs]
        student_NK = self.head(torch.cat([class_ND for class_ND, _ in seen]))
        with torch.no_grad():
            teacher_NK = self.teacher_head(torch.cat([self.watch(pair) for pair in pairs]))
        usable_N = torch.cat([pair.usable_N for pair in pairs])
        with torch.autocast(student_NK.device.type, enabled=False):
            student_VBK, teacher_VBK = (
                rows.float().reshape(-1, count, rows.shape[1]) for rows in (student_NK, teacher_NK)
            )
            probabilities_VBK = self.centre.probabilities(teacher_VBK, teacher_temperature(self.config, progress))
            usable_VB = usable_N.reshape(-1, count)
            terms_V = paired_cross_entropy(probabilities_VBK, student_VBK, self.config.temperature, usable_VB)
            views = 0 if large is None else len(large.usable_N) // count
            spread_V = torch.stack([spread(student_VBK[view], usable_VB[view]) for view in range(views)])
            pixel = pixel_error(seen[0][1].float(), pairs[0], self.encoder.patch_size)
            self.centre.update(teacher_NK, usable_N, self.config.centre_momentum)
        total = terms_V.mean() + self.config.spread_weight * spread_V.sum() + self.config.pixel_weight * pixel
        return Compared(total, terms_V, spread_V, pixel, probabilities_VBK)

    def see(self, pair: Pairs, imagine: bool) -> tuple[Tensor, Tensor]:
        """Encode what the student sees; halfway it is asked to imagine the learnable patches, if at all.

        Returns:
            class_ND: the class token.
            imagined_NKP: pixels of the learnable patches; empty if not asked for.
        """
        tokens_NTD, half = self.student_input(pair), len(self.encoder.blocks) // 2
        tokens_NTD = self.encoder.blocks[:half](tokens_NTD)
        asked_NT = torch.zeros(tokens_NTD.shape[:2], dtype=torch.bool, device=tokens_NTD.device)
        if imagine:
            tokens_NTD, asked_NT = self.insert(tokens_NTD, pair)
        tokens_NTD = self.encoder.norm(self.encoder.blocks[half:](tokens_NTD))
        return tokens_NTD[:, 0], self.pixel_head(select(tokens_NTD, asked_NT))

    def student_input(self, pair: Pairs) -> Tensor:
        """Return the class token and the patches that the student sees, with their positions."""
        return self.encoder.sequence(select(self.encoder.embed(pair.student_NCSS), pair.regions.student_BL))

    def learnable_input(self, pair: Pairs) -> Tensor:
        """Return the mask token at the positions of the learnable patches."""
        positions_NLD = self.encoder.positions(pair.student_NCSS).expand(len(pair.student_NCSS), -1, -1)
        return self.mask_token + select(positions_NLD, pair.regions.learnable_BL)

    def insert(self, tokens_NTD: Tensor, pair: Pairs) -> tuple[Tensor, Tensor]:
        """Put the learnable patches among those that the student sees, and tell where in the sequence they are."""
        learnable_NKD = self.learnable_input(pair).to(tokens_NTD.dtype)
        patches_NLD, asked_NL = interleave(
            tokens_NTD[:, 1:], learnable_NKD, pair.regions.student_BL, pair.regions.learnable_BL
        )
        seen_N1 = torch.zeros_like(asked_NL[:, :1])
        return torch.cat([tokens_NTD[:, :1], patches_NLD], dim=1), torch.cat([seen_N1, asked_NL], dim=1)

    def watch(self, pair: Pairs) -> Tensor:
        """Return the class token of the teacher, which sees its own patches."""
        return self.teacher.encode(select(self.teacher.embed(pair.teacher_NCSS), pair.regions.teacher_BL))[:, 0]


def pixel_error(imagined_NKP: Tensor, pair: Pairs, patch_size: int) -> Tensor:
    """Sum squared errors over a patch, and average over patches and windows.

    For other numbers of bands than three the sum is scaled to three, for which the weight was chosen. Nodata is left
    out, and so is a patch of which less than half is valid.
    """
    bands = pair.student_NCSS.shape[1]
    asked_NL = pair.regions.learnable_BL
    target_NKP = select(patchify(pair.student_NCSS.float(), patch_size), asked_NL)
    valid_NKP = select(patchify(pair.valid_NSS[:, None].expand_as(pair.student_NCSS).float(), patch_size), asked_NL)
    counted_NK = (valid_NKP.mean(2) >= 0.5) & pair.usable_N[:, None]
    error_NK = ((imagined_NKP - target_NKP).square() * valid_NKP).sum(2) * counted_NK
    return mean_of_all(error_NK.sum(), counted_NK.sum()) * 3 / bands
