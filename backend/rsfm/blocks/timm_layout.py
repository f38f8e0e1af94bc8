"""Weights under the names that timm gives them, with the call that makes the model they fill.

Shape letters: B batch, C bands, S side of a window, D features, T tokens.
"""

from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor

from rsfm.blocks.learned_vit import LearnedViT
from rsfm.blocks.transformer import TokenEncoder, lay_out
from rsfm.encoder import Encoder
from rsfm.errors import UserError

PUBLISHED = {
    (192, 12, 3, 16): "vit_tiny_patch16_224",
    (384, 12, 6, 16): "vit_small_patch16_224",
    (384, 12, 6, 8): "vit_small_patch8_224",
    (768, 12, 12, 16): "vit_base_patch16_224",
    (768, 12, 12, 8): "vit_base_patch8_224",
    (1024, 24, 16, 16): "vit_large_patch16_224",
    (1280, 32, 16, 14): "vit_huge_patch14_224",
}
"""Names of vision transformers by width, depth, heads and patch."""
ANY = "vit_base_patch16_224"


class TimmModel(NamedTuple):
    """Weights that fill `timm.create_model(name, **arguments)` exactly.

    Attributes:
        side: of the windows that its positions are made for; None when it has none.
    """

    name: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    side: int | None

    @property
    def call(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f'timm.create_model("{self.name}"{given})'


def timm_layout(encoder: Encoder, config: dict[str, Any]) -> TimmModel:
    """Name an encoder's weights as timm does.

    Args:
        config: of the encoder.

    Raises:
        UserError: timm has no such network.
    """
    weights = {name: value.detach().contiguous() for name, value in encoder.state_dict().items()}
    arguments: dict[str, Any] = {"in_chans": encoder.bands, "num_classes": 0}
    if encoder.name == "resnet":
        return TimmModel(f"resnet{config['depth']}", arguments, weights, None)
    if not isinstance(encoder, TokenEncoder) or encoder.name not in ("vit", "vit_learned"):
        raise UserError(
            f"timm has no network like the encoder '{encoder.name}' of this model; it has the plain vision "
            "transformers ('vit', 'vit_learned') and 'resnet'. Choose ONNX or PyTorch program under 'Format'.",
            "format",
        )
    first: Any = encoder.blocks[0]
    shape = (encoder.width, len(encoder.blocks), first.attn.num_heads, encoder.patch_size)
    name = PUBLISHED.get(shape)
    if name is None:
        arguments |= dict(zip(("embed_dim", "depth", "num_heads", "patch_size"), shape, strict=True))
    arguments |= {"img_size": encoder.window, "global_pool": "token"}
    if isinstance(encoder, LearnedViT) and encoder.last_tokens:
        arguments["reg_tokens"] = encoder.last_tokens
        weights["reg_token"] = weights.pop("gsd_register")
        class_11D, patches_1LD, last_11D = weights["pos_embed"].split([1, encoder.grid**2, encoder.last_tokens], dim=1)
        weights["pos_embed"] = torch.cat([class_11D, last_11D, patches_1LD], dim=1)
    return TimmModel(name or ANY, arguments, weights, encoder.window)


def timm_features(name: str, arguments: dict[str, Any], weights: dict[str, Tensor], normal_BCSS: Tensor) -> Tensor:
    """Load weights into timm's own network, all of them, and return its features_BDhw."""
    network: Any = timm.create_model(name, **arguments).eval()
    network.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        found: Tensor = network.forward_features(normal_BCSS)
    if found.ndim == 4:
        return found
    side = normal_BCSS.shape[-1] // network.patch_embed.patch_size[0]
    return lay_out(found[:, network.num_prefix_tokens :], side, side)
