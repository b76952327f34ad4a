from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cvkit import training
from cvkit._errors import CheckpointError
from cvkit.training.checkpoint import digest
from reference.training_problems import equal, gan_batches, gan_state, gan_step, line_state, snapshot


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    state = gan_state()
    for _ in training.iterate(state, gan_step, gan_batches(), steps=2):
        pass
    folder = tmp_path_factory.mktemp("original")
    return training.save_checkpoint(folder, state, documents={"meta": {"kind": "gan"}})


FILES = [
    "averages.generator.safetensors",
    "manifest.json",
    "meta.json",
    "modules.discriminator.safetensors",
    "modules.generator.safetensors",
    "optimizers.discriminator.safetensors",
    "optimizers.generator.safetensors",
    "state.json",
    "tensors.safetensors",
]


def refused(path, name):
    """Restoring fails with one CheckpointError that names the file and leaves the state as it was."""
    state = gan_state()
    before = snapshot(state)
    with pytest.raises(CheckpointError) as caught:
        training.restore(state, path)
    assert str(path / name) in str(caught.value)
    assert equal(snapshot(state), before)
    assert state.step == 0
    return str(caught.value)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_found_and_its_file_named(original, tmp_path, data):
    name = data.draw(st.sampled_from(FILES))
    path = tmp_path / original.name
    shutil.copytree(original, path, dirs_exist_ok=True)
    content = bytearray((path / name).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    (path / name).write_bytes(content)
    state = gan_state()
    with pytest.raises(CheckpointError) as caught:
        training.restore(state, path)
    # A manifest whose flipped bit is in another file's name is told by either.
    assert str(path) in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_files_are_named(original, tmp_path, name, keep):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(keep * len(content))])
    refused(path, name)


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_missing_and_lengthened_and_foreign_files_are_named(original, tmp_path, name):
    for i, change in enumerate(
        (
            lambda file: file.unlink(),
            lambda file: file.write_bytes(file.read_bytes() + b"\0"),
            lambda file: file.write_bytes(b"PK\3\4 something else"),
            lambda file: (file.unlink(), file.mkdir()),
        )
    ):
        path = tmp_path / str(i) / original.name
        shutil.copytree(original, path)
        change(path / name)
        refused(path, name)


@pytest.mark.fault("pytorch/pytorch#163105")
@pytest.mark.parametrize("name", FILES)
def test_a_pickle_under_any_name_is_never_run(original, tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    path = tmp_path / original.name
    shutil.copytree(original, path)
    content = pickle.dumps(Bomb())
    (path / name).write_bytes(content)
    refused(path, name)
    if name == "meta.json":
        with pytest.raises(CheckpointError, match=r"meta\.json"):
            training.read_document(path)
    elif name != "manifest.json":
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(signed(path, manifest["body"])))
        refused(path, name)  # even where the manifest vouches for it
    assert not (tmp_path / "run").exists()


def signed(path, body):
    """Make a manifest that vouches for the files as they are."""
    import hashlib

    for name in body["files"]:
        content = (path / name).read_bytes()
        body["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"body": body, "sha256": digest(body)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "format version 2; this cvkit reads version 1"),
        ({"format": "other"}, "not the manifest of a cvkit checkpoint"),
        ({"step": 3}, "is of step 3, in a directory named step-00000002"),
    ],
)
def test_other_versions_formats_and_steps_are_refused(original, tmp_path, change, words):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    body = json.loads((path / "manifest.json").read_text())["body"] | change
    (path / "manifest.json").write_text(json.dumps({"body": body, "sha256": digest(body)}))
    assert words in refused(path, "manifest.json")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b'{"body": 3}', b"\xff\xfe", b"[" * 100_000])
