"""Teach what changed between two dates from polygons."""

from typing import Annotated, Any

from pydantic import Field

from rsfm import encoders, registry
from rsfm.differences import change_heads
from rsfm.differences.change_head import ChangeHead
from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.encoder import Encoder
from rsfm.job import Job, Preset
from rsfm.params import (
    AUTOMATIC,
    Area,
    Device,
    FieldName,
    Fraction,
    Metres,
    OptionalModelPath,
    OptionalVectorPath,
    Pixels,
    Seed,
)
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig

QUICK = {
    "minutes": 10,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "beta2": 0.999,
    "clip_norm": 1.0,
    "warmup": 0.05,
}
BIT = {
    **QUICK,
    "minutes": 0,
    "epochs": 200,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "clip_norm": 0.0,
    "warmup": 0.0,
}
PERA = {**QUICK, "minutes": 0, "epochs": 500, "learning_rate": 1e-4, "final_rate": 0.01}


class FinetuneChangeConfig(AlignedPairConfig):
    """Learns what you mean by change from polygons drawn around some of it.

    What is not drawn is ignored, so say where nothing changed, too: by an area in which every change is drawn, by
    polygons, or by a class. Blocks of ground are held out, and the score on them stands beside that of IR-MAD, which
    learns nothing but a threshold.
    """

    changes: OptionalVectorPath = Field(
        None, description="Polygons around what changed; empty where classes of both dates are given."
    )
    class_field: FieldName = Field(
        "",
        description="Attribute that holds the kind of change, or the class; empty makes one kind of all changes.",
        json_schema_extra={"of": "changes"},
    )
    unchanged_class: str = Field("unchanged", description="Value of that attribute which says that nothing changed.")
    complete: Area = Field(
        None,
        title="All drawn in",
        description="Where every change has its polygon, so that the rest did not change: a rectangle, polygons, or a "
        "vector file; empty is nowhere.",
    )
    unchanged: OptionalVectorPath = Field(None, description="Polygons in which nothing changed.")
    before_classes: OptionalVectorPath = Field(
        None,
        description="Polygons with a class at the earlier date, in place of changes.",
        json_schema_extra={"advanced": True},
    )
    after_classes: OptionalVectorPath = Field(
        None,
        description="Polygons with a class at the later date; another class is change.",
        json_schema_extra={"advanced": True},
    )
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder to start from; empty starts from the one below.",
        json_schema_extra={"needs": "encoder"},
    )
    encoder: registry.choice_of(encoders, Encoder) = Field(  # type: ignore[valid-type]
        {"name": "conv_small"}, description="The network under the head, where no pretrained one is given."
    )
    head: registry.choice_of(change_heads, ChangeHead) = Field(  # type: ignore[valid-type]
        {"name": "bit"}, description="What is trained on top."
    )
    frozen: bool = Field(False, title="Keep the encoder", description="Train the head alone: faster, and less exact.")
    either_way: bool = Field(
        True, description="The order of the dates means nothing: what came and what went away are the same change."
    )
    by_date: bool = Field(
        True,
        title="Standardise each date",
        description="Bring each date to zero mean and unit spread by its own pixels, so that gain, haze and season "
        "matter less; otherwise both are scaled alike.",
    )
    training: TrainingConfig = Field(TrainingConfig.model_validate(QUICK), description="Budget and optimizer.")
    window: Pixels = Field(
        128, ge=32, le=2048, multiple_of=32, description="Side of a window, and of the tiles that are mapped later."
    )
    zoom: Fraction = Field(1.2, ge=1, le=2, description="Windows are enlarged by a random factor of up to this.")
    block: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks held out for the score; 0 chooses it."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks, windows and weights.")


class FinetuneChange(Job):
    name = "finetune_change"
    title = "Teach Change"
    page = "change"
    is_long = True
    Config = FinetuneChangeConfig
    rank = 3

    @classmethod
    def presets(cls) -> list[Preset]:
        resnet = {"name": "resnet", "depth": "18"}
        return [
            Preset("quick", "Quick", "Minutes on a CPU.", {"training": QUICK}),
            Preset(
                "bit",
                "BIT, as published",
                "The authors' settings: a ResNet-18, 200 passes over windows of 256 px, for a GPU.",
                {"training": BIT, "encoder": resnet, "head": {"name": "bit"}, "window": 256, "either_way": False},
            ),
            Preset(
                "pera",
                "PerA",
                "PerA's settings for change: 500 passes over windows of 512 px on a pretrained encoder, for a GPU.",
                {"training": PERA, "head": {"name": "bit"}, "window": 512},
            ),
        ]

    def run(self, config: FinetuneChangeConfig, run: Run) -> dict[str, Any]:
        from rsfm.differences.teaching import finetune_change

        return finetune_change(config, run)
