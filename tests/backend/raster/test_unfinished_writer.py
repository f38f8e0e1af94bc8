"""Rows outlive the process that wrote them, and only those that are whole."""

from contextlib import suppress

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rsfm.errors import Cancelled, Paused, Stopped, UserError
from rsfm.output import RasterKind
from rsfm.outputs.classes import Classes
from rsfm.outputs.embedding import Embedding
from rsfm.raster.grid import Grid
from rsfm.raster.overviews import halve
from rsfm.raster.writer import RasterWriter

FILES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = {"classes": Classes, "embedding": Embedding}


class Lost(BaseException):
    """The process is gone: nobody tidies up."""


def grid(height, width):
    return Grid(CRS.from_epsg(32633), Affine(10, 0, 500000, 0, -10, 5000000), height, width)


def values(kind, bands, height, width):
    random = np.random.default_rng(0)
    if kind is Classes:
        return random.integers(1, 5, (bands, height, width)).astype(np.uint8)
    pixels = random.normal(size=(bands, height, width)).astype(np.float32)
    pixels[:, ::7, ::3] = np.nan
    return pixels


def write(folder, kind, pixels, end, failure=None, **options):
    """Write rows up to `end`, from where an earlier writer ended; then what happens, happens."""
    rows = folder / "rows"
    rows.mkdir(exist_ok=True)
    path = folder / "a.tif"
    writer = RasterWriter(path, kind, grid(*pixels.shape[1:]), len(pixels), unfinished=rows, **options)
    if failure is Lost:
        writer.write(pixels[:, writer.row : end])
        writer._file.sync()
        return writer.row
    with writer:
        writer.write(pixels[:, writer.row : end])
        if failure:
            raise failure
    return writer.row


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@FILES
@given(
    name=st.sampled_from(sorted(KINDS)),
    height=st.integers(600, 1700),
    width=st.integers(1, 70),
    ends=st.lists(st.tuples(st.integers(1, 1700), st.sampled_from([Lost, Stopped, RuntimeError])), max_size=4),
)
def test_whatever_ends_the_writing_the_file_is_that_of_an_uninterrupted_one(
    tmp_path_factory, name, height, width, ends, monkeypatch
):
    monkeypatch.setattr("rsfm.raster.writer.SYNC_SECONDS", 0)
    kind, folder = KINDS[name], tmp_path_factory.mktemp("rows")
    pixels = values(kind, 1 if kind is Classes else 3, height, width)
    done = 0
    for end, failure in ends:
        end = max(min(end, height - 1), done)
        with suppress(failure):
            write(folder, kind, pixels, end, failure)
        assert (folder / "a.tif").exists() == (failure is Stopped and end > 0)
        if failure is Stopped:
            found = read(folder / "a.tif")
            np.testing.assert_array_equal(found[:, :end], pixels[:, :end])
            missing = np.isnan(found[:, end:]) if kind is Embedding else found[:, end:] == 255
            assert missing.all()
        done = end // 512 * 512
    write(folder, kind, pixels, height)
    np.testing.assert_array_equal(read(folder / "a.tif"), pixels)
    assert [path.name for path in folder.rglob("*.*")] == ["a.tif"]


def test_a_torn_line_of_the_journal_and_bytes_behind_the_last_entry_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr("rsfm.raster.writer.SYNC_SECONDS", 0)
    pixels = values(Classes, 1, 1300, 40)
    write(tmp_path, Classes, pixels, 1100, Lost)
    with open(tmp_path / "rows" / "a.partial.journal", "ab") as journal:
        journal.write(b'{"row": 1024, "heig')
    with open(tmp_path / "rows" / "a.partial-rows.tif", "ab") as rows:
        rows.write(b"half a block")
    writer = RasterWriter(tmp_path / "a.tif", Classes, grid(1300, 40), unfinished=tmp_path / "rows")
    assert writer.row == 1024
    with writer:
        writer.write(pixels[:, 1024:])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)


def test_an_unfinished_file_can_be_read_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr("rsfm.raster.writer.SYNC_SECONDS", 0)
    pixels = values(Classes, 1, 1300, 40)
    write(tmp_path, Classes, pixels, 600, Lost)
    found = read(tmp_path / "rows" / "a.partial-rows.tif")
    np.testing.assert_array_equal(found[:, :512], pixels[:, :512])
    assert (found[:, 512:] == 255).all()


