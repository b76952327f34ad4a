from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from cvkit import training
from cvkit._errors import CheckpointError, DataError
from cvkit.training import folder
from reference.training_problems import (
    digests,
    equal,
    fill,
    gan_batches,
    gan_fit,
    gan_state,
    gan_step,
    line_batches,
    line_state,
    line_step,
    snapshot,
)

STEPS = 11  # an epoch of 20 samples ends within step 4 (of 6 samples) and with step 10


def line_fit(out, steps, *, state=None, step=line_step, batches=line_batches, **options):
    state = state or line_state()
    options = {"log_every": 2, "checkpoint_every": 3, "progress": False, **options}
    return training.train(state, step, batches, model=state.modules["network"], out=out, steps=steps, **options)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    state = gan_state()
    run = gan_fit(out, STEPS, state=state)
    return out, digests(out), (out / "log.csv").read_text(), snapshot(state), run


# --- exact resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, STEPS + 1))
def test_a_run_cut_anywhere_equals_an_unbroken_one_bit_for_bit(tmp_path, unbroken, cut):
    gan_fit(tmp_path, cut)
    state = gan_state()
    fill(state.modules.values(), seed=5)  # whatever is in memory, the checkpoint counts
    run = gan_fit(tmp_path, STEPS, state=state)
    _, files, log, memory, reference = unbroken
    assert digests(tmp_path) == files
    assert (tmp_path / "log.csv").read_text() == log
    assert equal(snapshot(state), memory)
    assert run.history == reference.history


def test_a_run_cut_at_every_step_equals_an_unbroken_one(tmp_path, unbroken):
    for steps in range(1, STEPS + 1):
        gan_fit(tmp_path, steps)
    assert digests(tmp_path) == unbroken[1]
    assert (tmp_path / "log.csv").read_text() == unbroken[2]


@pytest.mark.parametrize("log_every", [1, 4, 100])
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_log_rows_do_not_depend_on_the_cut(tmp_path, log_every, cut):
    scores = {"evaluate": lambda state: {"score": state.images / 7}, "evaluate_every": 4}
    line_fit(tmp_path / "a", 9, log_every=log_every, **scores)
    line_fit(tmp_path / "b", cut, log_every=log_every, **scores)
    line_fit(tmp_path / "b", 9, log_every=log_every, **scores)
    assert (tmp_path / "a/log.csv").read_text() == (tmp_path / "b/log.csv").read_text()


def test_the_samples_seen_are_the_same_across_epochs_whatever_the_cut(tmp_path):
    def seen(cuts, out):
        samples = []

        def step(state, batch):
            samples.append(batch["index"].tolist())
            return gan_step(state, batch)

        for steps in cuts:
            data = training.InMemory({"index": torch.arange(20), "x": torch.zeros(20, 12)})
            batches = training.Sampled(training.ResumableSampler(20, 6), data)
            gan_fit(out, steps, step=step, batches=batches)
        return samples

    whole = seen([12], tmp_path / "whole")
    assert seen([5, 10, 12], tmp_path / "cut") == whole


@pytest.mark.slow
def test_workers_and_cuts_change_nothing(tmp_path):
    def fit(out, cuts, workers):
        for steps in cuts:
            batches = training.Loader(item, training.ResumableSampler(20, 6), workers=workers)
            gan_fit(out, steps, batches=batches)
        return digests(out)

    whole = fit(tmp_path / "a", [7], 0)
    assert fit(tmp_path / "b", [7], 2) == whole
    assert fit(tmp_path / "c", [3, 7], 2) == whole


def item(index, generator):
    return {"x": index / 20 + torch.randn(12, generator=generator)}


