"""The job: a model of ours goes in, a file comes out with which other programs compute the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
import timm
import torch
from rsfm import exporters, exporting, model_file, registry, runs
from rsfm.errors import Cancelled, UserError
from rsfm.exporter import Exporter
from rsfm.exporting import export_model
from rsfm.importing import import_model
from rsfm.jobs.export_model import ExportModel, ExportModelConfig
from rsfm.jobs.import_model import ImportModelConfig
from rsfm.model_file import Card, build_encoder
from rsfm.networks import head_network, make_source
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.runs import Run

from tests.backend.toy_model import CLASSES, pixels, run_job

TINY = {"size": "free", "patch_size": 8, "window": 32, "width": 48, "depth": 2, "heads": 3}
ENCODERS = {
    "conv_small": {"name": "conv_small"},
    "resnet": {"name": "resnet", "depth": "18"},
    "vit": {"name": "vit", **TINY},
    "vit_learned": {"name": "vit_learned", **TINY},
    "satdino": {"name": "vit_learned", **TINY, "gsd_token": True},
    "vit_relative": {"name": "vit_relative", **{name: TINY[name] for name in TINY if name != "size"}},
    "vit_grouped": {"name": "vit_grouped", **TINY, "groups": "1,2; 3,4", "group_width": 16},
    "vit_temporal": {"name": "vit_temporal", **TINY, "time_width": 24},
}
TILING = {"tile_size": 64, "tile_overlap": 32}


def statistics(bands: int = 4) -> Statistics:
    return Statistics(
        mean=(500.0,) * bands, std=(200.0,) * bands, low=(100.0,) * bands, high=(1500.0,) * bands, count=(9,) * bands
    )


def save_model(
    path: Path, encoder: dict[str, Any] | None, head: bool = True, source: str = "pretrained", **card: Any
) -> Path:
    """Write a model of random weights."""
    torch.manual_seed(0)
    card = {"bands": 4, "statistics": statistics(), "gsd": 10.0, "title": "toy", "source": source, **card}
    made = Card(encoder=encoder, head={"name": "linear"} if head else None, classes=CLASSES if head else (), **card)
    modules: dict[str, torch.nn.Module] = {}
    if encoder:
        modules["encoder"] = build_encoder(encoder, made.bands)
        for value in modules["encoder"].state_dict().values():  # norms that do nothing would hide their absence
            if value.is_floating_point():
                value += 0.05 * torch.rand_like(value)
    if head:
        width = make_source(source, model_file.Model(made, model_file.parts(**modules))).width
        modules["head"] = model_file.Model(made, {}).new_head(width)
        torch.nn.init.normal_(modules["head"].to_logits.weight)
    model_file.save(path, made, model_file.parts(**modules))
    return path


class Exported:
    """What a run of the job left."""

    def __init__(self, folder: Path, model: Path, **config: Any) -> None:
        self.events: list[dict[str, Any]] = []
        run = Run(runs.create(folder / "runs", "export_model", "test", {}), self.events.append)
        self.outputs = run.outputs
        self.result = export_model(ExportModelConfig(model=str(model), **{"tiling": TILING, **config}), run)
        self.file = Path(self.result["file"])
        self.text = json.loads(self.file.with_suffix(".json").read_text())


def test_formats_of_the_form_are_the_members():
    assert set(registry.names(exporters)) == set(ExportModelConfig.model_fields["format"].annotation.__args__)
    assert ExportModel.page == "pretrain"


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in ENCODERS for kind in ("onnx", "torch_export") if name != "resnet"]
)
def test_every_encoder_and_head_is_exported_with_its_values(name, kind, tmp_path):
    found = Exported(tmp_path, save_model(tmp_path / "m.safetensors", ENCODERS[name]), format=kind)
    assert found.result["largest_difference"]["classes"] < 1e-4
    assert found.result["pixels_of_another_class"] == 0
    assert sorted(path.name for path in found.outputs.iterdir()) == ["toy.json", found.file.name]
    assert found.text["classes"][0]["name"] == "one"
    assert found.text["outputs"]["classes"]["shape"][1] == 4


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
@pytest.mark.parametrize("source", ["texture", "pixels"])
def test_models_without_an_encoder_are_exported(source, kind, tmp_path):
    found = Exported(tmp_path, save_model(tmp_path / "m.safetensors", None, source=source), format=kind)
    assert found.result["pixels_of_another_class"] == 0


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
@pytest.mark.parametrize(("name", "width", "stride"), [("vit", 48, 8), ("resnet", 512, 32)])
def test_encoders_give_features_and_an_embedding(name, width, stride, kind, tmp_path):
    found = Exported(tmp_path, save_model(tmp_path / "m.safetensors", ENCODERS[name], head=False), format=kind)
    assert set(found.result["largest_difference"]) == {"features", "embedding"}
    assert max(found.result["largest_difference"].values()) < 1e-4
    side = found.text["input"]["shape"][2]
    assert found.text["outputs"]["features"]["shape"][1:] == [width, side // stride, side // stride]
    assert "model_type" not in found.text.get("deepness", {})


def test_batches_of_any_size_pass_a_tile_of_a_fixed_side(tmp_path):
    found = Exported(tmp_path, save_model(tmp_path / "m.safetensors", ENCODERS["vit"]))
    session = onnxruntime.InferenceSession(found.file)
    assert session.get_inputs()[0].shape == ["batch", 4, 64, 64]
    assert session.get_outputs()[0].shape[1:] == [4, 64, 64]
    for count in (1, 3, 7):
        (given,) = session.run(None, {"pixels": np.full((count, 4, 64, 64), 500, np.float32)})
        assert given.shape == (count, 4, 64, 64)
        assert np.allclose(given.sum(1), 1, atol=1e-5)


def test_nodata_of_the_raster_and_nan_are_invalid_inside_the_graph(tmp_path, make_raster):
    raster = make_raster(np.random.default_rng(0).integers(1, 1000, (4, 90, 90)).astype("uint16"), nodata=65535)
    found = Exported(tmp_path, save_model(tmp_path / "m.safetensors", ENCODERS["vit"]), raster=str(raster))
    tile = np.full((1, 4, 64, 64), 500, np.float32)
    clean = onnxruntime.InferenceSession(found.file).run(None, {"pixels": tile})[0]
    for value in (np.nan, 65535):
        tile[0, 2, :8, :9] = value
        (given,) = onnxruntime.InferenceSession(found.file).run(None, {"pixels": tile})
        assert (given[0, 0, :8, :9] == 1).all()
        assert (given[0, 1:, :8, :9] == 0).all()
        assert (given[0, 0, 8:] == 0).all()
        assert np.isfinite(given).all()
    assert not (clean[0, 0] == 1).any()
    assert "65535" in found.text["input"]["nodata"]


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet", "vit", "vit_learned", "satdino"])
def test_timm_loads_the_weights_strictly_and_gives_the_same_features(name, tmp_path):
    from safetensors.torch import load_file

    model = save_model(tmp_path / "m.safetensors", ENCODERS[name], head=False)
    found = Exported(tmp_path, model, format="timm")
    assert found.result["largest_difference"]["features"] < 1e-4
    call = found.text["load"].partition(".load_state_dict")[0]
    network = eval(call, {"timm": timm}).eval()
    network.load_state_dict(load_file(found.file), strict=True)
    encoder = model_file.load(str(model)).encoder()
    given = torch.randn(2, 4, 32, 32)
    theirs = network.forward_features(given)
    if theirs.ndim == 3:
        theirs = theirs[:, network.num_prefix_tokens :].mT.reshape(2, 48, 4, 4)
        if name != "vit":  # the vector of the class token
            torch.testing.assert_close(network(given), encoder.embedding(given), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(theirs, encoder.feature_maps(given)[-1].features_BDhw, atol=1e-4, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("function", "encoder"),
    [
        ("resnet18", ENCODERS["resnet"]),
        ("vit_small_patch16_224", {"name": "vit_learned", "size": "small", "patch_size": 16, "window": 64}),
    ],
)
def test_torchgeos_file_is_a_plain_state_that_lacks_the_classifier_alone(function, encoder, tmp_path):
    model = save_model(tmp_path / "m.safetensors", encoder, head=False)
    found = Exported(tmp_path, model, format="torchgeo")
    weights = torch.load(found.file, weights_only=True)
    size = {} if function.startswith("resnet") else {"img_size": 64}
    network = timm.create_model(function, in_chans=4, **size)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert set(missing) <= {"fc.weight", "fc.bias", "head.weight", "head.bias"}
    assert not unexpected
    assert f"torchgeo.models.{function}(" in found.text["load"]
    assert found.result["largest_difference"]["features"] < 1e-4


@torch.no_grad()
def test_weights_come_back_through_import(tmp_path):
    model = save_model(tmp_path / "m.safetensors", ENCODERS["vit_learned"] | {"width": 64, "heads": 1}, head=False)
    found = Exported(tmp_path, model, format="timm")
    run = Run(runs.create(tmp_path / "runs", "import_model", "test", {}))
    back = model_file.load(import_model(ImportModelConfig(checkpoint=str(found.file)), run)["model"])
    given = torch.randn(1, 4, 32, 32)
    expected = model_file.load(str(model)).encoder().embedding(given)
    torch.testing.assert_close(back.encoder().embedding(given), expected)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("timm", "conv_small", "timm has no network like the encoder 'conv_small'"),
        ("timm", "vit_grouped", "timm has no network"),
        ("timm", "vit_temporal", "timm has no network"),
        ("timm", "vit_relative", "timm has no network"),
        ("torchgeo", "vit", "torchgeo has no function"),
    ],
)
def test_what_others_cannot_hold_is_refused_and_leaves_nothing(kind, name, sentence, tmp_path):
    model = save_model(tmp_path / "m.safetensors", ENCODERS[name])
    with pytest.raises(UserError, match=sentence):
        Exported(tmp_path, model, format=kind)
    assert not list((tmp_path / "runs").rglob("outputs/*"))


def test_weights_of_a_model_without_an_encoder_are_refused(tmp_path):
    model = save_model(tmp_path / "m.safetensors", None, source="texture")
    with pytest.raises(UserError, match="has no encoder"):
        Exported(tmp_path, model, format="timm")


def test_a_file_that_gives_other_values_is_not_published(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "ALLOWED", 0.0)
    model = save_model(tmp_path / "m.safetensors", ENCODERS["vit"])
    with pytest.raises(UserError, match="gives other values than the model"):
        Exported(tmp_path, model)
    assert not list((tmp_path / "runs").rglob("outputs/*"))


@pytest.mark.parametrize("kind", ["torch_export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_cancel_while_the_file_is_written_leaves_nothing(kind, tmp_path, monkeypatch):
    member = registry.member(exporters, kind, Exporter)
    write = member.write

    def write_and_cancel(self: Any, subject: Any, path: Path) -> Any:
        notes = write(self, subject, path)
        assert path.exists()
        runs.request_end(path.parents[1], "cancel")
        return notes

    monkeypatch.setattr(member, "write", write_and_cancel)
    encoder = {"name": "vit_learned", "size": "small", "patch_size": 16, "window": 32}
    model = save_model(tmp_path / "m.safetensors", encoder, head=False)
    with pytest.raises(Cancelled):
        Exported(tmp_path, model, format=kind)
    assert not list((tmp_path / "runs").rglob("outputs/*"))


def test_a_raster_of_other_bands_is_refused(tmp_path, make_raster):
    raster = make_raster(np.ones((3, 40, 40), "uint8"))
    with pytest.raises(UserError, match="bands"):
        Exported(tmp_path, save_model(tmp_path / "m.safetensors", ENCODERS["vit"]), raster=str(raster))


class Deepness:
    """Does to a tile what that plugin's documentation says: one input, pixels / 255, standardised, the largest."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(file)
        (self.given,) = self.session.get_inputs()
        self.meta = {name: json.loads(v) for name, v in self.session.get_modelmeta().custom_metadata_map.items()}

    def classes(self, tile_HWC: np.ndarray) -> np.ndarray:
        assert self.given.type == "tensor(float)"
        assert self.given.shape[1:] == [tile_HWC.shape[2], self.meta["tile_size"], self.meta["tile_size"]]
        share = np.float32(tile_HWC / 255.0)
        mean, std = (np.float32(self.meta[f"standardization_{name}"]) for name in ("mean", "std"))
        batch = np.transpose((share - mean) / std, (2, 0, 1))[None]
        (found,) = self.session.run(None, {self.given.name: batch})[0]
        found[found < self.meta["seg_thresh"]] = 0
        return found.argmax(axis=0)


