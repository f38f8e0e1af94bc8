"""What watches a pretraining: the learning map, and scores on the user's labels."""

from typing import NamedTuple

from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.learning_map import LearningMap
from rsfm.training.loop import Budget
from rsfm.training.online_scores import OnlineScores, open_scores
from rsfm.training.watching import Watching
from rsfm.training.window_source import WindowSource


class Watchers(NamedTuple):
    """The watchers of a training, and what those make that there are."""

    all: tuple[Watching, ...]
    map: LearningMap | None
    scores: OnlineScores | None

    def finish(self, method: Method, position: Position) -> None:
        """Look at what the training came to, and give its maps to the user."""
        for watching in self.all:
            watching.finish(method, position)
        self.report()

    def result(self) -> dict[str, str]:
        """Return what the result of the run says of the scores."""
        sentence = self.scores.sentence() if self.scores is not None else ""
        return {"sentence": sentence} if sentence else {}

    def report(self) -> None:
        """Give the maps that there are to the user."""
        if self.map is not None:
            self.map.report()


NOBODY = Watchers((), None, None)
"""Of processes that only help to train."""


def make_learning_map(config: PretrainConfig, source: WindowSource, device: str, run: Run) -> LearningMap:
    """Make the look at what the encoder sees."""
    return LearningMap(source.rasters, source.statistics, device, run, config.window)


def make_watchers(
    config: PretrainConfig, source: WindowSource, method: Method, budget: Budget, device: str, run: Run
) -> Watchers:
    """Make what the config asks for; reports what raw pixels are worth for the labels.

    Raises:
        UserError: the labels cannot be used.
    """
    watching, scores = [], None
    if config.labels is not None:
        run.progress(0, "Reading the labels to watch by")
        scores = open_scores(config, source, method.encoder.stride, device, run)
        scores.report_floor()
        watching.append(Watching(scores, "The score on your labels", budget, run))
    learning_map = None
    if config.learning_map:
        learning_map = make_learning_map(config, source, device, run)
        watching.append(Watching(learning_map, "The learning map", budget, run))
    return Watchers(tuple(watching), learning_map, scores)
