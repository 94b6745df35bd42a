"""Every study runs on a real root: some datasets missing, no internet, in a short form; and says nothing that was not run.

A study is found by its file, so a new one is asked as well. What comes out of so few images and epochs means nothing; what is asked is
that it comes out, that it is said on which data, and that a part without its datasets leaves a sentence.
"""
import ast
import json
import os
import re
from pathlib import Path

import forked
import pytest
from realroot import GONE, real_root

from fakeface.core.basics import data_manifests

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "nbs/studies").glob("*.ipynb"))
NAMES = [p.stem for p in STUDIES]
SHORT = dict(FAKEFACE_PROFILE="small", FAKEFACE_EPOCHS="1", FAKEFACE_SEEDS="1", FAKEFACE_SCALE="0.65", FAKEFACE_IMAGES="300",
             FAKEFACE_STEPS="nothing,alignment,all", HF_HUB_OFFLINE="1", IN_TEST="1")
FEWER = {"08_generator_bias_or_framing": dict(FAKEFACE_SCALE="0.3"), "11_what_survives": dict(FAKEFACE_SCALE="0.3"),
         "02_understanding_the_ai": dict(FAKEFACE_IMAGES="200")}  # of studies with many trainings
REFERENCE = "\n".join(p.read_text(encoding="utf-8") for p in (data_manifests() / "reference").rglob("*.csv"))
DRAWN_ONLY = {"09_known_answers"}  # asks about worlds whose answers are known, and says so
NO_IMAGES = {"12_other_peoples_detectors"}  # reads the answers of published detectors, on whatever data root
SAYS = {"05_fighting_fakes_fairly": ("Left out: kyllo-half: no image for the test set fairface_twins (absent here: fairface_psp_twins).",
                                     "Absent: fairface_psp_twins. Align FairFace's train and val folders"),
        "06_how_networks_see_fakes": ("(absent here: fake_vs_real_hard).",),
        "04_two_convolutions": ("Left out: nedz-150: train has",)}  # in their first cell
QUOTES = {"11_what_survives": {"real", "pooled", "search", "best", "seen"}}  # tables of runs on real faces that come with the package
LEAVES_OUT = {"05_fighting_fakes_fairly": ("plot_transfer(matrix)", "Left out: kyllo: images for 140k of its sets, and two are needed")}
RUN = """
import json, socket, sys
def refuse(*_, **__): raise OSError("there is no internet in this test")
class Offline(socket.socket):
    def connect(self, address): return super().connect(address) if self.family == socket.AF_UNIX else refuse()
socket.socket, socket.getaddrinfo = Offline, refuse
import matplotlib; matplotlib.use("agg")
from execnb.nbio import read_nb
from execnb.shell import CaptureShell
shell, told = CaptureShell(mpl_format="png"), []
for i, cell in enumerate(read_nb(sys.argv[1]).cells):
    if cell.cell_type != "code": continue
    outputs = shell.run(cell.source)
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs if o.get("name") != "stderr"]
    told.append((cell.source, "".join("".join(t) for t in texts)))
    if shell.exc: sys.exit(f"cell {i}: {type(shell.exc).__name__}: {shell.exc}\\n{cell.source}")
open(sys.argv[2], "w").write(json.dumps(told))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return real_root(tmp_path_factory.mktemp("data") / "photographs")


def outputs(study, root, folder, **environment):
    "What each code cell of a study says on that root, as (source, text)."
    env = {k: v for k, v in os.environ.items() if not k.startswith("FAKEFACE_") or k in ("FAKEFACE_CACHE", forked.ADDRESS)}
    env |= SHORT | FEWER.get(study.stem, {}) | environment | dict(FAKEFACE_DATA=str(root))
    done = forked.run(["-c", RUN, study, folder / "told.json"], cwd=folder, capture_output=True, text=True,
                      env={k: v for k, v in env.items() if v})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize("study", STUDIES, ids=NAMES)
def test_a_study_runs_on_a_real_root_without_some_datasets(study, root, tmp_path):
    told = outputs(study, root, tmp_path)
    if study.stem in NO_IMAGES:
        assert not any("settings" in source or "root" in source for source, _ in told)
        return
    first = next(i for i, (source, _) in enumerate(told) if "study_settings(" in source)
    assert first == 0, "the settings come first"
    settings = told[0][1]
    if study.stem in DRAWN_ONLY:
        assert "built-in world of drawn faces" in settings
        return
    assert "Data: the images in the folder photographs." in settings and "built-in world" not in settings
    for words in SAYS.get(study.stem, ()): assert words in " ".join(settings.split())
    if study.stem in LEAVES_OUT:  # a cell that needs what an earlier one left out
        cell, words = LEAVES_OUT[study.stem]
        assert dict(told)[cell].startswith(words)
    for source, text in told[1:]:
        if QUOTES.get(study.stem, set()) & set(re.findall(r"\w+", source)) and "settings" not in source: continue
        for line in text.splitlines():
            if source.startswith("beside_real(") and re.search(r"\s–\s", line): continue  # the figure is that of real faces
            absent = [name for name in GONE if re.search(rf"\b{name}\b", line)]
            known = line.startswith(("Left out:", "published")) or line in REFERENCE
            assert not absent or known or re.search(r"\b0 +0$", line), f"{source}\nsays of {absent}, of which there is no image:\n{line}"
        if "Left out:" in text: assert len(text.strip().splitlines()) == 1, f"{source}\nis left out and says more:\n{text}"


def test_without_internet_published_takes_the_package_of_weights_and_says_so_first(root, tmp_path):
    told = outputs(STUDIES[0], root, tmp_path, FAKEFACE_PROFILE="", FAKEFACE_SIZE="64")
    words = "tf_efficientnet_lite0 with the weights package:efficientnet-lite0, 64 pixels, 1 epoch (profile published)"
    assert words in " ".join(told[0][1].split())


def cells(study, kind):
    return ["".join(c["source"]) for c in json.loads(study.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def may_be_left_out(statement):
    "The names that a statement sets from what may be left out, and those that it reads."
    calls = [ast.unparse(n.func) for n in ast.walk(statement) if isinstance(n, ast.Call)]
    names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
    made = {n.id for n in names if isinstance(n.ctx, ast.Store)} if {"settings.run", "where_possible"} & set(calls) else set()
    return made, {n.id for n in names if isinstance(n.ctx, ast.Load)}


@pytest.mark.parametrize("study", STUDIES, ids=NAMES)
def test_what_may_be_left_out_is_read_in_later_cells(study):
    "Cells that need it are left out from the next one on; only to show it, it may end its own cell."
    for source in cells(study, "code"):
        made = set()
        for statement in ast.parse(source).body:
            sets, reads = may_be_left_out(statement)
            shown = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name)
            assert shown or not made & reads, f"{source}\nreads {', '.join(made & reads)} in the cell that sets it"
            made |= sets


@pytest.mark.parametrize("study", STUDIES, ids=NAMES)
def test_a_share_in_a_studys_prose_was_published_or_is_a_level(study):
    "What came out is computed: a share that is written by hand would be another one on other data."
    first, *rest = cells(study, "markdown")
    shares = {s for text in rest for s in re.findall(r"\d[\d.,]* %", text)}
    levels = {"50 %", "95 %", "100 %"}
    design = {"80 %"} if "80 % of it, the rest is validation" in " ".join(rest) else set()
    assert shares <= levels | design | set(re.findall(r"\d[\d.,]* %", first)), shares
