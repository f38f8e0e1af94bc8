"""Judges a frozen encoder by labelled squares of ground, by the protocols of DINO and SatDINO.

Shape letters: N squares, B batch, C bands, S side of a square, F features, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm import model_file
from rsfm.blocks.neighbours import neighbour_votes, ranked
from rsfm.blocks.normalisation import Normalisation
from rsfm.devices import choose_device
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.evaluation.linear_probe import DINO, SATDINO, Recipe, fresh_layer, shuffled, train_probe
from rsfm.evaluation.probe_features import SCALES, linear_features, look_at, patch_of, scaled_side
from rsfm.jobs.evaluate_encoder import EvaluateEncoderConfig
from rsfm.model_file import Model
from rsfm.raster.blocks import Split, split_blocks
from rsfm.raster.grid import Window
from rsfm.raster.object_labels import LabelledObjects, read_labelled_objects
from rsfm.raster.reader import Raster
from rsfm.runs import Run
from rsfm.training.finetuning import DEFAULT_PENALTY, open_for, report_split
from rsfm.training.linear_fit import fit
from rsfm.training.scenes import as_labels

BATCH = 16
NEIGHBOURS = (10, 20, 100, 200)
USUAL_NEIGHBOURS = 20
MOST_SQUARES = 20_000

Look = Callable[[Tensor], Tensor]


def evaluate_encoder(config: EvaluateEncoderConfig, run: Run) -> dict[str, Any]:
    """Judge an encoder by labelled squares, and say how it compares with raw pixels."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    encoder = model.encoder().to(device)
    with open_for(model, config.raster) as raster:
        side = _side(config, model, encoder, raster)
        objects = read_labelled_objects(config.labels, config.class_field, raster, side * raster.grid.gsd)
        for note in objects.notes:
            run.warning(note)
        _check_count(objects)
        split = split_blocks(as_labels(objects, raster.grid), raster.grid, config.block, config.seed, gap=0)
        if not split.test_N.any() or len(np.unique(objects.class_N[split.train_N])) < 2:
            raise UserError("No block can be held out: label more places, in different parts of the raster.", "labels")
        squares = _Squares(objects, raster, model, side, device, run)
        found = _judge(squares, encoder, objects, split, config)
        report_split(split, raster.grid, run)
    told = {name: None if value is None else round(value, 4) for name, value in found.items()}
    return {"sentence": _sentence(told, objects, split), "split": " ".join(split.sentences), "right": told}


class _Squares:
    """The squares around the middles of objects, normalised, read batch by batch."""

    def __init__(
        self, objects: LabelledObjects, raster: Raster, model: Model, side: int, device: str, run: Run
    ) -> None:
        middle_N = shapely.point_on_surface(objects.shape_N)
        self._row_N = np.floor(shapely.get_y(middle_N)).astype(int) - side // 2
        self._column_N = np.floor(shapely.get_x(middle_N)).astype(int) - side // 2
        self._raster, self.side, self._device, self._run = raster, side, device, run
        self._normalise = Normalisation.from_statistics(model.card.statistics).to(device)

    def features(self, look: Look, words: str) -> Tensor:
        """Return features_NF of what is looked at."""
        found = []
        with torch.inference_mode():
            for number, pixels_BCSS in enumerate(self._batches()):
                self._run.check()
                self._run.progress(number * BATCH / len(self._row_N), words)
                found.append(look(pixels_BCSS).float().cpu())
        return torch.cat(found).clone()

    def _batches(self) -> Iterator[Tensor]:
        for start in range(0, len(self._row_N), BATCH):
            places = zip(self._row_N[start : start + BATCH], self._column_N[start : start + BATCH], strict=True)
            windows = [
                self._raster.read(Window(int(row), int(at), self.side, self.side), "reflect") for row, at in places
            ]
            pixels_BCSS, valid_BSS = (torch.from_numpy(np.stack(part)) for part in zip(*windows, strict=True))
            yield self._normalise(pixels_BCSS.to(self._device), valid_BSS.to(self._device))


