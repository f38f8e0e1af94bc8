"""Teaching a decoder from polygons, with as much of its encoder as is asked for, judged on blocks that were held out.

Beside its score stand those of the linear head on every feature source, at the same pixels.

Shape letters: N labelled pixels, K classes.
"""

import copy
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.blocks.normalisation import Normalisation
from rsfm.devices import choose_device
from rsfm.encoder import Encoder
from rsfm.errors import Stopped, UserError
from rsfm.jobs.finetune import FinetuneConfig
from rsfm.model_file import Card, Model, new_decoder
from rsfm.networks import DecoderNetwork
from rsfm.raster.blocks import polygon_folds
from rsfm.raster.labels import read_labels
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.training.candidates import features_at, make_candidates, outputs_at
from rsfm.training.checkpoint import Position
from rsfm.training.class_windows import ClassWindows
from rsfm.training.decoder_learner import DecoderLearner
from rsfm.training.fabric import make_fabric
from rsfm.training.finetuning import (
    FOLDS,
    MOST_PIXELS_PER_CLASS,
    TITLES,
    Result,
    block_scores,
    judge,
    load_pretrained,
    make_card,
    open_as_read,
    raster_statistics,
    report_split,
    rule_of,
)
from rsfm.training.holding_out import HeldOut, hold_out, only
from rsfm.training.loop import make_budget, train
from rsfm.training.scores import confusion, mean_iou

LEAST_CELLS = 2
"""Of the coarsest map along a side of a window: in a single one there is nothing beside it to learn from."""


class Lesson(NamedTuple):
    """What is learned from, and by what it is judged.

    Attributes:
        held: all labelled pixels, in one split.
        candidates: the feature sources by name, of which `chosen` is the encoder that learns.
    """

    raster: Raster
    held: HeldOut
    statistics: Statistics
    candidates: dict[str, Source]
    chosen: str

    def encoder(self) -> Encoder:
        """Return a copy of the encoder that is to learn, so that the linear head is judged on it as it was."""
        return copy.deepcopy(cast(Encoded, self.candidates[self.chosen]).encoder)


