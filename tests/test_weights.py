from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cvkit.weights import WeightsError, import_torch, load_metadata, load_tensors, save_tensors, sha256

DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.uint16, torch.bool, torch.complex64,
]  # fmt: skip


@st.composite
def tensors(draw):
    """A tensor of any common dtype, up to 5 axes (also of length 0 and 1) and any order of axes in memory."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    order = draw(st.permutations(range(len(shape))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    plain = torch.randint(0, 2, [shape[i] for i in order], generator=generator).to(draw(st.sampled_from(DTYPES)))
    inverse = [list(order).index(i) for i in range(len(shape))]
    return plain.permute(inverse)


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


@given(st.dictionaries(st.text(min_size=1, max_size=5).filter(lambda n: n != "__metadata__"), tensors(), max_size=4))
def test_tensors_come_back_with_their_strides(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("w") / "a"
    try:
        save_tensors(path, state)
    except UnicodeEncodeError:
        return
    found = load_tensors(path)
    assert list(found) == sorted(state)
    for name, tensor in state.items():
        same(found[name], tensor)
        if tensor.numel():
            assert found[name].stride() == tensor.stride()


@pytest.mark.parametrize(("shape", "memory_format"), [
    ((2, 3, 4, 5), torch.channels_last), ((4, 3, 1, 1), torch.channels_last), ((1, 3, 4, 4), torch.channels_last),
    ((2, 3, 4, 5, 6), torch.channels_last_3d), ((2, 3, 4, 5), torch.contiguous_format),
])  # fmt: skip
def test_memory_formats_come_back(tmp_path, shape, memory_format):
    tensor = torch.rand(shape).to(memory_format=memory_format)
    save_tensors(tmp_path / "a", {"w": tensor})
    found = load_tensors(tmp_path / "a")["w"]
    assert found.is_contiguous(memory_format=memory_format)
    assert found.stride() == tensor.stride()
    same(found, tensor)


def test_a_fused_step_after_loading_equals_the_one_without(tmp_path):
    # Formats of weights and moments that differ make fused Adam silently wrong.
    def step(weight, first, second):
        weight = weight.clone(memory_format=torch.preserve_format).requires_grad_()
        weight.grad = torch.ones_like(weight)
        optimizer = torch.optim.Adam([weight], fused=True)
        optimizer.state[weight] = {"step": torch.tensor(3.0), "exp_avg": first.clone(), "exp_avg_sq": second.clone()}
        optimizer.step()
        return weight.detach()

    weight, first, second = (torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last) for _ in range(3))
    save_tensors(tmp_path / "a", {"w": weight, "m": first, "v": second})
    found = load_tensors(tmp_path / "a")
    same(step(found["w"], found["m"], found["v"]), step(weight, first, second))


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path):
    shared = torch.rand(50, 50)
    state = {"b": shared, "a": shared, "c": shared.clone()}
    save_tensors(tmp_path / "a", state)
    assert (tmp_path / "a").stat().st_size < 2.2 * shared.nbytes
    for device in ("cpu", torch.device("cpu"), "meta"):
        found = load_tensors(tmp_path / "a", device=device)
        assert found["a"] is found["b"]
        assert found["c"] is not found["a"]
    same(load_tensors(tmp_path / "a")["b"], shared)


def test_tied_layers_load_into_a_tied_model(tmp_path):
    def build():
        one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        two.weight = one.weight
        return torch.nn.Sequential(one, two)

    model, other = build(), build()
    save_tensors(tmp_path / "a", model.state_dict())
    other.load_state_dict(load_tensors(tmp_path / "a"), strict=True)
    assert other[0].weight is other[1].weight
    same(other[1].weight, model[0].weight)


def test_overlapping_views_are_stored_by_themselves(tmp_path):
    base = torch.rand(6, 6)
    state = {
        "base": base,
        "rows": base[1:3],
        "turned": base.T,
        "bits": base.view(torch.int32),
        "wide": base[:1].expand(3, 6),
    }
    save_tensors(tmp_path / "a", state)
    found = load_tensors(tmp_path / "a")
    for name, tensor in state.items():
        same(found[name], tensor)
    found["base"].zero_()
    same(found["rows"], state["rows"])


def test_lazy_conjugates_and_negatives_are_stored_as_they_read(tmp_path):
    values = torch.view_as_complex(torch.rand(3, 2))
    state = {"plain": values, "conjugate": values.conj(), "imaginary": values.imag, "negative": values.conj().imag}
    save_tensors(tmp_path / "a", state)
    for name, tensor in load_tensors(tmp_path / "a").items():
        same(tensor.resolve_conj(), state[name].resolve_conj().resolve_neg())


def test_parameters_are_saved_without_their_graph(tmp_path):
    weight = torch.nn.Parameter(torch.rand(3))
    save_tensors(tmp_path / "a", {"w": weight, "double": weight * 2})
    assert not load_tensors(tmp_path / "a")["double"].requires_grad
    assert weight.requires_grad


@pytest.mark.parametrize("metadata", [None, {}, {"epoch": "3", "zebra": "1", "classes": '["é", "<b>"]', "cvkit": "x"}])
def test_metadata_comes_back(tmp_path, metadata):
    save_tensors(tmp_path / "a", {"w": torch.ones(1)}, metadata=metadata)
    assert load_metadata(tmp_path / "a") == (metadata or {})


def test_equal_states_give_equal_bytes_in_every_process_and_order(tmp_path):
    script = """
        import sys, torch
        from cvkit.weights import save_tensors
        names = ["one", "two", "three", "four", "five"]
        state = {name: torch.arange(12.0).reshape(1, 3, 2, 2).to(memory_format=torch.channels_last) for name in names}
        state["tied"] = state["one"]
        if len(sys.argv) > 2:
            state = dict(reversed(state.items()))
        save_tensors(sys.argv[1], state, metadata={name: "x" for name in names})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path / "a", "reversed"], check=True)
    exec(textwrap.dedent(script).replace("sys.argv", "argv"), {"argv": ["", tmp_path / "b"]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_are_plain_safetensors(tmp_path):
    state = {"w": torch.rand(2, 3), "n": torch.arange(4)}
    save_tensors(tmp_path / "ours", state)
    for name, tensor in load_file(tmp_path / "ours").items():
        same(tensor, state[name])
    save_file(state, tmp_path / "theirs", metadata={"format": "pt"})
    for name, tensor in load_tensors(tmp_path / "theirs").items():
        same(tensor, state[name])
    assert load_metadata(tmp_path / "theirs") == {"format": "pt"}


def test_loaded_tensors_own_their_memory(tmp_path):
    save_tensors(tmp_path / "a", {"w": torch.ones(1000)})
    found = load_tensors(tmp_path / "a")["w"]
    with (tmp_path / "a").open("r+b") as file:
        file.seek(-4000, os.SEEK_END)
        file.write(bytes(4000))
    assert found.min() == 1
    found.zero_()


def test_mode_follows_the_umask_and_links_are_followed(tmp_path):
    before = os.umask(0o027)
    try:
        (tmp_path / "link").symlink_to("a")
        save_tensors(tmp_path / "link", {"w": torch.ones(1)})
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.fault("harvard-edge/cs249r_book#2068")
def test_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    save_tensors(path, {"w": torch.ones(3)})
    old = path.read_bytes()
    script = f"""
        import resource, signal, torch
        from cvkit.weights import WeightsError, save_tensors
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save_tensors({str(path)!r}, {{"w": torch.ones(100_000)}})
        except WeightsError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_folder_must_exist(tmp_path):
    with pytest.raises(WeightsError, match="cannot be written"):
        save_tensors(tmp_path / "missing" / "a", {})


@pytest.mark.parametrize(("state", "text"), [
    ({"w": 1.0}, r"`tensors\['w'\]` must be a tensor; got 1.0"),
    ({3: torch.ones(1)}, "must have strings"),
    ({"__metadata__": torch.ones(1)}, "must have strings"),
    ({"w": torch.ones(2, device="meta")}, "cannot be stored"),
    ({"w": torch.eye(2).to_sparse()}, "cannot be stored"),
    ({"w": torch.ones(2, dtype=torch.complex128)}, "complex128"),
    ([torch.ones(1)], "`tensors` must be a mapping"),
])  # fmt: skip
def test_what_cannot_be_stored_is_refused_by_name(tmp_path, state, text):
    with pytest.raises(TypeError, match=text):
        save_tensors(tmp_path / "a", state)
    assert list(tmp_path.iterdir()) == []


def test_metadata_must_be_text(tmp_path):
    with pytest.raises(TypeError, match="`metadata` must map strings to strings"):
        save_tensors(tmp_path / "a", {}, metadata={"epoch": 3})


# Damaged and hostile files


def test_truncated_files_are_refused_wherever_they_end(tmp_path):
    save_tensors(tmp_path / "a", {"w": torch.rand(5, 5), "v": torch.rand(2, 1)}, metadata={"a": "b"})
    data = (tmp_path / "a").read_bytes()
    for cut in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:cut])
        with pytest.raises(WeightsError, match="cut: "):
            load_tensors(tmp_path / "cut")
        with pytest.raises(WeightsError, match="cut: "):
            load_metadata(tmp_path / "cut")


@given(st.data())
def test_flipped_bits_give_tensors_or_an_error_that_names_the_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / "weights"
    save_tensors(path, {"w": torch.ones(2, 3, 2, 2).to(memory_format=torch.channels_last), "v": torch.ones(3)})
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    message = ""
    try:
        load_tensors(path)
    except WeightsError as error:
        message = str(error)
    assert message.startswith(str(path)) or not message


def forged(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


ONE = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize("note", [
    "no json", "[]", "3", "[" * 5000, '{"strides": []}', '{"strides": {"x": [1]}}', '{"strides": {"w": [1]}}',
    '{"strides": {"w": ["2", 1]}}', '{"strides": {"w": [2, -1]}}', '{"strides": {"w": [0, 0]}}',
    '{"strides": {"w": [2, 1000000000000]}}', '{"strides": {"w": [1e99, 1]}}',
    '{"strides": {"w": [999999999999999999999999999999, 1]}}',
    '{"ties": {"a": "b"}}', '{"ties": {"w": "w"}}', '{"ties": {"a": 3}}', '{"ties": {"a": "b", "b": "a"}}',
])  # fmt: skip
def test_forged_notes_are_refused(tmp_path, note):
    path = forged(tmp_path / "weights", {"__metadata__": {"cvkit": note}, "w": ONE}, bytes(8))
    with pytest.raises(WeightsError, match="weights: damaged metadata"):
        load_tensors(path)


@pytest.mark.parametrize("header", [
    {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
    {"w": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}},
    {"w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [-8, 0]}},
    {"w": ONE, "v": ONE},
    {"w": {"dtype": "pickle", "shape": [1, 2], "data_offsets": [0, 8]}},
])  # fmt: skip
@pytest.mark.fault("numpy/numpy#12759")
def test_forged_headers_are_refused_at_once(tmp_path, header):
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_tensors(forged(tmp_path / "weights", header, bytes(8)))


@pytest.mark.parametrize("call", [load_tensors, load_metadata, import_torch, sha256])
def test_missing_files_and_folders_are_named(tmp_path, call):
    with pytest.raises(WeightsError, match="nothing: no such file"):
        call(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="not a regular file"):
        call(tmp_path)


class Payload:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


SUFFIXES = [".pt", ".pth", ".th", ".ckpt", ".bin", ".pkl", ".safetensors", ""]


@pytest.mark.fault("pytorch/pytorch#163105")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("call", [import_torch, load_tensors, load_metadata])
def test_no_file_runs_code_under_any_name(tmp_path, suffix, call):
    hole = tmp_path / "hole"
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.ones(2), "x": Payload(hole)}, zipped)
    torch.save({"w": torch.ones(2), "x": Payload(hole)}, legacy, _use_new_zipfile_serialization=False)
    for data in (zipped.getvalue(), legacy.getvalue(), pickle.dumps(Payload(hole)), pickle.dumps(Payload(hole), 0)):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="weights"):
            call(path)
        assert not hole.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_plain_checkpoints_are_imported(tmp_path, zipped):
    state = {"epoch": 3, "state_dict": {"w": torch.rand(3, 2), "n": torch.arange(4)}}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=zipped)
    found = import_torch(tmp_path / "old.pt")
    assert found["epoch"] == 3
    for name, tensor in state["state_dict"].items():
        same(found["state_dict"][name], tensor)


def test_large_checkpoints_are_refused(tmp_path):
    torch.save({"w": torch.zeros(1000)}, tmp_path / "old.pt")
    with pytest.raises(WeightsError, match=r"more than `max_bytes` \(4000\)"):
        import_torch(tmp_path / "old.pt", max_bytes=4000)
    with pytest.raises(ValueError, match="`max_bytes` must be at least 1"):
        import_torch(tmp_path / "old.pt", max_bytes=0)


def test_archives_that_unpack_to_more_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(WeightsError, match="more than `max_bytes`"):
        import_torch(tmp_path / "bomb.pt", max_bytes=10_000_000)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_with_the_files_name(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "weights"
    path.write_bytes(data)
    for call in (load_tensors, load_metadata):
        with pytest.raises(WeightsError, match="weights: "):
            call(path)


def test_damaged_checkpoints_are_refused_with_the_files_name(tmp_path):
    torch.save({"w": torch.zeros(10)}, tmp_path / "old.pt")
    data = (tmp_path / "old.pt").read_bytes()
    for cut in (0, 1, 10, len(data) // 2, len(data) - 30):
        (tmp_path / "old.pt").write_bytes(data[:cut])
        with pytest.raises(WeightsError, match=r"old\.pt: not a checkpoint"):
            import_torch(tmp_path / "old.pt")


def test_unsafe_versions_of_torch_open_no_pickle(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "old.pt")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    with pytest.raises(WeightsError, match=r"2\.10 or later"):
        import_torch(tmp_path / "old.pt")


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    (tmp_path / "a").touch()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match="a: Permission denied"):
        sha256(tmp_path / "a")


def test_digest_is_that_of_the_bytes(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_digest_tells_a_flipped_bit_that_loading_cannot(tmp_path):
    save_tensors(tmp_path / "a", {"w": torch.ones(8)})
    before = sha256(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a").write_bytes(data)
    load_tensors(tmp_path / "a")
    assert sha256(tmp_path / "a") != before


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_real_checkpoints_are_imported(real_data):
    found = import_torch(real_data / "models" / "resnet20-12fca82f.th")
    assert all(name.startswith("module.") for name in found["state_dict"])
