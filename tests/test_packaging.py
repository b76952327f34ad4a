"""What is shipped: the files of sdist and wheel, and the wheel at work in a clean environment."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import cvkit

ROOT = Path(__file__).resolve().parent.parent
TORCH = os.environ.get("CVKIT_TORCH", "torch==2.13.0")  # a bare `torch` may resolve to a CUDA build of several GB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

if not (ROOT / "pyproject.toml").exists() or importlib.util.find_spec("build") is None:
    pytest.skip("needs the source tree and the package `build`", allow_module_level=True)


def call(*command, cwd=None, **more):
    """Run a command, with its output in the report if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(folder, *options):
    # With the backend at hand no environment of its own is needed, nor an index.
    alone = [] if importlib.util.find_spec("hatchling") is None else ["--no-isolation"]
    call(sys.executable, "-m", "build", *alone, *options, "--outdir", folder, cwd=ROOT)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The wheel, made from the sdist, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


def test_names_carry_the_version(shipped):
    wheel, sdist = shipped
    assert wheel.name == f"cvkit_torch-{cvkit.__version__}-py3-none-any.whl"
    assert sdist.name == f"cvkit_torch-{cvkit.__version__}.tar.gz"


def test_wheel_holds_the_package_and_nothing_else(shipped):
    with zipfile.ZipFile(shipped[0]) as archive:
        found = {name for name in archive.namelist() if not name.endswith("/")}
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "cvkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    rest = {name for name in found if not name.startswith("cvkit/")}
    assert {name for name in found if name.startswith("cvkit/")} == expected
    assert "cvkit/py.typed" in found
    assert all(name.startswith(f"cvkit_torch-{cvkit.__version__}.dist-info/") for name in rest)
    assert any(name.endswith("licenses/LICENSE") for name in rest)
    assert shipped[0].stat().st_size < 4_000_000


def test_wheel_from_the_sdist_equals_the_wheel_from_the_tree(shipped, tmp_path):
    build(tmp_path, "--wheel")
    (direct,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(shipped[0]) as other:
        assert {entry.filename: entry.CRC for entry in one.infolist()} == {e.filename: e.CRC for e in other.infolist()}


def test_sdist_holds_what_building_and_testing_need(shipped):
    with tarfile.open(shipped[1]) as archive:
        names = [name.split("/", maxsplit=1)[1] for name in archive.getnames() if "/" in name]
        members = archive.getmembers()
    for name in (
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "src/cvkit/__init__.py",
        "tests/conftest.py",
    ):
        assert name in names
    assert all(member.isfile() or member.isdir() for member in members)
    parts = r"__pycache__|\.[\w-]*cache|\.venv|\.hypothesis|docs/(_build|gallery|_generated)"
    unwanted = re.compile(rf"(^|/)({parts})(/|$)|^(\.git|dist|shared)(/|$)")
    assert not [name for name in names if unwanted.search(name)]
    pictures = re.compile(r"\.(jpe?g|npz|npy|h5|pth?|th|mat)$")
    assert not [name for name in names if pictures.search(name) and not name.startswith("src/cvkit/gan/_data/")]


def test_metadata_say_what_it_is(shipped):
    with zipfile.ZipFile(shipped[0]) as archive:
        info = f"cvkit_torch-{cvkit.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        points = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Name"] == "cvkit-torch"
    assert metadata["Version"] == cvkit.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert "cvkit = cvkit.cli:main" in points
    needed = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    assert {re.match(r"[\w-]+", entry)[0] for entry in needed} == {
        "torch", "numpy", "pillow", "safetensors", "tqdm", "typing-extensions"}  # fmt: skip
    # Floors, never caps: a cap of ours would hold back everybody's environment.
    assert not [entry for entry in needed if re.search(r"<|==|~=", entry)]
    assert not [entry for entry in metadata.get_all("Requires-Dist") if "torchvision" in entry]
    assert {"test", "docs", "demo", "dev"} <= set(metadata.get_all("Provides-Extra"))


@pytest.fixture(scope="module")
def clean(shipped, tmp_path_factory):
    """The wheel in an environment of its own: its folder of programs, and a folder outside the tree."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home / "venv", with_pip=True)
    programs = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "PIP_NO_"))
    }
    pip = [programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    first = subprocess.run([*pip, TORCH], capture_output=True, text=True, check=False, env=environment)
    if first.returncode:
        pytest.skip(f"{TORCH} is not to be had here: {first.stderr[-300:]}")
    call(*pip, shipped[0], env=environment)
    (home / "work").mkdir()
    yield programs, home / "work", environment
    shutil.rmtree(home / "venv")


def test_wheel_works_in_a_clean_environment(clean):
    programs, work, environment = clean
    python = programs / "python"
    place = call(python, "-c", "import cvkit; print(cvkit.__file__)", cwd=work, env=environment).strip()
    assert "site-packages" in place
    for name in cvkit.__all__:
        call(python, "-c", f"from cvkit import {name}", cwd=work, env=environment)
    assert "usage: cvkit" in call(programs / "cvkit", "--help", cwd=work, env=environment)
    assert cvkit.__version__ in call(programs / "cvkit", "doctor", cwd=work, env=environment)
    call(python, "-m", "pip", "check", cwd=work, env=environment)


def test_nothing_but_the_declared_packages_comes_along(clean):
    programs, work, environment = clean
    listed = json.loads(call(programs / "python", "-m", "pip", "list", "--format", "json", cwd=work, env=environment))
    names = {entry["name"].lower() for entry in listed}
    assert not names & {"torchvision", "opencv-python", "scikit-image", "scipy", "matplotlib", "pandas"}


def test_demo_runs_from_the_wheel(clean):
    programs, work, environment = clean
    call(programs / "cvkit", "demo", "--out", "demo", "--budget", "3", cwd=work, env=environment)
    results = json.loads((work / "demo" / "results.json").read_text())
    assert results
    page = (work / "demo" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
