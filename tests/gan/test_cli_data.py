"""``cvkit gan clean | download | evaluate``."""

from __future__ import annotations

import json

import pytest

from cvkit.cli import main
from cvkit.gan import Generator, Sampler, quickdraw, train_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    quickdraw.write_generated(root / "dirty", ["sun", "star"], 40, dirty=0.25)
    data = quickdraw.load(root / "dirty")
    quickdraw.write_arrays(root / "test.npz", data[:3])
    train_classifier(data, steps=4, batch_size=16, width=4).save(root / "judge.safetensors")
    Sampler(Generator(classes=2, width=4), ["sun", "star"], latent_size=64).save(root / "run.safetensors")
    return root


def test_clean_writes_what_is_kept_and_why_the_rest_is_not(folder, tmp_path, capsys):
    args = ["gan", "clean", str(folder / "dirty"), "--out", str(tmp_path / "kept.npz"), "--quick"]
    args += [
        "--test",
        str(folder / "test.npz"),
        "--sheet",
        str(tmp_path / "a.png"),
        "--report",
        str(tmp_path / "a.json"),
    ]
    assert main(args) == 0
    kept = quickdraw.load(tmp_path / "kept.npz")
    told = json.loads((tmp_path / "a.json").read_text())
    assert len(kept) + len(told["dropped"]) == 80
    assert len(told["leaks"]) == 3
    assert (tmp_path / "a.png").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "unrecognised" in out
    assert f"kept {len(kept)} of 80" in out


def test_evaluate_prints_a_table_and_writes_json(folder, tmp_path, capsys):
    args = [
        "gan",
        "evaluate",
        str(folder / "run.safetensors"),
        str(folder / "dirty"),
        "--judge",
        str(folder / "judge.safetensors"),
    ]
    assert main([*args, "--train", str(folder / "dirty"), "-n", "24", "--out", str(tmp_path / "a.json")]) == 2
    assert "held_out" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()
    assert main([*args, "-n", "24", "--out", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["n"] == 24
    assert "frechet" in capsys.readouterr().out


def test_download_passes_names_and_formats_on(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(quickdraw, "download", lambda *args, **options: seen.append((args, options)) or ["a.npy"])
    assert main(["gan", "download", "ice cream", "cat", "--formats", "raw, binary", "--out", "here"]) == 0
    assert seen == [((["ice cream", "cat"], ["raw", "binary"], "here"), {"progress": True})]
    assert capsys.readouterr().out == "a.npy\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["clean", "nowhere", "--out", "x.npz"], "nowhere"),
        (["clean", "DIRTY", "--out", "x.png"], "x.png"),
        (["clean", "DIRTY", "--out", "no/folder/x.npz"], "no/folder"),
        (["clean", "DIRTY", "--out", "x.npz", "--sheet", "x.doc"], "x.doc"),
        (["clean", "DIRTY", "--out", "x.npz", "--classes", "dog"], "dog"),
        (["evaluate", "nowhere", "DIRTY"], "nowhere"),
        (["download", "../x", "--out", "here"], "classes"),
        (["download", "cat", "--out", "here", "--formats", "png"], "formats"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(folder, tmp_path, monkeypatch, capsys, args, says):
    monkeypatch.chdir(tmp_path)
    assert main(["gan", *(str(folder / "dirty") if a == "DIRTY" else a for a in args)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
