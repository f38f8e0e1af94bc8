"""Teaching change, from polygons and two dates to a model file, judged on blocks of ground that were held out."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rsfm import model_file
from rsfm.devices import choose_device, precision
from rsfm.differences.change_labels import IGNORED, UNCHANGED, read_change_labels
from rsfm.differences.change_network import TASK, ChangeNetwork, DatesNetwork, beside, new_change_network
from rsfm.differences.change_split import LabelledChange, split_changes
from rsfm.differences.change_windows import ChangeSample, ChangeWindows
from rsfm.differences.checking import shift_result, stage, tell_alignment
from rsfm.differences.findings import alignment
from rsfm.differences.ir_mad_baseline import Baseline, measure_ir_mad
from rsfm.differences.learned_pair import remember
from rsfm.differences.two_dates import TwoDates, open_dates
from rsfm.errors import Stopped
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from rsfm.method import Loss
from rsfm.model_file import Card, ClassName, Model, build_encoder
from rsfm.raster.blocks import Split, write_split
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Window
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.loop import make_budget, train
from rsfm.training.scores import ClassScore, class_scores, confusion

BATCH = 4
"""Tiles that are judged at once."""


class ChangeLearner(nn.Module):
    """What the training loop needs of a network that learns change."""

    averages, once, least, parts, indivisible = (), (), 1, 1, ""
    memory_format = torch.contiguous_format
    """With channels last, the gradient of an encoder's maps ends the process (torch 2.15 on a CPU)."""

    def __init__(self, network: ChangeNetwork, frozen: bool) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        if frozen:
            network.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "ChangeLearner":
        """Leave the batch norms of a frozen encoder as they are."""
        super().train(mode)
        if self.frozen:
            self.network.encoder.eval()
        return self

    def loss(self, sample: ChangeSample, progress: float) -> Loss:
        """Compute the cross entropy of the labelled pixels; parts of a batch weigh as many pixels as they have."""
        logits_BKHW = self.network(*sample.pixels_BCHW.chunk(2, dim=1)).float()
        total = functional.cross_entropy(logits_BKHW, sample.target_BHW.long(), ignore_index=IGNORED, reduction="sum")
        return Loss(total / sample.labelled_B.sum(), {})

    def after_step(self, progress: float) -> None:
        """There is nothing to follow a step."""


class Task(NamedTuple):
    """What is learned: two dates, what each is normalised by, what was drawn, and what the model's card says."""

    dates: TwoDates
    statistics: tuple[Statistics, Statistics]
    labelled: LabelledChange
    card: Card

    @property
    def classes(self) -> int:
        """K, no change among them."""
        return len(self.labelled.labels.names) + 1


def finetune_change(config: FinetuneChangeConfig, run: Run) -> dict[str, Any]:
    """Teach a network and write it to the run's outputs; a stopped one is written as far as it came."""
    device = choose_device(config.device, run)
    torch.manual_seed(config.seed)
    pretrained = model_file.load(config.model) if config.model else None
    with open_dates(config, pretrained, stage(run, 0, 0, "Looking for a shift")) as dates:
        task = _read(config, pretrained, dates, run)
        encoder = pretrained.encoder() if pretrained else build_encoder(config.encoder.model_dump(), task.card.bands)
        network = new_change_network(task.card.head or {}, encoder, task.classes)
        tiles = DatesNetwork(network, task.statistics, task.classes)
        _write_split(task, run)
        try:
            position = _train(task, tiles, config, device, run)
        except Stopped:
            _save(task.card, network, run)
            raise
        made = _judge(task, tiles, config.window, device, run)
        card = task.card.model_copy(
            update={"provenance": {**task.card.provenance, **position._asdict(), "f1": made["f1"]}}
        )
        path = _save(card, network, run)
    shift = shift_result(dates.shift)
    return {"model": path, **made, "shift": shift, "steps": position.step, "seconds": round(position.seconds, 1)}


