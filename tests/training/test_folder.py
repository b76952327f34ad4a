from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cvkit import training
from cvkit._errors import CheckpointError
from cvkit.training.folder import Folder, opened
from reference.training_problems import digests, gan_fit, gan_state, line_state

LONGEST = 16
REFERENCE = {}


def reference():
    """Digests and log of unbroken runs of every length, made once."""
    if not REFERENCE:
        for steps in range(1, LONGEST + 1):
            with tempfile.TemporaryDirectory() as folder:
                gan_fit(folder, steps)
                REFERENCE[steps] = digests(folder), (Path(folder) / "log.csv").read_text()
    return REFERENCE


class Killed(BaseException):
    """Stands for SIGKILL: nothing that tidies up after errors sees it."""


@contextmanager
def killed_after(count):
    """Let the process die at the `count`-th time that it flushes or renames a file."""
    left = [count]
    fsync, rename = os.fsync, Path.rename

    def tick():
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    def dying_fsync(handle):
        tick()
        return fsync(handle)

    def dying_rename(path, target):
        tick()
        return rename(path, target)

    with mock.patch("os.fsync", dying_fsync), mock.patch.object(Path, "rename", dying_rename):
        yield


class Survival(RuleBasedStateMachine):
    """Train, kill, corrupt and resume in any order: whatever comes back is what an unbroken run had at that step."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.done = 0  # the step of the newest checkpoint
        reference()

    def newest(self):
        return training.checkpoints(self.folder)[-1]

    @rule(more=st.integers(1, 4))
    def train(self, more):
        steps = min(self.done + more, LONGEST)
        run = gan_fit(self.folder, steps, keep=2)
        self.done = run.step
        assert run.finished
        assert run.step == steps
        files, log = reference()[steps]
        assert digests(self.folder) == files
        assert (self.folder / "log.csv").read_text() == log

    @rule(more=st.integers(1, 6), moment=st.integers(0, 60))
    def kill(self, more, moment):
        try:
            with killed_after(moment):
                gan_fit(self.folder, min(self.done + more, LONGEST), keep=2)
        except Killed:
            pass
        found = training.checkpoints(self.folder)
        assert len(list(self.folder.glob(".tmp-*"))) <= 1
        step = int(found[-1].name[5:]) if found else 0
        assert step >= self.done
        self.done = step

    @precondition(lambda self: self.done > 0)
    @rule(data=st.data())
    def corrupt(self, data):
        path = self.newest()
        file = data.draw(st.sampled_from(sorted(path.iterdir())))
        content = bytearray(file.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        # Another length than that of the checkpoint: a finished run need not be read whole.
        with pytest.raises(CheckpointError) as caught:
            gan_fit(self.folder, LONGEST + 1)
        assert str(path) in str(caught.value)
        shutil.rmtree(path)  # what the message asks for
        found = training.checkpoints(self.folder)
        self.done = int(found[-1].name[5:]) if found else 0

    @precondition(lambda self: self.done > 0)
    @rule(keep=st.floats(0, 1, exclude_max=True), data=st.data())
    def truncate(self, keep, data):
        path = self.newest()
        file = data.draw(st.sampled_from(sorted(path.iterdir())))
        content = file.read_bytes()
        file.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(CheckpointError) as caught:
            gan_fit(self.folder, LONGEST + 1)
        assert str(path) in str(caught.value)
        shutil.rmtree(path)
        found = training.checkpoints(self.folder)
        self.done = int(found[-1].name[5:]) if found else 0

    @rule(name=st.sampled_from(["step-00000099", ".tmp-999999999", "step-00000001.bak", "step-x"]))
    def litter(self, name):
        (self.folder / name).mkdir(exist_ok=True)

    @invariant()
    def newest_is_whole(self):
        if self.done:
            state = gan_state()
            training.restore(state, self.folder)
            assert state.step == self.done

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestSurvival = Survival.TestCase
TestSurvival.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
TestSurvival.pytestmark = [pytest.mark.slow]


def test_other_processes_hold_no_lock_and_make_no_folder(tmp_path):
    with opened(tmp_path / "new", training.World(1, 2), {}) as folder:
        assert isinstance(folder, Folder)
    assert not (tmp_path / "new").exists()


def test_one_process_of_several_cannot_save_alone(tmp_path):
    state = line_state(world=training.World(0, 2))
    state.step = 3
    with opened(tmp_path, training.World(0, 2), {}) as folder:
        folder.save_alone(state)
    assert training.checkpoints(tmp_path) == []


def test_a_step_is_saved_once(tmp_path):
    state = line_state()
    state.step = 3
    with opened(tmp_path, training.World(), {}) as folder:
        folder.save(state)
        inode = training.find_checkpoint(tmp_path).stat().st_ino
        folder.save(state)
        assert training.find_checkpoint(tmp_path).stat().st_ino == inode


def test_temporaries_of_any_process_go_when_the_folder_is_locked(tmp_path):
    (tmp_path / f".tmp-{os.getppid()}").mkdir()
    with opened(tmp_path, training.World(), {}):
        assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("stored", "own", "words"),
    [
        ({"a": {}}, {"a": {"b": 1}}, r"a = \{\}, now '\(nothing\)'"),
        ({"a": [1, 2]}, {"a": [1, 3]}, r"a = \[1, 2\], now \[1, 3\]"),
        ({"a": None}, {}, r"a = None, now '\(nothing\)'"),
    ],
)
def test_odd_fingerprints_are_compared_too(tmp_path, stored, own, words):
    state = line_state()
    state.step = 1
    with opened(tmp_path, training.World(), stored) as folder:
        folder.save(state)
    with opened(tmp_path, training.World(), own) as folder, pytest.raises(CheckpointError, match=words):
        folder.resume(line_state(), "auto", (), steps=2)


def test_a_run_document_of_others_is_refused(tmp_path):
    state = line_state()
    training.save_checkpoint(tmp_path, state, documents={"run": {"fingerprint": 3}})
    with opened(tmp_path, training.World(), {}) as folder, pytest.raises(CheckpointError, match=r"run\.json"):
        folder.resume(line_state(), "auto", (), steps=2)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CheckpointError, match="can't be the folder of a run"),
        opened(tmp_path / place, training.World(), {}),
    ):
        pass


def test_tuples_in_a_fingerprint_are_no_change(tmp_path):
    fingerprint = {"preset": {"betas": (0.0, 0.9), 3: "three"}}
    state = line_state()
    state.step = 1
    with opened(tmp_path, training.World(), fingerprint) as folder:
        folder.save(state)
    with opened(tmp_path, training.World(), fingerprint) as folder:
        folder.resume(line_state(), "auto", (), steps=2)


@pytest.mark.parametrize(("value", "error"), [({"a": {1}}, TypeError), ({"a": float("inf")}, ValueError)])
def test_what_json_cannot_hold_is_refused_before_the_first_step(tmp_path, value, error):
    for options in ({"fingerprint": value}, {"fingerprint": {}, "meta": value}):
        name = "meta" if "meta" in options else "fingerprint"
        with pytest.raises(error, match=f"`{name}` must be"), opened(tmp_path, training.World(), **options):
            pass
