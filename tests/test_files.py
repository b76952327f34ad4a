from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from cvkit._files import replacing, sync_folder


def save(path, data):
    with replacing(path) as part:
        part.write_bytes(data)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_bytes_take_the_place_of_the_old_ones(tmp_path):
    for data in (b"one", b"two"):
        save(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == data
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_error_leaves_the_old_file_and_no_other(tmp_path, error):
    save(tmp_path / "a", b"old")

    def fail():
        with replacing(tmp_path / "a") as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_mode_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save(tmp_path / "a", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_mode_of_an_old_file_is_kept(tmp_path):
    save(tmp_path / "a", b"old")
    (tmp_path / "a").chmod(0o640)
    save(tmp_path / "a", b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_symbolic_links_stay_and_their_target_changes(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/a")
    save(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a").read_bytes() == b"new"
    assert names(tmp_path / "far") == ["a"]


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(OSError, match="not a regular file"), replacing(tmp_path / name):
            pass
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "missing" / "a"):
        pass


WRITER = """
    import sys
    from cvkit._files import replacing
    block = bytes(100_000)
    number = 0
    while True:
        number += 1
        with replacing(sys.argv[1]) as part, part.open("wb") as file:
            for _ in range(10):
                file.write(number.to_bytes(4, "big") * 25_000)
        if number == 1:
            print("running", flush=True)
"""


@pytest.mark.slow
@pytest.mark.fault("Lightning-AI/pytorch-lightning#688")
@pytest.mark.fault("huggingface/transformers#27820")
def test_killed_writers_leave_whole_files(tmp_path):
    path = tmp_path / "a"
    for i in range(12):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(0.003 * i)
            writer.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 1_000_000
        assert data == data[:4] * 250_000
        # At most what the last one left behind: each writer removes its forerunner's.
        assert len(names(tmp_path)) <= 2
    save(path, b"end")
    assert names(tmp_path) == ["a"]


@pytest.mark.fault("howervoo/speechturn#15")
def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path):
    with replacing(tmp_path / "a") as part:
        own = part.name
        part.write_bytes(b"new")
    stem = own[: own.rindex(str(os.getpid()))]
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    alive = [f"{stem}{os.getpid()}-00", f"{stem}x-00", f"{stem}{10**30}-00", ".a.tmp-00000000-1-00", ".b.tmp", "other"]
    for name in [*alive, f"{stem}{dead.pid}-00"]:
        (tmp_path / name).touch()
    save(tmp_path / "a", b"newer")
    assert names(tmp_path) == sorted([*alive, "a"])


def test_bytes_are_on_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths))[1])
    save(tmp_path / "a", b"new")
    assert order == ["fsync", "replace", "fsync"]


def test_folders_without_sync_are_as_safe_as_they_get(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    monkeypatch.delattr(os, "O_DIRECTORY")
    sync_folder(tmp_path / "not even there")
