"""Write a model of ours into a file that other programs read."""

from typing import Any, Literal

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import Config, ModelPath, OptionalRasterPath
from rsfm.runs import Run


class ExportModelConfig(Config):
    """Writes a model into a file that other programs read: ONNX, timm, torchgeo or torch.export.

    The finished file is read back and must give the values of the model itself, on tiles of your raster if you choose
    one; otherwise there is no file. A text beside it says what goes in, in which order and unit, and what comes out.
    An ONNX file of a fine-tuned model is set up for the QGIS plugin Deepness.
    """

    model: ModelPath = Field(description="Fine-tuned model, or encoder, to export.")
    format: Literal["onnx", "torch_export", "timm", "torchgeo"] = Field(
        "onnx",
        description="Kind of file; the last two keep the encoder's weights alone.",
        json_schema_extra={
            "titles": [
                "ONNX, also for Deepness (.onnx)",
                "PyTorch program (.pt2)",
                "Encoder's weights for timm (.safetensors)",
                "Encoder's weights for torchgeo (.pth)",
            ]
        },
    )
    raster: OptionalRasterPath = Field(
        None,
        description="Raster it will be used on: gives the nodata value, and tiles to check the file on; "
        "empty checks on made-up pixels.",
    )
    tiling: TilingConfig = Field(TilingConfig(), description="Tiles that the file will be given; their side is fixed.")


class ExportModel(Job):
    name = "export_model"
    title = "Export a Model"
    page = "pretrain"
    Config = ExportModelConfig
    rank = 2

    def run(self, config: ExportModelConfig, run: Run) -> dict[str, Any]:
        from rsfm.exporting import export_model

        return export_model(config, run)
