"""Keeps the collection that is worked with: reads it, takes in changes one after the other, writes it at once."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

from qgis.PyQt.QtCore import QObject, pyqtSignal

from rsfm_qgis.collection import Collection, CollectionError, Entry
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.gathering import Gathering
from rsfm_qgis.runs import RunList
from rsfm_qgis.slices import Slices


class CollectionKeeper(QObject):
    """One open collection. Every change is on the disk before the next one begins.

    Signals:
        changed: the entries are other ones.
        failed: why something could not be done.
        known: how many of the rasters to be added were there already.
    """

    changed = pyqtSignal()
    failed = pyqtSignal(str)
    known = pyqtSignal(int)

    def __init__(self, collections: CollectionList, runs: RunList, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path = ""
        self.slices = Slices(self)
        self.gathering = Gathering(runs, self)
        self._collections = collections
        self._open: Collection | None = None
        self._problem = ""
        self._gone: list[tuple[int, Entry]] = []
        self._removed: set[str] = set()
        self.gathering.gathered.connect(self._take)
        self.gathering.failed.connect(self._end)
        self.gathering.refused.connect(self._refuse)

    @property
    def entries(self) -> list[Entry]:
        """The entries of the open collection; empty where none is open."""
        return self._open.entries if self._open is not None else []

    def open(self, path: str) -> None:
        """Work with a collection; with none where the path is empty."""
        self.path, self._gone, self._removed = path, [], set()
        self._open = None
        self.changed.emit()
        if path:
            self.slices.submit(lambda: self._read(path))

    def change(self, paths: list[str], changes: dict[str, Any]) -> None:
        """Say something about some rasters."""
        self._edit(lambda collection: collection.change(paths, changes))

    def remove(self, paths: list[str]) -> None:
        """Take rasters out; `restore` puts them back."""

        def remove(collection: Collection) -> None:
            self._gone = collection.remove(paths)
            self._removed |= set(paths)

        self._edit(remove)

    def restore(self) -> None:
        """Put back what was taken out last."""
        gone, self._gone = self._gone, []
        self._removed -= {entry["path"] for _, entry in gone}
        self._edit(lambda collection: collection.restore(gone))

    def add(self, entries: list[Entry], folders: list[str]) -> None:
        """Add rasters, and have the backend look at those that are new."""
        new: list[str] = []

        def add(collection: Collection) -> None:
            new.extend(collection.add(entries))
            self._removed -= set(new)
            if len(new) < len(entries):
                self.known.emit(len(entries) - len(new))

        def written() -> None:
            if new or folders:
                self._look([*new, *folders], True)

        self._edit(add, written)

    def look_again(self, paths: list[str]) -> None:
        """Have the backend look at rasters again; what the user said of them stays."""
        wanted = set(paths)
        usable = any(entry["path"] in wanted and not entry["problem"] for entry in self.entries)
        if self.path and paths:
            self._look(paths, not usable)

    def _look(self, rasters: list[str], beside_known: bool) -> None:
        """Start the backend's look; beside the rasters known already it finds which mask belongs to which raster."""
        self.gathering.start(self.path, [self.path, *rasters] if beside_known else rasters)
        self.changed.emit()

    def finish(self) -> None:
        """Write what is not written yet, before the plugin goes."""
        self.slices.finish()

    def _edit(self, edit: Callable[[Collection], None], written: Callable[[], None] | None = None) -> None:
        target = self.path

        def work() -> Iterator[None]:
            collection = self._open
            if collection is None or str(collection.path) != target:
                self.failed.emit(self._problem)
                return
            edit(collection)
            self.changed.emit()
            is_written = yield from self._write(collection)
            if is_written and written is not None and target == self.path:
                written()

        self.slices.submit(work)

    def _read(self, path: str) -> Iterator[None]:
        collection = Collection(Path(path))
        try:
            yield from collection.read()
        except CollectionError as error:
            self._problem = str(error)
            self.failed.emit(self._problem)
            return
        if path == self.path:
            self._open = collection
            self.changed.emit()

    def _write(self, collection: Collection) -> Generator[None, None, bool]:
        """Write a collection; tells whether it was. One that another program wrote is read again."""
        path = str(collection.path)
        try:
            yield from collection.write()
        except CollectionError as error:
            self.failed.emit(str(error))
            if path == self.path:
                yield from self._read(path)
            return False
        self._collections.edited.emit(path)
        return True

    def _take(self, target: str, made: str) -> None:
        self.slices.submit(lambda: self._merge(target, made))

    def _merge(self, target: str, made: str) -> Iterator[None]:
        found, collection = Collection(Path(made)), self._open
        try:
            yield from found.read()
            if collection is None or str(collection.path) != target:
                collection = Collection(Path(target))
                yield from collection.read()
        except CollectionError as error:
            self.failed.emit(str(error))
            return
        yield from collection.merge(found.entries, self._removed if collection is self._open else ())
        if collection is self._open:
            self.changed.emit()
        if (yield from self._write(collection)):
            with suppress(OSError):
                os.remove(made)  # all of it is in the collection now

    def _refuse(self, target: str, reason: str) -> None:
        self.failed.emit(reason)
        self._end(target)

    def _end(self, target: str) -> None:
        if target == self.path:
            self.changed.emit()
