"""Fine-tuning: the same head on every feature source, judged alike, the best one kept and named."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.errors import UserError
from rsfm.jobs.finetune import FinetuneConfig
from rsfm.jobs.finetune_scenes import FinetuneScenesConfig
from rsfm.model_file import Card, ClassName, Model
from rsfm.raster.blocks import Split, polygon_folds, write_split
from rsfm.raster.collection_source import open_source
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Grid
from rsfm.raster.in_units import in_units
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.object_labels import LabelledObjects
from rsfm.raster.own_validation import read_validation
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.training.candidates import features_at, make_candidates
from rsfm.training.holding_out import HeldOut, Rule, hold_out, only
from rsfm.training.linear_fit import LinearFit, Validated, cross_validate, fit, thin
from rsfm.training.scores import accuracy, class_scores, confusion, mean_iou

MOST_PIXELS_PER_CLASS = 2000
FOLDS = 3
DEFAULT_PENALTY = 0.1
TITLES = {
    "pixels": "pixels",
    "texture": "pixels and texture",
    "untrained": "untrained encoder",
    "pretrained": "pretrained encoder",
}


class Result(NamedTuple):
    """What one feature source is worth: by cross-validation over polygons, and on what was held out."""

    validated: Validated | None
    counts_KK: NDArray[np.int64] | None
    fitted: LinearFit


def finetune(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Compare feature sources on the user's polygons, keep the best and write it as a model."""
    device = choose_device(config.device, run)
    pretrained = load_pretrained(config)
    with open_as_read(config, pretrained) as raster:
        labels = read_labels(config.labels, config.class_field, raster)
        for note in labels.notes:
            run.warning(note)
        held = hold_out(_thinned(labels, config.seed), raster.grid, rule_of(config, labels, raster, run, thins=True))
        statistics = pretrained.card.statistics if pretrained else raster_statistics(raster, config.seed)
        folds = polygon_folds(held.learned, FOLDS, config.seed)
        candidates = make_candidates(raster, statistics, pretrained, config.seed)
        results = {}
        for number, (name, source) in enumerate(candidates.items()):
            run.progress(number / len(candidates), f"Features: {TITLES[name]}")
            rows_N, columns_N = held.labels.rows_N, held.labels.columns_N
            features_ND = features_at(source, statistics, raster, rows_N, columns_N, device, run.check)
            results[name] = judge(features_ND, held, folds.fold_N, config.head.balanced, run)
        chosen, sentence = choose(results, config.features)
        sentence = " ".join([sentence, *folds.sentences])
        run.warning(sentence) if folds.fold_N is None else run.note(sentence)
        card = make_card(config, raster, statistics, labels, pretrained, candidates[chosen], chosen)
        _save(card, candidates[chosen], results[chosen].fitted, run)
        report_split(held.splits[0], raster.grid, run)
    return _summary(results, held, chosen, sentence)


def rule_of(config: FinetuneConfig, labels: Labels, raster: Raster, run: Run, thins: bool = False) -> Rule:
    """Read the polygons to judge by, if there are any.

    Args:
        labels: what is learned from, with all its pixels.
        thins: keep at most so many pixels of each class.

    Raises:
        UserError: nothing can be judged by them.
    """
    validation = None
    if config.validation is not None:
        others = read_validation(config.validation, config.class_field, raster, labels)
        for note in others.notes:
            run.warning(note)
        validation = config.validation, _thinned(others, config.seed) if thins else others
    return Rule(validation, config.block, config.folds, config.seed)


def _thinned(labels: Labels, seed: int) -> Labels:
    return only(labels, thin(labels.class_N, labels.polygon_N, MOST_PIXELS_PER_CLASS, seed))


def choose(results: dict[str, Result], wanted: str) -> tuple[str, str]:
    """Choose the feature source and say why, in figures measured on the user's own polygons.

    Raises:
        UserError: the wanted one is not there.
    """
    if wanted != "best":
        if wanted not in results:
            raise UserError("There is no pretrained encoder to use. Choose one under 'Model'.", "features")
        return wanted, f"Used, as you chose: {TITLES[wanted]}."
    scores = {name: result.validated.mean_iou for name, result in results.items() if result.validated is not None}
    if not scores:
        name = "pretrained" if "pretrained" in results else "texture"
        return name, f"Used, without a comparison: {TITLES[name]}."
    order = sorted(scores, key=lambda name: -scores[name])  # of equals the simpler one stays first
    best, second = order[0], order[1]
    lead = scores[best] - scores[second]
    by = f"{lead:.2f}" if lead >= 0.01 else "less than 0.01"
    figures = ", ".join(f"{TITLES[name]} {scores[name]:.2f}" for name in order)
    sentence = (
        f"Used, because it did best: {TITLES[best]}, by {by} over {TITLES[second]}. "
        f"Mean IoU on held-out polygons: {figures}."
    )
    if "pretrained" in scores and best != "pretrained":
        sentence += " Pretraining is not needed for these classes."
    return best, sentence


