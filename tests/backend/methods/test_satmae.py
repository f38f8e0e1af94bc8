"""SatMAE against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
import torch
from rsfm.blocks.dates import encode_time, time_code
from rsfm.blocks.masking import kept_count, patchify, split_positions, take
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_grouped import ViTGrouped, ViTGroupedConfig
from rsfm.encoders.vit_temporal import ViTTemporal, ViTTemporalConfig
from rsfm.errors import UserError
from rsfm.method import Dates, Sample
from rsfm.methods.satmae import Cube, SatMAE, SatMAEConfig
from rsfm.published_scaling import S2_L1C, SATMAE_TEN, statistics
from torch import Tensor

from tests.backend.methods.golden_run import authors_folder, failures
from tests.backend.methods.satmae_case import write_satmae_case

DATES = {
    "two_dates_r06": {
        "seed": 3, "img": 24, "p": 4, "in_chans": 5, "d": 36, "depth": 2, "h": 3, "dd": 22, "ddepth": 1, "dh": 2,
        "te": 4, "td": 2, "B": 2, "mr": 0.6, "lr": 2e-3, "wd": 0.1,
        "ts": [[[1, 2, 3], [-4, 11, 23]], [[0, 0, 0], [18, 5, 9]]],
    },
    "four_dates_one_band": {
        "seed": 5, "img": 16, "p": 8, "in_chans": 1, "d": 24, "depth": 1, "h": 2, "dd": 16, "ddepth": 1, "dh": 1,
        "te": 4, "td": 4, "B": 1, "mr": 0.5, "lr": 1e-3, "wd": 0.0,
        "ts": [[[1, 2, 3], [5, 6, 7], [1, 2, 3], [30, 0, 23]]],
    },
}  # fmt: skip
GROUPS = {
    "three_of_five": {
        "seed": 4, "img": 12, "p": 4, "in_chans": 5, "groups": [[4, 0], [2], [3, 1]], "d": 24, "depth": 1, "h": 2,
        "dd": 16, "ddepth": 2, "dh": 2, "ce": 8, "dce": 4, "B": 3, "mr": 0.5, "lr": 1e-3, "wd": 0.05,
    },
    "two_of_four": {
        "seed": 6, "img": 32, "p": 8, "in_chans": 4, "groups": [[1, 3, 0], [2]], "d": 16, "depth": 2, "h": 4,
        "dd": 12, "ddepth": 1, "dh": 3, "ce": 4, "dce": 8, "B": 2, "mr": 0.8, "lr": 5e-3, "wd": 0.3,
    },
}  # fmt: skip
TIMES = torch.tensor([[[13, 6, 10], [14, 0, 9], [15, 11, 23]], [[0, 0, 0], [8, 3, 12], [19, 7, 17]]])


def temporal(bands: int = 2, **config: Any) -> SatMAE:
    torch.manual_seed(0)
    encoder = ViTTemporal(ViTTemporalConfig(patch_size=4, window=16, width=36, depth=1, heads=2, time_width=12), bands)
    values = {"decoder_width": 24, "decoder_told": 12, "decoder_depth": 1, "decoder_heads": 2, **config}
    return SatMAE(SatMAEConfig(**values), encoder)


def grouped(bands: int = 5, groups: str = "1,5; 2,3; 4", **config: Any) -> SatMAE:
    torch.manual_seed(0)
    values = {"patch_size": 4, "window": 16, "width": 36, "depth": 1, "heads": 2, "group_width": 12, "groups": groups}
    decoder = {"decoder_width": 24, "decoder_told": 12, "decoder_depth": 1, "decoder_heads": 2, **config}
    return SatMAE(SatMAEConfig(**decoder), ViTGrouped(ViTGroupedConfig(**values), bands))


def cube(bands: int, dates: int = 3, seed: int = 1) -> Cube:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2, dates, bands, 16, 16, generator=generator)
    return Cube(pixels, torch.ones(2, dates, 16, 16, dtype=torch.bool), TIMES[:, :dates])


def sample(bands: int, dates: int = 3) -> Sample:
    pixels, valid, time = cube(bands, dates)
    places = torch.tensor([[48.0, 11.0], [48.1, 11.1]])
    return Sample(pixels[:, 0], valid[:, 0], torch.ones(2), Dates(pixels, valid, time, places))


def squared_error(method: SatMAE, given: Cube, rebuilt: Tensor, hidden: Tensor) -> float:
    return method.error(rebuilt, given, hidden).item()


@pytest.mark.parametrize("name", ["satmae_temporal", "satmae_group"])
def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(name, capsys):
    assert failures(authors_folder(name), capsys) == []


@pytest.mark.parametrize("name", sorted(DATES))
def test_dates_of_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_satmae_case(tmp_path / f"satmae_temporal_{name}", DATES[name])
    assert failures(tmp_path / f"satmae_temporal_{name}", capsys) == []


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_groups_of_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_satmae_case(tmp_path / f"satmae_group_{name}", GROUPS[name])
    assert failures(tmp_path / f"satmae_group_{name}", capsys) == []


def test_satmae_S1_code_counts_years_from_2002_months_from_0_and_hours_in_utc():
    assert time_code(datetime(2016, 12, 31, 23, 30)) == (14, 11, 23)
    assert time_code(datetime(2002, 1, 1)) == (0, 0, 0)
    assert time_code(datetime(1999, 5, 1, 10)) == (-3, 4, 10)
    there = timezone(timedelta(hours=9))
    assert time_code(datetime(2020, 1, 1, 3, tzinfo=there)) == (17, 11, 18)


def test_satmae_S2_position_is_place_then_year_month_hour_each_sines_then_cosines():
    method = temporal()
    positions = method.encoder.positions(TIMES, 4, 4)
    for date, part, index in np.ndindex(3, 3, 4):
        angle = TIMES[1, date, part].item() / 10000 ** ((index % 2) / 2)
        expected = math.sin(angle) if index < 2 else math.cos(angle)
        assert positions[1, 16 * date + 5, 24 + 4 * part + index].item() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(positions[0, 16:32, :24], method.encoder.pos_embed[0, 1:])


def test_satmae_S3_time_is_encoded_in_double_precision():
    years = torch.tensor([[[100_003, 0, 0]]])
    assert encode_time(years, 6)[0, 0, 0].item() == np.float32(math.sin(100_003))
    assert np.sin(np.float32(100_003) * np.float32(0.1)) != np.float32(math.sin(100_003 * 0.1))


def test_satmae_S4_class_token_has_no_position_in_the_encoder_and_the_last_group_in_the_decoder():
    method, given = grouped(), cube(5, 1)
    first = []
    hook = method.encoder.blocks.register_forward_pre_hook(lambda _, inputs: first.append(inputs[0][:, 0]))
    method.encoder.encode(method.encoder.embed(given.pixels_BTCHW, given.time_BT3))
    hook.remove()
    assert torch.equal(first[0], method.encoder.cls_token[0].expand(2, -1))
    positions = method.positions(given)
    assert not positions[:, 0, :12].any()
    angle = [3 / 10000 ** (index / 6) for index in range(6)]
    expected = torch.tensor([math.sin(each) for each in angle] + [math.cos(each) for each in angle])
    torch.testing.assert_close(positions[1, 0, 12:], expected)
    assert not temporal().positions(cube(2))[:, 0].any()


def test_satmae_S5_consistent_masking_keeps_what_all_dates_together_would_keep():
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(0))
    kept, each = kept_count(48, 0.6), kept_count(16, 0.6)
    assert (kept, each) == (19, 6)
    method = temporal(masking="consistent", mask_ratio=0.6)
    split = method.hide(cube(2), noise.expand(2, -1))
    order = noise[0].argsort().tolist()
    expected = [16 * date + place for date in range(3) for place in order[:6]] + [order[6]]
    assert split.keep_BK[0].tolist() == expected
    assert split.hidden_BL.sum(1).tolist() == [29, 29]


def test_satmae_S6_tokens_stand_date_by_date_and_each_knows_its_own_time():
    method, given = temporal(), cube(2)
    tokens = method.encoder.embed(given.pixels_BTCHW, given.time_BT3)
    for date in range(3):
        alone = method.encoder.embed(given.pixels_BTCHW[:, date : date + 1], given.time_BT3[:, date : date + 1])
        torch.testing.assert_close(tokens[:, 16 * date : 16 * date + 16], alone)


def test_satmae_S7_dates_are_cut_alike():
    method = temporal(views="published")
    ramp = torch.arange(256.0).reshape(1, 1, 1, 16, 16).expand(2, 3, 2, -1, -1)
    torch.manual_seed(3)
    cropped = method.crop(cube(2)._replace(pixels_BTCHW=ramp)).pixels_BTCHW
    assert torch.equal(cropped[:, 0], cropped[:, 1])
    assert torch.equal(cropped[:, 0], cropped[:, 2])
    assert not torch.equal(cropped[0], ramp[0])


def test_satmae_S7_a_crop_never_leaves_the_range_of_its_window():
    method = temporal(views="published")
    given = cube(2)._replace(pixels_BTCHW=(cube(2).pixels_BTCHW > 0).float())
    for seed in range(5):
        torch.manual_seed(seed)
        cropped = method.crop(given).pixels_BTCHW
        assert cropped.min() >= 0
        assert cropped.max() <= 1


def test_satmae_S8_each_output_is_compared_with_its_own_band_unless_told_otherwise():
    given, hidden = cube(5, 1), torch.ones(2, 48)
    corrected, official = grouped(norm_pix="off"), grouped(norm_pix="off", pairing="official")
    target = corrected.target(given.pixels_BTCHW, torch.ones(2, 1, 16, 16))
    assert squared_error(corrected, given, target, hidden) == 0
    torch.nn.init.zeros_(corrected.decoder_pred[0].weight)
    with torch.no_grad():
        for method in (corrected, official):
            for part, value in zip(method.decoder_pred, (10.0, 20.0, 30.0), strict=True):
                torch.nn.init.zeros_(part.weight)
                part.bias.fill_(value)
    split = corrected.hide(given)
    bands = [method.rebuild(method.see(given, split), split, given)[0, 0, :, 0, 0] for method in (corrected, official)]
    assert bands[0].tolist() == [10, 20, 20, 30, 10]  # groups 1,5; 2,3; 4
    assert bands[1].tolist() == [10, 10, 20, 20, 30]


def test_satmae_S9_band_is_slowest_in_a_patch_of_a_group_and_fastest_in_one_of_a_date():
    for method, bands in ((grouped(2, "1,2"), 2), (temporal(2), 2)):
        with torch.no_grad():
            torch.nn.init.zeros_(method.decoder_pred[0].weight)
            method.decoder_pred[0].bias.copy_(torch.arange(32.0))
        given = cube(bands, 1)
        split = method.hide(given)
        values = method.rebuild(method.see(given, split), split, given)[0, 0, :, 0]
        expected = torch.arange(32.0).reshape(16, 2).T if method.encoder.dated else torch.arange(32.0).reshape(2, 16)
        assert torch.equal(values, expected)


def test_satmae_S10_patches_kept_in_all_groups_stand_group_by_group_and_come_back_to_their_places():
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(2))
    split = split_positions(noise, slices=3, kept_each=4, kept=12)
    places = split.keep_BK.reshape(2, 3, 4)
    assert torch.equal(places[:, 1], places[:, 0] + 16)
    assert torch.equal(places[:, 2], places[:, 0] + 32)
    everything = split_positions(noise, slices=3, kept_each=16, kept=48)
    tokens = torch.randn(2, 48, 3)
    assert torch.equal(take(take(tokens, everything.keep_BK), everything.restore_BL), tokens)
    assert torch.equal(split.hidden_BL.reshape(2, 3, 16)[:, 0], split.hidden_BL.reshape(2, 3, 16)[:, 2])


def test_satmae_S11_every_hidden_patch_counts_the_same_however_many_bands_its_group_has():
    method, given = grouped(norm_pix="off"), cube(5, 1)
    target = method.target(given.pixels_BTCHW, torch.ones(2, 1, 16, 16))
    wrong = target.clone()
    wrong[:, :, 3] += 2  # the one band of the last group
    hidden = torch.zeros(2, 3, 16)
    hidden[:, 0, :4], hidden[:, 2, :2] = 1, 1
    assert squared_error(method, given, wrong, hidden.flatten(1)) == pytest.approx(4 * 2 / 6, rel=1e-5)
    wrong = target.clone()
    wrong[:, :, 4] += 2  # one of the two bands of the first group
    assert squared_error(method, given, wrong, hidden.flatten(1)) == pytest.approx(4 / 2 * 4 / 6, rel=1e-5)


@pytest.mark.parametrize("norm_pix", ["patch", "band"])
def test_satmae_S12_spread_is_that_of_all_bands_of_a_patch_or_of_each(norm_pix):
    given = cube(5, 1)
    pixels = given.pixels_BTCHW * torch.arange(1, 6)[:, None, None]
    target = grouped(norm_pix=norm_pix).target(pixels, torch.ones(2, 1, 16, 16))[1, 0, :, 7]
    values = patchify(pixels[1], 4)[0, 7].reshape(16, 5).T.double()
    expected = values - values.mean() if norm_pix == "patch" else values - values.mean(1, keepdim=True)
    variance = values.var() if norm_pix == "patch" else values.var(1, keepdim=True)
    torch.testing.assert_close(target.double(), expected / (variance + 1e-6).sqrt(), atol=1e-5, rtol=1e-4)


def test_satmae_S13_S14_statistics_follow_the_names_of_the_bands_that_are_kept():
    whole, kept = statistics("satmae_sentinel", S2_L1C), statistics("satmae_sentinel", SATMAE_TEN)
    last = statistics("satmae_sentinel", (*SATMAE_TEN[:7], "B11", "B12", "B08A"))  # EuroSAT has B8A last
    assert whole is not None
    assert kept is not None
    assert last is not None
    assert kept.mean == tuple(value for index, value in enumerate(whole.mean) if index not in (0, 9, 10))
    assert last.mean[9] == kept.mean[7] == whole.mean[8]


@pytest.mark.parametrize("dates", [1, 2, 5])
def test_satmae_S15_weights_fit_any_number_of_dates(dates):
    method = temporal(dates=dates)
    method.load_state_dict(temporal(dates=3).state_dict())
    loss = method.loss(sample(2), 0)
    assert torch.isfinite(loss.total)
    assert method.cube(sample(2)).pixels_BTCHW.shape[1] == dates


def test_one_date_is_repeated_and_the_user_is_told():
    method = temporal()
    one = sample(2)._replace(dates=None)
    given = method.cube(one)
    assert given.pixels_BTCHW.shape[1] == 3
    assert torch.equal(given.pixels_BTCHW[:, 2], one.pixels_BCHW)
    assert "one date only" in method.loss(one, 0).warnings[0]
    assert method.loss(sample(2), 0).warnings == ()
    assert grouped().loss(sample(5)._replace(dates=None), 0).warnings == ()


def test_dates_without_pixels_are_never_chosen_and_times_stay_with_their_pixels():
    method, given = temporal(dates=3), sample(2)
    assert given.dates is not None
    given.dates.valid_BTHW[0, 1] = False
    for seed in range(10):
        torch.manual_seed(seed)
        chosen = method.cube(given)
        assert torch.equal(chosen.pixels_BTCHW[:, 0], given.pixels_BCHW)
        assert chosen.time_BT3[0, 1:].tolist() == [[15, 11, 23]] * 2
        assert sorted(chosen.time_BT3[1].tolist()) == sorted(TIMES[1].tolist())
        for index in range(3):
            source = TIMES[1].tolist().index(chosen.time_BT3[1, index].tolist())
            assert torch.equal(chosen.pixels_BTCHW[1, index], given.dates.pixels_BTCHW[1, source])


def test_nodata_is_never_rebuilt_and_a_patch_of_mostly_nodata_not_asked_for():
    method, given = temporal(norm_pix="off"), cube(2)
    given.valid_BTHW[:, 1, :2, :4] = False  # half of a patch
    given.valid_BTHW[:, 2, :3, :4] = False  # more than half of one
    target = method.target(given.pixels_BTCHW, torch.ones(2, 3, 16, 16))
    rebuilt = target + 1
    rebuilt[:, 1, :, 0, :8] = 1e6
    rebuilt[:, 2, :, 0] = 1e6
    assert squared_error(method, given, rebuilt, torch.ones(2, 48)) == pytest.approx(1, rel=1e-5)


def test_encoder_sees_the_kept_patches_alone():
    method, given = grouped(mask_ratio=0.6), cube(5, 1)
    split = method.hide(given)
    hidden = split.hidden_BL.reshape(2, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    pixels = given.pixels_BTCHW.clone()
    for index, group in enumerate(method.encoder.groups):
        for band in group:
            pixels[:, 0, band][hidden[:, index]] = 99
    torch.testing.assert_close(method.see(given._replace(pixels_BTCHW=pixels), split), method.see(given, split))


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match="vit_grouped"):
        SatMAE(SatMAEConfig(), ConvSmall(ConvSmallConfig(), 3))
    with pytest.raises(UserError, match="multiple of 6"):
        temporal(decoder_told=8)
    with pytest.raises(UserError, match="Mask ratio"):
        temporal(mask_ratio=0.95, masking="consistent").hide(cube(2))
    with pytest.raises(ValueError, match="multiple of 4 above 0"):
        SatMAEConfig(decoder_width=24, decoder_told=14)


@pytest.mark.parametrize(
    ("groups", "said"), [("1,2; 3", "there are 5 bands"), ("1,2; 2,3,4,5", "2, 2"), ("red; green", "cannot be read")]
)
def test_groups_that_are_not_each_band_once_are_refused(groups, said):
    with pytest.raises(UserError, match=said):
        grouped(5, groups)


@pytest.mark.parametrize(
    ("bands", "sizes"), [(1, [1]), (3, [3]), (4, [2, 2]), (10, [2, 3, 2, 3]), (13, [2, 3, 2, 3, 3])]
)
def test_bands_without_groups_are_put_together_with_their_neighbours(bands, sizes):
    found = grouped(bands, "").encoder.groups
    assert [len(group) for group in found] == sizes
    assert [band for group in found for band in group] == list(range(bands))
