"""The weighted vote of the nearest neighbours against facebookresearch/dino's evaluation, whose lines SatDINO uses too.

Shape letters: N training features, M features asked for, D width, J neighbours, K classes.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.neighbours import find_nearest, neighbour_votes, ranked
from rsfm.golden import Case, Check, Golden, compare

SETTING = r"k(\d+)_T([\d.]+)"
PERCENT = {"atol": 1e-6}


class Knn(Golden):
    name = "knn"

    def checks(self, case: Case) -> Iterator[Check]:
        train_ND, asked_MD = case.tensor("train_features_raw"), case.tensor("test_features_raw")
        yield from case.check("train_features", functional.normalize(train_ND, dim=1), atol=1e-6)
        yield from case.check("test_features", functional.normalize(asked_MD, dim=1), atol=1e-6)
        yield from check_nearest(case, train_ND, asked_MD)
        for name in case.arrays:
            if setting := re.fullmatch(rf"(votes|pred)_{SETTING}", name):
                votes_MK = votes(case, int(setting[2]), float(setting[3]))
                if setting[1] == "votes":
                    yield from case.check(name, votes_MK, rtol=1e-4)
                else:
                    yield from case.check(name, ranked(votes_MK)[:, 0])
        for name in case.config.get("results", {}):
            yield from check_result(case, name)


def check_nearest(case: Case, train_ND: Tensor, asked_MD: Tensor) -> Iterator[Check]:
    """Compare which features are the nearest, and how near; named nn_idx_kJ and nn_sim_kJ."""
    for name in case.arrays:
        if found := re.fullmatch(r"nn_(idx|sim)_k(\d+)", name):
            cosine_MJ, nearest_MJ = find_nearest(train_ND, asked_MD, int(found[2]))
            if found[1] == "idx":
                yield from case.check(name, nearest_MJ)
            else:
                yield from case.check(name, cosine_MJ, rtol=1e-4, atol=1e-6)


def check_result(case: Case, name: str) -> Iterator[Check]:
    """Compare the shares of right answers; where the authors' code fails for few windows, ours must answer alike."""
    result = case.config["results"][name]
    if setting := re.fullmatch(SETTING, name):
        ranked_MK = ranked(votes(case, int(setting[1]), float(setting[2])))
        right_MK = ranked_MK == case.tensor("test_labels").long()[:, None]
        for count, top in ((1, "top1"), (min(5, int(setting[1])), "top5")):
            share = 100.0 * float(right_MK[:, :count].double().sum()) / len(right_MK)
            yield compare(f"{name} {top}", share, result[top], rtol=0, **PERCENT)
    elif few := re.fullmatch(r"n_test_(\d+)", name):
        for count in (int(few[1]), 1):
            whole_M, part_M = (ranked(votes(case, 20, 0.07, end))[:count, 0] for end in (None, count))
            yield compare(f"{count} windows alone", part_M, whole_M, 0, 0)


@torch.no_grad()
def votes(case: Case, neighbours: int, temperature: float, end: int | None = None) -> Tensor:
    """Return votes_MK of the first features asked for."""
    labels_N = case.tensor("train_labels").long()
    classes = case.config.get("num_classes") or int(labels_N.max()) + 1
    train_ND, asked_MD = case.tensor("train_features_raw"), case.tensor("test_features_raw")[:end]
    return neighbour_votes(train_ND, labels_N, asked_MD, neighbours, classes, temperature)
