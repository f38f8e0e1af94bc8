"""Maps of strides 4 to 32 from a plain vision transformer, with a small convolutional network beside it.

Chen et al., 2023, "Vision Transformer Adapter for Dense Predictions", arXiv:2205.08534; names of weights are the
authors'. Patches of other sizes than 16 px are ours: the attention takes places as shares of the window, so that maps
of any size meet.

Shape letters: B batch, C bands, H rows, W columns, L patches, N prior tokens (of strides 8, 16 and 32), D width, h and
w rows and columns of a map.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rsfm.blocks.deformable_attention import DeformableAttention, Size, centres
from rsfm.blocks.drop_path import SampleDropPath
from rsfm.blocks.prior import PriorMixer, SpatialPrior
from rsfm.blocks.transformer import TokenEncoder, lay_out
from rsfm.encoder import Encoder, EncoderConfig, FeatureMap
from rsfm.errors import UserError
from rsfm.params import Channels, Fraction

STRIDES = (4, 8, 16, 32)
INTERACTIONS = 4
LEVELS = 3
WIDE = 512
"""Above this width values of the attention are half as wide, as the authors' B and L are."""


class ViTAdapterConfig(EncoderConfig):
    """A small convolutional network beside a vision transformer: fine maps for outlines."""

    name: Literal["vit_adapter"] = "vit_adapter"
    prior_width: Channels = Field(64, ge=1, le=1024, description="Features of the first convolutions.")
    points: Channels = Field(4, ge=1, le=16, description="Places that each head looks at in each map.")
    heads: Channels = Field(0, ge=0, le=64, description="Heads of the attention between both; 0 takes the encoder's.")
    value_ratio: Fraction = Field(
        0, ge=0, le=1, description="Width of the attention's values, as a share of the encoder's; 0 chooses it."
    )
    mixer_ratio: Fraction = Field(0.25, ge=0.05, le=4, description="Width inside the mixing of maps, as a share.")
    drop_path: Fraction = Field(0.0, ge=0, le=0.9, description="Share of branches that are left out in training.")
    save_memory: bool = Field(False, description="Compute activations twice in place of keeping them.")


class Attended(NamedTuple):
    """What both sides of an interaction are: the sizes of their maps, and the centres of their cells."""

    patch_size: Size
    prior_sizes: tuple[Size, ...]
    patch_place: Tensor
    prior_place: Tensor


class Injector(nn.Module):
    """Adds to patches what they find in the prior maps; nothing at first."""

    def __init__(self, width: int, heads: int, points: int, ratio: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=1e-6)
        self.feat_norm = nn.LayerNorm(width, eps=1e-6)
        self.attn = DeformableAttention(width, LEVELS, heads, points, ratio)
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, patches_BLD: Tensor, prior_BND: Tensor, attended: Attended) -> Tensor:
        found_BLD: Tensor = self.attn(
            self.query_norm(patches_BLD), attended.patch_place, self.feat_norm(prior_BND), attended.prior_sizes
        )
        return patches_BLD + self.gamma * found_BLD


class Extractor(nn.Module):
    """Adds to the prior maps what they find in the patches, and mixes neighbours."""

    def __init__(self, width: int, heads: int, points: int, ratio: float, mixer: float, drop: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=1e-6)
        self.feat_norm = nn.LayerNorm(width, eps=1e-6)
        self.attn = DeformableAttention(width, 1, heads, points, ratio)
        self.ffn = PriorMixer(width, int(width * mixer))
        self.ffn_norm = nn.LayerNorm(width, eps=1e-6)
        self.drop_path = SampleDropPath(drop) if drop else nn.Identity()

    def forward(self, prior_BND: Tensor, patches_BLD: Tensor, attended: Attended) -> Tensor:
        prior_BND = prior_BND + self.attn(
            self.query_norm(prior_BND), attended.prior_place, self.feat_norm(patches_BLD), [attended.patch_size]
        )
        mixed_BND: Tensor = self.drop_path(self.ffn(self.ffn_norm(prior_BND), attended.prior_sizes))
        return prior_BND + mixed_BND