def judge(features_ND: NDArray[Any], held: HeldOut, fold_N: NDArray[Any] | None, balanced: bool, run: Run) -> Result:
    """Fit the linear head on features, judge it by polygons and by what is held out, and fit it on all to learn from.

    Args:
        fold_N: of the pixels that may be learned from; None when they cannot be judged by polygons.
    """
    classes, class_N = len(held.labels.names), held.labels.class_N
    own_ND, own_N = features_ND[held.learn_N], class_N[held.learn_N]
    validated = None
    if fold_N is not None:
        validated = cross_validate(own_ND, own_N, fold_N, classes, balanced)
    penalty = validated.penalty if validated else DEFAULT_PENALTY
    counts_KK = None
    for train_N, test_N in ((split.train_N, split.test_N) for split in held.splits):
        run.check()
        if test_N.any() and len(np.unique(class_N[train_N])) > 1:
            fitted = fit(features_ND[train_N], class_N[train_N], classes, penalty, balanced)
            found_KK = confusion(class_N[test_N], fitted.predict(features_ND[test_N]), classes)
            counts_KK = found_KK if counts_KK is None else counts_KK + found_KK
    return Result(validated, counts_KK, fit(own_ND, own_N, classes, penalty, balanced))


def raster_statistics(raster: Raster, seed: int) -> Statistics:
    return band_statistics([raster], [raster.grid.window], seed)


def load_pretrained(config: FinetuneConfig | FinetuneScenesConfig) -> Model | None:
    if config.model is None:
        return None
    model = model_file.load(config.model)
    model.encoder()
    return model


def open_as_read(config: FinetuneConfig | FinetuneScenesConfig, pretrained: Model | None) -> Raster:
    return open_for(pretrained, config.raster) if pretrained else open_raster(config.raster)


def open_for(model: Model, path: str) -> Raster:
    """Open a raster as a model reads it.

    Raises:
        UserError: it cannot be used, or its bands are not the model's.
    """
    raster = open_source(path)
    try:
        return as_read_by(model, raster)
    except UserError:
        raster.close()
        raise


def as_read_by(model: Model, raster: Raster) -> Raster:
    """Show an open raster as a model reads it; what is shown closes it.

    Raises:
        UserError: its bands are not the model's.
    """
    if model.card.units:
        return in_units(raster, model.card.band_names)
    check_bands(model, raster)
    return raster


def check_bands(model: Model, raster: Raster) -> None:
    """Refuse a raster whose bands are not the model's.

    Raises:
        UserError: it has another number of bands.
    """
    if raster.bands != model.card.bands:
        raise UserError(
            f"'{raster.name}' has {raster.bands} bands but the model was trained on {model.card.bands}. "
            f"Choose a raster with {model.card.bands} bands, or pretrain on this one first.",
            "raster",
        )


def make_card(
    config: FinetuneConfig | FinetuneScenesConfig,
    raster: Raster,
    statistics: Statistics,
    labels: Labels | LabelledObjects,
    pretrained: Model | None,
    source: Source,
    chosen: str,
) -> Card:
    classes = [
        ClassName(value=index + 1, name=name, colour=colour)
        for index, (name, colour) in enumerate(zip(labels.names, labels.colours, strict=True))
    ]
    if isinstance(source, Encoded):
        encoder = pretrained.card.encoder if pretrained else {"name": source.encoder.name}
    else:
        encoder = None
    return Card(
        title=f"{', '.join(labels.names)} on {raster.name}",
        bands=raster.bands,
        band_names=tuple(raster.band_names),
        units=pretrained is not None and pretrained.card.units,
        statistics=statistics,
        gsd=raster.grid.gsd,
        window=pretrained.card.window if pretrained else 0,
        encoder=encoder,
        method=pretrained.card.method if pretrained and chosen == "pretrained" else None,
        source=chosen,
        head=config.head.model_dump(),
        classes=tuple(classes),
        footprints=(footprint(raster.grid),),
        trained_on=(raster.name,),
        provenance={"labels": config.labels, "pretrained": config.model, "seed": config.seed},
    )


def _save(card: Card, source: Source, fitted: LinearFit, run: Run) -> None:
    head = Model(card, {}).new_head(source.width)
    weight_KD11 = torch.from_numpy(fitted.weight_KD)[:, :, None, None]
    head.load_state_dict({"to_logits.weight": weight_KD11, "to_logits.bias": torch.from_numpy(fitted.bias_K)})
    modules: dict[str, torch.nn.Module] = {"head": head}
    if isinstance(source, Encoded):
        modules["encoder"] = source.encoder
    path = run.outputs / "model.safetensors"
    model_file.save(path, card, model_file.parts(**modules))
    run.output("model", path, card.title, needs="head")


def report_split(split: Split, grid: Grid, run: Run) -> None:
    path = run.outputs / "split.gpkg"
    write_split(path, split, grid)
    run.output("split", path, "Blocks held out for the scores")


def _summary(results: dict[str, Result], held: HeldOut, chosen: str, sentence: str) -> dict[str, Any]:
    counts_KK = results[chosen].counts_KK
    return {
        "chosen": chosen,
        "sentence": sentence,
        "split": " ".join(held.sentences),
        "mean_iou_polygons": {
            name: None if result.validated is None else round(result.validated.mean_iou, 4)
            for name, result in results.items()
        },
        "mean_iou_blocks": {
            name: None if result.counts_KK is None else round(mean_iou(result.counts_KK), 4)
            for name, result in results.items()
        },
        **block_scores(counts_KK, held.labels),
    }


def block_scores(counts_KK: NDArray[np.int64] | None, labels: Labels) -> dict[str, Any]:
    """Return the scores on held-out blocks for the run's result; without numbers where nothing was held out."""
    if counts_KK is None:
        return {"accuracy_blocks": None, "classes": {}, "confusion": {}}
    names = labels.names
    return {
        "accuracy_blocks": round(accuracy(counts_KK), 4),
        "classes": {name: score._asdict() for name, score in zip(names, class_scores(counts_KK), strict=True)},
        "confusion": {
            truth: dict(zip(names, counts_K.tolist(), strict=True))
            for truth, counts_K in zip(names, counts_KK, strict=True)
        },
    }
