"""Every numbered pitfall of the specifications has a test of its name, or a reason why it has none."""

import os
from pathlib import Path

import pytest

from tests.backend.pitfalls import COUNTS, UNTESTED, by_pitfall, counts_of_specifications, known, table

SPECS = Path(os.environ.get("RSFM_SPECS", Path(__file__).parents[3] / "shared" / "specs"))
FOLDER = Path(__file__).parent
TESTED = by_pitfall(FOLDER)


def test_pitfalls_are_those_of_the_specifications():
    if not SPECS.is_dir():
        pytest.skip(f"the specifications are not there: {SPECS} (set RSFM_SPECS)")
    assert counts_of_specifications(SPECS) == COUNTS


@pytest.mark.parametrize("pitfall", known())
def test_a_pitfall_has_a_test_or_a_reason_and_not_both(pitfall):
    assert (pitfall in TESTED) != (pitfall in UNTESTED)


def test_no_test_and_no_reason_is_of_a_pitfall_that_is_not_there():
    assert set(TESTED) | set(UNTESTED) <= set(known())


def test_names_are_read_as_they_are_written(tmp_path):
    (tmp_path / "test_names.py").write_text(
        "def test_mae_A4_x():\n"
        "def test_satmae_S13_S14_x():\n"
        "def test_dino_1_x():\n"
        "def test_dino_12_L2A_x():\n"
        "def test_views_of_A4():\n"
    )
    found = by_pitfall(tmp_path)
    assert sorted(found) == ["A4", "S13", "S14", "dino_1", "dino_12"]
    assert found["A4"] == ["test_mae_A4_x"]


def test_the_table_names_what_has_no_test_and_why(tmp_path):
    (tmp_path / "test_none.py").write_text("")
    lines = table(tmp_path)
    assert sum(line.strip().startswith(("M1 ", "M15 ")) for line in lines) == 2
    assert any("S16" in line and UNTESTED["S16"] in line for line in lines)
    assert not any(line.strip().startswith("M1 ") for line in table(FOLDER))
