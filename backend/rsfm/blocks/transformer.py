"""Transformer blocks as vision transformers have them, and encoders made of patch tokens.

Shape letters: B batch, C bands, H rows, W columns, L patches, K patches given, D width.
"""

from abc import abstractmethod
from functools import partial

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rsfm.encoder import Encoder

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, depth and heads."""


class TokenEncoder(Encoder):
    """An encoder that can be given some of a window's patches: what methods that hide patches need.

    Attributes:
        patch_size: side of a patch in pixels.
        grid: rows (and columns) of patches of the windows it is made for.
        window: those windows' side in pixels.
        blocks: what tokens pass, one after the other.
    """

    patch_size: int
    window: int
    blocks: nn.Sequential

    @property
    def grid(self) -> int:
        return self.window // self.patch_size

    @abstractmethod
    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        """Return tokens_BLD of all patches, row-major, with their positions.

        Raises:
            UserError: a size that is not a multiple of the patch.
        """

    @abstractmethod
    def encode(self, tokens_BKD: Tensor) -> Tensor:
        """Return encoded tokens, the class token first and then those given, normalised."""


def transformer_blocks(width: int, depth: int, heads: int) -> nn.Sequential:
    """Make pre-norm blocks: biased attention, exact GELU, four times as wide inside, norm eps 1e-6."""
    norm = partial(nn.LayerNorm, eps=1e-6)
    return nn.Sequential(*(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)))  # type: ignore[arg-type]


def initialise(module: nn.Module) -> None:
    """Give fresh weights to linear layers (Xavier) and norms, as MAE does; use with `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
