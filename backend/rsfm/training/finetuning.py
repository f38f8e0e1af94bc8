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
from rsfm.raster.blocks import Split, polygon_folds, split_blocks, write_split
from rsfm.raster.collection_source import open_source
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Grid
from rsfm.raster.in_units import in_units
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.object_labels import LabelledObjects
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.training.candidates import features_at, make_candidates
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
    """What one feature source is worth: by cross-validation over polygons, and on the held-out blocks."""

    validated: Validated | None
    counts_KK: NDArray[np.int64] | None
    fitted: LinearFit


def finetune(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Compare feature sources on the user's polygons, keep the best and write it as a model."""
    device = choose_device(config.device, run)
    pretrained = load_pretrained(config)
    with open_as_read(config, pretrained) as raster:
        labels = read_labels(config.labels, config.class_field, raster)
        labels = only(labels, thin(labels.class_N, labels.polygon_N, MOST_PIXELS_PER_CLASS, config.seed))
        for note in labels.notes:
            run.warning(note)
        statistics = pretrained.card.statistics if pretrained else raster_statistics(raster, config.seed)
        folds = polygon_folds(labels, FOLDS, config.seed)
        split = split_blocks(labels, raster.grid, config.block, config.seed)
        candidates = make_candidates(raster, statistics, pretrained, config.seed)
        results = {}
        for number, (name, source) in enumerate(candidates.items()):
            run.progress(number / len(candidates), f"Features: {TITLES[name]}")
            features_ND = features_at(source, statistics, raster, labels.rows_N, labels.columns_N, device, run.check)
            results[name] = judge(features_ND, labels, folds.fold_N, split, config.head.balanced, run)
        chosen, sentence = choose(results, config.features)
        sentence = " ".join([sentence, *folds.sentences])
        run.warning(sentence) if folds.fold_N is None else run.note(sentence)
        card = make_card(config, raster, statistics, labels, pretrained, candidates[chosen], chosen)
        _save(card, candidates[chosen], results[chosen].fitted, run)
        report_split(split, raster.grid, run)
    return _summary(results, labels, split, chosen, sentence)


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


def judge(
    features_ND: NDArray[Any],
    labels: Labels,
    fold_N: NDArray[Any] | None,
    split: Split,
    balanced: bool,
    run: Run,
) -> Result:
    """Fit the linear head on features, judge it by polygons and by blocks, and fit it once more on all of them."""
    classes, class_N = len(labels.names), labels.class_N
    validated = None
    if fold_N is not None:
        validated = cross_validate(features_ND, class_N, fold_N, classes, balanced)
    penalty = validated.penalty if validated else DEFAULT_PENALTY
    run.check()
    counts_KK = None
    if split.test_N.any() and len(np.unique(class_N[split.train_N])) > 1:
        held_out = fit(features_ND[split.train_N], class_N[split.train_N], classes, penalty, balanced)
        counts_KK = confusion(class_N[split.test_N], held_out.predict(features_ND[split.test_N]), classes)
    return Result(validated, counts_KK, fit(features_ND, class_N, classes, penalty, balanced))


def only(labels: Labels, kept: NDArray[Any]) -> Labels:
    """Return some of the labelled pixels."""
    return labels._replace(
        rows_N=labels.rows_N[kept],
        columns_N=labels.columns_N[kept],
        class_N=labels.class_N[kept],
        polygon_N=labels.polygon_N[kept],
    )


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


def _summary(results: dict[str, Result], labels: Labels, split: Split, chosen: str, sentence: str) -> dict[str, Any]:
    counts_KK = results[chosen].counts_KK
    return {
        "chosen": chosen,
        "sentence": sentence,
        "split": " ".join(split.sentences),
        "mean_iou_polygons": {
            name: None if result.validated is None else round(result.validated.mean_iou, 4)
            for name, result in results.items()
        },
        "mean_iou_blocks": {
            name: None if result.counts_KK is None else round(mean_iou(result.counts_KK), 4)
            for name, result in results.items()
        },
        **block_scores(counts_KK, labels),
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