class Interaction(nn.Module):
    """Prior maps into patches, some blocks of the transformer, patches into prior maps."""

    def __init__(self, injector: Injector, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.injector, self.extractor = injector, extractors[0]
        if len(extractors) > 1:
            self.extra_extractors = nn.ModuleList(extractors[1:])

    def forward(
        self, patches_BLD: Tensor, prior_BND: Tensor, blocks: nn.Module, attended: Attended
    ) -> tuple[Tensor, Tensor]:
        patches_BLD = blocks(self.injector(patches_BLD, prior_BND, attended))
        for extractor in (self.extractor, *getattr(self, "extra_extractors", ())):
            prior_BND = extractor(prior_BND, patches_BLD, attended)
        return patches_BLD, prior_BND


class ViTAdapter(Encoder):
    """An encoder around a vision transformer, which keeps its blocks; the class token takes no part.

    Attributes:
        encoder: the transformer.
    """

    name = "vit_adapter"
    Config = ViTAdapterConfig

    def __init__(self, config: ViTAdapterConfig, encoder: Encoder, parts: Sequence[Size] | None = None) -> None:
        """Put an adapter around a transformer.

        Args:
            parts: first and last block of each interaction; None splits them into four.

        Raises:
            UserError: the encoder is none whose patches it can take.
        """
        nn.Module.__init__(self)
        self.encoder = _suited(encoder)
        self.bands, self.width, self.stride, self.margin = encoder.bands, encoder.width, STRIDES[-1], None
        self.save_memory = config.save_memory
        self._parts = list(parts or split_blocks(len(self.encoder.blocks)))
        width = encoder.width
        own: Any = self.encoder.blocks[0]
        heads = config.heads or int(own.attn.num_heads)
        ratio = config.value_ratio or (1.0 if width <= WIDE else 0.5)
        attention = (width, heads, config.points, ratio)
        last = len(self._parts) - 1
        self.level_embed = nn.Parameter(torch.randn(LEVELS, width))
        self.spm = SpatialPrior(encoder.bands, config.prior_width, width)
        self.interactions = nn.ModuleList(
            Interaction(
                Injector(*attention),
                [Extractor(*attention, config.mixer_ratio, config.drop_path) for _ in range(3 if at == last else 1)],
            )
            for at in range(len(self._parts))
        )
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.BatchNorm2d(width) for _ in STRIDES)
        for part in (self.spm, self.interactions, self.up):
            part.apply(initialise)
        for module in self.interactions.modules():
            if isinstance(module, DeformableAttention):
                module.initialise()

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return a map for each of STRIDES.

        Raises:
            UserError: H or W is no multiple of 32.
        """
        height, width = pixels_BCHW.shape[2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise UserError(
                f"A window of {height} x {width} px does not fit an adapter. Choose a multiple of {STRIDES[-1]} px.",
                "window",
            )
        fine_BDhw, prior_BND, sizes = self.prior(pixels_BCHW)
        attended = self.attended(pixels_BCHW, sizes)
        patches_BLD = self.encoder.embed(pixels_BCHW)
        patch_maps = []
        for interaction, (first, end) in zip(self.interactions, self._parts, strict=True):
            blocks = self.encoder.blocks[first : end + 1]
            patches_BLD, prior_BND = self._interact(interaction, patches_BLD, prior_BND, blocks, attended)
            patch_maps.append(_map(patches_BLD, attended.patch_size))
        return self._join(fine_BDhw, prior_BND, patch_maps, sizes)

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the transformer's own vector of a window."""
        return self.encoder.embedding(pixels_BCHW)

    def prior(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, tuple[Size, ...]]:
        """Return the prior map of stride 4, the tokens of the others, told by their level, and those maps' sizes."""
        fine_BDhw, *maps = self.spm(pixels_BCHW)
        sizes: Any = tuple(tuple(each.shape[2:]) for each in maps)
        tokens = [each.flatten(2).mT + level_D for each, level_D in zip(maps, self.level_embed, strict=True)]
        return fine_BDhw, torch.cat(tokens, dim=1), sizes

    def attended(self, pixels_BCHW: Tensor, prior_sizes: tuple[Size, ...]) -> Attended:
        """Return where patches and prior tokens lie."""
        size = self.encoder.patches(pixels_BCHW)
        return Attended(size, prior_sizes, centres([size], pixels_BCHW), centres(prior_sizes, pixels_BCHW))

    def _interact(self, interaction: nn.Module, *given: Any) -> tuple[Tensor, Tensor]:
        if self.save_memory and self.training:
            found: tuple[Tensor, Tensor] = checkpoint(interaction, *given, use_reentrant=False)
            return found
        made: tuple[Tensor, Tensor] = interaction(*given)
        return made

    def _join(
        self, fine_BDhw: Tensor, prior_BND: Tensor, patch_maps: list[Tensor], sizes: tuple[Size, ...]
    ) -> list[FeatureMap]:
        """Add to the prior map of each stride that of the patches after the interaction of its number."""
        tokens = torch.split(prior_BND, [rows * columns for rows, columns in sizes], dim=1)
        maps = [_map(each, size) for each, size in zip(tokens, sizes, strict=True)]
        maps = [self.up(maps[0]) + fine_BDhw, *maps]
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return [
            FeatureMap(norm(prior_BDhw + _resize(patch_BDhw, prior_BDhw)), stride)
            for norm, prior_BDhw, patch_BDhw, stride in zip(norms, maps, patch_maps, STRIDES, strict=True)
        ]


def split_blocks(depth: int) -> list[Size]:
    """Return the first and the last of the blocks of each interaction, as even as can be; the first may have none."""
    ends = [depth * (at + 1) // INTERACTIONS for at in range(INTERACTIONS)]
    return [(first, end - 1) for first, end in zip([0, *ends], ends, strict=False)]


def initialise(module: nn.Module) -> None:
    """Give fresh weights as the authors do; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, (2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _map(tokens_BLD: Tensor, size: Size) -> Tensor:
    """Lay tokens out in the usual order of memory: in the order of tokens torch gets gradients wrong on the CPU."""
    return lay_out(tokens_BLD, *size).contiguous()


def _resize(map_BDhw: Tensor, like_BDhw: Tensor) -> Tensor:
    if map_BDhw.shape[2:] == like_BDhw.shape[2:]:
        return map_BDhw
    return functional.interpolate(map_BDhw, like_BDhw.shape[2:], mode="bilinear", align_corners=False)


def _suited(encoder: Encoder) -> TokenEncoder:
    if not isinstance(encoder, TokenEncoder):
        raise UserError(
            f"An adapter goes around a vision transformer of plain patches, and '{encoder.name}' is none. Choose a "
            "head without adapter, or an encoder 'vit' or 'vit_learned'.",
            "head",
        )
    if STRIDES[-1] % encoder.patch_size:
        raise UserError(
            f"An adapter needs patches whose side divides {STRIDES[-1]} px, and the encoder's have "
            f"{encoder.patch_size} px. Choose a head without adapter, or an encoder with patches of 4, 8 or 16 px.",
            "head",
        )
    return encoder
