"""What is looked at while an encoder learns: it costs little, leaves no trace, and says what is true."""

import json
from contextlib import ExitStack

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from rsfm import cli, runs
from rsfm.blocks.normalisation import Normalisation
from rsfm.encoder import FeatureMap
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.errors import Stopped, UserError
from rsfm.inference import TileNetwork
from rsfm.raster.labels import read_labels
from rsfm.raster.reader import open_raster
from rsfm.runs import Run
from rsfm.sources.pixels import Pixels
from rsfm.training import learning_map, loop
from rsfm.training.checkpoint import Position
from rsfm.training.colour_axes import rotation, whiten
from rsfm.training.finetuning import raster_statistics
from rsfm.training.labelled_windows import MOST_WINDOWS, read_windows
from rsfm.training.learning_map import LearningMap, maps
from rsfm.training.loop import Budget
from rsfm.training.watching import MOST_TIME, MOST_TIME_SHORT, Watching, share_of_looks
from safetensors.torch import load_file
from skimage.io import imread
from tensorboardX.proto.event_pb2 import Event
from torch import nn

SIDE = 256
TRAINING = {"minutes": 0, "epochs": 1, "batch_size": 16, "readers": 0}
WEST, NORTH = 500000, 5100000


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A raster whose left half is rough and whose right half is smooth, of the same mean, and polygons on both."""
    folder = tmp_path_factory.mktemp("field")
    random = np.random.default_rng(0)
    rough = np.where(np.arange(SIDE) < SIDE // 2, 300, 20)
    pixels_CHW = (1000 + random.normal(0, 1, (3, SIDE, SIDE)) * rough).clip(1, 5000).astype("uint16")
    raster = folder / "field.tif"
    shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint16"}
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(WEST, NORTH, 10, 10)}
    with rasterio.open(raster, "w", driver="GTiff", **shape, **place) as target:
        target.write(pixels_CHW)
    corners = [(column, row) for column in (10, 80, 150, 215) for row in range(10, 220, 50)]
    boxes = [
        shapely.box(WEST + 10 * column, NORTH - 10 * (row + 30), WEST + 10 * (column + 30), NORTH - 10 * row)
        for column, row in corners
    ]
    classes = np.array(["rough" if column < SIDE // 2 else "smooth" for column, _ in corners], object)
    pyogrio.raw.write(
        folder / "labels.gpkg", shapely.to_wkb(np.array(boxes, object)), [classes], ["kind"],
        geometry_type="Polygon", crs="EPSG:32633",
    )  # fmt: skip
    return raster, folder / "labels.gpkg"


def pretrain(folder, raster, name, code=0, **more):
    config = {
        "rasters": [str(raster)],
        "window": 32,
        "training": TRAINING,
        "encoder": {"name": "conv_small", "width": 64},
        **more,
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    assert cli.main(["run", "pretrain", str(file), "--run", str(folder / name)]) == code
    return folder / name


def events(folder, *types):
    found = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [event for event in found if event["type"] in types]


def metrics(folder):
    found = {}
    for event in events(folder, "metric"):
        found.setdefault(event["name"], []).append((event["step"], event["value"]))
    return found


METHODS = [
    {"method": {"name": "moco_v2", "queue": 64}},
    {"method": {"name": "mae"}, "encoder": {"name": "vit", "size": "tiny", "patch_size": 8}},
]


@pytest.mark.parametrize("values", METHODS, ids=["moco_v2", "mae"])
def test_a_watched_training_gives_the_weights_of_one_that_nobody_watches(field, tmp_path, values, monkeypatch):
    raster, labels = field
    monkeypatch.setattr("rsfm.training.watching.MOST_TIME_SHORT", 1e9)  # look as often as a step comes due
    monkeypatch.setattr("rsfm.training.watching.LOOKS", 1000)
    plain = pretrain(tmp_path, raster, "plain", learning_map=False, **values)
    watched = pretrain(tmp_path, raster, "watched", labels=str(labels), class_field="kind", **values)
    ours, theirs = (load_file(run / "outputs" / "encoder.safetensors") for run in (watched, plain))
    steps = runs.read(watched)["result"]["steps"]
    assert len(metrics(watched)["knn_miou"]) == steps > 3
    assert len(events(watched, "preview")) == steps
    assert not events(plain, "preview")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Interrupted(Exception):
    """Ends a training as if the power had gone, after a checkpoint."""


def test_a_resumed_training_that_is_watched_comes_to_the_same_weights(field, tmp_path, monkeypatch):
    raster, _ = field
    whole = pretrain(tmp_path, raster, "whole", learning_map=False)
    take_step = loop.take_step

    def stop_in_the_middle(*given):
        if given[6].step == 2:
            raise Interrupted
        return take_step(*given)

    monkeypatch.setattr(loop, "take_step", stop_in_the_middle)
    part = pretrain(tmp_path, raster, "part", code=1, training={**TRAINING, "checkpoint_minutes": 0})
    monkeypatch.undo()
    assert cli.main(["resume", str(part)]) == 0
    ours, theirs = (load_file(run / "outputs" / "encoder.safetensors") for run in (part, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    titles = [event["title"] for event in events(part, "output") if event["kind"] == "embedding_picture"]
    assert titles[-2:] == [learning_map.title(path) for path in (maps(part / "outputs")[-1], maps(part / "outputs")[0])]


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_scores_tell_texture_from_its_absence_where_pixels_cannot(field, tmp_path):
    raster, labels = field
    folder = pretrain(tmp_path, raster, "run", labels=str(labels), class_field="kind")
    found = metrics(folder)
    assert found["knn_miou_pixels"][0][0] == 0
    assert len(found["probe_miou_pixels"]) == 1
    assert found["probe_miou_pixels"][0][1] < 0.6
    assert found["probe_miou"][-1][1] > 0.85
    probe = f"Linear probe {found['probe_miou'][-1][1]:.2f}, raw pixels {found['probe_miou_pixels'][0][1]:.2f} "
    assert probe in runs.read(folder)["result"]["sentence"]
    assert found["knn_miou"][-1][0] == runs.read(folder)["result"]["steps"]


def test_labelled_pixels_are_read_where_they_are_and_classes_share_them(field):
    with open_raster(str(field[0])) as raster:
        statistics = raster_statistics(raster, 0)
        labels = read_labels(str(field[1]), "kind", raster)
        pixels_CHW, valid_HW = (torch.from_numpy(part) for part in raster.read(raster.grid.window))
        normal_CHW = Normalisation.from_statistics(statistics)(pixels_CHW[None], valid_HW[None])[0]
        for stride in (1, 4, 14, 16):
            windows = read_windows(labels, raster, statistics, stride, 0)
            found_ND = windows.features(Pixels(3), "cpu", lambda: None)
            expected_DN = normal_CHW[:, windows.labels.rows_N, windows.labels.columns_N]
            assert np.array_equal(found_ND.T, expected_DN.numpy())
            assert windows.pixels_WCSS.shape[-1] % stride == 0
            assert len(windows.pixels_WCSS) <= MOST_WINDOWS
            counts = np.bincount(windows.labels.class_N)
            assert counts.min() > 0.7 * counts.max()


@pytest.mark.parametrize(
    ("labels", "field_name", "said"), [("none.gpkg", "kind", "none.gpkg"), (None, "crop", "'crop'")]
)
def test_labels_that_cannot_be_used_are_refused_before_anything_is_learned(
    field, tmp_path, labels, field_name, said, capsys
):
    raster, own = field
    pretrain(tmp_path, raster, "run", code=2, labels=labels or str(own), class_field=field_name)
    error = capsys.readouterr().err
    assert said in error
    assert "loss" not in error


def test_tensorboard_reads_the_same_numbers(field, tmp_path):
    folder = pretrain(tmp_path, field[0], "run")
    (file,) = (folder / "tensorboard").iterdir()
    data, read_back = file.read_bytes(), {}
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            read_back.setdefault(value.tag, []).append((event.step, value.simple_value))
        data = data[12 + length + 4 :]
    told = metrics(folder)
    assert set(read_back) == set(told)
    assert "loss" in told
    for name, points in told.items():
        assert read_back[name] == [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


class Fixed(nn.Module):
    """An encoder whose features are given."""

    width, stride, margin, window = 4, 4, 0, 0

    def __init__(self, mix):
        super().__init__()
        self.mix_DC = torch.as_tensor(mix, dtype=torch.float32)

    def feature_maps(self, pixels_BCHW):
        cells = nn.functional.avg_pool2d(pixels_BCHW, 4)
        return [FeatureMap(torch.einsum("dc,bchw->bdhw", self.mix_DC, cells), 4)]


def make_map(folder, raster, look=None):
    run = Run(runs.create(folder, "pretrain", "test", {}, look))
    return map_of(run, raster), run


def map_of(run, raster):
    opened = open_raster(str(raster))
    return LearningMap([opened], raster_statistics(opened, 0), "cpu", run)


def test_colours_stay_when_features_turn_and_change_their_signs_and_after_a_restart(field, tmp_path):
    random = np.random.default_rng(0)
    mix = random.normal(size=(4, 3)) * [1, 2, 3]
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    look, run = make_map(tmp_path, field[0])
    for step, own in enumerate((mix, turn @ mix, -(turn @ mix)[::-1])):
        look(Fixed(own.copy()), Position(step), 10)
    map_of(run, field[0])(Fixed(-turn @ turn @ mix), Position(3), 10)
    first, *others = (read(path).astype(int) for path in maps(run.outputs))
    assert first.std() > 20
    assert len(others) == 3
    for other in others:
        assert np.abs(first - other).max() <= 2


def test_rotation_is_orthogonal_and_undoes_a_turn():
    random = np.random.default_rng(1)
    features_ND = random.normal(size=(500, 6)).astype(np.float32) @ np.diag([5, 4, 3, 1, 1, 1]).astype(np.float32)
    values_NK = whiten(features_ND).values(features_ND)
    np.testing.assert_allclose(np.cov(values_NK.T), np.eye(3), atol=1e-3)
    turn_KK = np.linalg.qr(random.normal(size=(3, 3)))[0].astype(np.float32)
    found_KK = rotation(values_NK @ turn_KK, values_NK)
    np.testing.assert_allclose(found_KK @ found_KK.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(values_NK @ turn_KK @ found_KK, values_NK, atol=1e-3)


def test_the_map_is_of_what_is_on_the_screen_and_follows_it(field, tmp_path):
    bounds = [WEST + 100, NORTH - 2100, WEST + 2100, NORTH - 100]
    look, run = make_map(tmp_path, field[0], {"crs": "EPSG:32633", "bounds": bounds})
    encoder = ConvSmall(ConvSmallConfig(width=32), 3).eval()
    look(encoder, Position(1), 100)
    moved = [bounds[0] + 400, bounds[1] - 300, bounds[2] + 400, bounds[3] - 300]
    runs.write_json(run.folder / "look.json", {"crs": "EPSG:32633", "bounds": moved})
    look(encoder, Position(2), 100)
    with ExitStack() as stack:
        first, second = (stack.enter_context(rasterio.open(path)) for path in maps(run.outputs))
        assert first.bounds == pytest.approx(bounds, abs=40)
        assert second.bounds == pytest.approx(moved, abs=40)
        west, north, east, south = second.bounds.left, first.bounds.top - 300, first.bounds.right, moved[1] + 300
        shared = [file.read(window=file.window(west, south, east, north)).astype(int) for file in (first, second)]
    inner = (slice(None), slice(8, -8), slice(8, -8))  # away from where the tiles end
    assert np.abs(shared[0][inner] - shared[1][inner]).max() <= 3


@pytest.mark.parametrize(("margin", "learned", "side"), [(20, 40, 0), (None, 0, 96), (None, 40, 96), (None, 200, 224)])
def test_tiles_of_attention_are_small_and_no_smaller_than_what_was_learned_from(margin, learned, side):
    network = TileNetwork()
    network.margin = margin
    tiling = learning_map.tiling_of(network, learned)
    assert (tiling.tile_size, tiling.tile_overlap) == (side, side // 4 or 64)  # 0 is 256 for a finite network


def test_maps_are_thinned_evenly_and_their_pictures_are_small(field, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_map, "MOST_MAPS", 8)
    monkeypatch.setattr(learning_map, "LARGEST_PICTURE", 40)
    look, run = make_map(tmp_path, field[0])
    for step in range(30):
        look(Fixed(np.eye(4, 3)), Position(step * 10), 100)
    kept = [int(path.stem.removeprefix("step_")) for path in maps(run.outputs)]
    assert len(kept) == 8
    assert (kept[0], kept[-1]) == (0, 290)
    assert max(np.diff(kept)) <= 80
    pictures = [imread(path.with_suffix(".png")).shape for path in maps(run.outputs)]
    assert set(pictures) == {(32, 32, 3)}
    assert len(list((run.outputs / "learning").iterdir())) == 16
    resumed = map_of(run, field[0])
    for step in range(30, 60):
        resumed(Fixed(np.eye(4, 3)), Position(step * 10), 100)
    assert run.outputs / "learning" / "step_00000290.tif" in maps(run.outputs)  # it may be on the map


class Watched:
    """Stands for a method: what is watched is its encoder."""

    encoder = nn.Linear(1, 1)


def watch(tmp_path, look, seconds, each):
    """Watch a training of so many seconds, a step of which takes so long; returns the looks."""
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    seen = []

    def remember(encoder, position, allowed):
        seen.append(position)
        look(encoder, position, allowed)

    watching = Watching(remember, "The map", Budget(seconds, 0, 1), run)
    position = Position()
    while position.seconds < seconds:
        position = Position(position.step + 1, position.seconds + each, 0)
        watching(Watched, position)
    watching.finish(Watched, position)
    return seen, run


def test_a_short_training_is_looked_at_ten_times_and_a_long_one_after_each_checkpoint(tmp_path):
    short, _ = watch(tmp_path, lambda *_: None, 180, 0.5)
    assert 10 <= len(short) <= 12
    long, _ = watch(tmp_path, lambda *_: None, 8 * 3600, 5)
    gaps = np.diff([position.seconds for position in long])
    assert 95 <= len(long) <= 98
    assert max(gaps) <= 305


@pytest.mark.parametrize(("seconds", "each"), [(100, 0.1), (100, 1), (100, 5), (3000, 1), (3000, 8), (3000, 60)])
def test_the_planned_share_of_looks_is_what_they_take(tmp_path, seconds, each, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rsfm.training.watching.time.monotonic", lambda: now[0])

    def slow(*_):
        now[0] += each

    seen, _ = watch(tmp_path, slow, seconds, seconds / 5000)
    between = seen[1:-1]
    assert len(between) * each / seconds == pytest.approx(share_of_looks(seconds, each), abs=1.5 * each / seconds)


@pytest.mark.parametrize(("seconds", "most"), [(100, MOST_TIME_SHORT), (3000, MOST_TIME)])
def test_looks_that_take_long_are_few(tmp_path, seconds, most, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rsfm.training.watching.time.monotonic", lambda: now[0])
    cost = seconds * most / 3

    def slow(*_):
        now[0] += cost

    seen, _ = watch(tmp_path, slow, seconds, seconds / 500)
    assert len(seen) * cost <= seconds * most * 1.7  # the first and the last one are made in any case
    assert len(seen) >= 3


def test_a_look_that_fails_is_told_once_and_a_stop_is_left_to_the_loop(tmp_path):
    def fail(*_):
        raise UserError("The raster is gone.")

    seen, run = watch(tmp_path, fail, 100, 1)
    assert len(seen) == 1
    (warning,) = events(run.folder, "warning")
    assert "The map is not shown any more, and the training goes on: The raster is gone." in warning["text"]

    def stop(*_):
        raise Stopped

    seen, run = watch(tmp_path, stop, 100, 1)
    assert len(seen) > 5
    assert not events(run.folder, "warning")


def test_a_look_leaves_the_random_numbers_and_the_mode_of_the_network(tmp_path):
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout())

    def look(encoder, *_):
        assert not encoder.training
        torch.rand(100)
        encoder[0].weight.data.zero_()

    Watched.encoder, before = network, network[0].weight.clone()
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    try:
        watch(tmp_path, look, 10, 1)
        assert torch.equal(torch.rand(5), expected)
        assert torch.equal(network[0].weight, before)
        assert network.training
        assert network[1].training
    finally:
        Watched.encoder = nn.Linear(1, 1)
