"""Model files: what goes in comes out, and nothing is unpickled."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from rsfm import model_file
from rsfm.errors import UserError
from rsfm.model_file import Card, build_encoder
from rsfm.raster.statistics import Statistics
from safetensors.torch import save_file


def statistics(bands: int) -> Statistics:
    return Statistics(
        mean=(1.0,) * bands, std=(2.0,) * bands, low=(0.0,) * bands, high=(9.0,) * bands, count=(10,) * bands
    )


@pytest.mark.parametrize("bands", [1, 4, 13])
def test_encoder_comes_back_bit_for_bit(tmp_path, bands):
    encoder = build_encoder({"name": "conv_small"}, bands).eval()
    card = Card(bands=bands, statistics=statistics(bands), gsd=10, encoder={"name": "conv_small"}, title="an encoder")
    model_file.save(tmp_path / "model.safetensors", card, model_file.parts(encoder=encoder))
    loaded = model_file.load(str(tmp_path / "model.safetensors"))
    assert loaded.card == card
    pixels = torch.randn(2, bands, 64, 64)
    assert torch.equal(loaded.encoder().embedding(pixels), encoder.embedding(pixels))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_model_of_before_errors_were_stated_still_loads(tmp_path):
    old = {"mean": [1.0], "std": [2.0], "low": [0.0], "high": [9.0], "count": [10]}
    card = Card(bands=1, statistics=statistics(1), gsd=10).model_dump() | {"statistics": old}
    save_file({"a": torch.zeros(1)}, tmp_path / "old.safetensors", metadata={"rsfm": json.dumps(card)})
    found = model_file.load(str(tmp_path / "old.safetensors")).card.statistics
    assert found == statistics(1)
    assert "not known" in found.how


class Attack:
    def __reduce__(self):
        return (Path.touch, (Path("attacked"),))


def test_hostile_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UserError, match="not an RSFM model"):
        model_file.load(str(tmp_path / "model.safetensors"))
    assert not (tmp_path / "attacked").exists()


def test_missing_foreign_and_later_files_are_sentences(tmp_path):
    with pytest.raises(UserError, match="no model file"):
        model_file.load(str(tmp_path / "none.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="not an RSFM model"):
        model_file.load(str(tmp_path / "foreign.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "later.safetensors", metadata={"rsfm": '{"format": 99}'})
    with pytest.raises(UserError, match="Update"):
        model_file.load(str(tmp_path / "later.safetensors"))


def test_encoder_without_head_says_which_model_is_needed(tmp_path):
    card = Card(bands=2, statistics=statistics(2), gsd=10, encoder={"name": "conv_small"})
    with pytest.raises(UserError, match="fine-tuning"):
        model_file.Model(card, {}).head(192)
