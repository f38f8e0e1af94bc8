"""Teach a head from labelled polygons, beside the baselines that it must beat."""

from typing import Annotated, Any

from pydantic import Field

from rsfm import heads, registry
from rsfm.head import Decoder, Head
from rsfm.job import Job, Preset
from rsfm.params import (
    AUTOMATIC,
    Config,
    Device,
    FieldName,
    Hint,
    Metres,
    OptionalModelPath,
    OptionalVectorPath,
    Pixels,
    RasterPath,
    Seed,
    VectorPath,
)
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.learning_config import LearningConfig

QUICK = {
    "minutes": 5,
    "batch_size": 8,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "beta2": 0.999,
    "decay_all": False,
    "warmup": 0.1,
    "clip_norm": 5.0,
}
PERA = {
    **QUICK,
    "minutes": 0,
    "epochs": 200,
    "learning_rate": 1e-4,
    "final_rate": 0.05,
    "weight_decay": 1e-4,
    "decay_all": True,
    "clip_norm": 0,
}
PERA_HEAD = {"name": "upernet", "channels": 512, "auxiliary_channels": 256}
PERA_LEARNING = {"encoder": "all", "layer_decay": 1.0, "drop_path": 0.1, "balanced": False, "zoom": 2.0}


class FinetuneConfig(Config):
    """Learns classes from a few labelled polygons, and says what a pretrained encoder is worth for them.

    The linear head is fitted on raw pixels, on pixels with local texture, on the untrained encoder and on the
    pretrained one. The best one by cross-validation over polygons is kept. UPerNet and DPT learn for minutes, with as
    much of the encoder as you like, from the blocks that are not held out; the linear head's scores stand beside
    theirs. What is not labelled is ignored, in learning and in scores.
    """

    raster: RasterPath = Field(description="Raster to learn the classes on.")
    labels: VectorPath = Field(description="Polygons with a class.")
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder; empty compares the baselines alone.",
        json_schema_extra={"needs": "encoder"},
    )
    head: registry.choice_of(heads, Head) = Field(  # type: ignore[valid-type]
        {"name": "linear"}, description="What is trained on top."
    )
    features: str = Field(
        "best",
        description="Features to keep.",
        json_schema_extra={
            "choices": ["best", "pretrained", "untrained", "texture", "pixels"],
            "titles": [
                "Choose the best for me",
                "Pretrained encoder",
                "Untrained encoder",
                "Pixels and texture",
                "Pixels",
            ],
        },
        pattern="^(best|pretrained|untrained|texture|pixels)$",
    )
    validation: OptionalVectorPath = Field(
        None,
        description="Polygons to judge by, with the same attribute: nothing is learned from them. Empty holds out "
        "blocks of the labels.",
    )
    block: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks held out for the scores; 0 chooses it."
    )
    folds: Annotated[int, Hint(advanced=True)] = Field(
        1,
        ge=1,
        le=20,
        description="Parts that the blocks are dealt into, each held out once: a steadier score. 1 holds out half of "
        "the blocks, once, as UPerNet and DPT need it.",
    )
    training: TrainingConfig = Field(
        TrainingConfig.model_validate(QUICK), description="Budget and optimizer of UPerNet and DPT."
    )
    learning: LearningConfig = Field(LearningConfig(), description="How UPerNet and DPT learn.")
    window: Pixels = Field(
        128, ge=32, le=2048, multiple_of=32, description="Side of the windows that UPerNet and DPT learn from."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks and the same head.")


class Finetune(Job):
    name = "finetune"
    title = "Fine-Tune on Polygons"
    page = "fine_tune"
    Config = FinetuneConfig

    @classmethod
    def presets(cls) -> list[Preset]:
        potsdam = {"head": PERA_HEAD, "training": PERA, "learning": PERA_LEARNING, "window": 512}
        loveda = {**potsdam, "training": {**PERA, "learning_rate": 5e-5, "final_rate": 0.1}}
        small = {"head": {"name": "upernet"}, "training": QUICK, "learning": {"encoder": "adapters"}}
        return [
            Preset("quick", "Linear head", "Seconds, from a few polygons on.", {"head": {"name": "linear"}}),
            Preset(
                "decoder",
                "UPerNet",
                "Minutes, from a hundred polygons on; the encoder learns, too.",
                {"head": {"name": "upernet"}, "training": QUICK, "learning": {"encoder": "all"}},
            ),
            Preset("adapters", "UPerNet, small additions", "For a large transformer and few polygons.", small),
            Preset("official", "PerA, Potsdam", "As published: 200 passes over windows of 512 px, for a GPU.", potsdam),
            Preset("loveda", "PerA, LoveDA", "As published, at half the learning rate; for a GPU.", loveda),
        ]

    def run(self, config: FinetuneConfig, run: Run) -> dict[str, Any]:
        member = registry.member(heads, config.head.name, Head)
        if issubclass(member, Decoder):
            from rsfm.training.decoder_training import finetune_decoder

            return finetune_decoder(config, run)
        from rsfm.training.finetuning import finetune

        return finetune(config, run)
