"""Objects found in tiles are those found on the whole raster at once, wherever the seams lie."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rsfm.box_inference import BoxNetwork, Found, run_boxes
from rsfm.detection import Search, find_rows, in_area
from rsfm.raster.area import Area, read_area
from rsfm.raster.box_rows import BoxRows
from rsfm.raster.boxes import BOX, corners, make_boxes, overlaps
from rsfm.raster.reader import open_raster
from rsfm.raster.seams import plan_object_tiles, settle
from rsfm.raster.strips import lay_out
from scipy import ndimage

PROFILE = {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
LARGEST = 20
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Blobs(BoxNetwork):
    """A box around each connected group of bright pixels; its brightness is the score, and above 150 the class is 2."""

    multiple = 32

    def __init__(self, shift: float = 0) -> None:
        super().__init__()
        self.shift, self.batches = shift, []

    def forward(self, pixels_BCSS, valid_BSS):
        self.batches.append(len(pixels_BCSS))
        return [self.find(pixels_CSS[0].numpy(), index) for index, pixels_CSS in enumerate(pixels_BCSS)]

    def find(self, pixels_SS, index):
        labels_SS, count = ndimage.label(pixels_SS > 50)
        places = ndimage.find_objects(labels_SS)
        peaks = ndimage.maximum(pixels_SS, labels_SS, range(1, count + 1))
        edges = [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in places]
        corners_N4 = torch.tensor(edges, dtype=torch.float32).reshape(-1, 4)
        peak_N = torch.tensor(np.asarray(peaks), dtype=torch.float32)
        if self.shift:  # as a network does that sees other surroundings: not quite the same box from every tile
            corners_N4 = corners_N4 + self.shift * (1 - 2 * (int(pixels_SS.sum()) % 2))
        return Found(corners_N4, peak_N / 255, (peak_N > 150).long() + 1)


def write(path, pixels_HW, **profile):
    height, width = pixels_HW.shape
    shape = {"count": 1, "height": height, "width": width, "dtype": pixels_HW.dtype}
    with rasterio.open(path, "w", **{**PROFILE, **shape, **profile}) as dataset:
        dataset.write(pixels_HW[None])
    return str(path)


def found(network, path, side, area=None, batch=3, largest=LARGEST):
    """Return left, top, right, bottom, score and class of all objects, sorted."""
    with open_raster(path) as raster:
        chosen = area or Area(raster.grid.window)
        if isinstance(area, str):
            chosen = read_area(raster.grid, area)
        tiles = plan_object_tiles(side, largest, network.multiple)
        rows, boxes = [], []
        layout = lay_out(raster.grid, raster.grid.window, tiles.plan)
        if area is not None:
            from rsfm import detection

            window = detection._grown(chosen.window, tiles.reach).intersection(raster.grid.window)
            layout = lay_out(raster.grid, window, tiles.plan)
        inside = None
        if chosen.outlines is not None:
            inside = detection._within_reach(chosen.outlines, window, tiles.reach).inside
        run_boxes(network, raster, layout, tiles, "cpu", batch, rows.append, lambda: None, lambda part: None, inside)
        assert len(rows) == len(layout.rows)
        padded = [np.empty(0, BOX), *rows, np.empty(0, BOX)]
        for above, here, below in zip(padded, padded[1:], padded[2:], strict=False):
            kept_N = settle(np.concatenate([above, here, below]), 0.5)[len(above) : len(above) + len(here)]
            boxes.append(here[kept_N])
        boxes_N = np.concatenate(boxes)
        boxes_N = boxes_N[in_area(boxes_N, chosen)]
    return sorted(map(tuple, np.column_stack([corners(boxes_N), boxes_N["score"], boxes_N["value"]]).tolist()))


def scene(height, width, blobs):
    pixels_HW = np.ones((height, width), np.uint8)
    for row, column, tall, wide, peak in blobs:
        pixels_HW[row : row + tall, column : column + wide] = peak
    return pixels_HW


def blobs_of(height, width, most):
    side = st.integers(1, LARGEST)
    blob = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), side, side, st.integers(60, 255))
    return st.lists(blob, max_size=most)


# the cores of tiles of 128 px with objects of at most 20 px are 64 px wide
SEAMS = st.builds(
    lambda seam, off, across, side: (seam * 64 + off, across, side, side, 100 + side),
    st.integers(0, 4), st.integers(-LARGEST, 3), st.integers(0, 230), st.integers(1, LARGEST),
)  # fmt: skip


@SLOW
@given(blobs=blobs_of(300, 250, 25), seam=st.lists(SEAMS, max_size=10), batch=st.integers(1, 5))
def test_objects_in_tiles_are_those_of_the_whole_raster(tmp_path, blobs, seam, batch):
    beside = [(column, row, tall, wide, peak) for row, column, tall, wide, peak in seam]
    path = write(tmp_path / "a.tif", scene(300, 250, blobs + seam + [each for each in beside if each[1] < 250]))
    whole = found(Blobs(), path, side=1024)
    assert found(Blobs(), path, side=128, batch=batch) == whole
    assert found(Blobs(), path, side=192, batch=batch) == whole


@pytest.mark.parametrize("place", [(54, 54), (63, 63), (64, 64), (44, 64), (0, 120), (290, 240), (127, 5), (118, 118)])
def test_an_object_on_a_seam_or_on_the_edge_is_found_once(tmp_path, place):
    path = write(tmp_path / "a.tif", scene(300, 250, [(*place, 20, 20, 200)]))
    row, column = place
    expected = (column, row, min(column + 20, 250), min(row + 20, 300), pytest.approx(200 / 255), 2)
    assert found(Blobs(), path, side=128) == [expected]


@SLOW
@example(blobs=[(0, 1, 1, 1, 60)], shift=0.5)  # its reflection in the padding reaches into the raster
@given(blobs=blobs_of(297, 247, 12), shift=st.floats(0.1, 0.9))  # 3 px or more of each lie in the raster
def test_tiles_that_do_not_agree_lose_no_object_and_find_none_twice(tmp_path, blobs, shift):
    apart_HW = scene(300, 250, [(row, column, 12, 12, peak) for row, column, _, _, peak in blobs])
    path = write(tmp_path / "a.tif", apart_HW)
    whole = found(Blobs(), path, side=1024)
    assert len(found(Blobs(shift), path, side=128)) == len(whole)


def test_without_the_rule_of_seams_an_object_would_be_found_twice(tmp_path):
    path = write(tmp_path / "a.tif", scene(300, 250, [(58, 58, 12, 12, 200)]))
    tiles, seen = plan_object_tiles(128, LARGEST, 32), []
    with open_raster(path) as raster:
        layout = lay_out(raster.grid, raster.grid.window, tiles.plan)
        run_boxes(Blobs(), raster, layout, tiles, "cpu", 2, seen.append, lambda: None, lambda part: None)
    boxes_N = np.concatenate(seen)
    assert len(boxes_N) == 4  # the centre lies where four cores meet
    assert settle(boxes_N, 0.5).sum() == 1


def test_objects_above_the_largest_size_are_left_out_from_every_tile(tmp_path):
    path = write(tmp_path / "a.tif", scene(300, 250, [(50, 50, 30, 30, 200), (100, 100, 20, 20, 200)]))
    assert [each[:4] for each in found(Blobs(), path, side=128)] == [(100, 100, 120, 120)]


@SLOW
@given(blobs=blobs_of(300, 250, 30), west=st.integers(0, 180), north=st.integers(0, 200), data=st.data())
def test_an_area_has_the_objects_of_the_whole_whose_centre_lies_in_it(tmp_path, blobs, west, north, data):
    path = write(tmp_path / "a.tif", scene(300, 250, blobs))
    east, south = data.draw(st.integers(west + 1, 250)), data.draw(st.integers(north + 1, 300))
    x, y = 500000, 5000000
    whole = found(Blobs(0.4), path, side=128)
    inside = [
        each for each in whole if west <= (each[0] + each[2]) / 2 < east and north <= (each[1] + each[3]) / 2 < south
    ]
    area = f"{x + 10 * west},{y - 10 * south},{x + 10 * east},{y - 10 * north}"
    assert found(Blobs(0.4), path, side=128, area=area) == inside


def test_polygons_as_area_take_the_centres_they_hold(tmp_path):
    random = np.random.default_rng(0)
    blobs = [(int(row), int(column), 6, 6, 200) for row, column in random.integers(0, 1000, (300, 2))]
    path = write(tmp_path / "a.tif", scene(1000, 1000, blobs))
    triangle = shapely.Polygon([(501500, 4998500), (504000, 4998000), (502500, 4995000)])
    network = Blobs(0.4)
    part = found(network, path, side=128, area=triangle.wkt)
    tiles_run = sum(network.batches)
    expected = [
        each
        for each in found(network, path, side=128)
        if triangle.contains(shapely.Point(500000 + 5 * (each[0] + each[2]), 5000000 - 5 * (each[1] + each[3])))
    ]
    assert part == expected
    assert len(part) > 5
    assert tiles_run < 0.7 * (sum(network.batches) - tiles_run)


def test_there_are_no_boxes_on_nodata_and_tiles_of_nodata_are_not_run(tmp_path):
    pixels_HW = scene(300, 300, [(20, 20, 10, 10, 200), (20, 100, 10, 10, 200), (250, 250, 10, 10, 200)])
    pixels_HW[:, 100:140] = 0
    pixels_HW[22:28, 22:28] = 0
    pixels_HW[130:, :200] = 0
    network = Blobs()
    boxes = found(network, write(tmp_path / "a.tif", pixels_HW, nodata=0), side=128, batch=1)
    assert [each[:4] for each in boxes] == [(250, 250, 260, 260)]
    assert len(network.batches) < 25


def test_rows_of_boxes_outlive_the_process_that_wrote_half_a_row(tmp_path):
    first_N = make_boxes(np.array([[1.5, 2, 3, 4], [5, 6, 7, 8]]), np.array([0.1, 0.9]), np.array([1, 2]))
    with BoxRows(tmp_path) as rows:
        rows.add(first_N)
        rows.add(first_N[:0])
        rows.add(first_N[:1])
    with open(tmp_path / "boxes.bin", "ab") as file:
        file.write(b"torn")
    with open(tmp_path / "boxes.journal", "ab") as file:
        file.write(b'{"end"')
    with BoxRows(tmp_path) as rows:
        assert rows.count == 3
        rows.add(first_N[1:])
        assert [rows.read(row).tolist() for row in range(-1, 5)] == [
            [], first_N.tolist(), [], first_N[:1].tolist(), first_N[1:].tolist(), [],
        ]  # fmt: skip
        assert [(len(boxes_N), first, end) for boxes_N, first, end in rows.with_neighbours()] == [
            (2, 0, 2), (3, 2, 2), (2, 0, 1), (2, 1, 2),
        ]  # fmt: skip


def greedy(boxes_N, threshold):
    """Suppress from the best down, one box after the other."""
    kept = []
    for index in np.argsort(-boxes_N["score"], kind="stable"):
        one_N = boxes_N[[index] * len(kept)]
        same = [boxes_N["value"][index] == boxes_N["value"][other] for other in kept]
        rivals = overlaps(one_N, boxes_N[kept]) > threshold if kept else np.empty(0)
        if not (np.array(same, bool) & rivals.astype(bool)).any():
            kept.append(index)
    return np.isin(np.arange(len(boxes_N)), kept)


@given(st.integers(0, 10**6))
def test_the_rule_of_seams_is_the_usual_suppression_for_objects_seen_by_up_to_four_tiles(seed):
    random = np.random.default_rng(seed)
    parts = []
    for row, column in [(0, 0), (0, 60), (60, 0), (60, 60), (0, 8)]:  # the last one overlaps the first by half
        for tile in range(4):
            jitter = random.uniform(-0.5, 0.5, 4)
            box = np.array([[column, row, column + 30, row + 30]]) + jitter
            parts.append(make_boxes(box, random.random(1), np.array([1 if (row, column) != (0, 8) else 2])))
            parts[-1]["tile"] = tile
    boxes_N = np.concatenate(parts)
    assert np.array_equal(settle(boxes_N, 0.5), greedy(boxes_N, 0.5))


@given(
    side=st.integers(1, 40).map(lambda n: n * 32),
    largest=st.integers(2, 700),
    multiple=st.sampled_from([32, 64, 96, 224]),
)
def test_tiles_show_whole_what_they_may_keep(side, largest, multiple):
    tiles = plan_object_tiles(side, largest, multiple)
    assert tiles.plan.halo * 2 >= largest + 2 * tiles.reserve
    assert tiles.plan.core >= tiles.reach
    for size in (tiles.plan.halo, tiles.plan.core, tiles.plan.side):
        assert size % multiple == 0


def test_search_of_rows_goes_on_where_it_ended(tmp_path):
    random = np.random.default_rng(0)
    blobs = [(int(row), int(column), 6, 6, 200) for row, column in random.integers(0, 500, (100, 2))]
    path = write(tmp_path / "a.tif", scene(500, 500, blobs))
    kept = SimpleNamespace(kept={"batch": 2, "device": "cpu", "threads": torch.get_num_threads()}, model="toy")
    with open_raster(path) as raster:
        tiles = plan_object_tiles(128, LARGEST, 32)
        search = Search(Blobs(), raster, Area(raster.grid.window), tiles, 0.5, "cpu")
        made = []
        for folder, ends in (("one", [10**9]), ("two", [3, 4, 5, 10**9])):
            (tmp_path / folder).mkdir()
            for end in ends:
                calls = []

                def check(end=end, calls=calls):
                    calls.append(1)
                    if len(calls) > end:
                        raise InterruptedError

                run = SimpleNamespace(check=check, progress=lambda *_: None, warning=lambda text: None)
                with BoxRows(tmp_path / folder) as rows:
                    try:
                        find_rows(search, rows, kept, run)
                    except InterruptedError:
                        continue
            with BoxRows(tmp_path / folder) as rows:
                made.append([rows.read(row).tolist() for row in range(rows.count)])
    assert made[0] == made[1]
    assert len(made[0]) == 8