def test_a_file_that_is_complete_is_not_written_again(tmp_path):
    pixels = values(Classes, 1, 700, 40)
    write(tmp_path, Classes, pixels, 700)
    before = (tmp_path / "a.tif").stat()
    writer = RasterWriter(tmp_path / "a.tif", Classes, grid(700, 40), unfinished=tmp_path / "rows")
    assert writer.complete
    with writer:
        writer.write(pixels)
    assert (tmp_path / "a.tif").stat() == before


def test_cancel_removes_the_rows(tmp_path):
    with pytest.raises(Cancelled):
        write(tmp_path, Classes, values(Classes, 1, 1300, 40), 1100, Cancelled)
    assert not list(tmp_path.rglob("*.*"))


def test_a_stop_while_the_file_is_published_leaves_all_rows_and_a_second_start_publishes_them(tmp_path):
    pixels = values(Classes, 1, 1300, 40)

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        write(tmp_path, Classes, pixels, 1300, check=stop)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)
    assert write(tmp_path, Classes, pixels, 1300) == 1300
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(), pixels)


@pytest.mark.parametrize("overviews", ["mode", "average", "nearest"])
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_halving_is_what_one_would_do_by_hand(overviews, height, width, seed):
    class Kind(RasterKind):
        name, dtype, nodata, predictor = "kind", "uint8", 255, 2

    Kind.overviews = overviews
    rows = np.random.default_rng(seed).choice([1, 2, 5, 255], (1, height, width)).astype("uint8")
    halved = halve(rows, Kind)
    assert halved.shape == (1, -(-height // 2), -(-width // 2))
    for row, column in np.ndindex(halved.shape[1:]):
        four = rows[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
        valid = four[four != 255].tolist()
        if overviews == "nearest":
            assert halved[0, row, column] == four[0]
        elif not valid:
            assert halved[0, row, column] == 255
        elif overviews == "mode":
            assert valid.count(halved[0, row, column]) == max(valid.count(value) for value in valid)
        else:
            assert halved[0, row, column] == np.rint(np.mean(valid))


def flip_a_bit(folder):
    """Change a byte of the first row of blocks, as a failing disk does."""
    path = folder / "rows" / "a.partial-rows.tif"
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", 1))
    with open(path, "r+b") as file:
        file.seek(offset + 1000)
        byte = file.read(1)[0]
        file.seek(offset + 1000)
        file.write(bytes([byte ^ 1]))


def test_bytes_that_change_on_the_disk_are_noticed_when_the_file_is_published(tmp_path):
    pixels = values(Classes, 1, 2048, 600)
    (tmp_path / "rows").mkdir()
    writer = RasterWriter(tmp_path / "a.tif", Classes, grid(2048, 600), unfinished=tmp_path / "rows")
    writer.write(pixels[:, :1024])
    writer._file.sync()
    flip_a_bit(tmp_path)
    writer.write(pixels[:, 1024:])
    with pytest.raises(UserError, match="not read back as it was written"), writer:
        pass
    assert not (tmp_path / "a.tif").exists()


def test_bytes_that_changed_since_an_earlier_start_are_noticed(tmp_path):
    pixels = values(Classes, 1, 2048, 600)
    with pytest.raises(Paused):
        write(tmp_path, Classes, pixels, 1024, Paused(1024, 2048))
    flip_a_bit(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path, Classes, pixels, 2048)
    assert not (tmp_path / "a.tif").exists()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_pyramid_is_the_same_after_a_pause(tmp_path, kind):
    """In one go it is made of the rows in memory, after a pause of those in the file."""
    pixels = values(kind, 1, 3000, 1300)
    (tmp_path / "paused").mkdir()
    with pytest.raises(Paused):
        write(tmp_path / "paused", kind, pixels, 1100, Paused(1024, 3000))
    write(tmp_path / "paused", kind, pixels, 3000)
    write(tmp_path, kind, pixels, 3000)
    assert (tmp_path / "paused" / "a.tif").read_bytes() == (tmp_path / "a.tif").read_bytes()
