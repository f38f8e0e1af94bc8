"""data2vec: tell, from a window with holes, what its slow average sees in the holes of the whole window.

Baevski et al., 2022, "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language",
arXiv:2202.03555; for many bands as SSL4EO-S12 trains it, Wang et al., 2023, arXiv:2211.07044.

Shape letters: B batch, C bands, H rows, W columns, L patches, N hidden patches of a batch, T = L + 1 tokens, D width,
h and w rows and columns of patches.
"""

from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.block_masking import hide_blocks
from rsfm.blocks.drop_path import drop_by_sample
from rsfm.blocks.masking import patchify
from rsfm.blocks.ranks import mean_of_all
from rsfm.blocks.recipes import EVENING, SMALL_VIT, Recipe
from rsfm.blocks.relative_vit import RelativeViT, initialise_short
from rsfm.blocks.schedules import climb
from rsfm.blocks.teacher import make_teacher, move_average
from rsfm.blocks.view import View
from rsfm.blocks.views import resized_crop
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Method, MethodConfig, Sample
from rsfm.params import Channels, Fraction, Hint


class Data2VecConfig(MethodConfig):
    """Hides parts of each window and tells their features from the rest. For a GPU; minutes on a CPU do not pay."""

    name: Literal["data2vec"] = "data2vec"
    mask_ratio: Fraction = Field(0.612, ge=0.05, le=0.95, description="Share of patches hidden, at most.")
    smallest_block: Channels = Field(16, ge=1, le=1024, description="Least patches of a rectangle that is hidden.")
    target_blocks: Channels = Field(6, ge=1, le=64, description="Last blocks of the teacher whose features are told.")
    beta: Fraction = Field(2.0, ge=0.001, le=100, description="Error up to which the loss is quadratic.")
    momentum_start: Annotated[float, Hint(advanced=True)] = Field(
        0.999, ge=0, le=1, description="Share of its weights the teacher keeps at the first step."
    )
    momentum: Annotated[float, Hint(advanced=True)] = Field(
        0.9998, ge=0, le=1, description="Share of its weights the teacher keeps later on."
    )
    momentum_share: Fraction = Field(
        0, ge=0, le=1, description="Share of the training in which the teacher slows down; 0 has it slow at once."
    )
    drop_path: Fraction = Field(0.25, ge=0, le=0.9, description="Share of the student's branches left out at random.")
    drop_attention: Fraction = Field(0.05, ge=0, le=0.9, description="Share of the attention left out at random.")


class Hidden(NamedTuple):
    """Where patches are hidden, and which of these are asked for: those of at least half valid pixels."""

    hidden_BL: Tensor
    asked_BL: Tensor


OFFICIAL_METHOD: Recipe = {
    "name": "data2vec",
    "mask_ratio": 0.612,
    "smallest_block": 16,
    "target_blocks": 6,
    "beta": 2.0,
    "momentum_start": 0.999,
    "momentum": 0.9998,
    "momentum_share": 0,
    "drop_path": 0.25,
    "drop_attention": 0.05,
}
OFFICIAL_TRAINING: Recipe = {
    "minutes": 0,
    "epochs": 100,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "final_rate": 0.01,
    "weight_decay": 0.05,
    "decay_growth": 1,
    "optimizer": "adamw",
    "beta2": 0.999,
    "decay_all": False,
    "warmup": 0.01,
    "schedule": "step",
    "clip_norm": 3,
    "clip_each": False,
}


