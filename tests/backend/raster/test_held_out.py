"""Points and boxes agree on which ground is held out."""

import numpy as np
import pytest
from rsfm.raster.fingerprint import PIECE, fingerprint
from rsfm.raster.held_out import HeldOut


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_points_are_held_out_where_boxes_around_them_are(share):
    held_out = HeldOut(share, 3000, seed=3)
    random = np.random.default_rng(0)
    longitude_P, latitude_P = random.uniform(-180, 180, 400), random.uniform(-89, 89, 400)
    expected_P = [held_out.touches((x, y, x, y)) for x, y in zip(longitude_P, latitude_P, strict=True)]
    assert held_out.holds(longitude_P, latitude_P).tolist() == expected_P
    assert abs(np.mean(expected_P) - share) < 0.1


def test_a_mark_tells_files_apart_that_differ_at_the_start_the_end_or_in_size(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 5 * PIECE, np.uint8)
    marks = []
    for number, place in enumerate([None, 0, 2 * PIECE + PIECE // 2 + 5, -1]):
        changed = content.copy()
        if place is not None:
            changed[place] ^= 1
        (tmp_path / f"{number}").write_bytes(changed.tobytes())
        marks.append(fingerprint(str(tmp_path / f"{number}"))["digest"])
    (tmp_path / "short").write_bytes(content[:-1].tobytes())
    (tmp_path / "same").write_bytes(content.tobytes())
    marks.append(fingerprint(str(tmp_path / "short"))["digest"])
    assert len(set(marks)) == 5
    assert fingerprint(str(tmp_path / "same"))["digest"] == marks[0]
    assert fingerprint("/vsicurl/nothing.tif") == {}