def test_manifests_of_others_are_refused(original, tmp_path, content):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    (path / "manifest.json").write_bytes(content)
    refused(path, "manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head.pop("trees"),
        lambda head: head.pop("step"),
        lambda head: head.update(step="three"),
        lambda head: head["trees"].update({"modules.generator": {"$pairs": 1}}),
        lambda head: head["trees"].update({"modules.generator": {"a": {"$tensor": "none"}}}),
        lambda head: head["trees"].update({"optimizers.generator": {"state": {}}}),
        lambda head: head["trees"].update({"optimizers.generator": 5}),
        lambda head: head["trees"].update({"tensors": [1]}),
        lambda head: head.clear(),
    ],
)
def test_states_that_fit_their_manifest_but_not_the_format_are_refused(original, tmp_path, change):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    head = json.loads((path / "state.json").read_text())
    change(head)
    (path / "state.json").write_text(json.dumps(head))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(signed(path, manifest["body"])))
    state = gan_state()
    before = snapshot(state)
    with pytest.raises(CheckpointError, match=path.name):
        training.restore(state, path)
    assert equal(snapshot(state), before)


def test_a_manifest_with_odd_files_is_refused(original, tmp_path):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    body = json.loads((path / "manifest.json").read_text())["body"]
    for files in ([], {"state.json": 3}, {"../x": {"bytes": 1}}):
        odd = body | {"files": files}
        (path / "manifest.json").write_text(json.dumps({"body": odd, "sha256": digest(odd)}))
        refused(path, "manifest.json")


def test_other_networks_are_refused_before_anything_changes(original):
    def with_generator(module):
        state = gan_state()
        state.modules["generator"] = module
        return state

    def with_spare():
        state = gan_state()
        state.modules["spare"] = nn.Linear(1, 1)
        return state

    def with_fewer_parameters():
        state = gan_state()
        d = state.modules["discriminator"]
        state.optimizers["discriminator"] = torch.optim.Adam(d[3].parameters())
        return state

    cases = [
        (with_spare(), "parts that differ: modules.spare"),
        (with_generator(nn.Linear(4, 12)), "names that differ"),
        (
            with_generator(nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 12))),
            "the network has",
        ),
        (with_generator(gan_state().modules["generator"].double()), "torch.float64"),
        (with_fewer_parameters(), "parameter groups of sizes"),
        (line_state(), "another kind of run"),
    ]
    for state, words in cases:
        before = snapshot(state)
        with pytest.raises(CheckpointError, match=words):
            training.restore(state, original)
        assert equal(snapshot(state), before)


def test_tensors_and_documents_can_be_read_alone(original):
    tensors = training.read_tensors(original.parent, "averages.generator")
    assert set(tensors) == set(gan_state().modules["generator"].state_dict())
    net = gan_state().modules["generator"]
    net.load_state_dict(tensors)
    assert training.read_document(original) == {"kind": "gan"}
    with pytest.raises(CheckpointError, match=r"holds no part 'averages\.other', only"):
        training.read_tensors(original, "averages.other")
    with pytest.raises(CheckpointError, match=r"other\.json: not part of this checkpoint"):
        training.read_document(original, "other")


def test_reading_one_part_asks_nothing_of_the_others(original, tmp_path):
    path = tmp_path / original.name
    shutil.copytree(original, path)
    (path / "optimizers.generator.safetensors").unlink()
    assert training.read_tensors(path, "averages.generator")
    with pytest.raises(CheckpointError, match=r"optimizers\.generator\.safetensors"):
        training.read_tensors(path, "optimizers.generator")


def test_the_newest_complete_checkpoint_is_found(original, tmp_path):
    shutil.copytree(original, tmp_path / original.name)
    (tmp_path / "step-00000007").mkdir()  # killed while it was removed, or foreign
    (tmp_path / ".tmp-1").mkdir()
    assert training.find_checkpoint(tmp_path).name == original.name
    assert training.find_checkpoint(tmp_path / original.name).name == original.name


def test_a_checkpoint_can_be_moved_and_renamed(original, tmp_path):
    shutil.copytree(original, tmp_path / "shipped")
    training.restore(gan_state(), tmp_path / "shipped")


def test_folders_without_a_checkpoint_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        training.find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        training.find_checkpoint(tmp_path / "none")


def test_restoring_lifts_the_ban_after_bad_numbers(original):
    state = gan_state()
    training.update(state, "discriminator", state.modules["discriminator"](torch.ones(2, 12)).mean() * float("nan"))
    training.restore(state, original)
    training.check_finite_so_far(state)


def test_huge_documents_are_not_read(original, tmp_path, monkeypatch):
    monkeypatch.setattr("cvkit.training.reading._MAX_JSON", 100)
    refused(original, "manifest.json")
