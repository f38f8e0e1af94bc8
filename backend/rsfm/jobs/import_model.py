"""Bring weights that others trained into a model file of our own."""

from typing import Any

from pydantic import Field, field_validator

from rsfm.job import Job
from rsfm.params import Config, FilePath, OptionalRasterPath
from rsfm.published_scaling import SCALINGS
from rsfm.runs import Run


class ImportModelConfig(Config):
    """Makes a model file of a checkpoint that others trained.

    Known are MoCo, GASSL, MAE, SatMAE, DINO, SatDINO, PerA, data2vec, SeCo, SSL4EO-S12 and torchgeo. Nothing in the
    file is run. All weights of the encoder must be there, or nothing is imported. How the pixels were scaled is known
    for published models; for others say it under 'Scaling'.
    """

    checkpoint: FilePath = Field(
        description="File of weights, such as .pth, .pth.tar, .ckpt, .params or .safetensors.",
        json_schema_extra={"filter": "Weights (*.pth *.pt *.tar *.ckpt *.params *.bin *.safetensors);;All files (*)"},
    )
    raster: OptionalRasterPath = Field(
        None, description="Raster it will be used on: its bands are matched by name. Empty keeps the file's bands."
    )
    bands: str = Field(
        "", max_length=2000, description="Bands the file reads, in order, such as B4,B3,B2; empty takes the published."
    )
    groups: str = Field(
        "", max_length=2000, description="For SatMAE on groups: their band numbers, such as 1,2,3,7; 4,5,6,8; 9,10."
    )
    scaling: str = Field(
        "published",
        description="How pixels are scaled before the encoder sees them.",
        json_schema_extra={
            "choices": ["published", "raster", *SCALINGS],
            "titles": [
                "As published, if that is known",
                "By the raster's own mean and spread",
                *(scaling.title for scaling in SCALINGS.values()),
            ],
        },
    )
    offset: float = Field(
        0,
        ge=-100000,
        le=100000,
        description="Taken off every pixel first: 1000 for Sentinel-2 products since 25 January 2022 (baseline 04.00).",
    )

    @field_validator("scaling")
    @classmethod
    def _known(cls, name: str) -> str:
        known = ["published", "raster", *SCALINGS]
        if name not in known:
            raise ValueError(f"There is no scaling '{name}'. Choose one of {', '.join(known)} under 'Scaling'.")
        return name


class ImportModel(Job):
    name = "import_model"
    title = "Import a Model"
    page = "pretrain"
    Config = ImportModelConfig
    rank = 1

    def run(self, config: ImportModelConfig, run: Run) -> dict[str, Any]:
        from rsfm.importing import import_model

        return import_model(config, run)
