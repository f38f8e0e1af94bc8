"""Transformer blocks as vision transformers have them, and encoders made of patch tokens.

Shape letters: B batch, C bands, H rows, W columns, L patches, K patches given, T tokens, D width, h and w rows and
columns of patches.
"""

from abc import abstractmethod
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from rsfm.encoder import Encoder, EncoderConfig
from rsfm.errors import UserError
from rsfm.params import Channels, Fraction, Pixels

SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "giant": (1024, 40, 16),  # what PerA calls ViT-G/16-1024
}
"""Width, depth and heads."""

MaskRatio = Annotated[Fraction, Field(ge=0.01, le=0.99, description="Share of patches hidden from the encoder.")]
DecoderDepth = Annotated[Channels, Field(ge=1, le=16, description="Number of decoder blocks.")]
DecoderHeads = Annotated[Channels, Field(ge=1, le=32, description="Attention heads of a decoder block.")]
Pooling = Annotated[
    Literal["class", "mean"],
    Field(description="A window's vector: the class token, or the mean of its patches."),
]


class TransformerConfig(EncoderConfig):
    """Base of the configs of vision transformers."""

    size: Literal["tiny", "small", "base", "large", "free"] = Field(
        "free", description="Published size; free takes width, depth and heads below."
    )
    patch_size: Pixels = Field(4, ge=1, le=64, description="Side of a patch; the window is a multiple of it.")
    window: Pixels = Field(32, ge=4, le=2048, description="Side of the windows that its positions are made for.")
    width: Channels = Field(192, ge=4, le=4096, multiple_of=4, description="Features of a patch.")
    depth: Channels = Field(4, ge=1, le=64, description="Number of blocks.")
    heads: Channels = Field(3, ge=1, le=64, description="Attention heads of a block.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"Width ({self.width}) must be a multiple of heads ({self.heads}).")
        if self.window % self.patch_size:
            raise ValueError(f"Window ({self.window} px) must be a multiple of the patch size ({self.patch_size} px).")
        return self

    def shape(self) -> tuple[int, int, int]:
        """Return width, depth and heads."""
        return SIZES.get(self.size, (self.width, self.depth, self.heads))


class PatchEncoder(Encoder):
    """An encoder that cuts windows into square patches.

    Attributes:
        patch_size: side of a patch in pixels.
        grid: rows (and columns) of patches of the windows it is made for.
        window: those windows' side in pixels.
    """

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        self.bands, self.stride, self.margin = bands, config.patch_size, None
        self.width, _, _ = config.shape()
        self.patch_size: int = config.patch_size
        self.window = config.window

    @property
    def grid(self) -> int:
        return self.window // self.patch_size

    def patches(self, pixels: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches of windows, whose height and width are the last dimensions.

        Raises:
            UserError: a size that is not a multiple of the patch.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"A window of {height} x {width} px is not a whole number of patches of {self.patch_size} px. "
                f"Choose a multiple of {self.patch_size} under 'Window', and for the sizes of views if there are any.",
                "window",
            )
        return height // self.patch_size, width // self.patch_size


class TokenEncoder(PatchEncoder):
    """An encoder that can be given some of a window's patches: what methods that hide patches need.

    Attributes:
        blocks: what tokens pass, one after the other.
    """

    blocks: nn.Sequential

    @abstractmethod
    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        """Return tokens_BLD of all patches, row-major, with their positions.

        Raises:
            UserError: a size that is not a multiple of the patch.
        """

    @abstractmethod
    def encode(self, tokens_BKD: Tensor) -> Tensor:
        """Return encoded tokens, the class token first and then those given, normalised."""


def transformer_blocks(
    width: int, depth: int, heads: int, ratio: float = 4.0, layer_scale: float | None = None
) -> nn.Sequential:
    """Make pre-norm blocks: biased attention, exact GELU, norm eps 1e-6.

    Args:
        ratio: how many times as wide a block is inside.
        layer_scale: what each branch is multiplied by at first, and learns; None is no such factor.
    """
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    return nn.Sequential(
        *(Block(width, heads, ratio, qkv_bias=True, init_values=layer_scale, norm_layer=norm) for _ in range(depth))
    )


def check_decoder(width: int, heads: int) -> None:
    """Check the shape of a masked autoencoder's decoder, for the validator of its config.

    Raises:
        ValueError: the heads cannot share the width.
    """
    if width % heads:
        raise ValueError(f"Decoder width ({width}) must be a multiple of decoder heads ({heads}).")


def quarters(depth: int) -> list[int]:
    """Return after how many blocks each quarter of them ends; fewer where there are fewer blocks than four."""
    return sorted({depth * part // 4 for part in (1, 2, 3, 4)} - {0})


def at_quarters(blocks: nn.Sequential, norm: nn.Module, tokens_BTD: Tensor) -> list[Tensor]:
    """Pass all blocks; return what each quarter gives, normalised without weights, but the last with the norm."""
    found, done = [], 0
    for end in quarters(len(blocks)):
        tokens_BTD = blocks[done:end](tokens_BTD)
        found.append(tokens_BTD)
        done = end
    return [
        *(functional.layer_norm(part_BTD, part_BTD.shape[2:], eps=1e-6) for part_BTD in found[:-1]),
        norm(found[-1]),
    ]


def lay_out(tokens_BLD: Tensor, rows: int, columns: int) -> Tensor:
    """Lay the tokens of patches out as features_BDhw."""
    return tokens_BLD.mT.reshape(tokens_BLD.shape[0], -1, rows, columns)


def initialise(module: nn.Module) -> None:
    """Give fresh weights to linear layers (Xavier) and norms, as MAE does; use with `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
