"""Reads a report as a browser would: sections, texts and pictures, and whatever would be fetched from outside."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import MemoryFile

MAX_BYTES = 8_000_000
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a report shows.

    Attributes:
        sections: id -> the text below it.
        tags: all names of elements.
        links: values of all attributes that could fetch something.
        pictures: section, alternative text and URI of each picture.
        downloads: names of files that can be saved -> URI.
        unclosed: elements that were not closed in their order.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.sections: dict[str, str] = {"": ""}
        self.tags: list[str] = []
        self.links: list[str] = []
        self.pictures: list[tuple[str, str, str]] = []
        self.downloads: dict[str, str] = {}
        self.unclosed: list[str] = []
        self._open: list[str] = []
        self._section, self._map = "", ""
        self.feed(self.text)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = found["id"]
            self.sections[self._section] = ""
        if tag == "svg":
            self._map = found["aria-label"]
        self.links += [value for name, value in attributes if name in {"src", "href", "xlink:href", "action", "data"}]
        if tag == "img":
            self.pictures.append((self._section, found["alt"], found["src"]))
        if tag == "image":
            self.pictures.append((self._section, self._map, found["xlink:href"]))
        if "download" in found:
            self.downloads[found["download"]] = found["href"]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        self.sections[self._section] += data

    def of(self, section: str) -> list[tuple[str, np.ndarray]]:
        """Return the alternative texts and pixels_CHW of a section's pictures."""
        return [(alt, decode(uri)) for where, alt, uri in self.pictures if where == section]


def decode(uri: str) -> np.ndarray:
    """Return pixels_CHW of a picture that is in its URI."""
    with MemoryFile(base64.b64decode(uri.partition(",")[2])) as memory, memory.open() as file:
        return file.read()


def read_picture(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def check_whole(page: Page) -> None:
    """Check what holds for every report."""
    assert not page.unclosed
    assert all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    assert "http" not in page.text.replace("http-equiv", "")
    assert all(alt for _, alt, _ in page.pictures)
    assert len(page.text) < MAX_BYTES
    assert "could not be made" not in page.text