def test_a_loader_with_a_position_resumes_through_the_checkpoint(tmp_path):
    class Counter:
        """Batches that depend on the position alone."""

        def __init__(self):
            self.position = 0

        def __iter__(self):
            while True:
                self.position += 1
                yield torch.full((4, 3), self.position / 10), torch.ones(4, 1)

        def state_dict(self):
            return {"position": self.position}

        def load_state_dict(self, state):
            self.position = state["position"]

    def fit(out, cuts):
        for steps in cuts:
            state, loader = line_state(), Counter()
            state.schedules["loader"] = loader
            line_fit(out, steps, state=state, batches=training.Replayed(loader))
        return digests(out)

    assert fit(tmp_path / "a", [8]) == fit(tmp_path / "b", [3, 5, 8])


def test_a_foreign_loader_without_one_is_replayed(tmp_path):
    loader = [(torch.full((4, 3), float(i)), torch.ones(4, 1)) for i in range(3)]
    line_fit(tmp_path / "a", 8, batches=training.Replayed(loader))
    for steps in (4, 8):
        line_fit(tmp_path / "b", steps, batches=training.Replayed(loader))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_the_global_random_generator_is_neither_read_nor_moved(tmp_path):
    before = torch.get_rng_state()
    gan_fit(tmp_path / "a", 4)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    gan_fit(tmp_path / "b", 4)
    torch.set_rng_state(before)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def line_item(index, generator):
    x = index / 20 + torch.randn(3, generator=generator)
    return x, x.sum(0, keepdim=True)


def item_of_a_dying_worker(index, generator, *, bad):
    if index == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return item(index, generator)


# torch raises from its signal handler, at times while it opens files itself: those are then left to the collector.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.slow
@pytest.mark.fault("pytorch/pytorch#26072")
@leaves_files_open
def test_a_killed_worker_loses_no_step(tmp_path):
    order = training.ResumableSampler(20, 6, seed=3)
    bad = int(order.indices(2)[5])  # so that two batches are whole at least
    first = min(step for step in range(9) if bad in order.indices(step).tolist())
    dying = training.Loader(partial(item_of_a_dying_worker, bad=bad), order, workers=2, prefetch=1)
    with pytest.raises(DataError, match="a data-loading process died"):
        gan_fit(tmp_path / "a", 9, batches=dying, checkpoint_every=100)
    saved = training.checkpoints(tmp_path / "a")
    assert len(saved) == (first > 0)
    for out, steps in (("a", 9), ("b", 9)):
        gan_fit(tmp_path / out, steps, batches=training.Loader(item, order), checkpoint_every=100)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@pytest.mark.slow
@leaves_files_open
def test_a_worker_killed_during_a_step_loses_not_even_that_step(tmp_path):
    def step(state, batch):
        if state.step == 2:  # the workers are ahead by then
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(0.5)
        return line_step(state, batch)

    batches = training.Loader(line_item, training.ResumableSampler(20, 4, seed=3), workers=2)
    with pytest.raises(DataError, match="a data-loading process died"):
        line_fit(tmp_path / "a", 9, step=step, batches=batches, checkpoint_every=100)
    assert [path.name for path in training.checkpoints(tmp_path / "a")] == ["step-00000003"]


@pytest.mark.parametrize("cut", [2, 5])
def test_bfloat16_resumes_exactly_too(tmp_path, cut):
    def step(state, batch):
        with state.autocast():
            return line_step(state, batch)

    def fit(out, cuts):
        for steps in cuts:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where the processor emulates it
                state = line_state()
                state.precision = "bfloat16"
            line_fit(out, steps, state=state, step=step)
        return digests(out)

    whole = fit(tmp_path / "a", [8])
    assert fit(tmp_path / "b", [cut, 8]) == whole
    line_fit(tmp_path / "c", 8)
    assert digests(tmp_path / "c")["modules.network.safetensors"] != whole["modules.network.safetensors"]
    with pytest.raises(CheckpointError, match="precision = 'bfloat16', now 'float32'"):
        line_fit(tmp_path / "b", 9)