def _judge(
    squares: _Squares, encoder: Encoder, objects: LabelledObjects, split: Split, config: EvaluateEncoderConfig
) -> dict[str, float | None]:
    """Return the share of right answers of each protocol."""
    patch, class_N = patch_of(encoder), torch.from_numpy(objects.class_N)
    train_N, test_N = torch.from_numpy(split.train_N), torch.from_numpy(split.test_N)
    classes = len(objects.names)
    known_N, asked_N = class_N[train_N], class_N[test_N]
    found: dict[str, float | None] = {}
    by_scale = {}
    for scale in SCALES:
        side = scaled_side(squares.side, scale, patch)
        words = f"Looking at {scale:.1%} of the size".replace("%", " %")
        features_NF = squares.features(_embed(encoder, side), words)
        by_scale[scale] = _by_neighbours(features_NF[train_N], known_N, features_NF[test_N], asked_N, classes)
    for count in NEIGHBOURS:
        found[f"neighbours_{count}"] = by_scale[1.0][count]
    found["neighbours_of_scales"] = float(np.mean([each[USUAL_NEIGHBOURS] for each in by_scale.values()]))
    side = scaled_side(squares.side, 1.0, patch)
    last_NF = features_NF
    probed_NF = squares.features(lambda pixels: linear_features(encoder, look_at(pixels, side)), "Features to probe")
    for name, recipe, given_NF in (("linear_dino", DINO, probed_NF), ("linear_satdino", SATDINO, last_NF)):
        found[name] = _by_layer(recipe, given_NF[train_N], known_N, given_NF[test_N], asked_N, classes, config.seed)
    found["logistic"] = _by_regression(last_NF, objects.class_N, split, classes)
    pixels_NF = squares.features(_mean_and_spread, "Raw pixels")
    found["logistic_pixels"] = _by_regression(pixels_NF, objects.class_N, split, classes)
    shares_K = torch.bincount(known_N, minlength=classes)
    found["most_frequent"] = float((asked_N == shares_K.argmax()).double().mean())
    return found


def _by_neighbours(
    train_NF: Tensor, known_N: Tensor, asked_NF: Tensor, truth_N: Tensor, classes: int
) -> dict[int, float]:
    return {
        count: _right(ranked(neighbour_votes(train_NF, known_N, asked_NF, count, classes))[:, 0], truth_N)
        for count in NEIGHBOURS
    }


def _by_layer(
    recipe: Recipe, train_NF: Tensor, known_N: Tensor, asked_NF: Tensor, truth_N: Tensor, classes: int, seed: int
) -> float:
    layer = fresh_layer(train_NF.shape[1], classes, seed)
    train_probe(layer, train_NF, known_N, recipe, shuffled(len(train_NF), recipe.epochs, seed))
    with torch.no_grad():
        return _right(layer(asked_NF).argmax(1), truth_N)


def _by_regression(features_NF: Tensor, class_N: NDArray[Any], split: Split, classes: int) -> float:
    values_NF = features_NF.numpy()
    fitted = fit(values_NF[split.train_N], class_N[split.train_N], classes, DEFAULT_PENALTY)
    return float((fitted.predict(values_NF[split.test_N]) == class_N[split.test_N]).mean())


def _right(guess_N: Tensor, truth_N: Tensor) -> float:
    return float((guess_N == truth_N).double().mean())


def _embed(encoder: Encoder, side: int) -> Look:
    """Return what looks at squares at a size."""
    return lambda pixels_BCSS: encoder.embedding(look_at(pixels_BCSS, side))


def _mean_and_spread(pixels_BCSS: Tensor) -> Tensor:
    flat_BCN = pixels_BCSS.flatten(2)
    return torch.cat([flat_BCN.mean(2), flat_BCN.std(2)], dim=1)


def _side(config: EvaluateEncoderConfig, model: Model, encoder: Encoder, raster: Raster) -> int:
    """Return the side of a square in pixels: whole patches."""
    asked = round(config.side / raster.grid.gsd) if config.side else model.card.window or 64
    return scaled_side(asked, 1.0, patch_of(encoder))


def _check_count(objects: LabelledObjects) -> None:
    if len(objects.class_N) > MOST_SQUARES:
        raise UserError(
            f"There are {len(objects.class_N):,} labelled places; up to {MOST_SQUARES:,} can be looked at. Choose some "
            "of them under 'Labels'.",
            "labels",
        )


def _sentence(found: dict[str, float | None], objects: LabelledObjects, split: Split) -> str:
    def share(name: str) -> str:
        return f"{found[name]:.1%}".replace("%", " %")

    return (
        f"Right on held-out places: {share('neighbours_20')} by 20 nearest neighbours, {share('logistic')} by logistic "
        f"regression; raw pixels {share('logistic_pixels')}, the most frequent class {share('most_frequent')}. "
        f"{int(split.train_N.sum())} places were learnt from and {int(split.test_N.sum())} asked, of "
        f"{len(objects.names)} classes."
    )
