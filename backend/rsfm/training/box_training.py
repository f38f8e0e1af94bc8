"""Teaching a detector, from boxes and rasters to a model file, judged on blocks of ground that were held out."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from rsfm import model_file
from rsfm.detector import Detector, DetectorNetwork, new_detector
from rsfm.devices import choose_device, precision
from rsfm.errors import Stopped, UserError
from rsfm.jobs.finetune_boxes import FinetuneBoxesConfig
from rsfm.method import Loss
from rsfm.model_file import Card, ClassName, Model, build_encoder
from rsfm.raster.area import read_area
from rsfm.raster.blocks import Split, write_split
from rsfm.raster.box_labels import BoxLabels, read_boxes
from rsfm.raster.box_split import split_boxes
from rsfm.raster.footprint import footprint
from rsfm.raster.label_file import Parameters
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.seams import plan_object_tiles
from rsfm.raster.statistics import Statistics, band_statistics, check_same_bands
from rsfm.runs import Run, safe_name
from rsfm.training.box_scores import find_by_template, find_held_out, mean_score, scores
from rsfm.training.box_windows import BoxSample, BoxWindows, LabelledRaster
from rsfm.training.checkpoint import Position
from rsfm.training.finetuning import as_read_by
from rsfm.training.loop import make_budget, train

PARAMETERS = Parameters(labels="boxes")
LEAST_SCORE = 0.01
"""Of boxes that count for the score, as low as COCO's habits."""
TILE_SIDE = 512
LARGER = 1.25


class BoxLearner(nn.Module):
    """What the training loop needs of a detector."""

    averages, once, least, parts = (), (), 1, 1
    indivisible = "The boxes of all windows are compared together."
    memory_format = torch.contiguous_format
    """With channels last, the gradient of an encoder's maps ends the process (torch 2.15 on a CPU)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def loss(self, sample: BoxSample, progress: float) -> Loss:
        parts = self.detector.losses(sample.pixels_BCHW, sample.targets)
        total = torch.stack(list(parts.values())).sum()
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def after_step(self, progress: float) -> None:
        """There is nothing to follow a step."""


class Task(NamedTuple):
    """What is learned: rasters with their boxes, and what the model's card says."""

    rasters: list[LabelledRaster]
    labels: BoxLabels
    split: str
    card: Card
    largest_px: int


def finetune_boxes(config: FinetuneBoxesConfig, run: Run) -> dict[str, Any]:
    """Teach a detector and write it to the run's outputs; a stopped one is written as far as it came."""
    device = choose_device(config.device, run)
    torch.manual_seed(config.seed)
    pretrained = model_file.load(config.model) if config.model else None
    with ExitStack() as stack:
        task = _read(config, pretrained, stack, run)
        encoder = pretrained.encoder() if pretrained else build_encoder(config.encoder.model_dump(), task.card.bands)
        detector = new_detector(config.detector.model_dump(), encoder, len(task.labels.names))
        network = DetectorNetwork(detector, task.card.statistics)
        _write_splits(task, run)
        try:
            position = _train(task, network, config, device, run)
        except Stopped:
            _save(task.card, detector, run)
            raise
        made = _judge(task, network, device, run)
        card = task.card.model_copy(
            update={"provenance": {**task.card.provenance, **position._asdict(), "ap50": made["ap50"]}}
        )
        path = _save(card, detector, run)
    return {"model": path, **made, "steps": position.step, "seconds": round(position.seconds, 1)}


def _read(config: FinetuneBoxesConfig, pretrained: Model | None, stack: ExitStack, run: Run) -> Task:
    rasters = [stack.enter_context(_open(path, pretrained)) for path in config.rasters]
    check_same_bands(rasters)
    labels = read_boxes(config.boxes, config.class_field, rasters, PARAMETERS)
    grids = [raster.grid for raster in rasters]
    areas = [read_area(grid, config.area) for grid in grids]
    splits, sentence = split_boxes(labels.rasters, grids, len(labels.names), config.block, config.seed)
    labelled = [LabelledRaster(*each) for each in zip(rasters, labels.rasters, areas, splits, strict=True)]
    labelled = [each._replace(boxes_N=_inside(each)) for each in labelled]
    if not any(len(each.boxes_N) for each in labelled):
        raise UserError("No box lies in the area. Draw the area around the boxes under 'Area drawn in'.", "area")
    sides = [_longest(each) for each in labelled]
    longest = max(sides)
    if longest > config.window:
        raise UserError(
            f"The largest box is {longest} px long and the window {config.window} px: it is never seen whole. Choose a "
            f"larger 'Window', such as {-(-longest * 3 // 64) * 32} px, or a coarser raster.",
            "window",
        )
    for note in labels.notes:
        run.warning(note)
    run.note(sentence)
    statistics = pretrained.card.statistics if pretrained else band_statistics(rasters, [g.window for g in grids], 0)
    largest_m = max(side * grid.gsd for side, grid in zip(sides, grids, strict=True))
    card = _card(config, rasters, statistics, labels, pretrained, largest_m)
    return Task(labelled, labels, sentence, card, longest)


