"""Brings weights that others trained into our own model files. A member of `importers/` knows one family of layouts.

It never guesses: a file is of one family or it is refused, and an encoder is filled as a whole or not at all.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rsfm import importers, registry
from rsfm.blocks.positions import sincos_2d
from rsfm.checkpoint_file import Checkpoint
from rsfm.errors import UserError
from rsfm.model_file import build_encoder

FIELD = "checkpoint"
HEADS = {1280: 16}
"""Attention heads of widths that are not 64 for each head: MAE's ViT-H."""
STAGES: dict[tuple[str, tuple[int, ...]], str] = {("basic", (2, 2, 2, 2)): "18", ("bottleneck", (3, 4, 6, 3)): "50"}


class Backbone(NamedTuple):
    """An encoder that fits some weights.

    Attributes:
        config: of a member of `encoders/`.
        bands: C, that it reads.
        weights: by our names.
    """

    config: dict[str, Any]
    bands: int
    weights: dict[str, Tensor]


class Found(NamedTuple):
    """What a member made of a checkpoint.

    Attributes:
        method: name of the method that trained it; empty if the file does not tell.
        band_names: of what it reads, in order; empty if that cannot be known.
        scaling: how its pixels were scaled, a name of `published_scaling`; empty if that cannot be known.
        left_out: names of the weights that are no part of the encoder, such as heads and queues.
        notes: what the user should know.
    """

    backbone: Backbone
    method: str = ""
    band_names: tuple[str, ...] = ()
    scaling: str = ""
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Importer(ABC):
    """A family of layouts.

    Attributes:
        name: the module's name.
        title: what people call it.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def find(self, checkpoint: Checkpoint) -> Found | None:
        """Translate a checkpoint of this family; None for any other.

        Raises:
            UserError: it is of this family, but of an architecture there is no encoder for.
        """


class Report(NamedTuple):
    """How weights fit an encoder: names of its tensors that were found, were not, are too many, or of another shape."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        wanted = len(self.matched) + len(self.missing) + len(self.misshapen)
        parts = [f"{len(self.matched)} of {wanted} tensors matched"]
        lists = (("missing", self.missing), ("of another shape", self.misshapen), ("not known", self.unexpected))
        for word, names in lists:
            if names:
                more = ", ..." if len(names) > 4 else ""
                parts.append(f"{len(names)} {word} ({', '.join(names[:4])}{more})")
        return "; ".join(parts)


def recognise(checkpoint: Checkpoint) -> tuple[type[Importer], Found]:
    """Find the family of a checkpoint.

    Raises:
        UserError: none knows it.
    """
    members = registry.members(importers, Importer)  # type: ignore[type-abstract]
    answers = [(member, member().find(checkpoint)) for member in members.values()]
    fitting = [(member, found) for member, found in answers if found is not None]
    if not fitting:
        state = next(iter(checkpoint.states.values()))
        raise UserError(
            f"'{checkpoint.path.name}' is of no known kind: it holds {', '.join(list(state)[:4])} ... Known are: "
            f"{', '.join(member.title for member in members.values())}.",
            FIELD,
        )
    if len(fitting) > 1:
        raise LookupError(f"{' and '.join(member.name for member, _ in fitting)} both take {checkpoint.path.name}")
    return fitting[0]


def compare(backbone: Backbone) -> Report:
    """Compare weights with the encoder they are for, without making its weights."""
    with torch.device("meta"):
        state = build_encoder(backbone.config, backbone.bands).state_dict()
    shapes = {name: value.shape for name, value in state.items()}
    ours = {name: value.shape for name, value in backbone.weights.items()}
    optional = {name for name in shapes if name.endswith("num_batches_tracked")}
    return Report(
        tuple(name for name in shapes if ours.get(name) == shapes[name] or (name in optional and name not in ours)),
        tuple(name for name in shapes if name not in ours and name not in optional),
        tuple(name for name in ours if name not in shapes),
        tuple(name for name in shapes if name in ours and ours[name] != shapes[name]),
    )


def check_complete(checkpoint: Checkpoint, importer: type[Importer], report: Report) -> None:
    """Refuse weights that do not fill the encoder exactly.

    Raises:
        UserError: something is missing, too many, or of another shape.
    """
    if not report.complete:
        raise UserError(
            f"'{checkpoint.path.name}' looks like {importer.title}, but does not fill its encoder: {report}. "
            "A part of random weights would be worse than none; choose a complete file under 'Checkpoint'.",
            FIELD,
        )


