"""Our numbers against the authors' own, and against slow plain formulas for sizes their cases do not have."""

import os
from pathlib import Path

import numpy as np
import pytest
from rsfm import goldens, registry
from rsfm.errors import UserError
from rsfm.golden import Golden, compare, main

from tests.backend.methods.mae_case import write_mae_case
from tests.backend.methods.moco_case import write_moco_case

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
NAMES = ["moco", "mae", "mae_multiband"]
MAE = {
    "wide": {
        "seed": 3, "img": 24, "p": 4, "in_chans": 5, "d": 24, "depth": 2, "h": 3, "dd": 16, "ddepth": 2, "dh": 2,
        "B": 2, "mr": 0.6, "lr": 2e-3, "wd": 0.1, "pe": [[3, 24], [5, 8]], "pe_to": 8, "we": 1, "ep": 4, "minlr": 1e-5,
        "blr": 1e-3, "effb": 64, "iters": 3,
    },
    "one_band": {
        "seed": 4, "img": 32, "p": 16, "in_chans": 1, "d": 16, "depth": 1, "h": 4, "dd": 8, "ddepth": 1, "dh": 1,
        "B": 3, "mr": 0.5, "lr": 1e-3, "wd": 0.05, "pe": [[2, 16]], "pe_to": 3, "we": 2, "ep": 5, "minlr": 0.0,
        "blr": 1e-4, "effb": 1024, "iters": 2,
    },
}  # fmt: skip
MOCO = {
    "bottleneck": {
        "seed": 5, "block": "bottleneck", "layers": [1, 2, 1, 1], "widths": [4, 6, 8, 10], "in_chans": 4, "img": 64,
        "B": 10, "dim": 12, "K": 50, "m": 0.9, "T": 0.1, "ptr": 40, "lr": 0.02, "wd": 1e-3, "steps": 3, "epochs": 7,
        "milestones": [2, 5],
    },
    "round_the_end": {
        "seed": 6, "block": "basic", "layers": [2, 1, 1, 1], "widths": [6, 6, 8, 12], "in_chans": 13, "img": 32, "B": 8,
        "dim": 6, "K": 21, "m": 0.99, "T": 0.5, "ptr": 17, "lr": 0.01, "wd": 0.0, "steps": 2, "epochs": 3,
        "milestones": [1],
    },
}  # fmt: skip


def golden(name: str) -> Path:
    if not (GOLDEN / name).is_dir():
        pytest.skip(f"the golden numbers are not there: {GOLDEN / name} (set RSFM_GOLDEN)")
    return GOLDEN / name


@pytest.mark.parametrize("name", NAMES)
def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(name, capsys):
    assert main([str(golden(name))]) == 0
    printed = capsys.readouterr().out
    assert " 0 over" in printed
    assert "not compared" not in printed
    with np.load(golden(name) / "case.npz") as arrays:
        given = {"imgs", "noise", "config_json", "param_names", "mask_ratio", "interp_in", "sched_epoch"}
        given |= {array for array in arrays.files if array.startswith("adamw") or array.endswith("_names")}
        given |= {array for array in arrays.files if array.endswith(("im_q", "im_k", "idx_shuffle"))}
        results = {*arrays.files} - given
    assert not {array for array in results if f"  {array} " not in printed}


@pytest.mark.parametrize("name", sorted(MAE))
def test_mae_of_other_sizes_is_what_plain_formulas_give(name, tmp_path, capsys):
    write_mae_case(tmp_path / f"mae_{name}", MAE[name])
    assert main([str(tmp_path / f"mae_{name}")]) == 0, capsys.readouterr().out
    assert "not compared" not in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(MOCO))
def test_moco_of_other_sizes_is_what_plain_formulas_give(name, tmp_path, capsys):
    write_moco_case(tmp_path / f"moco_{name}", MOCO[name])
    assert main([str(tmp_path / f"moco_{name}")]) == 0, capsys.readouterr().out
    assert "not compared" not in capsys.readouterr().out


def test_one_changed_number_is_found(tmp_path, capsys):
    folder = tmp_path / "mae_case7"
    write_mae_case(folder, MAE["one_band"])
    with np.load(folder / "case.npz") as file:
        arrays = dict(file)
    arrays["pred"][1, 2, 3] += 1e-3
    np.savez(folder / "case.npz", **arrays)
    assert main([str(folder)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "OVER" in line]
    assert len(lines) == 1
    assert lines[0].split()[0] == "pred"


def test_an_array_nobody_compares_is_named(tmp_path, capsys):
    folder = tmp_path / "mae_more"
    write_mae_case(folder, MAE["one_band"])
    with np.load(folder / "case.npz") as file:
        arrays = dict(file)
    np.savez(folder / "case.npz", **arrays, something_new=np.zeros(3))
    main([str(folder)])
    assert "something_new" in next(line for line in capsys.readouterr().out.splitlines() if "not compared" in line)


def test_folder_that_cannot_be_compared_gives_2_and_a_sentence(tmp_path, capsys):
    (tmp_path / "unheard_of").mkdir()
    (tmp_path / "moco_empty").mkdir()
    for folder, said in (("unheard_of", "starts with one of"), ("absent", "no folder"), ("moco_empty", "case.npz")):
        assert main([str(tmp_path / folder)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="at least one folder"):
        main([])


def test_every_comparison_is_found_by_its_name():
    assert {member.name for member in registry.members(goldens, Golden).values()} == set(registry.names(goldens))


@pytest.mark.parametrize(
    ("ours", "theirs", "passed"),
    [
        ([1.0, 2.0], [1.0, 2.0005], False),
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, float("nan")], [1.0, 2.0], False),
        ([float("nan")], [float("nan")], False),
        ([1.0], [1.0, 1.0], False),
        ([[1.0]], [1.0], False),
    ],
)
def test_comparison_finds_differences_nans_and_other_shapes(ours, theirs, passed):
    assert compare("x", np.array(ours), np.array(theirs), atol=1e-6, rtol=1e-5).passed is passed
