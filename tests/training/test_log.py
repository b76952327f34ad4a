from __future__ import annotations

import csv
import math
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvkit import training
from cvkit._errors import CheckpointError
from cvkit.training.log import progress_bar, row_from_text, row_to_text

NAMES = st.text(min_size=1, max_size=6).filter(lambda name: "\0" not in name and "\r" not in name)
ROWS = st.lists(st.dictionaries(NAMES, st.floats() | st.integers(), min_size=1, max_size=4), max_size=6)


def same(a, b):
    return len(a) == len(b) and all(repr(x) == repr(y) for x, y in zip(a, b, strict=True))


@given(ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_exactly(tmp_path, rows):
    path = tmp_path / "log.csv"
    path.unlink(missing_ok=True)
    log = training.CsvLog(path)
    for row in rows:
        log.append(row)
    again = training.CsvLog(path)
    again.load()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    assert same(again.rows, [{name: row[name] for name in columns if name in row} for row in rows])
    assert same([row_from_text(row_to_text(row)) for row in rows], rows)


def test_the_file_is_plain_csv_and_grows_row_by_row(tmp_path):
    log = training.CsvLog(tmp_path / "log.csv")
    log.append({"step": 10, "loss": 0.1 + 0.2})
    log.append({"step": 20, "loss": math.nan})
    assert (tmp_path / "log.csv").read_text() == "step,loss\n10,0.30000000000000004\n20,nan\n"
    log.append({"step": 30, "accuracy": 0.5})
    with (tmp_path / "log.csv").open(newline="") as file:
        assert next(iter(csv.reader(file))) == ["step", "loss", "accuracy"]
    assert (tmp_path / "log.csv").read_text().endswith("30,,0.5\n")


def test_cutting_takes_rows_and_their_columns_back(tmp_path):
    log = training.CsvLog(tmp_path / "log.csv")
    for row in ({"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}, {"step": 3, "b": 3.0}):
        log.append(row)
    log.cut(2, last={"step": 2, "a": 9.0})
    assert (tmp_path / "log.csv").read_text() == "step,a\n1,1.0\n2,9.0\n"
    log.cut(0)
    assert (tmp_path / "log.csv").read_text() == ""
    log.cut(5, last={"step": 1})
    assert log.rows == []


@pytest.mark.parametrize("torn", ["3,", "3,0.", "3,1.0,7.0\n", "3\n", "x,1.0\n", ""])
def test_a_row_torn_by_a_killed_process_is_left_out(tmp_path, torn):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,0.5\n2,0.25\n" + torn)
    log = training.CsvLog(path)
    log.load()
    assert log.rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]


def test_loading_no_file_gives_no_rows(tmp_path):
    log = training.CsvLog(tmp_path / "log.csv")
    log.load()
    assert log.rows == []


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.integers(0, 20))
def test_means_do_not_depend_on_where_a_run_is_cut(values, cut):
    world = training.World()
    whole, first, second = training.Means(), training.Means(), training.Means()
    for value in values:
        whole.add({"loss": torch.tensor(value), "rate": value})
    for value in values[:cut]:
        first.add({"loss": torch.tensor(value), "rate": value})
    second.restore(first.reduce(world))
    for value in values[cut:]:
        second.add({"loss": torch.tensor(value), "rate": value})
    expected = math.fsum(values) / len(values)
    assert whole.read(world) == second.read(world) == {"loss": expected, "rate": expected}
    assert whole.read(world) == {}


def test_means_copy_what_they_hold_and_let_the_graph_go():
    means = training.Means()
    value = torch.ones(1, requires_grad=True)
    metric = (value * 2).sum()
    means.add({"a": metric})
    running = torch.zeros(())
    for _ in range(2):
        running += 1
        means.add({"b": running})
    assert not means._held["a"][0].requires_grad
    assert means.read(training.World()) == {"a": 2.0, "b": 1.5}


def test_metrics_that_come_now_and_then_are_averaged_over_their_own_steps():
    means = training.Means()
    for step in range(4):
        means.add({"loss": float(step), **({"penalty": torch.tensor(10.0 * step)} if step % 2 else {})})
    assert means.read(training.World()) == {"loss": 1.5, "penalty": 20.0}


def test_the_bar_is_silent_where_no_terminal_is(capsys):
    with progress_bar(3, 1, shown=True) as bar:
        bar.update()
        bar.set_postfix({"loss": "1"}, refresh=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shown", [True, False])
def test_the_bar_shows_rate_and_time_left_on_a_terminal(capsys, monkeypatch, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(10, 2, shown=shown) as bar:
        bar.update(3)
        bar.refresh()
    text = capsys.readouterr().err
    assert ("5/10" in text and "step/s" in text and "<" in text) if shown else text == ""


def test_tensorboard_writes_events_or_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"cvkit-torch\[tensorboard\]"):
        training.tensorboard_writer(tmp_path)


def test_tensorboard_events_hold_the_rows(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write = training.tensorboard_writer(tmp_path)
    write({"step": 5, "images": 50, "loss": 0.5})
    write({"step": 10, "images": 100, "loss": 0.25})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 0.5), (10, 0.25)]
    assert set(events.Tags()["scalars"]) == {"images", "loss"}


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_log_that_cannot_be_written_is_named(tmp_path, rewritten):
    log = training.CsvLog(tmp_path / "log.csv")
    log.append({"step": 1})
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(CheckpointError, match=r"log\.csv: can't be written"):
        log.append({"step": 2, **({"loss": 1.0} if rewritten else {})})


def test_numbers_on_the_device_are_read_in_one_go():
    reads = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function in {torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.__float__, torch.Tensor.cpu}:
                reads.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    means = training.Means()
    for _ in range(5):
        means.add({"a": torch.ones(()).as_subclass(Watched), "b": torch.zeros(()).as_subclass(Watched), "c": 2.0})
    assert means.read(training.World()) == {"a": 1.0, "b": 0.0, "c": 2.0}
    assert len(reads) == 1