def finetune_decoder(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Teach a decoder and write it to the run's outputs; a stopped one is written as far as it came."""
    device = choose_device(config.device, run)
    pretrained = load_pretrained(config)
    with open_as_read(config, pretrained) as raster:
        lesson = _prepare(config, pretrained, raster, run)
        source = lesson.candidates[lesson.chosen]
        labels = lesson.held.labels
        card = make_card(config, raster, lesson.statistics, labels, pretrained, source, lesson.chosen)
        torch.manual_seed(config.seed)
        encoder = lesson.encoder()
        decoder = new_decoder(config.head.model_dump(), encoder, len(labels.names))
        network = DecoderNetwork(encoder, decoder, lesson.statistics)
        cells = max(-(-config.window // network.multiple), LEAST_CELLS)
        side = cells * network.multiple
        network.window = side  # judged in tiles of the size that it learns with, as its maps are made
        card = card.model_copy(update={"window": side})
        report_split(lesson.held.splits[0], raster.grid, run)
        windows = _windows(lesson, config, side)
        learner = DecoderLearner(encoder, decoder, config.learning, windows.weight_K)
        try:
            position = _train(learner, windows, config, device, run)
        except Stopped:
            _save(card, learner, run)
            raise
        card = card.model_copy(update={"provenance": {**card.provenance, **position._asdict()}})
        _save(card, learner, run)
        return _judge(lesson, network, config, device, run)


def _prepare(config: FinetuneConfig, pretrained: Model | None, raster: Raster, run: Run) -> Lesson:
    if config.folds > 1 and config.validation is None:
        raise UserError(
            f"{config.folds} folds would have this head learn as many times over. Set 'Folds' to 1, or choose the "
            "linear head under 'Head'.",
            "folds",
        )
    labels = read_labels(config.labels, config.class_field, raster)
    for note in labels.notes:
        run.warning(note)
    statistics = pretrained.card.statistics if pretrained else raster_statistics(raster, config.seed)
    held = hold_out(labels, raster.grid, rule_of(config, labels, raster, run))
    candidates = make_candidates(raster, statistics, pretrained, config.seed)
    return Lesson(raster, held, statistics, candidates, choose_encoder(config, candidates))


def choose_encoder(config: FinetuneConfig, candidates: dict[str, Source]) -> str:
    """Return the name of the encoder that is to learn: the wanted one, else the pretrained one if there is one.

    Raises:
        UserError: what is wanted is no encoder, or is not there.
    """
    wanted = config.features
    if wanted == "best":
        return "pretrained" if "pretrained" in candidates else "untrained"
    if wanted not in candidates:
        raise UserError("There is no pretrained encoder to use. Choose one under 'Model'.", "features")
    if not isinstance(candidates[wanted], Encoded):
        raise UserError(
            f"This head reads the maps of an encoder, and {TITLES[wanted]} are none. Choose an encoder under "
            "'Features', or the linear head under 'Head'.",
            "features",
        )
    return wanted


def _windows(lesson: Lesson, config: FinetuneConfig, side: int) -> ClassWindows:
    return ClassWindows(
        lesson.raster,
        only(lesson.held.labels, np.flatnonzero(lesson.held.splits[0].train_N)),
        Normalisation.from_statistics(lesson.statistics),
        side,
        config.training.batch_size,
        config.learning.zoom,
        config.learning.balanced,
        config.seed,
    )


def _train(learner: DecoderLearner, windows: ClassWindows, config: FinetuneConfig, device: str, run: Run) -> Position:
    run.progress(0, f"{windows.cells} places with labels to learn from")
    budget = make_budget(config.training, max(windows.cells, config.training.batch_size))
    method = cast(Any, learner)  # a method in all that the loop asks of one
    return train(method, cast(Any, windows.batch), config.training, budget, make_fabric(device), run)


def _save(card: Card, learner: DecoderLearner, run: Run) -> None:
    learner.close()
    path = run.outputs / "model.safetensors"
    model_file.save(path, card, model_file.parts(encoder=learner.encoder, head=learner.decoder))
    run.output("model", path, card.title, needs="head")


def _judge(lesson: Lesson, network: DecoderNetwork, config: FinetuneConfig, device: str, run: Run) -> dict[str, Any]:
    """Compare the decoder with the linear head on what was held out, and say so in a sentence."""
    held = lesson.held.thinned(MOST_PIXELS_PER_CLASS, config.seed)
    run.progress(1, "Judging what was held out")
    counts_KK = _held_out(lesson, network, held, device, run)
    folds = polygon_folds(held.learned, FOLDS, config.seed)
    rows_N, columns_N = held.labels.rows_N, held.labels.columns_N
    results = {}
    for name, source in lesson.candidates.items():
        features_ND = features_at(source, lesson.statistics, lesson.raster, rows_N, columns_N, device, run.check)
        results[name] = judge(features_ND, held, folds.fold_N, config.learning.balanced, run)
    baselines = {name: _score(result.counts_KK) for name, result in results.items()}
    sentence = say(_score(counts_KK), baselines, config.head.name)
    run.note(sentence)
    return {
        "chosen": lesson.chosen,
        "sentence": sentence,
        "split": " ".join(held.sentences),
        "mean_iou_polygons": {name: _by_polygons(result) for name, result in results.items()},
        "mean_iou_blocks": {config.head.name: _score(counts_KK), **baselines},
        **block_scores(counts_KK, held.labels),
    }


def _held_out(
    lesson: Lesson, network: DecoderNetwork, held: HeldOut, device: str, run: Run
) -> NDArray[np.int64] | None:
    """Count what is said of the pixels that were held out; None where there are none."""
    test_N = held.splits[0].test_N
    if not test_N.any():
        return None
    test = only(held.labels, test_N)
    logits_NK = outputs_at(network, lesson.raster, test.rows_N, test.columns_N, device, run.check)
    return confusion(test.class_N, logits_NK.argmax(axis=1), len(test.names))


def say(score: float | None, baselines: dict[str, float | None], head: str) -> str:
    """Say what a decoder is worth, beside the linear head on every feature source."""
    known = {name: value for name, value in baselines.items() if value is not None}
    if score is None or not known:
        return "Nothing was held out, so there is no score. Draw more polygons."
    figures = ", ".join(f"{TITLES[name]} {value:.2f}" for name, value in sorted(known.items(), key=lambda s: -s[1]))
    title = {"upernet": "UPerNet", "dpt": "DPT"}.get(head, head)
    sentence = f"Mean IoU on what was held out: {title} {score:.2f}; the linear head on {figures}."
    best = max(known, key=lambda name: known[name])
    if known[best] > score:
        sentence += f" For these classes the linear head on {TITLES[best]} does better: choose it under 'Head'."
    return sentence


def _score(counts_KK: NDArray[np.int64] | None) -> float | None:
    return None if counts_KK is None else round(mean_iou(counts_KK), 4)


def _by_polygons(result: Result) -> float | None:
    return None if result.validated is None else round(result.validated.mean_iou, 4)
