"""Teaching classes of whole polygons or tiles: the same head on every feature source, judged alike, the best one kept.

Shape letters: N objects, D features, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.jobs.finetune_scenes import FinetuneScenesConfig
from rsfm.model_file import Card, Model, Objects
from rsfm.object_pooling import pool_all
from rsfm.pooled_network import object_features, pooling_network
from rsfm.raster.blocks import Split, polygon_folds
from rsfm.raster.grid import Grid
from rsfm.raster.labels import Labels
from rsfm.raster.object_labels import LabelledObjects, read_labelled_objects, without
from rsfm.raster.outline_pixels import OutlinePixels
from rsfm.raster.pooling import Pooled
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.training.candidates import make_candidates
from rsfm.training.finetuning import (
    DEFAULT_PENALTY,
    FOLDS,
    TITLES,
    Result,
    choose,
    load_pretrained,
    make_card,
    open_as_read,
    raster_statistics,
    report_split,
)
from rsfm.training.holding_out import Rule, hold_out
from rsfm.training.linear_fit import cross_validate, fit
from rsfm.training.scores import ClassScore, accuracy, class_scores, confusion, mean_iou


class Judged(NamedTuple):
    """What a source is worth for objects.

    Attributes:
        spread: the standard deviation of each feature helps.
        folds_KK: confusion of objects that were held out in turn; None when it cannot be judged.
    """

    result: Result
    spread: bool
    folds_KK: NDArray[np.int64] | None


def finetune_scenes(config: FinetuneScenesConfig, run: Run) -> dict[str, Any]:
    """Compare feature sources on the user's polygons or points, keep the best and write it as a model."""
    device = choose_device(config.device, run)
    pretrained = load_pretrained(config)
    with open_as_read(config, pretrained) as raster:
        labelled = read_labelled_objects(config.labels, config.class_field, raster, config.tile)
        statistics = pretrained.card.statistics if pretrained else raster_statistics(raster, config.seed)
        candidates = make_candidates(raster, statistics, pretrained, config.seed)
        pooled = {}
        for number, (name, source) in enumerate(candidates.items()):
            run.progress(number / len(candidates), f"Features: {TITLES[name]}")
            objects = OutlinePixels(labelled.shape_N, raster.grid)
            pooled[name] = pool_all(pooling_network(source, statistics), raster, objects, device, run)
        valid_N = pooled["pixels"].valid_J > 0
        labelled = without(labelled, ~valid_N, raster, config.class_field)
        for note in labelled.notes:
            run.warning(note)
        labels = as_labels(labelled, raster.grid)
        folds = polygon_folds(labels, FOLDS, config.seed)
        splits = hold_out(labels, raster.grid, Rule(None, config.block, config.folds, config.seed), gap=0).splits
        judged = {
            name: _judge(found.take(valid_N), labelled, folds.fold_N, splits, config, run)
            for name, found in pooled.items()
        }
        chosen, sentence = choose({name: each.result for name, each in judged.items()}, config.features)
        sentence = " ".join([sentence, *folds.sentences])
        run.warning(sentence) if folds.fold_N is None else run.note(sentence)
        card = make_card(config, raster, statistics, labelled, pretrained, candidates[chosen], chosen)
        tile = config.tile if labelled.points else 0.0
        card = card.model_copy(update={"objects": Objects(spread=judged[chosen].spread, tile=tile)})
        _save(card, candidates[chosen], judged[chosen].result, run)
        report_split(splits[0], raster.grid, run)
    return _summary(judged, labelled, splits[0], chosen, sentence)


def as_labels(labelled: LabelledObjects, grid: Grid) -> Labels:
    """Show each object as one labelled pixel, in its middle; those that share ground are one polygon."""
    middle_N = shapely.point_on_surface(labelled.shape_N)
    columns_N = np.clip(np.floor(shapely.get_x(middle_N)), 0, grid.width - 1).astype(np.int64)
    rows_N = np.clip(np.floor(shapely.get_y(middle_N)), 0, grid.height - 1).astype(np.int64)
    names, colours = labelled.names, labelled.colours
    return Labels(names, colours, rows_N, columns_N, labelled.class_N, labelled.group_N, (), ())


def _judge(
    pooled: Pooled,
    labelled: LabelledObjects,
    fold_N: NDArray[Any] | None,
    splits: Sequence[Split],
    config: FinetuneScenesConfig,
    run: Run,
) -> Judged:
    """Fit the head on the mean of the features, and on mean and spread; spread stays only where it does better."""
    best: Judged | None = None
    for spread in (False, True) if fold_N is not None else (False,):
        run.check()
        judged = _judge_features(object_features(pooled, spread), labelled, fold_N, splits, config, spread)
        if best is None or _score(judged) > _score(best):
            best = judged
    assert best is not None  # noqa: S101  the mean was judged
    return best