def _train(task: Task, network: DetectorNetwork, config: FinetuneBoxesConfig, device: str, run: Run) -> Position:
    side = -(-config.window // network.multiple) * network.multiple
    windows = BoxWindows(task.rasters, network.normalisation, side, config.training.batch_size, config.seed)
    learned = sum(len(each.learned()) for each in task.rasters)
    run.progress(0, f"{learned} boxes in {len(task.rasters)} raster(s) to learn from")
    budget = make_budget(config.training, max(learned, config.training.batch_size))
    indices: list[int] | int = [int(device.split(":")[1])] if ":" in device else 1
    fabric = Fabric(accelerator=device.split(":")[0], devices=indices, precision=precision(device))
    learner = cast(Any, BoxLearner(network.detector))  # a method in all that the loop asks of one
    return train(learner, cast(Any, windows.batch), config.training, budget, fabric, run)


def _judge(task: Task, network: DetectorNetwork, device: str, run: Run) -> dict[str, Any]:
    """Compare the detector with the baseline on what was held out, and say so in a sentence."""
    names = task.labels.names
    network.detector.look_for(LEAST_SCORE, 0.5)
    largest = int(np.ceil(LARGER * task.largest_px))
    tiles = plan_object_tiles(TILE_SIDE, largest, network.multiple)
    found = [find_held_out(network, each, tiles, device, run.check) for each in task.rasters]
    ours = scores(found, task.rasters, names)
    alike = scores(find_by_template(task.rasters, len(names), task.card.statistics), task.rasters, names)
    ap50, baseline = mean_score(ours), mean_score(alike)
    sentence = "No box was held out, so there is no score."
    if ap50 is not None:
        sentence = f"AP50 on held out blocks: {ap50:.2f}; places that look like the mean object reach {baseline:.2f}."
    run.note(sentence)
    return {
        "sentence": sentence,
        "split": task.split,
        "ap50": ap50,
        "ap50_classes": ours,
        "ap50_template": baseline,
        "boxes": dict(zip(names, _counts(task), strict=True)),
    }


def _open(path: str, pretrained: Model | None) -> Raster:
    raster = open_raster(path, "rasters")
    try:
        return as_read_by(pretrained, raster) if pretrained else raster
    except UserError:
        raster.close()
        raise


def _inside(labelled: LabelledRaster) -> Any:
    from rsfm.detection import in_area

    return labelled.boxes_N[in_area(labelled.boxes_N, labelled.area)]


def _longest(labelled: LabelledRaster) -> int:
    boxes_N = labelled.boxes_N
    sides = np.maximum(boxes_N["right"] - boxes_N["left"], boxes_N["bottom"] - boxes_N["top"])
    return int(np.ceil(sides.max(initial=0)))


def _counts(task: Task) -> list[int]:
    values = np.concatenate([each.boxes_N["value"] for each in task.rasters])
    return [int((values == value).sum()) for value in range(1, len(task.labels.names) + 1)]


def _card(
    config: FinetuneBoxesConfig,
    rasters: list[Raster],
    statistics: Statistics,
    labels: BoxLabels,
    pretrained: Model | None,
    largest_m: float,
) -> Card:
    classes = [
        ClassName(value=index + 1, name=name, colour=colour)
        for index, (name, colour) in enumerate(zip(labels.names, labels.colours, strict=True))
    ]
    card = pretrained.card if pretrained else None
    return Card(
        title=f"{', '.join(labels.names)} found on {rasters[0].name}",
        bands=rasters[0].bands,
        band_names=tuple(rasters[0].band_names),
        units=card is not None and card.units,
        statistics=statistics,
        gsd=rasters[0].grid.gsd,
        window=config.window,
        encoder=card.encoder if card else config.encoder.model_dump(),
        method=card.method if card else None,
        source="pretrained" if card else "untrained",
        head={**config.detector.model_dump(), "largest_m": round(largest_m, 4)},
        classes=tuple(classes),
        footprints=tuple(footprint(raster.grid) for raster in rasters),
        trained_on=tuple(raster.name for raster in rasters),
        provenance={
            "boxes": config.boxes,
            "pretrained": config.model,
            "training": config.training.model_dump(),
            "seed": config.seed,
        },
    )


def _save(card: Card, detector: Detector, run: Run) -> str:
    path = run.outputs / "model.safetensors"
    parts = model_file.parts(encoder=detector.encoder, head=_without_encoder(detector))
    model_file.save(path, card, parts)
    run.output("model", path, card.title, needs="detector")
    return str(path)


def _without_encoder(detector: Detector) -> nn.Module:
    return nn.ModuleDict({"pyramid": detector.pyramid, "rpn": detector.rpn, "roi_heads": detector.roi_heads})


def _write_splits(task: Task, run: Run) -> None:
    empty_N = np.empty(0, bool)
    for each in task.rasters:
        grid = each.raster.grid
        split = Split(empty_N, empty_N, each.split.side, 0, each.split.blocks(grid), ())
        path = run.outputs / f"split_{safe_name(Path(each.raster.name).stem)}.gpkg"
        write_split(path, split, grid)
        run.output("split", path, f"Blocks of {each.raster.name}")