def judge(tiles: DatesNetwork, task: Task, window: int, device: str, run: Run) -> NDArray[np.int64]:
    """Count pixels of the held-out blocks, counts_KK: truth in rows, the network's answers in columns."""
    labelled = task.labelled
    counts_KK = np.zeros((task.classes, task.classes), np.int64)
    row = task.dates.pair.window.row

    def count(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        nonlocal row
        strip = Window(row, task.dates.pair.window.column, *valid_HW.shape)
        row += strip.height
        target_HW = labelled.target(strip, "test")
        wanted_HW = valid_HW & (target_HW != IGNORED)
        if wanted_HW.any():
            counts_KK[:] += confusion(target_HW[wanted_HW], logits_KHW.argmax(0)[wanted_HW], task.classes)

    def asked(part: Window) -> NDArray[np.bool_]:
        return np.asarray(labelled.target(part, "test") != IGNORED)

    run_tiles(
        tiles, task.dates, task.dates.pair.window, tiling(window), device, BATCH, count, run.check, lambda part: None,
        asked,
    )  # fmt: skip
    return counts_KK


def tiling(side: int) -> TilingConfig:
    """Cut tiles as large as the windows that were learned from, which share a quarter of their side."""
    return TilingConfig(tile_size=side, tile_overlap=side // 4)


def change_score(counts_KK: NDArray[np.int64]) -> ClassScore:
    """Return the scores of change of whatever kind."""
    changed = counts_KK[1:, 1:].sum()
    missed, false = counts_KK[1:, UNCHANGED].sum(), counts_KK[UNCHANGED, 1:].sum()
    return class_scores(np.array([[counts_KK[0, 0], false], [missed, changed]]))[1]


def _read(config: FinetuneChangeConfig, pretrained: Model | None, dates: TwoDates, run: Run) -> Task:
    pair = dates.pair
    labels = read_change_labels(config, dates.grid, pair.window)
    for note in (*pair.notes, *labels.notes):
        run.warning(note)
    tell_alignment(alignment(dates.shift, config.correct_shift), config.correct_shift, run)
    labelled = split_changes(labels, dates.grid, pair.window, config.block, config.seed)
    run.note(labelled.sentence)
    of_model = pretrained.card.statistics if pretrained else None
    if of_model is None:
        of_model = band_statistics([pair.before, pair.after], [pair.window, pair.window], 0)
    statistics = dates.statistics(None if config.by_date else of_model)
    return Task(dates, statistics, labelled, _card(config, dates, of_model, labelled, pretrained))


def _train(task: Task, tiles: DatesNetwork, config: FinetuneChangeConfig, device: str, run: Run) -> Position:
    side = -(-config.window // tiles.multiple) * tiles.multiple
    windows = ChangeWindows(
        task.dates, beside(*task.statistics), task.labelled, side, config.training.batch_size, config.zoom, config.seed
    )
    learned = len(task.labelled.learned)
    run.progress(0, f"{learned} changes to learn from")
    budget = make_budget(config.training, max(learned, config.training.batch_size))
    indices: list[int] | int = [int(device.split(":")[1])] if ":" in device else 1
    fabric = Fabric(accelerator=device.split(":")[0], devices=indices, precision=precision(device))
    learner = cast(Any, ChangeLearner(tiles.network, config.frozen))  # a method in all that the loop asks of one
    return train(learner, cast(Any, windows.batch), config.training, budget, fabric, run)


def _judge(task: Task, tiles: DatesNetwork, window: int, device: str, run: Run) -> dict[str, Any]:
    """Compare the network with IR-MAD on what was held out, and say so in a sentence."""
    run.progress(1, "Scores on the held-out blocks")
    counts_KK = judge(tiles, task, window, device, run)
    score = change_score(counts_KK)
    baseline: Baseline | None = None
    sentence = "No change was held out, so there is no score."
    if score.pixels and score.f1 is not None:
        baseline = measure_ir_mad(task.dates.pair, task.labelled, run.check)
        sentence = (
            f"F1 of change on held out blocks: {score.f1:.2f}; IR-MAD with the best threshold of the learned blocks "
            f"reaches {baseline.fitted:.2f}, with the automatic one {baseline.automatic:.2f}."
        )
        if baseline.fitted >= score.f1:
            sentence += " The network is not needed here, or needs more polygons or more time."
    run.note(sentence)
    names = ("unchanged", *task.labelled.labels.names)
    return {
        "sentence": sentence,
        "split": task.labelled.sentence,
        "f1": _rounded(score.f1),
        "precision": _rounded(score.precision),
        "recall": _rounded(score.recall),
        "iou": _rounded(score.iou),
        "f1_ir_mad": None if baseline is None else round(baseline.fitted, 4),
        "f1_ir_mad_automatic": None if baseline is None else round(baseline.automatic, 4),
        "confusion": {
            truth: dict(zip(names, counts_K.tolist(), strict=True))
            for truth, counts_K in zip(names, counts_KK, strict=True)
        },
    }


def _card(
    config: FinetuneChangeConfig,
    dates: TwoDates,
    statistics: Statistics,
    labelled: LabelledChange,
    pretrained: Model | None,
) -> Card:
    labels, before, after = labelled.labels, dates.pair.before, dates.pair.after
    classes = [
        ClassName(value=index + 1, name=name, colour=colour)
        for index, (name, colour) in enumerate(zip(labels.names, labels.colours, strict=True))
    ]
    card = pretrained.card if pretrained else None
    by_name = config.bands == "name" and not (card and card.units)
    head = {**config.head.model_dump(), "task": TASK, "either_way": config.either_way, "by_date": config.by_date}
    return Card(
        title=f"Change between {Path(before.name).stem} and {Path(after.name).stem}",
        bands=before.bands,
        band_names=dates.known_as if by_name else tuple(before.band_names),
        units=card is not None and card.units,
        statistics=statistics,
        gsd=before.grid.gsd,
        window=config.window,
        encoder=card.encoder if card else config.encoder.model_dump(),
        method=card.method if card else None,
        source="pretrained" if card else "untrained",
        head={**head, **remember(config.bands, dates.shift, config.correct_shift)},
        classes=tuple(classes),
        footprints=(footprint(before.grid),),
        trained_on=(before.name, after.name),
        provenance={
            "changes": config.changes or [config.before_classes, config.after_classes],
            "pretrained": config.model,
            "training": config.training.model_dump(),
            "seed": config.seed,
        },
    )


def _save(card: Card, network: ChangeNetwork, run: Run) -> str:
    path = run.outputs / "model.safetensors"
    model_file.save(path, card, model_file.parts(encoder=network.encoder, head=network.head))
    run.output("model", path, card.title, needs=TASK)
    return str(path)


def _write_split(task: Task, run: Run) -> None:
    grid, split = task.dates.grid, task.labelled.split
    empty_N = np.empty(0, bool)
    path = run.outputs / "split.gpkg"
    write_split(path, Split(empty_N, empty_N, split.side, 0, split.blocks(grid), ()), grid)
    run.output("split", path, "Blocks held out for the score")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
