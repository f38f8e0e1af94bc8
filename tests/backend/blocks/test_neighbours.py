import math

import pytest
import torch
from rsfm.blocks import neighbours
from rsfm.blocks.neighbours import neighbour_votes


@pytest.mark.parametrize("count", [1, 3, 7, 50])
@pytest.mark.parametrize("asked", [1, 60, 250])
def test_dino_14_votes_are_the_weights_of_the_nearest_for_any_number_asked_and_any_k(count, asked, monkeypatch):
    monkeypatch.setattr(neighbours, "AT_ONCE", 64)
    train, labels = torch.randn(40, 5), torch.randint(3, (40,))
    wanted = torch.randn(asked, 5)
    votes = neighbour_votes(train, labels, wanted, count, 3, 0.1)
    for row in (0, asked // 2, asked - 1):
        cosine = torch.cosine_similarity(train, wanted[row][None])
        expected = [0.0] * 3
        for place in cosine.argsort(descending=True)[:count].tolist():
            expected[int(labels[place])] += math.exp(cosine[place].item() / 0.1)
        assert votes[row].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-6)
