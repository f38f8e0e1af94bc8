"""Files of others: what is read, and what is refused without being run."""

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from rsfm.checkpoint_file import ALLOWED, read_checkpoint
from rsfm.errors import UserError
from safetensors.torch import save_file

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


class Sneaky:
    """Reaches further through a class that looks harmless."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (eval, (f"__import__('os').mkdir({str(self.path)!r})",))


@pytest.mark.parametrize("attack", [Attack, Sneaky])
@pytest.mark.parametrize("place", ["state", "args", "namespace", "top"])
@pytest.mark.parametrize("new", [True, False])
def test_hostile_file_is_refused_and_not_run(attack, place, new, tmp_path):
    trap = tmp_path / "attacked"
    hostile = attack(trap)
    content = {
        "state": {"state_dict": {**WEIGHTS, "x": hostile}},
        "args": {"model": WEIGHTS, "args": hostile},
        "namespace": {"model": WEIGHTS, "args": argparse.Namespace(inside=hostile)},
        "top": hostile,
    }[place]
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="could run code"):
        read_checkpoint(str(tmp_path / "file.pth"))
    assert not trap.exists()
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert trap.exists(), "the file is not hostile"


def test_plain_pickle_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "attacked"
    (tmp_path / "file.pth").write_bytes(pickle.dumps(Attack(trap)))
    with pytest.raises(UserError):
        read_checkpoint(str(tmp_path / "file.pth"))
    assert not trap.exists()


def test_nothing_that_acts_is_on_the_list():
    for entry in ALLOWED:
        thing = entry[0] if isinstance(entry, tuple) else entry
        module = getattr(thing, "__module__", "")
        assert module.split(".")[0] in {"argparse", "numpy", "pathlib"}, entry
    assert not {os.system, eval, exec, getattr, __import__, open, np.load, np.fromfile} & {
        entry[0] if isinstance(entry, tuple) else entry for entry in ALLOWED
    }


@pytest.mark.parametrize("new", [True, False])
def test_settings_and_numbers_of_numpy_are_read(new, tmp_path):
    content = {
        "model": OrderedDict(WEIGHTS),
        "args": argparse.Namespace(
            dataset_type="rgb", lr=np.float64(0.1), output=Path("x"), betas=(0.9, np.float32(1))
        ),
        "epoch": np.int64(3),
        "best": np.bool_(True),
        "none": None,
    }
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=new)
    found = read_checkpoint(str(tmp_path / "file.pth"))
    assert set(found.states) == {"model"}
    assert torch.equal(found.states["model"]["a.weight"], WEIGHTS["a.weight"])
    assert found.settings["dataset_type"] == "rgb"


def test_file_that_is_the_state_has_it_under_no_name(tmp_path):
    torch.save(OrderedDict(WEIGHTS), tmp_path / "one.pth")
    save_file(WEIGHTS, tmp_path / "two.pth")
    for name in ("one", "two"):
        found = read_checkpoint(str(tmp_path / f"{name}.pth"))
        assert set(found.states) == {""}
        assert torch.equal(found.states[""]["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"not weights at all, but text that is longer than a header", "cannot be read"),
        (b"PK\x03\x04 a broken archive", "cannot be read"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{broken", "cannot be read"),
    ],
)
def test_damaged_file_is_a_sentence(content, said, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_checkpoint(str(tmp_path / "file.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, torch.zeros(3)])
def test_file_without_named_weights_says_what_it_holds(content, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UserError, match="Choose"):
        read_checkpoint(str(tmp_path / "file.pth"))


def test_absent_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_checkpoint(str(tmp_path / "none.pth"))