def test_everything_public_pickles(tmp_path):
    state = line_state()  # torch itself refuses networks with parametrisations
    state.averages["network"] = training.Average(state.modules["network"])
    run = line_fit(tmp_path, 2, state=state)
    record = next(training.iterate(line_state(), line_step, line_batches, steps=1))
    log, means = training.CsvLog(tmp_path / "log.csv"), training.Means()
    means.add({"a": torch.ones(())})
    bare = [gan_batches(), training.World(1, 2), training.StopRequest(2), training.probe_bfloat16()]
    update = training.Update(torch.ones(()), torch.ones(()))
    loaders = [training.Loader(item, training.ResumableSampler(3, 1)), training.Replayed([1])]
    things = [state, run, record, log, means, update, training.DivergenceError(1, "a", "b"), *bare, *loaders]
    copies = pickle.loads(pickle.dumps(things))
    assert [type(copy) for copy in copies] == [type(thing) for thing in things]
    assert equal(snapshot(copies[0]), snapshot(state))


# --- what a folder may hold -------------------------------------------------------------------------------------------


def test_a_finished_run_returns_at_once(tmp_path, unbroken):
    def never(*_):
        raise AssertionError("no step and no batch is asked for")

    out, files, log, memory, reference = unbroken
    state = gan_state()
    run = gan_fit(out, STEPS, state=state, step=never, batches=never)
    assert (run.step, run.finished, run.history) == (STEPS, True, reference.history)
    assert equal(snapshot(state), memory)
    assert (digests(out), (out / "log.csv").read_text()) == (files, log)
    assert gan_fit(out, 2, step=never, batches=never).step == STEPS


def test_the_last_row_of_a_finished_run_is_made_up_for_if_it_was_lost(tmp_path):
    run = line_fit(tmp_path, 5)
    (tmp_path / "log.csv").write_text("".join((tmp_path / "log.csv").read_text().splitlines(keepends=True)[:-1]))
    assert line_fit(tmp_path, 5).history == run.history


def test_run_holds_model_history_and_folder(unbroken):
    out, _, _, _, run = unbroken
    assert run.directory == out
    assert isinstance(run.model, nn.Module)
    assert [row["step"] for row in run.history] == [3, 6, 9, 11]
    assert run.history[0]["images"] == 18
    assert pickle.loads(pickle.dumps(run)).history == run.history


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": {"preset": {"rate": 0.2}, "data": {"hash": "a"}}}, "preset.rate = 0.1, now 0.2"),
        ({"fingerprint": {"preset": {"rate": 0.1}, "data": {"hash": "b"}}}, "data.hash = 'a', now 'b'"),
        ({"fingerprint": {"preset": {"rate": 0.1}}}, r"data.hash = 'a', now '\(nothing\)'"),
        ({"state": {"seed": 1}}, "seed = 0, now 1"),
        ({"state": {"batch_size": 8}}, "batch_size = 4, now 8"),
    ],
)
def test_other_settings_or_data_are_refused_by_key_and_both_values(tmp_path, change, words):
    fingerprint = {"preset": {"rate": 0.1}, "data": {"hash": "a"}}
    line_fit(tmp_path, 2, fingerprint=fingerprint)
    before = digests(tmp_path)
    options = {"fingerprint": fingerprint, **change}
    state = line_state(**options.pop("state", {}))
    with pytest.raises(CheckpointError, match=f"step-00000002: made with {words}"):
        line_fit(tmp_path, 4, state=state, **options)
    assert digests(tmp_path) == before


def test_keys_that_may_change_may_change(tmp_path):
    line_fit(tmp_path, 2, fingerprint={"preset": {"rate": 0.1, "sheets": {"every": 5}}, "note": "a"})
    options = {"may_change": ["preset.sheets", "note"]}
    run = line_fit(tmp_path, 4, fingerprint={"preset": {"rate": 0.1, "sheets": {"every": 9}}}, log_every=1, **options)
    assert run.step == 4
    with pytest.raises(CheckpointError, match=r"preset\.rate"):
        line_fit(tmp_path, 6, fingerprint={"preset": {"rate": 0.2}}, **options)


