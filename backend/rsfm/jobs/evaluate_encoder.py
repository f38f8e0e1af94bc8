"""Say what an encoder is worth for classes of places, by the protocols of DINO and SatDINO."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import AUTOMATIC, Config, Device, FieldName, Metres, ModelPath, RasterPath, Seed, VectorPath
from rsfm.runs import Run


class EvaluateEncoderConfig(Config):
    """Asks an encoder for the class of squares of ground, without training it, as DINO and SatDINO are judged.

    A vote of the nearest neighbours at four scales, a linear layer trained as in both papers, and logistic regression;
    beside mean and spread of the raw pixels, which an encoder must pass. Half of the blocks of ground is learnt from,
    the other half is asked.
    """

    raster: RasterPath = Field(description="Raster that shows the places.")
    model: ModelPath = Field(description="Pretrained encoder to judge.", json_schema_extra={"needs": "encoder"})
    labels: VectorPath = Field(
        description="Polygons or points with a class: of each the square around its middle is looked at.",
        json_schema_extra={"geometry": "any"},
    )
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    side: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of squares", ge=0, le=1e6, description="Side of the squares; 0 takes the window of pretraining."
    )
    block: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks that are held out; 0 chooses it."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks and the same order of training.")


class EvaluateEncoder(Job):
    name = "evaluate_encoder"
    title = "Evaluate an Encoder"
    page = "explore"
    rank = 5
    Config = EvaluateEncoderConfig

    def run(self, config: EvaluateEncoderConfig, run: Run) -> dict[str, Any]:
        from rsfm.evaluation.encoder_judging import evaluate_encoder

        return evaluate_encoder(config, run)
