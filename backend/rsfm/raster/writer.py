"""Writes a raster row by row with little memory, and publishes it as a cloud-optimised GeoTIFF when it is whole."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from rsfm.errors import Cancelled, Paused, Stopped, UserError
from rsfm.output import RasterKind
from rsfm.raster.block_file import BlockFile, Look
from rsfm.raster.cog import Pyramid, Written, checksum, make_cog
from rsfm.raster.grid import Grid
from rsfm.raster.journal import Journal

MAX_EXPECTED_RATIO = {"i": 0.3, "u": 0.3, "f": 0.9}
"""Size after compression by kind of numbers, on the careful side: maps of classes fall far below, floats with a scale
do not, whatever type holds them."""
READ_ROWS = 512
SYNC_SECONDS = 1.0
"""At most this much work is lost with the process."""
FOLLOWED = 2
"""Rows of blocks that go into the pyramid with each that is written: this one, and one of an earlier start."""


class RasterWriter:
    """Takes rows from top to bottom; on a clean exit the file stands at its path, complete, else nothing does.

    With a folder for unfinished work, rows that are on the disk outlive the process, and a Stop leaves them at the path
    as a valid raster whose rest is nodata. The next writer of the same raster goes on at `row`.

    Attributes:
        row: how many rows are done.
        complete: the file stands at its path already; nothing is to be written.
    """

    def __init__(
        self,
        path: Path,
        kind: type[RasterKind],
        grid: Grid,
        bands: int = 1,
        band_names: Sequence[str] = (),
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        metadata: Mapping[str, str] | None = None,
        unfinished: Path | None = None,
        check: Callable[[], None] = lambda: None,
        scaling: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Prepare the file.

        Args:
            kind: says type, nodata, overviews and predictor.
            band_names: one a band, or none.
            colours: value -> red, green, blue, 0 to 255; for one band of uint8.
            metadata: tags of the file.
            unfinished: folder in which rows outlive the process; what it holds must be of the same raster.
            check: is called while the file is published, and may raise to end that.
            scaling: scale and offset a band, by which readers make values of the numbers stored.

        Raises:
            UserError: there is too little free space, or the folder cannot be written.
        """
        self.path, self.kind, self.grid, self.bands = path, kind, grid, bands
        self._keeps, self._check = unfinished is not None, check
        folder = unfinished or path.parent
        self._rows_file = folder / f"{path.stem}.partial-rows{path.suffix}"
        self._journal_file = folder / f"{path.stem}.partial.journal"
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self.row = 0
        self._waiting: list[np.ndarray] = []
        self._written: list[Written] = []
        self._entries: list[dict[str, int]] = []
        self._synced = time.monotonic()
        self.complete = self._keeps and path.exists() and not self._journal_file.exists()
        if self.complete:
            self.row = grid.height
            return
        self._check_space("f" if scaling else np.dtype(kind.dtype).kind)
        if not self._keeps:
            self._journal_file.unlink(missing_ok=True)
        try:
            self._look = Look(band_names, colours or {}, metadata or {}, scaling)
            self._open(self._look)
        except (RasterioError, OSError) as error:
            raise self._failure(error) from error

    def __enter__(self) -> "RasterWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.complete:
            return
        try:
            if kind is None:
                self._finish()
            elif kind is Paused:
                self._sync()
        except Stopped:
            self._stop()
            raise
        except (RasterioError, OSError) as failed:
            raise self._failure(failed) from failed
        else:
            if kind is Stopped and self._keeps:
                self._stop()
        finally:
            kept = self._keeps and not self.complete and kind is not Cancelled
            shown = self.path.exists()  # by a Stop before the first row of blocks was full
            self._close(keep=kept and (shown or bool(self._journal.entries)))

    @property
    def height(self) -> int:
        """Rows that were taken, those included that wait for a row of blocks to be filled."""
        return self.row + sum(len(rows_CHW[0]) for rows_CHW in self._waiting)

    def write(self, rows_CHW: np.ndarray) -> None:
        """Take the next rows, full width.

        Only whole rows of blocks go to the file. Rows of a complete file are not written again.

        Raises:
            UserError: the disk is full.
        """
        if self.complete:
            return
        bands, height, width = rows_CHW.shape
        taken = self.height
        if (bands, width) != (self.bands, self.grid.width) or taken + height > self.grid.height:
            raise ValueError(
                f"{rows_CHW.shape} does not fit {(self.bands, self.grid.height - taken, self.grid.width)}."
            )
        self._waiting.append(rows_CHW.astype(self.kind.dtype))  # a copy: the caller may use its array again
        if taken + height - self.row >= self._file.block or taken + height == self.grid.height:
            try:
                self._write_blocks(last=taken + height == self.grid.height)
            except (RasterioError, OSError) as error:
                raise self._failure(error) from error

    def go_back(self, row: int) -> None:
        """Forget the rows from `row` on, a whole number of blocks, of an earlier start."""
        if row >= self.row or self.complete:
            return
        count = row // self._file.block
        self._journal.cut(count)
        self._file.cut(count, self._journal.entries[-1]["end"] if count else self._file.data_start)
        del self._written[count:]
        self.row = row

    def begin(self, row: int) -> None:
        """Start at a row, a whole number of blocks, if nothing is done: another writer has those above."""
        self._is_share = True
        if not (self._journal.entries or self.complete):
            self.row = row

    def adopt(self, folder: Path, beyond: bool = False) -> None:
        """Take over the rows that follow here from a folder where a writer of the same raster kept them.

        Args:
            beyond: show those that do not follow, too; they are not done, and a later start forgets them.
        """
        rows_file, journal_file = folder / self._rows_file.name, folder / self._journal_file.name
        if self.complete or not (rows_file.exists() and journal_file.exists()):
            return
        journal = Journal(journal_file)
        other = BlockFile(rows_file, self.kind, self.grid, self.bands, self._look, go_on=True)
        for entry in journal.entries:
            if entry["row"] == self.row:
                self._file.take(self.row // self._file.block, other)
                self._note(entry["height"], entry["checksum"])
            elif beyond and entry["row"] > self.row:
                self._file.take(entry["row"] // self._file.block, other)
        other.close()
        journal.close()
        self._sync()

    @property
    def block(self) -> int:
        """Rows are done by this many."""
        return self.grid.height if self.complete else self._file.block

    def done(self, end: int) -> Iterator[np.ndarray]:
        """Read rows that are done, up to `end`."""
        if end:
            if not self.complete:
                self._file.sync()
            with rasterio.open(self.path if self.complete else self._rows_file) as dataset:
                for row in range(0, end, READ_ROWS):
                    yield dataset.read(window=((row, min(row + READ_ROWS, end)), (0, self.grid.width)))

    def _open(self, look: Look) -> None:
        """Begin, or go on where the journal ends; a Stop has put the rows at the path."""
        self._journal = Journal(self._journal_file)
        if self._journal.entries and not self._rows_file.exists() and self.path.exists():
            os.replace(self.path, self._rows_file)
        go_on = bool(self._journal.entries) and self._rows_file.exists()
        if not go_on:
            self._journal.cut(0)
            if self._keeps:
                self.path.unlink(missing_ok=True)  # what a Stop left, less than a row of blocks
        self._file = BlockFile(self._rows_file, self.kind, self.grid, self.bands, look, go_on=go_on)
        self._pyramid, self._is_share = Pyramid(self._file), False
        for entry in self._journal.entries:
            self._written.append(Written(entry["row"], entry["height"], entry["checksum"]))
            self.row = entry["row"] + entry["height"]
        if go_on:
            self._file.cut(len(self._written), self._journal.entries[-1]["end"])

    def _write_blocks(self, last: bool) -> None:
        rows_CHW = np.concatenate(self._waiting, axis=1)
        block = self._file.block
        end = rows_CHW.shape[1] if last else rows_CHW.shape[1] // block * block
        for top in range(0, end, block):
            self._write_block(rows_CHW[:, top : min(top + block, end)])
        self._waiting = [rows_CHW[:, end:].copy()]

    def _write_block(self, rows_CHW: np.ndarray) -> None:
        self._file.append(self.row // self._file.block, rows_CHW)
        self._note(rows_CHW.shape[1], checksum(rows_CHW))
        if not self._is_share:  # whoever has all rows makes the pyramid
            self._pyramid.take(rows_CHW, self._written, FOLLOWED)
        if self._keeps and time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def _note(self, height: int, digest: int) -> None:
        written = Written(self.row, height, digest)
        self._written.append(written)
        self._entries.append({**written._asdict(), "end": self._file.end})
        self.row += height

    def _sync(self) -> None:
        """Record what was written: the rows reach the disk first, then the journal that vouches for them."""
        self._file.sync()
        self._journal.append(self._entries)
        self._entries, self._synced = [], time.monotonic()

    def _finish(self) -> None:
        if self.height != self.grid.height:
            raise ValueError(f"Only {self.height} of {self.grid.height} rows were written.")
        self._sync()
        make_cog(self._file, self._written, self._pyramid, self._partial, self._check)
        os.replace(self._partial, self.path)
        self.complete = True

    def _stop(self) -> None:
        """Leave what is done at the path; rows that fill no row of blocks are shown, but will be made again."""
        self._sync()
        if self.height == 0:
            return
        waiting = [rows_CHW for rows_CHW in self._waiting if rows_CHW.shape[1]]
        if waiting:
            rows_CHW = np.concatenate(waiting, axis=1)
            height = min(self._file.block, self.grid.height - self.row)
            shown_CHW = np.full((self.bands, height, self.grid.width), self.kind.nodata, self.kind.dtype)
            shown_CHW[:, : rows_CHW.shape[1]] = rows_CHW
            self._file.append(self.row // self._file.block, shown_CHW)
        self._file.sync()
        self._file.close()
        os.replace(self._rows_file, self.path)

    def _close(self, keep: bool) -> None:
        """Close the files, and remove them; the journal first, for without it rows at the path count as complete."""
        self._pyramid.close()
        with suppress(OSError):
            self._journal.close()
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)
        if not keep:
            self._journal_file.unlink(missing_ok=True)
            self._rows_file.unlink(missing_ok=True)

    def _check_space(self, numbers: str) -> None:
        """Make sure that rows, pyramid and finished file fit beside each other."""
        pixel_bytes = self.bands * (self.kind.bits or 8 * np.dtype(self.kind.dtype).itemsize) / 8
        pixels = self.grid.height * self.grid.width
        needed = int(pixels * pixel_bytes * MAX_EXPECTED_RATIO[numbers] * (1 + 1 / 3 + 4 / 3))
        try:
            there = self._rows_file.stat().st_size if self._rows_file.exists() else 0
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise self._failure(error) from error
        if free < needed - there:
            raise UserError(
                f"'{self.path.name}' may need {_gigabytes(needed - there)} but only {_gigabytes(free)} are free in "
                f"'{self.path.parent}'. Free some space, choose a smaller area, or move the folder of runs under "
                "Settings > Options > RSFM."
            )

    def _failure(self, error: Exception) -> UserError:
        free = ""
        with suppress(OSError):
            free = f", {_gigabytes(shutil.disk_usage(self.path.parent).free)} are free"
        return UserError(
            f"'{self.path.name}' cannot be written to '{self.path.parent}' ({error}{free}). Free some space there, or "
            "choose another folder of runs under Settings > Options > RSFM."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
