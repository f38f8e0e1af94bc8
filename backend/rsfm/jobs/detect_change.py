"""Show where two rasters differ, without labels."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.differences.unlabelled_config import UNLABELLED_METHODS, UnlabelledConfig
from rsfm.job import Job
from rsfm.params import AUTOMATIC, Device, OptionalModelPath, Pixels, SquareMetres
from rsfm.runs import Run

METHODS = {
    **UNLABELLED_METHODS,
    "dcva": "Deep change vectors (DCVA) of a model",
    "deep": "Embedding difference of a model",
}
READ_ENCODER = frozenset({"dcva", "deep"})


class DetectChangeConfig(UnlabelledConfig, AlignedPairConfig):
    """Shows where two rasters differ, not what changed or whether it matters.

    Crops, season, haze, clouds and shadow count as differences. Whether the two differ at all beyond one pixel of
    misalignment is tested first, and said.
    """

    method: str = Field(
        "automatic",
        description="How difference is measured; automatic takes IR-MAD, which ignores changes of gain and colour, "
        "unless the two dates have nothing in common.",
        json_schema_extra={"choices": list(METHODS), "titles": list(METHODS.values()), "advanced": True},
        pattern=f"^({'|'.join(METHODS)})$",
    )
    all_methods: bool = Field(
        False,
        title="Other methods as layers, too",
        description="Also write the magnitudes of IR-MAD, plain difference and their mean rank.",
        json_schema_extra={"advanced": True},
    )
    minimum_area: Annotated[SquareMetres, AUTOMATIC] = Field(
        0, ge=0, le=1e9, description="Changes smaller than this are left out; 0 takes 40 pixels."
    )
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder whose difference becomes a second layer; best is one that learned from both "
        "dates, with the same place on the other date as its positive. Or a model made by 'Teach Change', which then "
        "makes the map by itself.",
    )
    tile_size: Annotated[Pixels, AUTOMATIC] = Field(
        0,
        ge=0,
        le=4096,
        multiple_of=32,
        description="Side of a tile for a model made by 'Teach Change'; 0 takes that of its windows.",
        json_schema_extra={"advanced": True},
    )
    classes: OptionalModelPath = Field(
        None,
        description="Model made by fine-tuning on classes: maps them at both dates and tells what became what.",
        json_schema_extra={"advanced": True},
    )
    level: Literal["early", "late"] = Field(
        "early",
        title="Features",
        description="Which features of the encoder are compared: early ones, of small shapes, or late ones.",
        json_schema_extra={"advanced": True},
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")

    @model_validator(mode="after")
    def _has_a_model(self) -> "DetectChangeConfig":
        if self.method in READ_ENCODER and not self.model:
            raise ValueError(
                f"'{METHODS[self.method]}' reads a pretrained encoder. Choose one under 'Model', or another method "
                "under 'Method'."
            )
        return self


class DetectChange(Job):
    name = "detect_change"
    title = "Detect Change"
    page = "change"
    Config = DetectChangeConfig

    @classmethod
    def device(cls, config: DetectChangeConfig) -> str | None:
        return config.device if config.model or config.classes else None

    def run(self, config: DetectChangeConfig, run: Run) -> dict[str, Any]:
        if _tells_change(config.model):
            from rsfm.differences.taught_map import map_change

            result = map_change(config, run)
        else:
            from rsfm.change import detect_change

            result = detect_change(config, run)
        if config.classes:
            from rsfm.differences.from_to import tell_from_to

            result |= tell_from_to(config, run)
        return result


def _tells_change(model: str | None) -> bool:
    """Tell whether a model was made by 'Teach Change'."""
    if model is None:
        return False
    from rsfm.differences.change_network import tells_change
    from rsfm.model_file import read_card

    return tells_change(read_card(model))
