"""GASSL against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from rsfm.blocks.dates import choose_dates
from rsfm.blocks.momentum_contrast import contrast
from rsfm.blocks.views import resized_crop
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.method import Dates, Sample
from rsfm.methods.gassl import GASSL, GASSLConfig, cluster_count
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer
from torch import Tensor
from torch.nn import functional

from tests.backend.methods.gassl_case import write_gassl_case
from tests.backend.methods.golden_run import authors_folder, failures

OFFICIAL = next(preset.values for preset in GASSL.presets if preset.name == "gassl_official")
CASE = {
    "seed": 9, "geo": True, "ncls": 7, "block": "bottleneck", "layers": [1, 1, 2, 1], "widths": [4, 6, 8, 10],
    "in_chans": 4, "img": 64, "B": 10, "dim": 12, "K": 25, "m": 0.9, "T": 0.2, "ptr": 20, "lr": 0.02, "wd": 1e-3,
    "steps": 2, "epochs": 5, "milestones": [2],
}  # fmt: skip
CASES = {
    "bottleneck": CASE,
    "basic": CASE | {"block": "basic", "in_chans": 1, "K": 13, "ptr": 9, "ncls": 2, "seed": 3, "B": 8},
}
SPREAD = torch.tensor([[lat, lon] for lat in range(-60, 61, 8) for lon in range(-180, 180, 15)], dtype=torch.float64)


def tiny(learn: bool = True, **config: Any) -> GASSL:
    torch.manual_seed(0)
    values = {"queue": 24, "dimension": 8, "view_size": 32, "learn_places": learn, **config}
    method = GASSL(GASSLConfig(**values), ResNet(ResNetConfig(), 2, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))))
    if learn:
        method.tell_places(torch.eye(3))
    return method.train()


def sample(count: int = 8, dates: int = 3, side: int = 32) -> Sample:
    """Windows whose pixels say which window and which date they are: 10 * window + date."""
    which = 10 * torch.arange(count)[:, None] + torch.arange(dates)
    pixels = which[:, :, None, None, None].float().expand(-1, -1, 2, side, side).clone()
    valid = torch.ones(count, dates, side, side, dtype=torch.bool)
    places = torch.tensor([[0.0, 0.0], [0.0, 90.0], [90.0, 0.0], [0.0, 1.0]]).repeat(count // 4, 1)
    times = torch.zeros(count, dates, 3, dtype=torch.long)
    return Sample(pixels[:, 0], valid[:, 0], torch.ones(count), Dates(pixels, valid, times, places))


def noise(count: int = 8) -> Sample:
    given = sample(count)
    assert given.dates is not None
    pixels = torch.randn(given.dates.pixels_BTCHW.shape, generator=torch.Generator().manual_seed(1))
    return given._replace(pixels_BCHW=pixels[:, 0], dates=given.dates._replace(pixels_BTCHW=pixels))


def seen(method: GASSL, given: Sample) -> tuple[Tensor, Tensor]:
    """Which window and date each query and each key comes from, by what the networks are given."""
    views: list[Tensor] = []
    hooks = [
        net.conv1.register_forward_pre_hook(lambda _, inputs: views.append(inputs[0].amax((1, 2, 3)).round()))
        for net in (method.encoder, method.key_encoder)
    ]
    method.loss(given, 0)
    for hook in hooks:
        hook.remove()
    return views[0], views[1]


def still(method: GASSL, monkeypatch: pytest.MonkeyPatch) -> GASSL:
    """Leave the light of views as it is."""
    monkeypatch.setattr("rsfm.blocks.views.standardised_jitter", lambda pixels: pixels)
    return method


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("gassl"), capsys) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_gassl_case(tmp_path / f"gassl_{name}", CASES[name])
    assert failures(tmp_path / f"gassl_{name}", capsys) == []


def test_gassl_G1_places_are_told_from_the_query_before_it_has_length_1():
    method = tiny()
    query = 50 * torch.randn(8, 8)
    logits = method.place_logits(query)
    bias = method.place_logits(torch.zeros_like(query))
    torch.testing.assert_close(logits - bias, 50 * (method.place_logits(query / 50) - bias))
    assert (logits - method.place_logits(functional.normalize(query, dim=1))).abs().max() > 1


def test_gassl_G2_what_is_negative_tells_nothing():
    method, query = tiny(), torch.randn(8, 8)
    assert torch.equal(method.place_logits(query), method.place_logits(query.clamp(min=0)))
    assert not torch.equal(method.place_logits(query), method.place_logits(query.abs()))


def test_gassl_G3_both_losses_weigh_the_same_and_are_means(monkeypatch):
    method, given = still(tiny(), monkeypatch), noise()
    torch.manual_seed(5)
    loss = method.loss(given, 0)
    assert loss.total.item() == pytest.approx(float(loss.parts["contrast"] + loss.parts["place"]), rel=1e-5)
    query, label = torch.randn(8, 8), torch.randint(3, (8,))
    rows = [method.place_error(query[row : row + 1], label[row : row + 1]) for row in range(8)]
    torch.testing.assert_close(method.place_error(query, label), torch.stack(rows).mean())


def test_gassl_G4_head_is_trained_with_weight_decay_and_saved():
    method = tiny()
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decayed = {id(value) for group in optimizer.param_groups if group["weight_decay"] for value in group["params"]}
    assert method.geo_head is not None
    assert {id(value) for value in method.geo_head.parameters()} <= decayed
    assert {"geo_head.1.weight", "geo_head.1.bias", "centres_KD"} <= set(method.state_dict())
    method.loss(noise(), 0).total.backward()
    assert method.geo_head[1].weight.grad.abs().sum() > 0
    assert all(value.grad is None for value in method.key_encoder.parameters())


def test_gassl_G4_gradient_of_places_reaches_the_encoder():
    method = tiny()
    views = noise().pixels_BCHW
    method.place_error(method.project(views), torch.zeros(8, dtype=torch.long)).backward()
    assert method.encoder.get_parameter("conv1.weight").grad.abs().sum() > 0


@pytest.mark.parametrize("clustering", ["sphere", "degrees"])
@pytest.mark.parametrize("asked", [3, 20, 300])
def test_gassl_G5_there_are_as_many_classes_as_clusters_and_none_is_empty(asked, clustering):
    method = tiny(clustering=clustering)
    twice = SPREAD[:60].repeat(3, 1)
    clusters = method.cluster(twice, asked)
    assert clusters.labels_N.bincount().min() > 0
    assert len(clusters.centres_KD) == clusters.labels_N.max() + 1 <= min(asked, 60)
    method.tell_places(clusters.centres_KD)
    assert method.place_logits(torch.zeros(1, 8)).shape == (1, len(clusters.centres_KD))


def test_gassl_G6_place_of_one_date_still_learns_and_is_counted(monkeypatch):
    method, given = still(tiny(), monkeypatch), sample()
    assert given.dates is not None
    given.dates.valid_BTHW[:3, 1:] = False
    query, key = seen(method, given)
    assert (query[:3] == key[:3]).all()
    assert (query[3:] != key[3:]).all()
    assert method.loss(given, 0).parts["one_date"].item() == pytest.approx(3 / 8)


def test_gassl_G6_without_dates_it_is_moco_and_says_so():
    method, given = tiny(learn=False), noise()._replace(dates=None)
    loss = method.loss(given, 0)
    assert "as MoCo v2 does" in loss.warnings[0]
    assert loss.parts["one_date"] == 1
    assert set(loss.parts) == {"contrast", "top1", "one_date"}


def test_gassl_G7_second_date_is_another_one_and_any_of_the_others(monkeypatch):
    method, given = still(tiny(), monkeypatch), sample(dates=4)
    found = set()
    for seed in range(12):
        torch.manual_seed(seed)
        query, key = seen(method, given)
        assert torch.equal(query, 10.0 * torch.arange(8))
        found |= set((key - query).long().tolist())
    assert found == {1, 2, 3}


def test_gassl_G7_dates_are_drawn_evenly():
    torch.manual_seed(0)
    usable = torch.tensor([True, True, False, True, True]).expand(3000, -1)
    index = choose_dates(usable, 2)[:, 1]
    assert index.bincount(minlength=5)[[0, 2]].tolist() == [0, 0]
    assert index.bincount(minlength=5)[[1, 3, 4]].min() > 900


def test_gassl_G8_dates_of_a_place_share_its_cluster():
    method = tiny()
    given = noise()
    assert given.dates is not None
    moved = given.dates.place_B2 + 0.01
    labels = [method.points(place) @ torch.eye(3, dtype=torch.float64) for place in (given.dates.place_B2, moved)]
    assert torch.equal(labels[0].argmax(1), labels[1].argmax(1))
    assert labels[0].argmax(1).tolist()[:4] == [0, 1, 2, 0]


def test_gassl_G9_places_on_both_sides_of_the_antimeridian_are_one_cluster():
    east, west = [[10.0, 179.0 + 0.1 * n] for n in range(8)], [[10.0, -179.0 - 0.1 * n] for n in range(8)]
    pole = [[89.0, 45.0 * n] for n in range(8)]
    places = torch.tensor(east + west + pole, dtype=torch.float64)
    labels = tiny().cluster(places, 2).labels_N
    assert len(set(labels[:16].tolist())) == 1
    assert len(set(labels[16:].tolist())) == 1
    assert labels[0] != labels[16]
    flat = tiny(clustering="degrees").cluster(places, 2).labels_N
    assert flat[0] != flat[8]


def test_gassl_G11_one_scene_or_few_places_are_not_learned_and_the_user_is_told():
    rng = np.random.default_rng(0)
    scene = torch.tensor(rng.uniform(0, 0.3, (1000, 2)) + 48)
    for places, said in ((scene, "1000 places within"), (SPREAD[:100], "100 places")):
        method = tiny(learn=False)
        method = GASSL(GASSLConfig(learn_places=True, dimension=8, queue=24), method.encoder)
        (message,) = method.prepare(places)
        assert said in message
        assert method.geo_head is None
    method = GASSL(GASSLConfig(learn_places=True, dimension=8, queue=24), method.encoder)
    assert method.prepare(SPREAD) == ()
    assert method.geo_head is not None
    assert method.geo_head[1].out_features == len(SPREAD) // 50
    assert GASSL(GASSLConfig(dimension=8, queue=24), method.encoder).prepare(SPREAD) == ()


@pytest.mark.parametrize(("places", "most", "count"), [(10, 100, 2), (499, 100, 9), (10**6, 100, 100), (10**6, 40, 40)])
def test_there_is_a_cluster_for_fifty_places(places, most, count):
    assert cluster_count(places, most) == count


def test_a_restart_after_preparing_continues_with_the_same_places():
    method = GASSL(GASSLConfig(learn_places=True, dimension=8, queue=24), tiny(learn=False).encoder)
    method.prepare(SPREAD)
    again = GASSL(GASSLConfig(learn_places=True, dimension=8, queue=24), copy.deepcopy(method.encoder))
    again.prepare(SPREAD)
    assert torch.equal(again.centres_KD, method.centres_KD)
    again.load_state_dict(method.state_dict())


def test_places_change_nothing_in_the_contrast():
    with_places, without = tiny(), tiny(learn=False)
    views = noise()
    assert views.dates is not None
    logits = [each.compare(views.pixels_BCHW, views.dates.pixels_BTCHW[:, 1]) for each in (with_places, without)]
    assert torch.equal(*logits)
    assert contrast(logits[0]).item() > 0


@pytest.mark.parametrize("smallest", [0.05, 0.9])
def test_published_views_cover_at_least_the_share_they_are_told(smallest, monkeypatch):
    cut = []

    def spy(*given: Any) -> Any:
        cut.append(resized_crop(*given))
        return cut[-1]

    monkeypatch.setattr("rsfm.blocks.views.resized_crop", spy)
    ramp = torch.arange(1024.0).reshape(32, 32).expand(40, 2, 32, 32)
    given = Sample(ramp, torch.ones(40, 32, 32, dtype=torch.bool), torch.ones(40))
    torch.manual_seed(0)
    tiny(learn=False, views="published", smallest_crop=smallest).loss(given, 0)
    rows = [(view.pixels_BCHW.amax((1, 2, 3)) - view.pixels_BCHW.amin((1, 2, 3))) / 1024 for view in cut]
    assert (torch.stack(rows).min() < 0.5) == (smallest == 0.05)  # 90 % of an area is at least 80 % of its height
