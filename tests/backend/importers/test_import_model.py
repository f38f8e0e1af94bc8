"""The job: a checkpoint goes in, a model of our own comes out, with the same features."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from rsfm import model_file, runs
from rsfm.band_mapping import map_bands
from rsfm.checkpoint_file import read_checkpoint
from rsfm.errors import UserError
from rsfm.importer import recognise
from rsfm.importing import import_model
from rsfm.jobs.import_model import ImportModelConfig
from rsfm.model_file import Model
from rsfm.published_scaling import S2_L1C, SATMAE_TEN, statistics
from rsfm.runs import Run
from torch import Tensor

from tests.backend.importers.test_layouts import TINY, tiny


class Imported:
    """What a run of the job left."""

    def __init__(self, folder: Path, checkpoint: Path, **config: Any) -> None:
        self.events: list[dict[str, Any]] = []
        run = Run(runs.create(folder / "runs", "import_model", "test", {}), self.events.append)
        self.result = import_model(ImportModelConfig(checkpoint=str(checkpoint), **config), run)
        self.model: Model = model_file.load(self.result["model"])
        self.outputs = run.outputs

    def said(self, type: str) -> str:
        return " ".join(event["text"] for event in self.events if event["type"] == type)


def resnet(folder: Path, bands: int = 3, seed: int = 0) -> tuple[torch.nn.Module, Path]:
    """A ResNet-18 as torchvision has it, in a training checkpoint of MoCo."""
    torch.manual_seed(seed)
    net = torchvision.models.resnet18()
    net.conv1 = torch.nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
    net.fc = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 128))
    state = {f"module.encoder_q.{name}": value for name, value in net.state_dict().items()}
    state |= {f"module.encoder_k.{name}": torch.zeros_like(value) for name, value in net.state_dict().items()}
    path = folder / "moco.pth.tar"
    content = {"state_dict": state, "args": argparse.Namespace(lr=np.float64(0.03)), "epoch": 200, "arch": "resnet18"}
    torch.save(content, path)
    net.fc = torch.nn.Identity()
    return net.eval(), path


def named(make_raster: Any, pixels: np.ndarray, names: tuple[str, ...]) -> str:
    import rasterio

    path = make_raster(pixels)
    with rasterio.open(path, "r+") as target:
        target.descriptions = names
    return str(path)


@torch.no_grad()
def test_resnet_gives_the_features_of_torchvisions(tmp_path):
    net, path = resnet(tmp_path)
    found = Imported(tmp_path, path)
    pixels = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(found.model.encoder().embedding(pixels), net(pixels))
    assert "120 of 120 tensors matched" in found.said("note")
    assert found.said("warning") == ""
    card = found.model.card
    assert card.statistics == statistics("imagenet", ("red", "green", "blue"))
    assert card.band_names == ("red", "green", "blue")
    assert card.method == {"name": "moco_v2"}
    assert [path.name for path in found.outputs.iterdir()] == ["moco.safetensors"]


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
def test_transformer_gives_the_features_of_timms(half, tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, in_chans=13, num_classes=0).eval()
    state = {name: value.half() if half else value for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "vit.pth")
    found = Imported(tmp_path, tmp_path / "vit.pth")
    net.load_state_dict({name: value.float() for name, value in state.items()})
    pixels = torch.randn(2, 13, 64, 64)
    torch.testing.assert_close(found.model.encoder().embedding(pixels), net(pixels), atol=1e-5, rtol=1e-4)
    assert found.model.card.band_names == S2_L1C
    assert found.model.card.encoder["name"] == "vit_learned"


def test_import_L6_incomplete_file_is_refused_with_counts_and_leaves_nothing(tmp_path):
    weights = tiny()
    del weights["blocks.0.mlp.fc2.bias"]
    torch.save(weights, tmp_path / "vit.pth")
    run = Run(runs.create(tmp_path / "runs", "import_model", "test", {}))
    with pytest.raises(UserError, match=r"17 of 18 tensors matched; 1 missing \(blocks.0.mlp.fc2.bias\)"):
        import_model(ImportModelConfig(checkpoint=str(tmp_path / "vit.pth")), run)
    assert list(run.outputs.iterdir()) == []


def test_unknown_scaling_is_identity_and_the_user_is_told(tmp_path):
    torch.save(tiny(), tmp_path / "vit.pth")
    found = Imported(tmp_path, tmp_path / "vit.pth")
    assert "not known" in found.said("warning")
    card = found.model.card
    assert (card.statistics.mean, card.statistics.std) == ((0,) * 4, (1,) * 4)
    assert card.provenance["scaling"] == "identity"


def channels(wanted: tuple[str, ...], names: tuple[str, ...], weight: Tensor) -> tuple[Tensor, dict[str, str]]:
    from rsfm.importer import Backbone, Found

    found = Found(Backbone({"name": "resnet"}, len(names), {"conv1.weight": weight}), band_names=names)
    mapped = map_bands(found, wanted)
    return mapped.backbone.weights["conv1.weight"], mapped.record


def test_import_L4_bands_are_mapped_by_name():
    weight = torch.randn(2, 3, 5, 5)
    fitted, record = channels(("B08", "B02", "Red"), ("B4", "B3", "B2"), weight)
    assert torch.equal(fitted[:, 1], weight[:, 2])
    assert torch.equal(fitted[:, 2], weight[:, 0])
    torch.testing.assert_close(fitted[:, 0], weight.mean(1))
    assert record == {"B08": "mean of all", "B02": "B2", "Red": "B4"}


@pytest.mark.parametrize("count", [1, 2, 6])
def test_import_L4_bands_of_no_known_name_keep_the_sum(count):
    weight = torch.randn(2, 3, 5, 5)
    fitted, _ = channels(tuple(f"Band {n + 1}" for n in range(count)), ("B4", "B3", "B2"), weight)
    torch.testing.assert_close(fitted.sum(1), weight.sum(1))


def test_import_L4_as_many_bands_of_no_known_name_keep_their_order():
    weight = torch.randn(2, 3, 5, 5)
    fitted, record = channels(("Band 1", "Band 2", "Band 3"), ("B4", "B3", "B2"), weight)
    assert torch.equal(fitted, weight)
    assert record["Band 2"] == "B3"


@torch.no_grad()
def test_import_L4_a_raster_in_another_order_gives_the_same_features(tmp_path, make_raster):
    net, path = resnet(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype("uint8")
    found = Imported(tmp_path, path, raster=named(make_raster, pixels, ("blue", "red", "green")))
    from rsfm.blocks.normalisation import Normalisation

    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    given = torch.from_numpy(pixels)[None]
    ours = found.model.encoder().embedding(Normalisation.from_statistics(found.model.card.statistics)(given, valid))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    theirs = net((given[:, [1, 2, 0]] / 255 - mean) / std)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert found.model.card.provenance["bands"] == {"blue": "blue", "red": "red", "green": "green"}


def grouped_file(folder: Path) -> Path:
    weights = {name: value for name, value in tiny().items() if not name.startswith("patch_embed")}
    weights |= {"pos_embed": torch.zeros(1, 17, 48), "channel_embed": torch.zeros(1, 3, 16)}
    for index, bands in enumerate((4, 4, 2)):
        weights[f"patch_embed.{index}.proj.weight"] = torch.randn(64, bands, 8, 8)
        weights[f"patch_embed.{index}.proj.bias"] = torch.zeros(64)
    torch.save({"model": weights, "args": argparse.Namespace()}, folder / "satmae.pth")
    return folder / "satmae.pth"


@torch.no_grad()
def test_groups_follow_the_bands_of_the_raster(tmp_path, make_raster):
    path = grouped_file(tmp_path)
    plain = Imported(tmp_path, path)
    assert plain.model.card.encoder["groups"] == "1,2,3,7; 4,5,6,8; 9,10"
    order = np.random.default_rng(1).permutation(10)
    pixels = np.random.default_rng(0).integers(0, 5000, (10, 32, 32)).astype("uint16")
    raster = named(make_raster, pixels[order], tuple(SATMAE_TEN[index] for index in order))
    found = Imported(tmp_path, path, raster=raster)
    given = torch.randn(1, 10, 32, 32)
    torch.testing.assert_close(found.model.encoder().embedding(given[:, order]), plain.model.encoder().embedding(given))
    few = named(make_raster, pixels[:9], SATMAE_TEN[:9])
    with pytest.raises(UserError, match="just those bands"):
        Imported(tmp_path, path, raster=few)
    with pytest.raises(UserError, match="Scaling"):
        Imported(tmp_path, path, groups="1,2,3,4; 5,6,7,8; 9,10", scaling="satmae_sentinel")


def test_scaling_by_the_raster_and_unknown_names_are_sentences(tmp_path, make_raster):
    torch.save(tiny(), tmp_path / "vit.pth")
    pixels = np.random.default_rng(0).normal(500, 30, (4, 64, 64)).astype("float32")
    raster = str(make_raster(pixels))
    found = Imported(tmp_path, tmp_path / "vit.pth", raster=raster, scaling="raster")
    assert found.model.card.statistics.mean == pytest.approx([500] * 4, rel=0.01)
    assert found.model.card.gsd == pytest.approx(10)
    with pytest.raises(UserError, match="under 'Raster'"):
        Imported(tmp_path, tmp_path / "vit.pth", scaling="raster")
    with pytest.raises(UserError, match="does not know all"):
        Imported(tmp_path, tmp_path / "vit.pth", scaling="imagenet", raster=raster)
    with pytest.raises(UserError, match="names 3 bands"):
        Imported(tmp_path, tmp_path / "vit.pth", bands="B4,B3,B2")
    with pytest.raises(UserError, match="Empty 'Groups'"):
        Imported(tmp_path, tmp_path / "vit.pth", groups="1,2; 3,4")
    with pytest.raises(ValueError, match="There is no scaling 'guess'"):
        ImportModelConfig(checkpoint="a", scaling="guess")


def s2(folder: Path) -> Path:
    torch.save({**tiny(), "patch_embed.proj.weight": torch.randn(64, 13, 8, 8)}, folder / "s2.pth")
    return folder / "s2.pth"


def test_import_E9_offset_of_newer_products_is_taken_off(tmp_path):
    plain, newer = Imported(tmp_path, s2(tmp_path)), Imported(tmp_path, s2(tmp_path), offset=1000)
    one, other = plain.model.card.statistics, newer.model.card.statistics
    assert (one.low[0], one.high[0], one.mean[0], one.std[0]) == (0, 10000, 0, 10000)
    assert (other.low[0], other.high[0], other.mean[0], other.std[0]) == (1000, 11000, 1000, 10000)


@pytest.mark.parametrize(("unit", "divisor"), [(1e-4, 1), (1, 10000)])
def test_import_E10_reflectance_from_0_to_1_is_not_divided_again(unit, divisor, tmp_path, make_raster):
    pixels = unit * np.random.default_rng(0).uniform(100, 9000, (13, 64, 64)).astype("float32")
    found = Imported(tmp_path, s2(tmp_path), raster=named(make_raster, pixels, S2_L1C))
    assert found.model.card.statistics.std[3] == pytest.approx(divisor)
    assert found.model.card.statistics.high[3] == pytest.approx(divisor)


@pytest.mark.parametrize(("sign", "warned"), [(-1, False), (1, True)])
def test_import_E5_sentinel_1_that_is_not_in_decibels_is_told(sign, warned, tmp_path, make_raster):
    torch.save({**tiny(), "patch_embed.proj.weight": torch.randn(64, 2, 8, 8)}, tmp_path / "s1.pth")
    pixels = (sign * np.random.default_rng(0).uniform(0.01, 0.3, (2, 64, 64))).astype("float32")
    found = Imported(tmp_path, tmp_path / "s1.pth", raster=named(make_raster, pixels, ("VV", "VH")))
    assert ("10 * log10" in found.said("warning")) is warned


def test_gassl_G10_import_says_that_it_does_not_see_change(tmp_path):
    _, path = resnet(tmp_path)
    content = torch.load(path, weights_only=False)
    content["geo_dict"] = {"module.layers.1.weight": torch.zeros(100, 128), "module.layers.1.bias": torch.zeros(100)}
    torch.save(content, path)
    found = Imported(tmp_path, path)
    assert "finding change" in found.said("note")
    assert found.model.card.method == {"name": "gassl"}


def test_mae_A15_missing_decoder_is_said_and_a_present_one_is_not(tmp_path):
    for name, outside, said in (("encoder", {}, True), ("whole", {"mask_token": torch.zeros(1)}, False)):
        torch.save({"model": tiny() | outside}, tmp_path / f"{name}.pth")
        found = Imported(tmp_path / name, tmp_path / f"{name}.pth")
        assert ("has no decoder" in found.said("note")) is said


def test_left_out_weights_are_counted_and_none_gets_into_the_model(tmp_path):
    outside = dict.fromkeys(("mask_token", "decoder_embed.weight", "decoder.x"), torch.zeros(1))
    torch.save({"model": tiny() | outside}, tmp_path / "mae.pth")
    found = Imported(tmp_path, tmp_path / "mae.pth")
    assert set(found.model.tensors) == {f"encoder.{name}" for name in TINY}
    assert found.model.card.provenance["left_out"] == 3
    importer, again = recognise(read_checkpoint(str(tmp_path / "mae.pth")))
    assert importer.name == "mae"
    assert again.notes == ()