REAL = ["worldview", "highres", "s2_carolina"]


@pytest.mark.parametrize("name", ["conv_small", "vit"])
@pytest.mark.parametrize("place", REAL)
def test_deepness_makes_our_map_of_a_real_raster_from_the_file(name, place, data, tmp_path):
    rasters = [path for path in sorted((data / place).glob("*.tif")) if suits(path)]
    if not rasters:
        pytest.skip(f"no raster of several bands in {place}")
    raster = str(rasters[0])
    with open_raster(raster) as opened:
        card = {"bands": opened.bands, "statistics": band_statistics([opened], [opened.grid.window], 0)}
        card["gsd"] = opened.grid.gsd
    model = balanced(save_model(tmp_path / "m.safetensors", ENCODERS[name], **card), raster)
    found = Exported(tmp_path, model, raster=raster, tiling={"tile_size": 256, "tile_overlap": 64})
    plugin = Deepness(found.file)
    assert plugin.meta["class_names"] == {"0": "no data", "1": "one", "2": "two", "3": "three"}
    assert plugin.meta["resolution"] == pytest.approx(card["gsd"] * 100, abs=1e-3)
    assert plugin.meta["model_type"] == "Segmentor"
    side = plugin.meta["tile_size"]
    with rasterio.open(raster) as file:
        tile_HWC = np.moveaxis(file.read(list(range(1, card["bands"] + 1)), window=((0, side), (0, side))), 0, -1)
        area = ",".join(map(str, file.window_bounds(rasterio.windows.Window(0, 0, side, side))))
    # a transformer's tile stands for itself, one with a halo for what lies that far from its edge
    tiles = {"tile_size": 256, "tile_overlap": 64 if name == "conv_small" else 0}
    config = {"raster": raster, "model": str(model), "tiling": tiles, "device": "cpu", "area": area}
    ours = pixels(run_job(tmp_path, "segment", "ours", **config) / "segmentation.tif")[0]
    margin = side * plugin.meta["tiles_overlap"] // 200 if name == "conv_small" else 0
    inside = np.s_[margin : side - margin, margin : side - margin]
    expected = np.where(ours == 255, 0, ours)[inside]
    assert (plugin.classes(tile_HWC)[inside] != expected).sum() <= 1e-4 * expected.size  # ties, at most
    assert len(np.unique(expected[expected > 0])) > 1


@torch.no_grad()
def balanced(path: Path, raster: str) -> Path:
    """Let every class be as likely as the others in the first tile of a raster."""
    model = model_file.load(str(path))
    with open_raster(raster) as opened:
        pixels_CHW, valid_HW = opened.read(Window(0, 0, 256, 256))
    logits_BKHW = head_network(model)(torch.from_numpy(pixels_CHW)[None], torch.from_numpy(valid_HW)[None])
    model.tensors["head.to_logits.bias"] -= logits_BKHW[0][:, torch.from_numpy(valid_HW)].median(1).values
    model_file.save(path, model.card, model.tensors)
    return path


def suits(path: Path) -> bool:
    with rasterio.open(path) as file:
        alpha = rasterio.enums.ColorInterp.alpha in file.colorinterp
        return file.crs is not None and file.count >= 3 and min(file.shape) >= 300 and not alpha
