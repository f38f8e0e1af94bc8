"""Every published layout is recognised by one importer and fills its encoder, and a file of other names is refused."""

import re

import pytest
import torch
from rsfm import importers, registry
from rsfm.checkpoint_file import read_checkpoint
from rsfm.errors import UserError
from rsfm.golden import main
from rsfm.goldens.checkpoint_layouts import write
from rsfm.importer import Importer, check_complete, compare, full_weights, recognise
from rsfm.model_file import build_encoder
from torch import Tensor

from tests.backend.importers.checkpoints import FOLDERS, GOLDEN, layouts, table, write_layout

KINDS = [
    ("^(moco|gassl|ssl4eo_moco)", "moco"),
    ("^(mae|ssl4eo_mae.*full|satmae_rgb)", "mae"),
    ("^satmae_temporal", "satmae_temporal"),
    ("^satmae_group", "satmae_group"),
    ("^(torchgeo|ssl4eo_mae.*enc|dino.*only)", "plain"),
    ("^(dino|satdino|ssl4eo_dino).*training", "dino"),
    ("^satdino.*release", "satdino_release"),
    ("^pera", "pera"),
    ("^ssl4eo_data2vec", "data2vec"),
]
TINY = {
    "cls_token": (1, 1, 64),
    "pos_embed": (1, 17, 64),
    "patch_embed.proj.weight": (64, 4, 8, 8),
    "patch_embed.proj.bias": (64,),
    "norm.weight": (64,),
    "norm.bias": (64,),
    "blocks.0.attn.qkv.weight": (192, 64),
    "blocks.0.attn.qkv.bias": (192,),
    "blocks.0.attn.proj.weight": (64, 64),
    "blocks.0.attn.proj.bias": (64,),
    "blocks.0.mlp.fc1.weight": (256, 64),
    "blocks.0.mlp.fc1.bias": (256,),
    "blocks.0.mlp.fc2.weight": (64, 256),
    "blocks.0.mlp.fc2.bias": (64,),
    **{f"blocks.0.norm{n}.{part}": (64,) for n in (1, 2) for part in ("weight", "bias")},
}


