"""A section of a run's report is one file of `sections/`; it says of each run what to show, or that it has nothing.

No torch here and in the sections: pictures were made while the run had its network at hand.
"""

import base64
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from rsfm import runs

MOST_BYTES = 7_000_000
"""Of all pictures of a report."""
PROGRESS, HEAD = '"type": "progress"', 80
TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


class Record:
    """What a run left behind.

    Attributes:
        folder: of the run.
        run, config: what run.json and config.json hold.
        events: what was reported, in order, but for progress.
        bytes_left: that pictures may still take.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = runs.read(folder)
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with open(folder / "events.jsonl", encoding="utf-8") as lines:
            self.events: list[dict[str, Any]] = [event for line in lines if (event := _parse(line))]
        self.bytes_left = MOST_BYTES

    def shown(self, name: str) -> dict[str, Any]:
        """Return a part that the run recorded for its report; empty if there is none."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "shown" / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def series(self) -> dict[str, list[tuple[float, float]]]:
        """Return the numbers that changed as the run went on: steps, rising, and values by name.

        Steps that a resumed run did again count as it did them the last time.
        """
        found: dict[str, list[tuple[float, float]]] = {}
        for event in self.events:
            if event["type"] == "metric":
                points = found.setdefault(event["name"], [])
                while points and points[-1][0] >= event["step"]:
                    points.pop()
                points.append((event["step"], event["value"]))
        return found

    def picture(self, path: Path) -> str:
        """Return a picture as a URI that holds it; empty if it is missing or there is no room for it."""
        try:
            data = path.read_bytes()
        except OSError:
            return ""
        return self.picture_of(data, TYPES[path.suffix])

    def picture_of(self, data: bytes, kind: str) -> str:
        """Return the bytes of a picture as a URI that holds it; empty if there is no room for it."""
        text = base64.b64encode(data).decode()
        if len(text) > self.bytes_left:
            return ""
        self.bytes_left -= len(text)
        return f"data:{kind};base64,{text}"

    def recorded_picture(self, name: str) -> str:
        """Return a picture of a part that was recorded, as `picture` does."""
        return self.picture(self.folder / "shown" / name)


class Section(ABC):
    """A part of a report under a heading of its own.

    Attributes:
        name: the module's name.
        title: the heading.
        rank: the lowest is shown first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rank: ClassVar[int]

    @abstractmethod
    def show(self, record: Record) -> str:
        """Return HTML for a run, in which all that users wrote is escaped; empty if there is nothing to show."""


def _parse(line: str) -> dict[str, Any]:
    """Read an event; progress, of which there is a lot, and one that was cut off when the run was killed are none."""
    if PROGRESS in line[:HEAD]:
        return {}
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "type" in found else {}
