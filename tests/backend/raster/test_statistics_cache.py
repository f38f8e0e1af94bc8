import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rsfm.raster.collection import Entry
from rsfm.raster.collection_statistics import Budget, collection_statistics
from rsfm.raster.grid import Window
from rsfm.raster.statistics_cache import KEPT, cache_path, find, key_of, remember

AREA = Window(0, 0, 40, 50)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(1, 200, (2, 40, 50)).astype(np.uint8)


@pytest.fixture
def told(make_raster, pixels):
    return Entry(path=str(make_raster(pixels, "a.tif")), height=40, width=50)


@pytest.fixture
def cache(tmp_path):
    return cache_path(tmp_path / "fields.collection.json")


def poison(cache):
    """Change what is remembered, so that an answer tells whether it was used."""
    content = json.loads(cache.read_text())
    for statistics in content["measured"].values():
        statistics["mean"][0] = -77.0
    cache.write_text(json.dumps(content))


def used(entries, cache, areas=None, seed=0, **options):
    found = collection_statistics(entries, areas or [AREA] * len(entries), seed, cache=cache, **options)
    return found.mean[0] == -77


def test_what_was_measured_is_used_again(told, cache):
    assert cache.name == "fields.statistics.json"
    found = collection_statistics([told], [AREA], 0, cache=cache)
    assert collection_statistics([told], [AREA], 0, cache=cache) == found
    poison(cache)
    assert used([told], cache)
    assert [path.name for path in cache.parent.iterdir() if "partial" in path.name] == []


def test_any_change_measures_anew(told, cache, pixels, make_raster):
    clouds = make_raster(pixels[:1], "clouds.tif")
    told = told.model_copy(update={"mask": str(clouds), "masked": (199,)})
    collection_statistics([told], [AREA], 0, cache=cache)
    poison(cache)
    assert used([told], cache)
    for change in ({"offset": -1000.0}, {"scale": 0.5}, {"nodata": 3.0}, {"masked": (7,)}, {"decibel": True}):
        assert not used([told.model_copy(update=change)], cache), change
    assert not used([told], cache, [Window(0, 0, 40, 49)])
    assert not used([told], cache, seed=1)
    assert not used([told], cache, budget=Budget(sample=5))
    assert not used([told, told], cache)
    assert used([told], cache)
    for name in ("a.tif", "clouds.tif"):
        path = cache.parent / name
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        assert not used([told], cache), name
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert used([told], cache)


def test_a_change_of_size_alone_measures_anew(told, cache):
    collection_statistics([told], [AREA], 0, cache=cache)
    poison(cache)
    path = cache.parent / "a.tif"
    status = path.stat()
    with path.open("ab") as file:
        file.write(b"\0" * 10)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not used([told], cache)


def test_a_mask_written_beside_a_raster_measures_anew(told, cache):
    before = collection_statistics([told], [AREA], 0, cache=cache)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(told.path, "r+") as dataset:
        dataset.write_mask(np.arange(2000).reshape(40, 50) % 2 == 0)
    assert (cache.parent / "a.tif.msk").exists()
    assert collection_statistics([told], [AREA], 0, cache=cache).count[0] == before.count[0] // 2


def test_a_mosaic_changes_with_its_files(told, cache):
    vrt = cache.parent / "mosaic.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000,10,0,5100000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    mosaic = told.model_copy(update={"path": str(vrt)})
    collection_statistics([mosaic], [AREA], 0, cache=cache)
    poison(cache)
    assert used([mosaic], cache)
    os.utime(cache.parent / "a.tif", (1, 1))
    assert not used([mosaic], cache)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other"}', '{"measured": {"x": {"mean": 3}}}', "\xff"])
def test_a_damaged_or_foreign_file_is_measured_over(told, cache, content):
    truth = collection_statistics([told], [AREA], 0)
    cache.write_bytes(content.encode("latin-1"))
    assert collection_statistics([told], [AREA], 0, cache=cache) == truth
    poison(cache)
    assert used([told], cache)


def test_a_moved_folder_keeps_what_was_measured(told, cache, tmp_path):
    collection_statistics([told], [AREA], 0, cache=cache)
    poison(cache)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    try:
        assert used([told.model_copy(update={"path": str(moved / "a.tif")})], moved / cache.name)
    finally:
        moved.rename(tmp_path)


def test_files_that_cannot_be_watched_are_never_remembered(told, cache):
    zipped = told.model_copy(update={"path": f"/vsizip/{told.path}.zip/a.tif"})
    assert key_of(cache.parent, [zipped], [AREA], {}) is None


def test_a_folder_that_cannot_be_written_to_does_no_harm(told, tmp_path):
    missing = tmp_path / "none" / "fields.statistics.json"
    assert collection_statistics([told], [AREA], 0, cache=missing).count[0] == 2000


def test_only_the_latest_measurements_are_kept(told, cache):
    found = collection_statistics([told], [AREA], 0)
    for number in range(KEPT + 3):
        remember(cache, str(number), found)
    assert find(cache, "2") is None
    assert find(cache, "3") == find(cache, str(KEPT + 2)) == found


def test_processes_that_write_at_once_leave_a_whole_file(told, cache):
    found = collection_statistics([told], [AREA], 0)
    code = (
        "import sys; from pathlib import Path; from rsfm.raster.statistics import Statistics;"
        "from rsfm.raster.statistics_cache import find, remember;"
        "path, me = Path(sys.argv[1]), sys.argv[2]; found = Statistics.model_validate_json(sys.argv[3])\n"
        "for number in range(100):\n"
        "    remember(path, f'{me}-{number % 5}', found)\n"
        "    assert path.read_text().endswith('}')"
    )
    arguments = [str(cache), found.model_dump_json()]
    writers = [subprocess.Popen([sys.executable, "-c", code, arguments[0], str(me), arguments[1]]) for me in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert any(find(cache, f"{me}-4") == found for me in range(3))
    assert [path.name for path in cache.parent.iterdir() if "partial" in path.name] == []
