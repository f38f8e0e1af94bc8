"""The live chart: what was told is drawn, in few points, quickly, whatever the run's history."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from qgis.PyQt.QtCore import QEvent, QPointF, Qt
from qgis.PyQt.QtGui import QColor, QMouseEvent, QPalette
from qgis.PyQt.QtTest import QTest

from rsfm_qgis.curves import AT_ONCE_BYTES, MOST_POINTS, Curve, CurveReader, Point
from rsfm_qgis.gui.axis import Axis, score_axis, value_axis, write
from rsfm_qgis.gui.chart import Chart, Line
from rsfm_qgis.gui.chart_card import ChartCard
from rsfm_qgis.gui.chart_place import ChartPlace
from rsfm_qgis.gui.run_strip import RunStrip
from rsfm_qgis.runs import RunState

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def tell(folder, *events):
    """Append events, each (seconds, type, fields)."""
    folder.mkdir(exist_ok=True)
    with open(folder / "events.jsonl", "a") as file:
        for seconds, type, fields in events:
            moment = (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
            file.write(json.dumps({"time": moment, "type": type, **fields}) + "\n")


def metric(seconds, name, step, value):
    return seconds, "metric", {"name": name, "step": step, "value": value}


def read_all(reader):
    while reader.read():
        pass
    return {name: curve.points() for name, curve in reader.curves.items()}


@pytest.mark.parametrize("count", [1, 499, 500, 501, 7777, 100_000])
def test_a_curve_of_any_length_has_few_points_its_ends_and_its_mean(count):
    curve = Curve()
    for step in range(count):
        curve.add(Point(step, step / 60, float(step % 10)))
    points = curve.points()
    assert min(count, MOST_POINTS // 2) <= len(points) <= MOST_POINTS
    assert points[-1].step == count - 1
    assert [point.step for point in points] == sorted({point.step for point in points})
    if count > 1000:
        assert sum(point.value for point in points) / len(points) == pytest.approx(4.5, abs=0.1)


def test_minutes_leave_out_the_night_in_which_a_run_was_stopped_and_steps_done_twice_count_once(tmp_path):
    folder = tmp_path / "run"
    tell(folder, (0, "device", {"name": "cpu"}), *[metric(step * 6, "loss", step, 10 - step) for step in range(1, 6)])
    tell(folder, (30, "done", {"state": "lost"}), (40000, "device", {"name": "cpu"}))
    tell(folder, *[metric(40000 + (step - 3) * 6, "loss", step, 20 - step) for step in range(4, 8)])
    (points,) = read_all(CurveReader(folder)).values()
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6, 7]
    assert [point.value for point in points] == [9, 8, 7, 16, 15, 14, 13]
    assert points[-1].minutes == pytest.approx((30 + 24) / 60)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    tell(tmp_path, metric(1, "loss", 1, 3.0))
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"time": "2026-01-01T00:00:02+00:00", "type": "metric", "name": "lo')
    reader = CurveReader(tmp_path)
    assert len(read_all(reader)["loss"]) == 1
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('ss", "step": 2, "value": 4.0}\n')
    assert [point.value for point in read_all(reader)["loss"]] == [3.0, 4.0]


def test_a_long_history_is_read_in_pieces_that_hold_nothing_up(tmp_path):
    tell(tmp_path, *[metric(step, name, step, 1.0) for step in range(20_000) for name in ("loss", "top1")])
    reader, spent, pieces = CurveReader(tmp_path), [], 0
    while True:
        began = time.thread_time()
        more = reader.read()
        spent.append(time.thread_time() - began)
        pieces += 1
        if not more:
            break
    assert pieces > (tmp_path / "events.jsonl").stat().st_size // AT_ONCE_BYTES
    assert max(spent) < 0.05
    assert reader.curves["loss"].points()[-1].step == 19_999


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.001, 0.0012), (-5, 3), (1e-6, 1e6), (7, 7.0001), (2, 90_000)])
def test_ticks_are_few_round_and_within_the_axis(low, high):
    for axis in (Axis(low, high), *([Axis(low, high, True)] if low > 0 and high > 20 * low else [])):
        for most in (2, 3, 5, 8):
            found = axis.ticks(most)
            assert len(found) <= most
            assert found == sorted(found)
            assert all(-1e-6 <= axis.share(tick) <= 1 + 1e-6 for tick in found)
        assert axis.ticks(5)


def test_a_loss_over_decades_gets_a_logarithm_and_scores_are_tenths():
    assert value_axis([1000.0, 3.0]).is_log
    assert not value_axis([9.0, 3.0]).is_log
    assert not value_axis([0.0, -100.0]).is_log
    assert value_axis([5.0]).low < 5 < value_axis([5.0]).high
    assert score_axis([0.83, 0.91]) == Axis(0.8, 1.0)
    assert score_axis([0.5]) == Axis(0.3, 0.5)
    assert score_axis([0.0, 0.05]) == Axis(0, 0.2)


def test_numbers_are_written_with_the_digits_they_need():
    assert [write(tick, Axis(0, 20_000)) for tick in (0, 5000)] == ["0", "5,000"]
    assert [write(tick, Axis(0.8, 1)) for tick in (0.8, 0.85, 1.0)] == ["0.8", "0.85", "1"]
    assert write(3.14159) == "3.14"


def line(count=100, **more):
    return Line("Loss", [Point(step, step / 10, 5 - step / count) for step in range(count)], 0, **more)


def colours(widget, colour, tolerance=40):
    """Count the pixels of a colour in a picture of a widget."""
    image, wanted = widget.grab().toImage(), QColor(colour)
    close = 0
    for y in range(image.height()):
        for x in range(image.width()):
            pixel = image.pixelColor(x, y)
            near = (
                abs(pixel.red() - wanted.red()),
                abs(pixel.green() - wanted.green()),
                abs(pixel.blue() - wanted.blue()),
            )
            close += max(near) < tolerance
    return close


def test_lines_and_scores_are_drawn_at_300_pixels_in_bright_and_dark(qgis_app):
    chart = Chart()
    chart.resize(300, 170)
    score = Line("Nearest neighbours", [Point(0, 0, 0.5), Point(99, 9.9, 0.9)], 2, True, 0.7)
    chart.show_lines([line(), score], False)
    assert colours(chart, "#0072b2") > 150
    assert colours(chart, "#009e73") > 150
    palette = QPalette(QColor("#2b2b2b"), QColor("#1e1e1e"))
    chart.setPalette(palette)
    assert colours(chart, "#56b4e9") > 150
    assert colours(chart, "#0072b2") < 50
    palette.setColor(QPalette.ColorRole.WindowText, QColor("#000000"))  # as QGIS's own dark theme has it
    chart.setPalette(palette)
    assert colours(chart, "#d0d0d0") > 100


def test_what_is_under_the_pointer_is_read_off(qgis_app):
    chart = Chart()
    chart.resize(300, 170)
    few = Line("Linear probe", [Point(10, 1, 0.5), Point(90, 9, 0.9)], 3, True)
    chart.show_lines([line(), few], False)
    assert [point.step for _, point in chart.values_at(63)] == [63, 90]
    assert [point.step for _, point in chart.values_at(-5)] == [0, 10]
    chart.by_minutes = True
    assert [point.step for _, point in chart.values_at(3.04)] == [30, 10]
    before = chart.grab().toImage()
    none, place = Qt.MouseButton.NoButton, QPointF(150, 80)
    move = QMouseEvent(QEvent.Type.MouseMove, place, none, none, Qt.KeyboardModifier.NoModifier)
    chart.mouseMoveEvent(move)
    assert chart.grab().toImage() != before
    chart.leaveEvent(QEvent(QEvent.Type.Leave))
    assert chart.grab().toImage() == before


def test_painting_is_quick(qgis_app):
    chart = Chart()
    chart.resize(1200, 500)
    chart.show_lines([line(500), line(500, is_score=True), line(500, is_score=True), line(500)], False)
    chart.grab()
    began = time.thread_time()
    chart.grab()
    assert time.thread_time() - began < 0.05


def shown(card):
    return {each.title: [point.value for point in each.points] for each in card.chart.lines}


@pytest.fixture
def card(qgis_app):
    made = ChartCard()
    made.resize(300, 220)
    made.show()
    yield made
    made.set_live(False)
    made.close()


def test_the_chart_follows_a_run_as_it_writes(card, tmp_path, wait):
    folder = tmp_path / "run"
    tell(folder, metric(0, "probe_miou_pixels", 0, 0.6), metric(1, "loss", 1, 5.0), metric(1, "top1", 1, 0.1))
    card.follow(str(folder), "Pretrain")
    wait(lambda: shown(card) == {"Loss": [5.0]})
    tell(folder, metric(2, "loss", 2, 4.0), metric(2, "validation_loss", 2, 4.5), metric(2, "probe_miou", 2, 0.7))
    wait(lambda: len(shown(card)) == 3)
    assert shown(card) == {"Loss": [5.0, 4.0], "Loss on held-out ground": [4.5], "Linear probe": [0.7]}
    assert card.chart.lines[2].floor == 0.6
    assert [card.quantity.itemText(index) for index in range(card.quantity.count())] == ["Loss", "Views recognised"]
    card.quantity.setCurrentIndex(1)
    assert set(shown(card)) == {"Views recognised", "Linear probe"}
    card.minutes.setChecked(True)
    assert card.chart.by_minutes
    card.set_live(False)
    tell(folder, metric(3, "top1", 3, 0.3))
    card.set_live(False)  # what was written last is read all the same
    wait(lambda: shown(card)["Views recognised"] == [0.1, 0.3])


def test_a_quantity_with_a_unit_is_drawn_with_it(card, tmp_path, wait):
    tell(tmp_path, metric(1, "loss", 1, 5.0), metric(1, "windows_per_second", 1, 546.0))
    card.follow(str(tmp_path), "Pretrain")
    wait(lambda: card.quantity.count() == 2)
    card.quantity.setCurrentIndex(1)
    assert shown(card) == {"Speed, windows a second": [546.0]}


def test_the_only_part_of_a_loss_is_not_offered_twice(card, tmp_path, wait):
    tell(tmp_path, metric(1, "loss", 1, 5.0), metric(1, "reconstruction", 1, 5.0))
    card.follow(str(tmp_path), "Pretrain")
    wait(lambda: shown(card))
    assert card.quantity.count() == 1
    assert not card.quantity.isVisible()


def test_a_live_run_brings_its_chart_to_its_page_and_a_closed_one_stays_closed(card, workspace, tmp_path, wait):
    page = ["pretrain"]
    place = ChartPlace(card, workspace.runs, lambda: page[0], card)
    folder = tmp_path / "run"
    tell(folder, metric(1, "loss", 1, 5.0))
    workspace.runs._runs[str(folder)] = RunState(str(folder), "pretrain", "Pretrain", "running")
    workspace.runs.changed.emit(str(folder))
    assert not card.isVisible()  # it has not reported a number
    (folder / "tensorboard").mkdir()
    workspace.runs.changed.emit(str(folder))
    assert card.isVisible()
    wait(lambda: shown(card) == {"Loss": [5.0]})
    page[0] = "map"
    place.choose()
    assert not card.isVisible()
    place.open(str(folder))
    assert card.isVisible()
    QTest.mouseClick(card.close_button, Qt.MouseButton.LeftButton)
    assert not card.isVisible()
    page[0] = "pretrain"
    place.choose()
    workspace.runs.changed.emit(str(folder))
    assert not card.isVisible()
    place.open(str(folder))
    ended = workspace.runs._runs[str(folder)]._replace(state="done")
    workspace.runs._runs[str(folder)] = ended
    workspace.runs.changed.emit(str(folder))
    assert card.isVisible()


def test_the_row_of_a_run_with_numbers_offers_its_chart(workspace, tmp_path):
    strip, asked = RunStrip(workspace.runs), []
    strip.wants_chart.connect(asked.append)
    for name in ("with", "without"):
        folder = str(tmp_path / name)
        tell(tmp_path / name)
        workspace.runs._runs[folder] = RunState(folder, "pretrain", name, "done")
    (tmp_path / "with" / "tensorboard").mkdir()
    strip.show_runs()
    assert strip.rows[str(tmp_path / "without")].chart.isHidden()
    button = strip.rows[str(tmp_path / "with")].chart
    assert not button.isHidden()
    button.click()
    assert asked == [str(tmp_path / "with")]
