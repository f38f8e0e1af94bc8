"""The ViT-Adapter against its authors' code: every map, the gradients, the attention alone, the published size.

Shape letters: B windows, C bands, H rows, W columns, L patches, N prior tokens, Q queries, D width, h and w rows and
columns of a map.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.deformable_attention import DeformableAttention
from rsfm.blocks.positions import resize_positions
from rsfm.blocks.transformer import transformer_blocks
from rsfm.blocks.vit_adapter import ViTAdapter, ViTAdapterConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.errors import UserError
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_rule import rule_weights

ACTIVATION = {"atol": 1e-4}
GRADIENT = {"rtol": 2e-3, "atol": 1e-6}
ATTENTION = {"atol": 1e-5}
WHOLE = {"atol": 5e-4}
ATTENTION_HEADS = 4
"""Of the attention that is compared alone, as the README says."""


class Adapter(Golden):
    name = "vit_adapter"

    def checks(self, case: Case) -> Iterator[Check]:
        yield from check_rule(case)
        adapter = load(case.config["config"], case.weights("weights.safetensors"), case)
        yield from check_maps(case, adapter)
        yield from check_gradients(case, adapter)
        yield from check_attention(case)
        yield from check_published_size(case)


class AsPublished(ViTLearned):
    """A transformer whose positions are resized as the adapter's authors do."""

    def positions(self, pixels_BCHW: Tensor) -> Tensor:
        return resize_positions(self.pos_embed, *self.patches(pixels_BCHW))[:, 1:]


def load(config: dict[str, Any], weights: Mapping[str, Tensor], case: Case) -> ViTAdapter:
    """Build an adapter around its transformer, with weights by the authors' names.

    Raises:
        UserError: they are not exactly the parts that the module has, or windows of attention are asked for.
    """
    if any(config.get("window_attn", ())):
        raise UserError(f"'{case.folder}' asks for attention in windows, which this project has not.")
    encoder = AsPublished(
        ViTLearnedConfig(
            patch_size=config["patch_size"],
            window=config["pretrain_size"],
            width=config["embed_dim"],
            depth=config["depth"],
            heads=config["num_heads"],
        ),
        weights["patch_embed.proj.weight"].shape[1],
    )
    scale = 1.0 if any(name.endswith("gamma1") for name in weights) else None
    size = (config["embed_dim"], config["depth"], config["num_heads"], config["mlp_ratio"])
    encoder.blocks = transformer_blocks(*size, layer_scale=scale)
    adapter = ViTAdapter(
        ViTAdapterConfig(
            prior_width=config["conv_inplane"],
            points=config["n_points"],
            heads=config["deform_num_heads"],
            value_ratio=config["deform_ratio"],
            mixer_ratio=config["cffn_ratio"],
        ),
        encoder,
        [(first, last) for first, last in config["interaction_indexes"]],
    )
    ours = {our_name(name): value for name, value in weights.items()}
    unused = {name for name in adapter.state_dict() if name.startswith(("encoder.norm.", "encoder.cls_token"))}
    if set(ours) != set(adapter.state_dict()) - unused:
        wrong = sorted(set(ours) ^ (set(adapter.state_dict()) - unused))
        raise UserError(f"The weights of '{case.folder}' do not fit its config: {wrong[:5]}.")
    adapter.load_state_dict(ours, strict=False)
    return adapter.eval()


def our_name(name: str) -> str:
    """Translate a name of the authors': the transformer's parts are the encoder's."""
    name = re.sub(r"^(blocks\.\d+)\.gamma([12])$", r"\1.ls\2.gamma", name)
    return f"encoder.{name}" if name.startswith(("pos_embed", "patch_embed.", "blocks.")) else name


def check_rule(case: Case) -> Iterator[Check]:
    """Compare the stored weights with those by the rule, which stand in where none are stored."""
    stored = case.weights("weights.safetensors")
    if "seed" in case.config:
        made = rule_weights({name: tuple(value.shape) for name, value in stored.items()}, case.config["seed"])
        wrong = sum(int((made[name] != value).sum()) for name, value in stored.items())
        yield Check("weights by the rule that differ", wrong, 0)


