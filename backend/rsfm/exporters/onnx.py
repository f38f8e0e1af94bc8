"""ONNX, with what the QGIS plugin Deepness reads from a file's metadata.

Deepness (PUTvision/qgis-plugin-deepness: docs/source/creators/creators_add_metadata_to_model.rst and
creators_description_classes.rst; src/deepness/processing/models/model_base.py, preprocessing_utils.py and
map_processor/map_processor_segmentation.py) takes a model of one input [batch, bands, side, side] and of outputs
[batch, classes, side, side]. It cuts tiles, divides every pixel by 255 whatever its type, subtracts
`standardization_mean` and divides by `standardization_std`, and takes the largest of the outputs that are not below
`seg_thresh`. Each value in the metadata is JSON:

    model_type             "Segmentor"
    class_names            {"0": "no data", "1": ...}, numbers without a gap from 0
    resolution             centimetres per pixel
    tile_size              pixels (the code reads this name, the documentation says tiles_size: both are written)
    tiles_overlap          percent of the tile's side
    standardization_mean   one number a band, after the division by 255
    standardization_std    the same
    seg_thresh             0: no threshold
    seg_small_segment      0: no median filter

Our graph takes pixels as they are stored, or in the unit of a collection, so mean and deviation undo the division (and
apply the raster's scale and offset): the same file serves Deepness and everybody else.
"""

import json
from pathlib import Path
from typing import Any

import onnx as onnx_format
import onnxruntime
import torch
from onnx import ModelProto
from torch import Tensor

from rsfm import __version__
from rsfm.errors import UserError
from rsfm.exporter import Exporter, Subject
from rsfm.portable import Portable

OPSET, IR_VERSION = 18, 8
"""What runtimes read since 2023."""
LARGEST = 2_000_000_000
"""Bytes of weights that fit one file: protobuf holds 2 GB."""
BYTE = 255.0


class Onnx(Exporter):
    name = "onnx"
    title = "ONNX"
    suffix = ".onnx"
    whole = True

    def write(self, subject: Subject, path: Path) -> dict[str, Any]:
        portable, side = subject.portable, self.side(subject)
        _check_size(portable)
        example = (torch.zeros(2, subject.model.card.bands, side, side),)
        program: Any = torch.onnx.export(
            portable,
            example,
            dynamo=True,
            input_names=["pixels"],
            output_names=list(portable.outputs),
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            verbose=False,
        )
        model = program.model_proto
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "rsfm", __version__
        model.doc_string = subject.model.card.title
        _name_batch(model)
        properties = deepness(subject, side) if portable.outputs == ("classes",) else {}
        onnx_format.helper.set_model_props(model, {name: json.dumps(value) for name, value in properties.items()})
        onnx_format.checker.check_model(model)
        onnx_format.save(model, path)
        return {"opset": OPSET, "deepness": properties} if properties else {"opset": OPSET}

    def answers(self, subject: Subject, path: Path, pixels_BCSS: Tensor) -> dict[str, Tensor]:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {"pixels": pixels_BCSS.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(subject.portable.outputs, found, strict=True)}


def deepness(subject: Subject, side: int) -> dict[str, Any]:
    """Return the properties that Deepness reads; without a scaling, where it could not bring pixels to our unit."""
    card = subject.model.card
    names = ["no data", *(name.name for name in card.classes)]
    properties: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(value): name for value, name in enumerate(names)},
        "tile_size": side,
        "tiles_size": side,
        "tiles_overlap": subject.overlap,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if subject.gsd:
        properties["resolution"] = round(subject.gsd * 100, 4)
    if subject.scale is not None and subject.offset is not None:
        deviation = 1 / (BYTE * subject.scale)
        properties["standardization_mean"] = [-subject.offset * deviation + 0.0] * card.bands
        properties["standardization_std"] = [deviation] * card.bands
    return properties


def _check_size(portable: Portable) -> None:
    held = sum(value.numel() * value.element_size() for value in portable.state_dict().values())
    if held > LARGEST:
        raise UserError(
            f"The model's weights are {held / 1e9:.1f} GB, and one ONNX file holds 2 GB. Choose 'PyTorch program' "
            "under 'Format'.",
            "format",
        )


def _name_batch(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