def _score(judged: Judged) -> float:
    return 0.0 if judged.result.validated is None else judged.result.validated.mean_iou


def _judge_features(
    features_ND: NDArray[np.float32],
    labelled: LabelledObjects,
    fold_N: NDArray[Any] | None,
    splits: Sequence[Split],
    config: FinetuneScenesConfig,
    spread: bool,
) -> Judged:
    class_N, classes, balanced = labelled.class_N, len(labelled.names), config.head.balanced
    validated, folds_KK, counts_KK = None, None, None
    if fold_N is not None:
        validated = cross_validate(features_ND, class_N, fold_N, classes, balanced)
    penalty = validated.penalty if validated else DEFAULT_PENALTY
    if fold_N is not None:
        folds_KK = np.zeros((classes, classes), np.int64)
        for fold in np.unique(fold_N):
            folds_KK += _held_out(features_ND, class_N, fold_N != fold, fold_N == fold, classes, penalty, balanced)
    for train_N, test_N in ((split.train_N, split.test_N) for split in splits):
        if test_N.any() and len(np.unique(class_N[train_N])) > 1:
            found_KK = _held_out(features_ND, class_N, train_N, test_N, classes, penalty, balanced)
            counts_KK = found_KK if counts_KK is None else counts_KK + found_KK
    return Judged(Result(validated, counts_KK, fit(features_ND, class_N, classes, penalty, balanced)), spread, folds_KK)


def _held_out(
    features_ND: NDArray[np.float32],
    class_N: NDArray[Any],
    train_N: NDArray[np.bool_],
    test_N: NDArray[np.bool_],
    classes: int,
    penalty: float,
    balanced: bool,
) -> NDArray[np.int64]:
    """Learn from some objects and count what is said of others."""
    fitted = fit(features_ND[train_N], class_N[train_N], classes, penalty, balanced)
    return confusion(class_N[test_N], fitted.predict(features_ND[test_N]), classes)


def _save(card: Card, source: Source, result: Result, run: Run) -> None:
    weight_KD = torch.from_numpy(result.fitted.weight_KD)
    head = Model(card, {}).new_head(weight_KD.shape[1])
    bias_K = torch.from_numpy(result.fitted.bias_K)
    head.load_state_dict({"to_logits.weight": weight_KD[:, :, None, None], "to_logits.bias": bias_K})
    encoder = {"encoder": source.encoder} if isinstance(source, Encoded) else {}
    path = run.outputs / "model.safetensors"
    model_file.save(path, card, model_file.parts(head=head, **encoder))
    run.output("model", path, card.title, needs="head")


def _summary(
    judged: dict[str, Judged], labelled: LabelledObjects, split: Split, chosen: str, sentence: str
) -> dict[str, Any]:
    found = judged[chosen]
    counts_KK = found.folds_KK
    return {
        "chosen": chosen,
        "sentence": sentence,
        "split": " ".join(split.sentences),
        "spread": found.spread,
        "polygons": dict(zip(labelled.names, np.bincount(labelled.class_N).tolist(), strict=True)),
        "mean_iou_polygons": {
            name: None if each.result.validated is None else round(each.result.validated.mean_iou, 4)
            for name, each in judged.items()
        },
        "accuracy_polygons": {
            name: None if each.folds_KK is None else round(accuracy(each.folds_KK), 4) for name, each in judged.items()
        },
        "mean_iou_blocks": {
            name: None if each.result.counts_KK is None else round(mean_iou(each.result.counts_KK), 4)
            for name, each in judged.items()
        },
        "accuracy_blocks": {
            name: None if each.result.counts_KK is None else round(accuracy(each.result.counts_KK), 4)
            for name, each in judged.items()
        },
        "classes": {}
        if counts_KK is None
        else {name: _score_of(score) for name, score in zip(labelled.names, class_scores(counts_KK), strict=True)},
        "confusion": {}
        if counts_KK is None
        else {
            truth: dict(zip(labelled.names, counts_K.tolist(), strict=True))
            for truth, counts_K in zip(labelled.names, counts_KK, strict=True)
        },
    }


def _score_of(score: ClassScore) -> dict[str, Any]:
    """Name what a score counts: whole objects."""
    return {"polygons" if name == "pixels" else name: value for name, value in score._asdict().items()}