@torch.no_grad()
def check_maps(case: Case, adapter: ViTAdapter) -> Iterator[Check]:
    """Compare the prior, both sides after every interaction, and the maps."""
    pixels_BCHW = case.tensor("input").float()
    encoder: Any = adapter.encoder
    yield from case.check("pos_embed_resized", encoder.positions(pixels_BCHW), **ACTIVATION)
    for index, prior_BDhw in enumerate(adapter.spm(pixels_BCHW), start=1):
        prior = prior_BDhw if index == 1 else prior_BDhw.flatten(2).mT
        yield from case.check(f"spm.c{index}", prior, **ACTIVATION)
    seen: dict[str, Tensor] = {}
    for index, interaction in enumerate(adapter.interactions):
        _remember(interaction, seen, f"inter{index}.x", f"inter{index}.c")
        _remember(interaction.get_submodule("injector"), seen, f"inter{index}.injector_out")
        _remember(interaction.get_submodule("extractor"), seen, f"inter{index}.extractor_out")
    maps = adapter.feature_maps(pixels_BCHW)
    for name, value in seen.items():
        yield from case.check(name, value, **ACTIVATION)
    for index, each in enumerate(maps, start=1):
        yield from case.check(f"out{index}", each.features_BDhw, **ACTIVATION)


def _remember(module: torch.nn.Module, seen: dict[str, Tensor], *names: str) -> None:
    """Keep what a module returns, by names."""

    def keep(_module: Any, _given: Any, found: Any) -> None:
        seen.update(zip(names, found if isinstance(found, tuple) else (found,), strict=True))

    module.register_forward_hook(keep)


def check_gradients(case: Case, adapter: ViTAdapter) -> Iterator[Check]:
    """Compare the gradients of the first window's mean squares."""
    if "grad_loss" not in case:
        return
    pixels_BCHW = case.tensor("input").float()[:1].requires_grad_()
    loss = torch.stack([each.features_BDhw.square().mean() for each in adapter.feature_maps(pixels_BCHW)]).sum()
    torch.autograd.backward(loss)
    yield from case.check("grad_loss", loss.reshape(case.array("grad_loss").shape), **GRADIENT)
    assert pixels_BCHW.grad is not None  # noqa: S101  it was asked for
    yield from case.check("grad_input_sub", pixels_BCHW.grad[:, :, ::4, ::4], **GRADIENT)
    ours = dict(adapter.named_parameters())
    for name in case.arrays:
        if name.startswith("grad."):
            yield compare(name, ours[our_name(name[5:])].grad, case.array(name), **GRADIENT)


@torch.no_grad()
def check_attention(case: Case) -> Iterator[Check]:
    """Compare the attention alone, with places outside the maps."""
    if "msda.out" not in case:
        return
    weights = {name[7:]: case.tensor(name) for name in case.arrays if name.startswith("msda.w.")}
    sizes = [(rows, columns) for rows, columns in case.array("msda.spatial_shapes").tolist()]
    width, inner = weights["output_proj.weight"].shape
    heads = case.config.get("msda_heads", ATTENTION_HEADS)
    points = len(weights["attention_weights.bias"]) // (heads * len(sizes))
    attention = DeformableAttention(width, len(sizes), heads, points, inner / width)
    attention.load_state_dict(weights)
    found_BQD = attention(case.tensor("msda.query"), case.tensor("msda.ref"), case.tensor("msda.value"), sizes)
    yield from case.check("msda.out", found_BQD, **ATTENTION)


@torch.no_grad()
def check_published_size(case: Case) -> Iterator[Check]:
    """Compare the maps of the published configuration, whose weights are made by the rule."""
    if "full_config" not in case.config:
        return
    weights = rule_weights(case.config["full_keys"], case.config["rule_seed_full"])
    maps = load(case.config["full_config"], weights, case).feature_maps(case.tensor("full_input").float())
    for index, each in enumerate(maps, start=1):
        map_BDhw = each.features_BDhw[:, ::8]
        yield from case.check(f"full_out{index}_sub", map_BDhw[:, :, ::2, ::2] if index < 3 else map_BDhw, **WHOLE)