def full_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as the file will hold them: whole numbers as they are, others as float32 (half ones upcast)."""
    return {
        name: (value.float() if value.is_floating_point() else value).contiguous() for name, value in weights.items()
    }


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return what is under a prefix, without it; the prefix counts at the start of a name alone."""
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def without(weights: Mapping[str, Tensor], *prefixes: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take out what starts with any of the prefixes; return the rest and the names that were taken out."""
    out = tuple(name for name in weights if name.startswith(prefixes))
    return {name: value for name, value in weights.items() if name not in out}, out


def last_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call the last norm of a transformer `norm`, also where fine-tuning on the mean has put it behind the mean."""
    if "norm.weight" in weights or "fc_norm.weight" not in weights:
        return dict(weights)
    return {f"norm.{name[8:]}" if name.startswith("fc_norm.") else name: value for name, value in weights.items()}


def backbone_of(weights: dict[str, Tensor], pooling: str) -> Backbone | None:
    """Make the backbone that weights of ordinary names belong to, a ResNet or a vision transformer; else None."""
    if "conv1.weight" in weights and "bn1.weight" in weights:
        return Backbone({"name": "resnet", "depth": resnet_depth(weights)}, weights["conv1.weight"].shape[1], weights)
    if "patch_embed.proj.weight" not in weights or "pos_embed" not in weights or "cls_token" not in weights:
        return None
    config = vit_config(weights, weights["patch_embed.proj.weight"], pooling)
    positions_1LD = weights["pos_embed"]
    patches = positions_1LD.shape[1] - 1 - int("gsd_register" in weights)
    config["window"] = side_of(patches) * config["patch_size"]
    fixed = "gsd_register" not in weights and is_fixed(positions_1LD)
    config["name"] = "vit" if fixed else "vit_learned"
    if "gsd_register" in weights:
        config["gsd_token"] = True
    return Backbone(config, weights["patch_embed.proj.weight"].shape[1], weights)


def vit_config(weights: Mapping[str, Tensor], patches_DCpp: Tensor, pooling: str) -> dict[str, Any]:
    """Read the size of a vision transformer off its weights: all but its name and window."""
    width = weights["cls_token"].shape[-1]
    if width % 64:
        raise UserError(
            f"The transformer in this file is {width} features wide, and the number of its attention heads cannot be "
            "told: published ones have 64 features a head. Choose another file under 'Checkpoint'.",
            FIELD,
        )
    depth = 1 + max((int(name.split(".")[1]) for name in weights if re.match(r"blocks\.\d+\.", name)), default=0)
    return {
        "size": "free",
        "patch_size": patches_DCpp.shape[-1],
        "width": width,
        "depth": depth,
        "heads": HEADS.get(width, width // 64),
        "pooling": pooling,
    }


def resnet_depth(weights: Mapping[str, Tensor]) -> str:
    """Read the depth of a ResNet off its weights.

    Raises:
        UserError: one that there is no encoder for.
    """
    kind = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    blocks = {name.rsplit(".", 2)[0] for name in weights if re.fullmatch(r"layer\d\.\d+\.conv1\.weight", name)}
    stages = tuple(sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in (1, 2, 3, 4))
    if (kind, stages) not in STAGES:
        raise UserError(
            f"This file holds a ResNet of {', '.join(map(str, stages))} {kind} blocks. Known are ResNet-18 and "
            "ResNet-50; choose a file of one of them under 'Checkpoint'.",
            FIELD,
        )
    return STAGES[kind, stages]


def is_fixed(positions_1LD: Tensor) -> bool:
    """Tell whether positions are the sines and cosines that an encoder makes itself, and not learned ones."""
    patches, width = positions_1LD.shape[1] - 1, positions_1LD.shape[2]
    side = math.isqrt(patches)
    if side * side != patches or width % 4:
        return False
    table_LD = sincos_2d(width, side, side, class_token=True)
    return torch.allclose(positions_1LD[0].double(), table_LD, atol=2e-3)  # half precision keeps three digits


def side_of(patches: int) -> int:
    """Return the side of a square grid of patches.

    Raises:
        UserError: they are no square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(
            f"The positions in this file are those of {patches} patches, which are no square. "
            "Choose another file under 'Checkpoint'.",
            FIELD,
        )
    return side
