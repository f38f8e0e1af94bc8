"""What a run that maps a raster keeps, so that it can go on where it ended and give the same pixels.

The folder holds `identity.json`, which says what the rows were made of, and the rows themselves (`raster/writer.py`).
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from rsfm import __version__
from rsfm.raster.reader import Raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run, write_json

FOLDER, IDENTITY = "rows", "identity.json"


class Unfinished:
    """The rows of a run that are done, and what must not change between them and the rest.

    Attributes:
        folder: for the writers.
        model: a digest of the model's file.
        kept: values that the first start chose and a later one must use again, such as the size of a batch.
    """

    def __init__(self, run: Run, raster: Raster, model: str | None, config: str, *others: Raster) -> None:
        """Find what an earlier start left; it is discarded, with a warning, if it was made of something else.

        Args:
            model: its file; None where there is none.
            others: rasters that are mapped beside the first.
        """
        self.folder, self._outputs = run.checkpoints / FOLDER, run.outputs
        self._file = self.folder / IDENTITY
        self.model = _digest(Path(model)) if model else ""
        identity = {
            "version": __version__,
            "raster": _raster_identity(raster),
            "model": self.model,
            "config": json.loads(config),
            **({"second raster": [_raster_identity(other) for other in others]} if others else {}),
        }
        found = _read(self._file)
        self.kept: dict[str, Any] = found.get("kept", {})
        changed = [part for part in identity if found and found.get(part) != identity[part]]
        if changed:
            run.warning(
                f"What was done before is made again, because it was made with another {' and '.join(changed)}."
            )
            shutil.rmtree(self.folder)
            for file in run.outputs.iterdir():
                file.unlink()
            self.kept = {}
        self._identity = identity
        self.folder.mkdir(exist_ok=True)
        self.keep()

    def __enter__(self) -> "Unfinished":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave no trace of a run that made nothing."""
        if not any(self.folder.glob("*.journal")) and not any(self._outputs.iterdir()):
            shutil.rmtree(self.folder)

    def keep(self, **values: Any) -> None:
        """Remember values for a later start."""
        self.kept = {**self.kept, **values}
        write_json(self._file, {**self._identity, "kept": self.kept})


def common_row(*writers: RasterWriter) -> int:
    """Take writers of one grid back to the first row of blocks that one of them lacks, and return its first row."""
    row, height = min(writer.row for writer in writers), writers[0].grid.height
    if row < height:
        row -= row % max(writer.block for writer in writers if not writer.complete)
    for writer in writers:
        writer.go_back(row)
    return row


def _raster_identity(raster: Raster) -> dict[str, Any]:
    """Name a raster, with the size and the time of its file where it has one."""
    path = Path(raster.path)
    entry = getattr(raster, "entry", None)
    found: dict[str, Any] = {
        "entry": entry and entry.model_dump(mode="json"),
        "path": raster.path,
        "shape": [raster.bands, raster.grid.height, raster.grid.width],
    }
    if path.is_file():
        status = os.stat(path)
        found |= {"bytes": status.st_size, "modified": status.st_mtime_ns}
    return found


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
