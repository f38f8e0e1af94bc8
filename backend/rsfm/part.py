"""One raster's share of a run over several: it has folders of its own, and reports through the whole run."""

from typing import Any

from rsfm.runs import Run

TITLED = frozenset({"output", "preview"})


class Part(Run):
    """A run as the job of one raster sees it.

    Attributes:
        name: of its folders, and of its raster.
    """

    def __init__(self, whole: Run, name: str, start: float, share: float, said: dict[str, Any]) -> None:
        """Take a share of a run.

        Args:
            start, share: of the whole's progress.
            said: is told with every output, such as its date.
        """
        self.folder, self.name, self.said = whole.folder, name, said
        self.outputs, self.checkpoints = whole.outputs / name, whole.checkpoints / name
        self.previews = whole.previews / name
        self._whole, self._start, self._share = whole, start, share
        self.outputs.mkdir(exist_ok=True)
        self.checkpoints.mkdir(exist_ok=True)

    def emit(self, type: str, **event: Any) -> None:
        """Append an event that tells of which raster it is."""
        if type in TITLED and self.name not in event["title"]:
            event["title"] = f"{event['title']} \u00b7 {self.name}"
        elif "text" in event:
            event["text"] = f"{self.name}: {event['text']}"
        self._whole.emit(type, **event)

    def progress(self, fraction: float, message: str = "", eta_seconds: float | None = None) -> None:
        """Report how far the raster is, as a part of the whole."""
        self._whole.progress(self._start + self._share * fraction, f"{self.name}: {message}" if message else self.name)
