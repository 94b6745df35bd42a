"The wheel works alone: what is in it, and that it runs away from the checkout."
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("fakeface", "data_manifests", "nbs", "tests", "tools", "docs", "settings.ini", "setup.py", "pyproject.toml",
         "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    "A wheel built from a copy of the checkout, so that building leaves nothing behind in it."
    if find_spec("build") is None:
        pytest.skip("`build` is not installed: run `make install`")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in filter(Path.exists, (ROOT / p for p in PARTS)):
        if part.is_dir():
            shutil.copytree(part, source / part.name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        else:
            shutil.copy(part, source)
    # Without isolation nothing is downloaded; a fresh environment may lack setuptools, and then it has to be.
    here = find_spec("setuptools") and find_spec("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), *["--no-isolation"] * bool(here)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    "The files in the wheel."
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_beside_a_clone_the_editable_install_is_imported_and_not_the_folder_of_its_name(tmp_path):
    if not (find_spec("setuptools") and find_spec("wheel")):
        pytest.skip("setuptools builds it")
    clone, site = tmp_path / "beside" / "fakeface", tmp_path / "site"
    for part in ("fakeface", "data_manifests"):
        shutil.copytree(ROOT / part, clone / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("settings.ini", "setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, clone)
    command = [sys.executable, "setup.py", "-q", "editable_wheel", "--dist-dir", str(site)]
    built = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(site.glob("*.whl"))) as archive:
        archive.extractall(site)
    here = f"sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]"  # the environment of these tests may hold an editable install too
    code = (f"import site, sys; {here}; site.addsitedir({str(site)!r}); import fakeface; from fakeface.data.sources import data_manifests; "
            "print(fakeface.__version__, fakeface.__file__, data_manifests())")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=clone.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(clone / "fakeface" / "__init__.py") in done.stdout and str(clone / "data_manifests") in done.stdout


def test_every_module_card_recipe_and_reference_is_in_the_wheel(names):
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "fakeface").rglob("*.py")}
    cards = {f"fakeface/{p.relative_to(ROOT).as_posix()}" for ext in ("yaml", "csv")
             for p in (ROOT / "data_manifests").rglob(f"*.{ext}")}
    assert cards and modules
    assert (modules | cards) - names == set()


def test_nothing_else_is_in_the_wheel(names):
    ours = {n for n in names if ".dist-info/" not in n}
    assert {n for n in ours if not n.startswith("fakeface/")} == set()
    networks = {n for n in ours if n.startswith("fakeface/data_manifests/models/")} # with their licence and where they are from
    pages = {n for n in ours if n.startswith("fakeface/data_manifests/web/")}  # style and script, by the package's own hands
    assert {Path(n).suffix for n in pages} == {".css", ".js", ".svg"}
    assert {Path(n).suffix for n in ours - networks - pages} <= {".py", ".typed", ".yaml", ".csv", ".npy"}
    assert {Path(n).suffix for n in networks} == {".tflite", ".md", ""} and "fakeface/data_manifests/models/NOTICE" in networks


def test_the_command_runs_from_the_wheel_and_not_from_the_checkout(wheel, tmp_path):
    site, root, elsewhere = tmp_path / "site", tmp_path / "root", tmp_path / "elsewhere"
    for folder in (site, root, elsewhere):
        folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = {**{k: v for k, v in os.environ.items() if k != "FAKEFACE_DATA"}, "PYTHONPATH": str(site)}

    def run(*args: str) -> str:
        done = subprocess.run([sys.executable, *args], cwd=elsewhere, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import fakeface; print(fakeface.__file__)").strip()).is_relative_to(site)
    table = run("-m", "fakeface.cli.main", "sources", "--root", str(root))
    cards = [p.stem for p in (site / "fakeface" / "data_manifests" / "sources").glob("*.yaml")]
    assert cards and [c for c in cards if c not in table] == []
    # a face is looked for with what the wheel brings: cards, tables and networks
    code = ("from PIL import Image; from fakeface.data.faces import face_points; import pandas as pd; "
            "Image.new('RGB', (48, 48)).save('a.png'); rows = pd.DataFrame({'path': ['a.png']}); "
            "print(face_points(rows, '.', workers=1).shape)")
    assert run("-c", code).strip().endswith("(1, 6)")
