"""How a decoder learns: what counts as an error, what of the encoder learns, that unlabelled pixels count nothing."""

import copy

import pytest
import torch
from rsfm import encoders, registry
from rsfm.blocks.depths import Depths
from rsfm.blocks.low_rank import LowRank, add_adapters, merge_adapters
from rsfm.model_file import build_encoder, new_decoder
from rsfm.training.class_windows import ClassSample
from rsfm.training.config import TrainingConfig
from rsfm.training.decoder_learner import DecoderLearner
from rsfm.training.learning_config import LearningConfig
from rsfm.training.optimizer import make_optimizer, set_learning_rate
from rsfm.training.pixel_losses import dice_loss, pixel_losses
from rsfm.training.step import split
from torch.nn import functional

CLASSES = 3
VIT = {"name": "vit", "width": 24, "depth": 4, "heads": 2, "patch_size": 8, "window": 32}
LOSSES = [{}, {"loss": "focal"}, {"dice": 0.5}, {"loss": "focal", "dice": 1.0}]


def learner(network=VIT, weights=(1.0, 2.0, 0.5), **config):
    torch.manual_seed(0)
    made = build_encoder(network, 4)
    decoder = new_decoder({"name": "upernet", "channels": 8, "auxiliary_channels": 8}, made, CLASSES)
    return DecoderLearner(made, decoder, LearningConfig(**config), torch.tensor(weights)).train()


def sample(seed=0, windows=4, side=32):
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randn(windows, 4, side, side, generator=random)
    classes = torch.randint(0, CLASSES, (windows, side, side), generator=random)
    classes[torch.rand(classes.shape, generator=random) < 0.7] = -1
    return with_share(pixels, classes, torch.tensor([1.0, 2.0, 0.5]))


def with_share(pixels, classes, weights):
    known = classes >= 0
    return ClassSample(pixels, classes, (len(pixels) / weights[classes[known]].sum()).expand(len(pixels)).clone())


def step(method, given):
    """Let the optimizer step once and return the loss."""
    optimizer = make_optimizer(method, TrainingConfig(learning_rate=1e-2), fused=False)
    torch.manual_seed(1)
    loss = method.loss(given, 0.5).total
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("config", LOSSES)
def test_unlabelled_pixels_changed_to_anything_change_no_loss_and_no_weight(config):
    given = sample()
    unknown = given.class_BHW < 0
    random = torch.Generator().manual_seed(5)
    one, other = learner(**config), learner(**config)
    changed = given.class_BHW.clone()
    anything = torch.tensor([-1, -7, CLASSES, 255, 10**9])
    changed[unknown] = anything[torch.randint(0, len(anything), (int(unknown.sum()),), generator=random)]
    assert torch.equal(step(one, given), step(other, given._replace(class_BHW=changed)))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("config", LOSSES)
def test_logits_of_unlabelled_pixels_are_never_read(config):
    """Even where they are no numbers."""
    made, given = learner(**config), sample()
    logits = torch.randn(4, CLASSES, 32, 32, requires_grad=True)
    known = (given.class_BHW >= 0)[:, None].expand_as(logits)
    from rsfm.head import Answer

    clean, _ = made._compare(Answer(logits, 1.0), given)
    broken = torch.where(known, logits, torch.tensor(float("nan")))
    dirty, _ = made._compare(Answer(broken, 1.0), given)
    assert torch.equal(clean, dirty)
    clean.backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).any()


def test_cross_entropy_is_torchs_with_weights_and_what_is_unlabelled_ignored():
    made, given = learner(), sample()
    from rsfm.head import Answer

    logits = torch.randn(4, CLASSES, 32, 32)
    ours, _ = made._compare(Answer(logits, 0.4), given)
    theirs = functional.cross_entropy(logits, given.class_BHW, torch.tensor([1.0, 2.0, 0.5]), ignore_index=-1)
    torch.testing.assert_close(ours, 0.4 * theirs)


def test_focal_loss_is_its_formula_and_without_focus_cross_entropy():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, -3.0]])
    classes = torch.tensor([0, 0, 1])
    share = logits.softmax(1)[torch.arange(3), classes]
    focal = pixel_losses(logits, classes, LearningConfig(loss="focal", focus=2))
    torch.testing.assert_close(focal, -((1 - share) ** 2) * share.log())
    plain = pixel_losses(logits, classes, LearningConfig())
    torch.testing.assert_close(pixel_losses(logits, classes, LearningConfig(loss="focal", focus=0)), plain)


def test_dice_by_hand_and_without_classes_that_are_not_there():
    logits = torch.tensor([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.3, 0.7, 0.0]]).log()
    logits[:, 2] = -100
    found = dice_loss(logits, torch.tensor([0, 1, 1]))
    first, second = 2 * 0.8 / (1.5 + 1), 2 * (0.6 + 0.7) / (1.5 + 2)
    assert found.item() == pytest.approx(1 - (first + second) / 2, abs=1e-6)
    perfect = torch.eye(3) * 100
    assert dice_loss(perfect, torch.tensor([0, 1, 2])).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_of_parts_of_a_batch_is_that_of_the_whole():
    """Where a step does not fit the memory; one part has hardly any labels."""
    given = sample(windows=6)
    given.class_BHW[:3, :, 2:] = -1
    given = with_share(given.pixels_BCHW, given.class_BHW, torch.tensor([1.0, 2.0, 0.5]))
    made = learner().eval()
    whole = made.loss(given, 0).total
    parts = split(given, 3)
    assert all(isinstance(part, ClassSample) for part in parts)
    torch.testing.assert_close(torch.stack([made.loss(part, 0).total for part in parts]).mean(), whole)
    assert learner(dice=0.1).indivisible
    assert not made.indivisible
    assert made.least == 2