class Data2Vec(Method):
    name = "data2vec"
    title = "data2vec"
    Config = Data2VecConfig
    undecayed = ("encoder.cls_token",)
    presets = (
        Preset(
            "data2vec_quick",
            "data2vec: quick, minutes on a CPU",
            "A small variant, not the paper's model. On a CPU 15 minutes of it told no more than texture does.",
            {
                "method": {
                    "name": "data2vec",
                    "mask_ratio": 0.6,
                    "smallest_block": 4,
                    "target_blocks": 2,
                    "beta": 2.0,
                    "momentum_start": 0.99,
                    "momentum": 0.999,
                    "momentum_share": 0.3,
                    "drop_path": 0,
                    "drop_attention": 0,
                },
                "encoder": {"name": "vit_relative", **SMALL_VIT, "layer_scale": 0.1},
                "training": {
                    "minutes": 10,
                    "batch_size": 64,
                    "learning_rate": 1e-3,
                    "final_rate": 0.01,
                    "weight_decay": 0.05,
                    "decay_growth": 1,
                    "optimizer": "adamw",
                    "beta2": 0.999,
                    "decay_all": False,
                    "warmup": 0.05,
                    "schedule": "step",
                    "clip_norm": 3,
                    "clip_each": False,
                },
                "window": 40,
            },
        ),
        Preset(
            "data2vec_gpu",
            "data2vec: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: SSL4EO-S12's recipe on smaller windows. Its worth is not measured.",
            {
                "method": {**OFFICIAL_METHOD, "momentum_share": 0.3},
                "encoder": {
                    "name": "vit_relative",
                    "width": 384,
                    "depth": 12,
                    "heads": 6,
                    "patch_size": 8,
                    "window": 128,
                    "layer_scale": 1e-4,
                },
                "training": {**OFFICIAL_TRAINING, **EVENING, "warmup": 0.05},
                "window": 128,
            },
            for_gpu=True,
        ),
        Preset(
            "data2vec_official",
            "data2vec: as published for SSL4EO-S12, ViT-S/16, days on a GPU",
            "The recipe of SSL4EO-S12: 100 epochs with 256 windows a step, for many rasters and days on a GPU.",
            {
                "method": OFFICIAL_METHOD,
                "encoder": {
                    "name": "vit_relative",
                    "width": 384,
                    "depth": 12,
                    "heads": 6,
                    "patch_size": 16,
                    "window": 224,
                    "layer_scale": 1e-4,
                },
                "training": OFFICIAL_TRAINING,
                "window": 264,
            },
            for_gpu=True,
        ),
    )
    encoder: RelativeViT

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if not isinstance(encoder, RelativeViT):
            raise UserError(
                f"data2vec needs relative positions, and the encoder '{encoder.name}' has none. "
                "Choose the encoder 'vit_relative'.",
                "encoder",
            )
        self.config: Data2VecConfig = config
        self.encoder = encoder
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.lm_head = nn.Linear(encoder.width, encoder.width)
        self.lm_head.apply(initialise_short)
        self.teacher = make_teacher(encoder)
        depth = len(encoder.blocks)
        self.targets: tuple[int, ...] = tuple(range(max(depth - config.target_blocks, 0), depth))
        drop_by_sample(encoder.blocks, config.drop_path)
        for block in encoder.blocks:
            block.get_submodule("attn.attn_drop").p = config.drop_attention

    def loss(self, sample: Sample, progress: float) -> Loss:
        side = self.encoder.window
        view = resized_crop(sample.pixels_BCHW, sample.valid_BHW, (side, side), "bilinear")
        hidden = self.hide(view)
        told_ND = self.tell(view.pixels_BCHW, hidden)
        total = self.error(told_ND, self.target(view.pixels_BCHW)[hidden.asked_BL])
        return Loss(total, {"features": total.detach(), "variety": variety(told_ND.detach())})

    def after_step(self, progress: float) -> None:
        move_average(self.teacher, self.encoder, self.momentum(progress))

    def momentum(self, progress: float) -> float:
        """Return the share of its weights that the teacher keeps at a step."""
        config = self.config
        return climb(progress, config.momentum_share, config.momentum_start, config.momentum)

    def hide(self, view: View) -> Hidden:
        """Hide rectangles of patches, for each window anew."""
        rows, columns = self.encoder.patches(view.pixels_BCHW)
        wanted = round(rows * columns * self.config.mask_ratio)
        hidden_Bhw = hide_blocks(len(view.pixels_BCHW), rows, columns, wanted, self.config.smallest_block)
        hidden_BL = hidden_Bhw.flatten(1).to(view.pixels_BCHW.device)
        valid_BL = patchify(view.valid_BHW[:, None].float(), self.encoder.patch_size).mean(2) >= 0.5
        return Hidden(hidden_BL, hidden_BL & valid_BL)

    def substitute(self, pixels_BCHW: Tensor, hidden_BL: Tensor) -> Tensor:
        """Return tokens_BLD of the patches, the mask token in place of the hidden ones."""
        tokens_BLD = self.encoder.embed(pixels_BCHW)
        return torch.where(hidden_BL[:, :, None], self.mask_token.to(tokens_BLD.dtype), tokens_BLD)

    def tell(self, pixels_BCHW: Tensor, hidden: Hidden) -> Tensor:
        """Predict told_ND, the features of the hidden patches that are asked for, window by window.

        The number of hidden patches differs from window to window.
        """
        rows, _ = self.encoder.patches(pixels_BCHW)
        encoded_BTD = self.encoder.encode(self.substitute(pixels_BCHW, hidden.hidden_BL), rows)
        told_ND: Tensor = self.lm_head(encoded_BTD[:, 1:][hidden.asked_BL])
        return told_ND

    @torch.no_grad()
    def target(self, pixels_BCHW: Tensor) -> Tensor:
        """Return target_BLD: the teacher's features of the whole window, each block's normalised, averaged, again."""
        mean_BLD = torch.stack([plain_norm(layer_BLD) for layer_BLD in self.teach(pixels_BCHW)]).mean(0)
        return plain_norm(mean_BLD)

    @torch.no_grad()
    def teach(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Return what the teacher's blocks give for the patches of the whole window, layers_BLD; not normalised."""
        rows, _ = self.teacher.patches(pixels_BCHW)
        every = list(self.teacher.layers(self.teacher.embed(pixels_BCHW), rows))
        return [every[index][:, 1:].float() for index in self.targets]

    def error(self, told_ND: Tensor, target_ND: Tensor) -> Tensor:
        """Mean error, quadratic up to beta and linear beyond; 0 where nothing is asked for."""
        count = torch.tensor(float(len(told_ND)), device=told_ND.device)
        share = mean_of_all(count, count)  # by which the mean of this process counts
        if not len(told_ND):
            return told_ND.float().sum()
        return functional.smooth_l1_loss(told_ND.float(), target_ND, beta=self.config.beta) * share


def variety(told_ND: Tensor) -> Tensor:
    """Tell how much predictions differ from patch to patch: near 0 all have become one. 0 for fewer than two."""
    if len(told_ND) < 2:
        return told_ND.new_zeros(())
    return (told_ND.float().var(0) + 1e-6).sqrt().mean()


def plain_norm(tokens_BLD: Tensor) -> Tensor:
    """Bring each token to zero mean and unit variance; eps 1e-5."""
    return functional.layer_norm(tokens_BLD, tokens_BLD.shape[-1:])
