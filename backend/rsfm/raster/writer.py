"""Writes a raster row by row with little memory, and publishes it as a cloud-optimised GeoTIFF when it is whole."""

import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster

from rsfm.errors import UserError
from rsfm.output import RasterKind
from rsfm.raster.grid import Grid

BLOCK = 512
MAX_EXPECTED_RATIO = {"i": 0.3, "u": 0.3, "f": 0.9}
"""Size after compression by kind of numbers, on the careful side: maps of classes fall far below."""


class RasterWriter:
    """Takes rows from top to bottom; on a clean exit the file stands at its path, complete, else nothing does.

    Until then it has a name that contains ".partial". GDAL can lose its last writes to a full disk without a word, so
    the finished file is read back and its checksums compared before it gets its name.
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
    ) -> None:
        """Prepare the file.

        Args:
            kind: says type, nodata, overviews and predictor.
            band_names: one a band, or none.
            colours: value -> red, green, blue, 0 to 255; for one band of uint8.
            metadata: tags of the file.

        Raises:
            UserError: there is too little free space, or the folder cannot be written.
        """
        self.path, self.kind, self.grid, self.bands = path, kind, grid, bands
        self._rows_file = path.with_name(f"{path.stem}.partial-rows{path.suffix}")
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._row = 0
        self._waiting: list[np.ndarray] = []
        self._checksums: list[tuple[int, int, int]] = []
        self._check_space()
        try:
            self._dataset = self._create(band_names, colours or {}, metadata or {})
        except (RasterioError, OSError) as error:
            raise self._failure(error) from error

    def __enter__(self) -> "RasterWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with suppress(RasterioError, OSError):
                    self._dataset.close()
        except (RasterioError, OSError) as failed:
            raise self._failure(failed) from failed
        finally:
            self._rows_file.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)

    def write(self, rows_CHW: np.ndarray) -> None:
        """Take the next rows, full width.

        Only whole rows of blocks go to the file: a compressed block that is written twice leaves a hole.

        Raises:
            UserError: the disk is full.
        """
        bands, height, width = rows_CHW.shape
        done = self._row + sum(rows.shape[1] for rows in self._waiting)
        if (bands, width) != (self.bands, self.grid.width) or done + height > self.grid.height:
            raise ValueError(f"{rows_CHW.shape} does not fit {(self.bands, self.grid.height - done, self.grid.width)}.")
        self._waiting.append(rows_CHW.astype(self.kind.dtype))  # a copy: the caller may use its array again
        waiting = done + height - self._row
        if waiting >= BLOCK or done + height == self.grid.height:
            self._write_blocks(last=done + height == self.grid.height)

    def _write_blocks(self, last: bool) -> None:
        rows_CHW = np.concatenate(self._waiting, axis=1)
        height = rows_CHW.shape[1] if last else rows_CHW.shape[1] // BLOCK * BLOCK
        window = ((self._row, self._row + height), (0, self.grid.width))
        try:
            self._dataset.write(rows_CHW[:, :height], window=window)
        except (RasterioError, OSError) as error:
            raise self._failure(error) from error
        self._checksums.append((self._row, height, _checksum(rows_CHW[:, :height])))
        self._row += height
        self._waiting = [rows_CHW[:, height:].copy()]

    def _create(
        self, band_names: Sequence[str], colours: Mapping[int, tuple[int, int, int]], metadata: Mapping[str, str]
    ) -> rasterio.io.DatasetWriter:
        dataset = rasterio.open(
            self._rows_file,
            "w",
            driver="GTiff",
            crs=self.grid.crs,
            transform=self.grid.transform,
            height=self.grid.height,
            width=self.grid.width,
            count=self.bands,
            dtype=self.kind.dtype,
            nodata=self.kind.nodata,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            zlevel=1,
            predictor=self.kind.predictor,
            interleave="band",
            photometric="minisblack",
            alpha="no",
            bigtiff="if_safer",
        )
        for number, name in enumerate(band_names, start=1):
            dataset.set_band_description(number, name)
        if colours:
            dataset.write_colormap(1, {value: (*colour, 255) for value, colour in colours.items()})
        dataset.update_tags(**metadata)
        return dataset

    def _finish(self) -> None:
        self._dataset.close()
        came = self._row + sum(rows_CHW.shape[1] for rows_CHW in self._waiting)
        if came != self.grid.height:
            raise ValueError(f"Only {came} of {self.grid.height} rows were written.")
        copy_raster(
            self._rows_file,
            self._partial,
            driver="COG",
            compress="DEFLATE",
            predictor="STANDARD" if self.kind.predictor == 2 else "FLOATING_POINT",
            blocksize=BLOCK,
            overviews="AUTO",
            overview_resampling=self.kind.overviews.upper(),
            bigtiff="IF_SAFER",
            num_threads="ALL_CPUS",
        )
        self._check_finished()
        os.replace(self._partial, self.path)

    def _check_finished(self) -> None:
        with rasterio.open(self._partial) as dataset:
            for row, height, checksum in self._checksums:
                window = ((row, row + height), (0, self.grid.width))
                if _checksum(dataset.read(window=window)) != checksum:
                    raise OSError(f"rows {row} to {row + height} do not read back as they were written")

    def _check_space(self) -> None:
        """Make sure that rows, finished file and overviews fit beside each other."""
        dtype = np.dtype(self.kind.dtype)
        pixels = self.bands * self.grid.height * self.grid.width
        needed = int(pixels * dtype.itemsize * MAX_EXPECTED_RATIO[dtype.kind] * (1 + 4 / 3))
        try:
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise self._failure(error) from error
        if free < needed:
            raise UserError(
                f"'{self.path.name}' may need {_gigabytes(needed)} but only {_gigabytes(free)} are free in "
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


def _checksum(rows_CHW: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rows_CHW).data)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