def changed_by_learning(method, steps=2):
    """Name what of the encoder a few steps change."""
    before = copy.deepcopy(method.encoder.state_dict())
    for number in range(steps):
        step(method, sample(number))
    return {name for name, value in method.encoder.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("encoder", [VIT, {"name": "conv_small", "width": 32}, {"name": "resnet"}])
def test_frozen_encoder_stays_to_the_last_bit_with_its_running_statistics(encoder):
    assert changed_by_learning(learner(encoder, encoder="frozen")) == set()


def test_last_blocks_learn_and_no_others():
    changed = changed_by_learning(learner(encoder="last", last_blocks=1))
    assert changed
    assert all(name.startswith(("blocks.3.", "norm.")) for name in changed)
    changed = changed_by_learning(learner({"name": "resnet"}, encoder="last", last_blocks=1))
    assert any("running_mean" in name for name in changed)
    assert all(name.startswith("layer4.") for name in changed)


@pytest.mark.parametrize("encoder", [VIT, {"name": "vit_relative", **{k: VIT[k] for k in VIT if k != "name"}},
                                     {"name": "conv_small", "width": 32}])  # fmt: skip
def test_adapters_learn_alone_start_as_nothing_and_go_into_the_weights(encoder):
    plain = learner(encoder).eval()
    made = learner(encoder, encoder="adapters", rank=2)
    given = sample()
    made.eval()
    assert torch.equal(plain.loss(given, 0).total, made.loss(given, 0).total)
    made.train()
    changed = changed_by_learning(made)
    assert changed
    assert all(name.endswith((".up", ".down")) for name in changed)
    before = made.eval().loss(given, 0).total
    made.close()
    assert not any(isinstance(module, LowRank) for module in made.modules())
    assert torch.equal(made.loss(given, 0).total, before)
    assert set(made.encoder.state_dict()) == set(plain.encoder.state_dict())


def test_adapters_of_grouped_convolutions_and_layers_without_bias():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, 2, 1, groups=2, bias=False), torch.nn.Conv2d(8, 2, 1))
    pixels = torch.randn(2, 4, 9, 9)
    add_adapters(network, 3, lambda name: True)
    for module in network:
        torch.nn.init.normal_(module.up)
    learned = network(pixels)
    merge_adapters(network)
    assert torch.equal(network(pixels), learned)


def test_all_of_the_encoder_learns_but_tables_that_are_fixed():
    method = learner(encoder="all")
    changed = changed_by_learning(method)
    fixed = {name for name, value in method.encoder.named_parameters() if not value.requires_grad}
    assert fixed == {"pos_embed"}
    assert changed == set(method.encoder.state_dict()) - fixed


def test_deeper_blocks_learn_faster_and_the_decoder_fastest():
    method = learner(layer_decay=0.5)
    optimizer = make_optimizer(method, TrainingConfig(decay_all=False), fused=False)
    set_learning_rate(optimizer, 0.1)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    by_name = {name: rates[id(value)] for name, value in method.named_parameters() if value.requires_grad}
    assert by_name["encoder.patch_embed.proj.weight"] == pytest.approx(0.1 * 0.5**5)
    assert by_name["encoder.blocks.0.mlp.fc1.bias"] == pytest.approx(0.1 * 0.5**4)
    assert by_name["encoder.blocks.3.mlp.fc1.weight"] == pytest.approx(0.1 * 0.5)
    assert by_name["encoder.norm.weight"] == pytest.approx(0.1)
    assert {rate for name, rate in by_name.items() if name.startswith("decoder.")} == {0.1}
    assert optimizer.param_groups[0]["lr"] == 0.1  # the one that the chart shows
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    assert decays[id(method.encoder.cls_token)] == 0
    assert decays[id(method.encoder.blocks[0].mlp.fc1.weight)] > 0


def test_optimizer_of_a_method_without_shares_has_two_groups_of_one_rate():
    encoder = build_encoder(VIT, 4)
    optimizer = make_optimizer(encoder, TrainingConfig(decay_all=False), fused=False)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert all("rate_scale" not in group for group in optimizer.param_groups)


@pytest.mark.parametrize("name", registry.names(encoders))
def test_every_weight_of_every_encoder_has_its_depth(name):
    encoder = build_encoder({"name": name}, 4)
    depths = Depths(encoder)
    found = {key: depths.of(key) for key, _ in encoder.named_parameters()}
    assert set(found.values()) >= set(range(depths.last + 1))
    assert depths.last >= 3
    assert all(depth == 0 for key, depth in found.items() if key.startswith(("patch_embed", "stem", "conv1")))


def test_drop_path_is_in_transformers_alone_and_off_outside_of_learning():
    method = learner(drop_path=0.5)
    given = sample()
    assert not torch.equal(method.loss(given, 0).total, method.loss(given, 0).total)
    method.eval()
    assert torch.equal(method.loss(given, 0).total, method.loss(given, 0).total)
    learner({"name": "conv_small"}, drop_path=0.5).loss(given, 0)