def tiny(seed: int = 0) -> dict[str, Tensor]:
    """Weights of a small vision transformer of four bands, by the ordinary names."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in TINY.items()}


@pytest.mark.parametrize("name", layouts())
def test_published_layout_is_recognised_and_fills_its_encoder(name, tmp_path):
    described = write_layout(name, tmp_path / "file.pth")
    importer, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert importer.name == next(kind for pattern, kind in KINDS if re.match(pattern, name))
    report = compare(found.backbone)
    assert report.complete, str(report)
    expected = 13 if "b13" in name or "sentinel2_all" in name else 2 if "b2_" in name or "sentinel1" in name else 3
    assert found.backbone.bands == (10 if "group" in name else expected)
    window = 96 if name.endswith("_96") else 448 if "448" in name else 224
    assert found.backbone.config.get("window", 224) == window
    tensors = (
        sum(described["n_tensors"].values()) if isinstance(described["n_tensors"], dict) else described["n_tensors"]
    )
    if importer.name not in {"dino", "data2vec"}:  # these hold the other network as well
        assert len(report.matched) + len(found.left_out) == tensors
    assert found.scaling or importer.name == "plain"


@pytest.mark.parametrize("name", layouts())
def test_a_layout_with_one_tensor_less_or_more_or_of_another_shape_is_refused(name, tmp_path):
    write_layout(name, tmp_path / "file.pth")
    checkpoint = read_checkpoint(str(tmp_path / "file.pth"))
    importer, found = recognise(checkpoint)
    weights = found.backbone.weights
    victim = next(key for key in weights if key.startswith(("blocks.3.", "layer3.0.conv1")) and weights[key].ndim > 1)
    less = {key: value for key, value in weights.items() if key != victim}
    more = {**weights, "blocks.0.ls1.gamma": torch.zeros(4)}
    other = {**weights, victim: weights[victim][:-1]}
    for changed, said in ((less, "missing"), (more, "not known"), (other, "of another shape")):
        report = compare(found.backbone._replace(weights=changed))
        with pytest.raises(UserError, match=f"1 {said}"):
            check_complete(checkpoint, importer, report)


@pytest.mark.parametrize("folder", FOLDERS)
def test_layouts_are_compared_from_the_command_line(folder, tmp_path, capsys):
    if not (GOLDEN / folder).is_dir():
        pytest.skip(f"the tables of published checkpoints are not there: {GOLDEN} (set RSFM_GOLDEN)")
    assert main([str(GOLDEN / folder)]) == 0
    told = capsys.readouterr().out
    assert f"{len(list((GOLDEN / folder).glob('*.json')))} compared, 0 over" in told
    changed = tmp_path / "checkpoint_layouts_of_mine"
    changed.mkdir()
    source = next(path for path in sorted((GOLDEN / folder).glob("*.json")) if "vits16" in path.name)
    (changed / source.name).write_text(source.read_text(encoding="utf-8").replace("blocks.3.", "blocks.33."))
    assert main([str(changed)]) == 1
    assert main([str(tmp_path)]) == 2


@pytest.mark.parametrize("wrapped", ["", "teacher.backbone.", "backbone.", "module.backbone."])
def test_import_L1_prefix_is_taken_off_the_start_of_a_name_alone(wrapped, tmp_path):
    weights = {f"{wrapped}{name}": value for name, value in tiny().items()}
    states = (
        {"": weights} if not wrapped else {"model": weights} if wrapped.startswith("teacher") else {"teacher": weights}
    )
    write(tmp_path / "file.pth", states.get("", states), None)
    _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert set(found.backbone.weights) == set(TINY)
    inside = {f"x.{name}": value for name, value in weights.items()}
    write(tmp_path / "inside.pth", inside if "" in states else dict.fromkeys(states, inside), None)
    with pytest.raises(UserError, match="no known kind"):
        recognise(read_checkpoint(str(tmp_path / "inside.pth")))


def test_import_L2_counters_of_batches_are_known_and_may_be_absent(tmp_path):
    write_layout("torchgeo_resnet18_sentinel2_all", tmp_path / "file.pth")
    _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    weights = {name: value for name, value in found.backbone.weights.items() if "num_batches" not in name}
    assert len(weights) == len(found.backbone.weights) - 20
    assert compare(found.backbone).complete
    assert compare(found.backbone._replace(weights=weights)).complete


def test_import_L3_query_encoder_is_taken_and_not_its_average(tmp_path):
    described = table("ssl4eo_moco_rn18_b13_full")["tensors"]
    state = {
        name: torch.full((), 2.0 if "encoder_q" in name else 3.0).expand(shape) for name, shape in described.items()
    }
    write(tmp_path / "file.pth", {"state_dict": state}, ["state_dict"])
    _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert {float(value.flatten()[0]) for value in found.backbone.weights.values()} == {2.0}


def test_import_L3_teacher_is_taken_and_not_the_student(tmp_path):
    states = {
        "teacher": {f"backbone.{name}": value for name, value in tiny(1).items()},
        "student": {f"module.backbone.{name}": value for name, value in tiny(2).items()},
    }
    write(tmp_path / "file.pth", states, ["student", "teacher", "args"])
    _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert torch.equal(found.backbone.weights["cls_token"], tiny(1)["cls_token"])


def test_import_L5_fixed_positions_are_told_from_learned_ones(tmp_path):
    from rsfm.blocks.positions import sincos_2d

    fixed = sincos_2d(64, 4, 4, class_token=True)[None]
    for positions, name in ((tiny()["pos_embed"], "vit_learned"), (fixed.float(), "vit"), (fixed.half(), "vit")):
        write(tmp_path / "file.pth", {**tiny(), "pos_embed": positions}, None)
        _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
        assert found.backbone.config["name"] == name
        assert found.backbone.config["window"] == 32


def test_import_L5_positions_of_another_tile_size_are_made_anew_if_they_are_fixed():
    from rsfm.blocks.positions import sincos_2d

    weights = {**tiny(), "pos_embed": sincos_2d(64, 4, 4, class_token=True)[None].float()}
    config = {"name": "vit", "width": 64, "depth": 1, "heads": 1, "patch_size": 8, "window": 32}
    encoder = build_encoder(config, 4)
    encoder.load_state_dict(weights)
    tokens = encoder.embed(torch.zeros(1, 4, 48, 40)) - weights["patch_embed.proj.bias"]
    torch.testing.assert_close(tokens[0], sincos_2d(64, 6, 5).float(), atol=1e-5, rtol=0)


def test_import_L7_half_precision_becomes_float32_and_whole_numbers_stay():
    found = full_weights({"a": torch.ones(2, dtype=torch.float16), "b": torch.ones((), dtype=torch.int64)})
    assert found["a"].dtype == torch.float32
    assert found["b"].dtype == torch.int64


@pytest.mark.parametrize("name", ["x.pth", "x.pth.tar", "x.ckpt", "x.params", "x", "x.safetensors"])
def test_import_L8_extension_says_nothing(name, tmp_path):
    write(tmp_path / name, tiny(), None)
    assert recognise(read_checkpoint(str(tmp_path / name)))[0].name == "plain"


def test_import_L9_head_of_a_fine_tuned_file_is_left_out(tmp_path):
    positions = torch.zeros(1, 17, 40)
    weights = {**tiny(), "pos_embed": positions, "head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    write(tmp_path / "file.pth", {"model": weights}, ["model", "args"])
    importer, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert importer.name == "satmae_temporal"
    assert found.left_out == ("head.weight", "head.bias")
    assert found.backbone.config["time_width"] == 24
    assert compare(found.backbone).complete


def test_import_L10_groups_need_no_position_of_the_class_token(tmp_path):
    described = table("satmae_group_vitb8_96")["tensors"]
    assert "channel_cls_embed" not in described
    state = {name: torch.zeros(()).expand(shape) for name, shape in described.items()}
    for extra in ({}, {"channel_cls_embed": torch.zeros(1, 1, 256)}):
        write(tmp_path / "file.pth", {"model": state | extra}, ["model", "args"])
        _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
        assert compare(found.backbone).complete
        assert set(extra) <= set(found.left_out)


def test_norm_behind_the_mean_is_the_last_norm(tmp_path):
    weights = {name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: v for name, v in tiny().items()}
    write(tmp_path / "file.pth", {"model": weights}, ["model"])
    _, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert torch.equal(found.backbone.weights["norm.weight"], tiny()["norm.weight"])
    assert compare(found.backbone).complete


def test_seco_has_numbered_parts(tmp_path):
    described = table("torchgeo_resnet18_sentinel2_rgb")["tensors"]
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for name, shape in described.items():
        first, _, rest = name.partition(".")
        state[f"encoder_q.{numbers[first]}.{rest}"] = torch.zeros(()).expand(shape)
    state |= {"heads_q.0.0.weight": torch.zeros(2), "queue": torch.zeros(3, 2, 4)}
    write(tmp_path / "file.ckpt", {"state_dict": state}, ["state_dict", "epoch"])
    importer, found = recognise(read_checkpoint(str(tmp_path / "file.ckpt")))
    assert importer.name == "seco"
    assert compare(found.backbone).complete
    assert (found.band_names, found.scaling) == (("B4", "B3", "B2"), "seco")


def test_moco_v3_takes_the_base_encoder(tmp_path):
    state = {f"module.base_encoder.{name}": value for name, value in tiny().items()}
    state |= {"module.momentum_encoder.cls_token": torch.zeros(1, 1, 64), "module.predictor.0.weight": torch.zeros(2)}
    state["module.base_encoder.head.0.weight"] = torch.zeros(2)
    write(tmp_path / "file.pth", {"state_dict": state}, ["state_dict"])
    importer, found = recognise(read_checkpoint(str(tmp_path / "file.pth")))
    assert importer.name == "moco_v3"
    assert compare(found.backbone).complete


def test_a_resnet_without_an_encoder_is_refused_by_its_blocks(tmp_path):
    described = table("torchgeo_resnet18_sentinel2_rgb")["tensors"]
    state = {name: torch.zeros(()).expand(shape) for name, shape in described.items()}
    state["layer3.2.conv1.weight"] = torch.zeros(1)
    write(tmp_path / "file.pth", state, None)
    with pytest.raises(UserError, match="2, 2, 3, 2 basic blocks"):
        recognise(read_checkpoint(str(tmp_path / "file.pth")))


def test_every_importer_has_a_title_and_takes_at_least_one_layout():
    members = registry.members(importers, Importer)
    assert {kind for _, kind in KINDS} | {"seco", "moco_v3"} == set(members)
    assert len({member.title for member in members.values()}) == len(members)
