"""Teach a detector from boxes around objects."""

from typing import Annotated, Any

from pydantic import Field

from rsfm import encoders, registry
from rsfm.detector_config import DetectorConfig
from rsfm.encoder import Encoder
from rsfm.job import Job, Preset
from rsfm.params import (
    AUTOMATIC,
    Area,
    Config,
    Device,
    FieldName,
    Metres,
    OptionalModelPath,
    Pixels,
    RasterPaths,
    Seed,
    VectorPath,
)
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig

QUICK = {
    "minutes": 5,
    "batch_size": 4,
    "learning_rate": 5e-4,
    "weight_decay": 1e-3,
    "beta2": 0.999,
    "clip_norm": 5.0,
    "warmup": 0.1,
}
OFFICIAL = {
    **QUICK,
    "minutes": 0,
    "epochs": 100,
    "batch_size": 16,
    "learning_rate": 1e-4,
}


class FinetuneBoxesConfig(Config):
    """Learns to find objects from boxes drawn around some of them.

    Draw every object of a part of the raster, and give that part under 'Area': what has no box there is learned as
    background. Blocks of ground are held out, and the score on them stands beside that of a plain search for places
    that look like the mean object.
    """

    rasters: RasterPaths = Field(description="Rasters on which the objects were drawn, with the same bands.")
    boxes: VectorPath = Field(description="Polygons; the box around each is what is learned.")
    class_field: FieldName = Field("", description="Attribute that holds the class; empty makes one class of all.")
    area: Area = Field(
        None,
        title="Area drawn in",
        description="Where every object has its box: a rectangle, polygons, or a vector file; empty is the raster.",
    )
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder to start from; empty starts from the one below.",
        json_schema_extra={"needs": "encoder"},
    )
    encoder: registry.choice_of(encoders, Encoder) = Field(  # type: ignore[valid-type]
        {"name": "conv_small"}, description="The network under the detector, where no pretrained one is given."
    )
    detector: DetectorConfig = Field(DetectorConfig(), description="What is trained on top.")
    training: TrainingConfig = Field(TrainingConfig.model_validate(QUICK), description="Budget and optimizer.")
    window: Pixels = Field(
        256, ge=32, le=2048, multiple_of=32, description="Side of a window; larger than the largest object."
    )
    block: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks held out for the score; 0 chooses it."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks, windows and weights.")


class FinetuneBoxes(Job):
    name = "finetune_boxes"
    title = "Teach Objects from Boxes"
    page = "fine_tune"
    is_long = True
    Config = FinetuneBoxesConfig
    rank = 1

    @classmethod
    def presets(cls) -> list[Preset]:
        large = {"width": 256, "box_features": 1024, "proposals": 2000, "samples": 512}
        return [
            Preset("quick", "Quick", "Minutes on a CPU.", {"training": QUICK}),
            Preset(
                "official",
                "As published",
                "PerA's settings: 100 passes over windows of 512 px, for a GPU.",
                {"training": OFFICIAL, "detector": large, "window": 512},
            ),
        ]

    def run(self, config: FinetuneBoxesConfig, run: Run) -> dict[str, Any]:
        from rsfm.training.box_training import finetune_boxes

        return finetune_boxes(config, run)
