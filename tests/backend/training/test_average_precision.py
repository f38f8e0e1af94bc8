"""AP50 by hand, and beside pycocotools where it is installed."""

import contextlib
import io

import numpy as np
import pytest
from rsfm.raster.boxes import make_boxes
from rsfm.training.average_precision import average_precision


def boxes(rows, scores=None, value=1):
    corners_N4 = np.array(rows, float).reshape(-1, 4)
    scores = np.ones(len(corners_N4)) if scores is None else np.array(scores)
    return make_boxes(corners_N4, scores, np.full(len(corners_N4), value))


TRUTH = [[0, 0, 10, 10], [20, 20, 30, 30]]


def test_all_found_is_one_none_found_is_nothing_and_no_truth_is_no_score():
    assert average_precision([boxes(TRUTH)], [boxes(TRUTH)], 1) == 1
    assert average_precision([boxes([])], [boxes(TRUTH)], 1) == 0
    assert average_precision([boxes(TRUTH)], [boxes([])], 1) is None
    assert average_precision([boxes(TRUTH, value=2)], [boxes(TRUTH)], 1) == 0


def test_one_of_two_found_after_a_false_one_is_a_quarter_over_half_of_the_recall():
    found = boxes([[50, 50, 60, 60], TRUTH[0]], [0.9, 0.8])
    assert average_precision([found], [boxes(TRUTH)], 1) == pytest.approx(51 * 0.5 / 101)


def test_a_second_box_on_one_object_is_false():
    found = boxes([TRUTH[0], [0, 0, 10, 9], TRUTH[1]], [0.9, 0.8, 0.7])
    assert average_precision([found], [boxes(TRUTH)], 1) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_overlap_of_less_than_a_half_is_false():
    assert average_precision([boxes([[0, 0, 10, 4.9]])], [boxes(TRUTH[:1])], 1) == 0
    assert average_precision([boxes([[0, 0, 10, 5]])], [boxes(TRUTH[:1])], 1) == 1


def slow(found, truth):
    """Precision at each of the 101 points of recall, counted anew at every threshold of the score."""
    everything = sorted({score for each in found for score in each["score"].tolist()}, reverse=True)
    points = []
    for threshold in everything:
        right = wrong = 0
        for ours, theirs in zip(found, truth, strict=True):
            left = [(row["left"], row["top"], row["right"], row["bottom"]) for row in theirs]
            for row in sorted((row for row in ours if row["score"] >= threshold), key=lambda row: -row["score"]):
                shares = [share(row, other) for other in left]
                if shares and max(shares) >= 0.5:
                    left.pop(shares.index(max(shares)))
                    right += 1
                else:
                    wrong += 1
        points.append((right / sum(map(len, truth)), right / (right + wrong)))
    return (
        sum(
            max((precision for recall, precision in points if recall >= point), default=0)
            for point in np.linspace(0, 1, 101)
        )
        / 101
    )


def share(row, other):
    wide = min(row["right"], other[2]) - max(row["left"], other[0])
    tall = min(row["bottom"], other[3]) - max(row["top"], other[1])
    if wide <= 0 or tall <= 0:
        return 0
    whole = (row["right"] - row["left"]) * (row["bottom"] - row["top"]) + (other[2] - other[0]) * (other[3] - other[1])
    return wide * tall / (whole - wide * tall)


def scene(seed):
    random = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(3):
        places = random.uniform(0, 80, (int(random.integers(1, 9)), 2))
        truth_M4 = np.concatenate([places, places + random.uniform(5, 20, places.shape)], axis=1)
        near_N4 = truth_M4[random.integers(len(truth_M4), size=12)] + random.normal(0, 2, (12, 4))
        near_N4[:, 2:] = np.maximum(near_N4[:, 2:], near_N4[:, :2] + 1)
        truth.append(boxes(truth_M4))
        found.append(boxes(near_N4, random.random(12)))
    return found, truth


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_a_slow_count_gives(seed):
    found, truth = scene(seed)
    assert average_precision(found, truth, 1) == pytest.approx(slow(found, truth), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_pycocotools_gives(seed):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    found, truth = scene(seed)

    def entries(parts):
        made = []
        for image, part in enumerate(parts):
            for row in part:
                box = [row["left"], row["top"], row["right"] - row["left"], row["bottom"] - row["top"]]
                made.append({"id": len(made) + 1, "image_id": image + 1, "category_id": 1, "bbox": box,
                             "area": box[2] * box[3], "iscrowd": 0, "score": float(row["score"])})  # fmt: skip
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco.COCO()
        images = [{"id": image + 1} for image in range(len(truth))]
        ground.dataset = {"images": images, "categories": [{"id": 1}], "annotations": entries(truth)}
        ground.createIndex()
        judge = COCOeval(ground, ground.loadRes(entries(found)), "bbox")
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"][0, :, 0, 0, 2].mean()
    assert average_precision(found, truth, 1) == pytest.approx(expected, abs=1e-9)