def test_never_refuses_a_folder_with_a_run_and_require_one_without(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        line_fit(tmp_path, 2, resume="require")
    line_fit(tmp_path, 2, resume="never")
    with pytest.raises(CheckpointError, match="holds a run at step 2 already"):
        line_fit(tmp_path, 4, resume="never")
    assert line_fit(tmp_path, 4, resume="require").step == 4
    with pytest.raises(ValueError, match="`resume`"):
        line_fit(tmp_path, 4, resume="yes")


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_without_a_complete_checkpoint_starts_anew(tmp_path, resume):
    line_fit(tmp_path / "clean", 4)
    out = tmp_path / "odd"
    for name in ("step-00000003", ".tmp-1", "samples"):
        (out / name).mkdir(parents=True)
    (out / "step-00000003" / "state.json").write_text("{}")
    (out / "log.csv").write_text("step,loss\n2,0.5\n")
    line_fit(out, 4, resume=resume)
    assert (out / "log.csv").read_text() == (tmp_path / "clean/log.csv").read_text()
    assert digests(out) == digests(tmp_path / "clean")
    assert sorted(p.name for p in out.iterdir()) == [".lock", "log.csv", "samples", "step-00000003", "step-00000004"]


def test_a_damaged_checkpoint_ends_the_run_with_its_name(tmp_path):
    line_fit(tmp_path, 2)
    file = tmp_path / "step-00000002/modules.network.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"modules\.network\.safetensors"):
        line_fit(tmp_path, 4)


def test_checkpoints_of_other_writers_are_no_runs(tmp_path):
    training.save_checkpoint(tmp_path, line_state())
    with pytest.raises(CheckpointError, match=r"run\.json: not part of this checkpoint"):
        line_fit(tmp_path, 4)


def hold(path, ready, done):
    with folder.opened(path, training.World(), {}):
        ready.set()
        done.wait(30)


def test_a_second_writer_is_refused_and_a_stale_lock_never_blocks(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(CheckpointError, match="another process is training there"):
            line_fit(tmp_path, 2)
    finally:
        other.kill()
        other.join()
    assert (tmp_path / ".lock").exists()
    assert line_fit(tmp_path, 2).finished


def test_other_surroundings_are_warned_about(tmp_path, monkeypatch):
    line_fit(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line_fit(tmp_path, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.warns(UserWarning, match="won't be exact bit for bit: it had threads 1, now 7") as caught:
        line_fit(tmp_path, 4)
    assert caught[0].filename == __file__


# --- numbers gone bad -------------------------------------------------------------------------------------------------


def poisoned(at, *, log=2):
    def step(state, batch):
        loss = state.modules["network"](batch[0]).mean()
        return {"loss": training.update(state, "network", loss * (float("nan") if state.step == at else 1.0)).loss}

    return step


@pytest.mark.fault("kyutai-labs/pocket-tts#262")
def test_a_bad_number_stops_the_run_at_the_next_row_and_leaves_the_last_good_checkpoint(tmp_path):
    state = line_state()
    with pytest.raises(training.DivergenceError, match="step 7: the loss of network is not finite"):
        line_fit(tmp_path, 20, step=poisoned(7), state=state, log_every=4, checkpoint_every=1, keep=2)
    assert state.step == 8
    assert [p.name for p in training.checkpoints(tmp_path)] == ["step-00000006", "step-00000007"]
    for path in training.checkpoints(tmp_path):
        assert all(t.isfinite().all() for t in training.read_tensors(path, "modules.network").values())
    assert all(p.isfinite().all() for p in state.modules["network"].parameters())
    run = line_fit(tmp_path, 20, step=poisoned(-1), log_every=4, checkpoint_every=1)
    assert run.finished


def test_a_bad_number_is_found_before_a_checkpoint_and_at_the_end(tmp_path):
    for options in ({"checkpoint_every": 3}, {"checkpoint_every": 100}):
        out = tmp_path / str(options["checkpoint_every"])
        with pytest.raises(training.DivergenceError):
            line_fit(out, 6, step=poisoned(4), log_every=100, **options)
        assert all(p.name == "step-00000003" for p in training.checkpoints(out))


def test_a_monitor_names_a_verdict_and_ends_the_run(tmp_path):
    rows = []

    def monitor(state, row):
        rows.append(row)
        return "loss below a tenth" if state.step >= 6 else None

    with pytest.raises(training.DivergenceError, match="step 6: loss below a tenth") as caught:
        line_fit(tmp_path, 20, monitor=monitor)
    assert (caught.value.step, caught.value.where) == (6, "loss below a tenth")
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert training.find_checkpoint(tmp_path).name == "step-00000003"


def test_an_error_in_the_step_saves_nothing_more(tmp_path):
    def step(state, batch):
        if state.step == 4:
            raise RuntimeError("out of memory")
        return line_step(state, batch)

    with pytest.raises(RuntimeError, match="out of memory"):
        line_fit(tmp_path, 9, step=step)
    assert [p.name for p in training.checkpoints(tmp_path)] == ["step-00000003"]


# --- checkpoints, evaluation, log -------------------------------------------------------------------------------------


def test_the_last_step_is_always_saved_and_the_newest_are_kept(tmp_path):
    line_fit(tmp_path, 11, keep=3)
    assert [p.name for p in training.checkpoints(tmp_path)] == ["step-00000006", "step-00000009", "step-00000011"]


@pytest.mark.parametrize("kind", ["min", "max"])
def test_the_best_checkpoint_stays_too_also_across_cuts(tmp_path, kind):
    scores = [5.0, 3.0, 4.0, 1.0, 2.0, 2.5] if kind == "min" else [1.0, 3.0, 2.0, 5.0, 4.0, 4.5]

    def fit(out, steps):
        evaluate = lambda state: {"error": scores[state.step // 2 - 1]}  # noqa: E731
        options = {"evaluate": evaluate, "evaluate_every": 2, "best": ("error", kind), "keep": 1}
        return line_fit(out, steps, checkpoint_every=5, **options)

    fit(tmp_path / "a", 12)
    for steps in (3, 8, 10, 12):
        fit(tmp_path / "b", steps)
    for out in (tmp_path / "a", tmp_path / "b"):
        assert [p.name for p in training.checkpoints(out)] == ["step-00000008", "step-00000012"]


def test_scores_join_the_rows_and_the_last_step_is_always_scored(tmp_path):
    run = line_fit(tmp_path, 6, evaluate=lambda state: {"score": state.step})
    assert [row.get("score") for row in run.history] == [None, None, 6.0]
    assert "loss" in run.history[-1]
    run = line_fit(tmp_path, 9, evaluate=lambda state: {"score": state.step}, evaluate_every=4)
    assert [(row["step"], row.get("score")) for row in run.history] == [
        (2, None), (4, None), (6, None), (8, 8.0), (9, 9.0),
    ]  # fmt: skip


def test_evaluation_may_switch_modes_and_they_come_back(tmp_path):
    state = gan_state()
    state.modules["generator"][1].eval()  # a frozen normalisation
    modes = [m.training for net in state.modules.values() for m in net.modules()]

    def evaluate(state):
        for net in state.modules.values():
            net.eval()
        return {}

    gan_fit(tmp_path, 4, state=state, evaluate=evaluate, evaluate_every=2)
    assert [m.training for net in state.modules.values() for m in net.modules()] == modes


def test_writers_get_every_row(tmp_path):
    rows = []
    run = line_fit(tmp_path, 5, writers=[rows.append])
    assert tuple(rows) == run.history


def test_meta_is_stored_in_every_checkpoint(tmp_path):
    line_fit(tmp_path, 7, meta={"kind": "line"}, keep=9)
    assert [training.read_document(path) for path in training.checkpoints(tmp_path)] == [{"kind": "line"}] * 3


def test_metrics_may_be_numbers_or_tensors_and_change_from_step_to_step(tmp_path):
    def step(state, batch):
        line_step(state, batch)
        return {"rate": 0.5} if state.step % 2 else {"rate": torch.tensor(1.5), "extra": torch.tensor(2)}

    assert line_fit(tmp_path, 2, step=step).history == ({"step": 2, "images": 8, "rate": 1.0, "extra": 2.0},)


def test_nothing_waits_for_the_device_between_rows(tmp_path):
    """Metrics are read at rows only: their conversion to numbers is counted."""
    reads = []

    class Watched(torch.Tensor):
        def __float__(self):
            reads.append("float")
            return super().__float__()

        def item(self):
            reads.append("item")
            return super().item()

        def tolist(self):
            reads.append("tolist")
            return super().tolist()

    def step(state, batch):
        line_step(state, batch)
        return {"loss": torch.ones(()).as_subclass(Watched)}

    records = training.iterate(line_state(), step, line_batches, steps=3)
    held = list(records)
    assert not reads
    assert held[0].read() == {"loss": 1.0}
    assert reads


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_time_budget_stops_the_run_saved(tmp_path):
    def slow(state, batch):
        time.sleep(0.02)
        return line_step(state, batch)

    run = line_fit(tmp_path / "a", 10_000, step=slow, max_seconds=0.1, checkpoint_every=10_000)
    assert not run.finished
    assert 1 <= run.step < 100
    assert training.find_checkpoint(tmp_path / "a").name == f"step-{run.step:08d}"
    line_fit(tmp_path / "a", run.step + 3)
    line_fit(tmp_path / "b", run.step + 3)
    assert (
        digests(tmp_path / "a")["modules.network.safetensors"] == digests(tmp_path / "b")["modules.network.safetensors"]
    )
    with pytest.raises(ValueError, match="`max_seconds`"):
        line_fit(tmp_path / "a", 10_000, max_seconds=-1)


def test_a_budget_of_nothing_still_makes_a_step(tmp_path):
    assert line_fit(tmp_path, 5, max_seconds=0).step == 1


@pytest.mark.fault("UKGovernmentBEIS/inspect_ai#4864")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signals_finish_the_step_save_once_and_end(tmp_path, unbroken, number, error):
    saves = []

    def step(state, batch):
        if state.step == 4:
            signal.raise_signal(number)
        return gan_step(state, batch)

    before = signal.getsignal(number)
    with pytest.raises(error) as caught:
        gan_fit(tmp_path, STEPS, step=step, checkpoint_every=100)
    if number == signal.SIGTERM:
        assert caught.value.code == 143
    assert signal.getsignal(number) is before
    assert [p.name for p in training.checkpoints(tmp_path)] == ["step-00000005"]
    assert not saves
    gan_fit(tmp_path, STEPS)
    assert digests(tmp_path) == unbroken[1]
    assert (tmp_path / "log.csv").read_text() == unbroken[2]


def test_a_signal_at_the_last_step_still_ends_the_program(tmp_path):
    def step(state, batch):
        if state.step == 1:
            signal.raise_signal(signal.SIGINT)
        return line_step(state, batch)

    with pytest.raises(KeyboardInterrupt):
        line_fit(tmp_path, 2, step=step)
    assert line_fit(tmp_path, 2).finished


def test_runs_work_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=line_fit, args=(tmp_path, 3))
    thread.start()
    thread.join()
    assert training.find_checkpoint(tmp_path).name == "step-00000003"


def test_batches_that_end_or_fail_lose_no_step(tmp_path):
    def short(start):
        for _step, batch in zip(range(start, 5), line_batches(start), strict=False):
            yield batch

    with pytest.raises(DataError, match="the batches ended at step 5 of 9"):
        line_fit(tmp_path, 9, batches=short)
    assert training.find_checkpoint(tmp_path).name == "step-00000005"
    line_fit(tmp_path, 9)
    line_fit(tmp_path / "whole", 9)
    assert digests(tmp_path) == digests(tmp_path / "whole")


def test_data_that_fail_at_once_leave_no_checkpoint(tmp_path):
    with pytest.raises(DataError):
        line_fit(tmp_path, 9, batches=lambda start: iter([]))
    assert training.checkpoints(tmp_path) == []


def test_iterators_are_closed_even_after_errors(tmp_path):
    closed = []

    def batches(start):
        try:
            yield from line_batches(start)
        finally:
            closed.append(start)

    def failing(state, batch):
        raise RuntimeError

    line_fit(tmp_path / "a", 2, batches=batches)
    with contextlib.suppress(RuntimeError):
        line_fit(tmp_path / "b", 2, batches=batches, step=failing)
    assert closed == [0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "`steps`"),
        ({"checkpoint_every": 0}, "`checkpoint_every`"),
        ({"log_every": 0}, "`log_every`"),
        ({"keep": 0}, "`keep`"),
        ({"evaluate_every": 0}, "`evaluate_every`"),
        ({"best": ("loss", "least")}, r"`best\[1\]`"),
    ],
)
def test_bad_options_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        line_fit(tmp_path, **{"steps": 3, **options})


def test_a_best_metric_that_is_not_scored_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`best` names 'other'.*score"):
        line_fit(tmp_path, 4, evaluate=lambda state: {"score": 1.0}, evaluate_every=2, best=("other", "min"))


def test_the_bare_driver_yields_a_record_a_step():
    state = line_state()
    records = list(training.iterate(state, line_step, line_batches, steps=4))
    assert [(record.step, record.images) for record in records] == [(1, 4), (2, 8), (3, 12), (4, 16)]
    assert isinstance(records[0].metrics["loss"], torch.Tensor)
    assert list(training.iterate(state, line_step, line_batches, steps=4)) == []


def test_the_driver_is_short():
    import inspect

    lines = inspect.getsource(training.iterate).split('"""')[2].strip().splitlines()
    assert len(lines) < 100


# --- killed -----------------------------------------------------------------------------------------------------------


def fit_in_process(out, steps, slow):
    torch.set_num_threads(1)

    def step(state, batch):
        time.sleep(slow)
        return gan_step(state, batch)

    gan_fit(out, steps, step=step, checkpoint_every=2)


@pytest.mark.slow
@pytest.mark.fault("huggingface/transformers#27820")
def test_runs_killed_again_and_again_end_like_an_unbroken_one(tmp_path):
    context = multiprocessing.get_context("fork")
    steps, kills = 40, 0
    for attempt in range(60):
        process = context.Process(target=fit_in_process, args=(tmp_path / "killed", steps, 0.004))
        process.start()
        process.join(0.06 + 0.015 * (attempt % 7) + 0.01 * attempt)  # in the end one is let through
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert kills >= 3
    gan_fit(tmp_path / "whole", steps, checkpoint_every=2)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert (tmp_path / "killed/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()
    assert not list((tmp_path / "killed").glob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_from_outside_save_and_set_the_exit_code(tmp_path, number):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=fit_in_process, args=(tmp_path, 100_000, 0.002))
    process.start()
    deadline = time.monotonic() + 20
    while not training.checkpoints(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == (143 if number == signal.SIGTERM else 1)
    steps = training.find_checkpoint(tmp_path).name
    run = gan_fit(tmp_path, int(steps[5:]) + 2, checkpoint_every=2)
    gan_fit(tmp_path / "whole", run.step, checkpoint_every=2)
    assert digests(tmp_path) == digests(tmp_path / "whole")
