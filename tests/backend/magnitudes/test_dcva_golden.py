"""DCVA against the author's own numbers, and a slow plain version for sizes and layers that his case does not have."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from rsfm.golden import main
from safetensors.numpy import load_file, save_file
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.morphology import closing, disk
from skimage.transform import resize

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
STRIDES, SHARES = {2: 1, 5: 2, 8: 4}, {2: 10, 5: 10, 8: 5}


def write_case(folder: Path, seed: int, layers: list[int], channels: list[int], size: int, smallest: int) -> None:
    """Follow the description of the case step by step, pixel lists and loops where the comparison has none."""
    random = np.random.default_rng(seed)
    arrays, dates = {}, ([], [])
    for layer, width in zip(layers, channels, strict=True):
        side, chosen, maps = size // STRIDES[layer], set(), []
        for date in ("pre", "post"):
            features = random.normal(size=(width, side, side)) * 0.6
            features[: width // 3, : side // 3, : side // 2] += 0.9 * (date == "post")
            arrays[f"layer{layer}.{date}"] = features.astype(np.float16)
            clipped = np.clip(arrays[f"layer{layer}.{date}"].astype(np.float32), -1, 1)
            maps.append(np.stack([resize(channel, (size, size)) for channel in clipped]))
        half = size // 2
        for rows in (range(half), range(half, size)):
            for columns in (range(half), range(half, size)):
                part = (maps[1] - maps[0])[:, rows][:, :, columns].reshape(width, -1)
                ranked = sorted(range(width), key=lambda channel: part[channel].std())
                chosen |= set(ranked[width - int(width * SHARES[layer] / 100) :])
        arrays[f"layer{layer}.selected"] = np.array(sorted(chosen))
        for date, found in zip(dates, maps, strict=True):
            date += [(found[c] - found[c].mean()) / found[c].std() for c in sorted(chosen)]
    arrays["agg_pre"], arrays["agg_post"] = (np.stack(date, axis=-1).astype(np.float32) for date in dates)
    scaled = []
    for date in dates:
        shares = [(channel - channel.min()) / (channel.max() - channel.min()) for channel in date]
        tops = [np.percentile(share, 95) for share in shares]
        scaled.append([np.minimum(share, top) / top for share, top in zip(shares, tops, strict=True)])
    length = np.sqrt(sum((one - other) ** 2 for one, other in zip(*scaled, strict=True)))
    norm = (length - length.min()) / (length.max() - length.min())
    arrays["change_magnitude_norm"] = norm.astype(np.float32)
    threshold = float(threshold_otsu(norm))
    adaptive = np.any([norm > 2 * gaussian(norm, sigma) for sigma in (101, 151, 201)], axis=0)
    found = {"otsu": norm > threshold, "scaledOtsu": norm > 1.25 * threshold, "adaptive": adaptive}
    for name, changed in found.items():
        numbers = label(changed, connectivity=1)
        large = np.isin(numbers, [n for n in range(1, numbers.max() + 1) if (numbers == n).sum() >= smallest])
        arrays[f"cdmap_{name}"] = closing(large, disk(3)).astype(np.uint8)
    config = {"layers": layers, "size": size, "object_min_size": smallest, "otsu_threshold": threshold}
    folder.mkdir()
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def test_every_array_of_the_author_is_within_its_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    if not (GOLDEN / "dcva").is_dir():
        pytest.skip(f"the golden numbers are not there: {GOLDEN / 'dcva'} (set RSFM_GOLDEN)")
    assert main([str(GOLDEN / "dcva")]) == 0
    printed = capsys.readouterr().out
    assert "15 compared, 0 over" in printed
    assert [line.split()[0] for line in printed.splitlines() if "not compared" in line] == ["truth"]


@pytest.mark.parametrize(
    ("seed", "layers", "channels", "size", "smallest"),
    [(1, [2, 5, 8], [30, 50, 80], 40, 8), (2, [8], [64], 64, 20), (3, [2], [21], 37, 5), (4, [5, 8], [40, 45], 52, 3)],
)
def test_other_sizes_and_layers_are_what_plain_formulas_give(
    seed: int, layers: list[int], channels: list[int], size: int, smallest: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_case(tmp_path / "dcva_other", seed, layers, channels, size, smallest)
    assert main([str(tmp_path / "dcva_other")]) == 0, capsys.readouterr().out
    assert "not compared" not in capsys.readouterr().out


def test_one_changed_number_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dcva_wrong"
    write_case(folder, 5, [5], [40], 32, 4)
    arrays = load_file(folder / "io.safetensors")
    arrays["change_magnitude_norm"][3, 4] += 0.01
    save_file(arrays, folder / "io.safetensors")
    assert main([str(folder)]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "OVER" in line] == [
        "change_magnitude_norm"
    ]
