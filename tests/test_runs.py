"What a data root may throw at a run, and what a run may never do."
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import SafetensorError

from fakeface.cli.main import main
from fakeface.data import sources as cards
from fakeface.core.basics import DataNote, InputError
from fakeface.core.files import Claim, whole_folder
from fakeface.data.images import image_facts
from fakeface.data.manifest import COLUMNS, Scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.experiments import run as experiments
from fakeface.experiments.plan import plan
from fakeface.serve.bundle import read_bundle
from fakeface.serve.export import export_bundle
from fakeface.synthetic.world import build_world
from fakeface.train import checkpoint
from fakeface.train.blocks import face_dataloaders, loader_options
from fakeface.train.checkpoint import Checkpoint
from fakeface.train.fitting import train
from fakeface.train.learners import DivergedError, StopDiverged, make_learner
from fakeface.train.runs import Run, load_scorer

pytestmark = pytest.mark.usefixtures("own_cache")


def fakeface(*args: object) -> subprocess.CompletedProcess:
    "The command line in a process of its own."
    return forked.run(["-m", "fakeface.cli.main", *args], capture_output=True, text=True)


# --- dealing ----------------------------------------------------------------------------------------------------------

@st.composite
def scans(draw: st.DrawFn) -> Scan:
    "Sources that share subjects, in any order, of any size."
    rows = []
    for source, kind in (("utkface", "photograph"), ("lfw", "photograph"), ("1m_fake_faces", "generated")):
        subjects = draw(st.lists(st.integers(0, 40), min_size=2, max_size=60))
        rows += [dict(path=f"{source}/{i}.jpg", source=source, part="all", kind=kind, subject=f"s{s}") for i, s in enumerate(subjects)]
    return Scan(pd.DataFrame(draw(st.permutations(rows))).reindex(columns=COLUMNS), pd.DataFrame())


@given(scans(), st.integers(1, 80), st.integers(1, 80), st.integers(0, 5), st.sampled_from([1.0, 0.5]))
@settings(max_examples=150, deadline=None)
def test_no_subject_is_on_two_sides_and_no_part_gets_more_than_it_asks(scan, n_train, n_test, seed, scale):
    parts = ("utkface", "lfw", "1m_fake_faces")
    recipe = Recipe("drawn", "drawn", [Part(s, n_train) for s in parts], {"held_out": [Part(s, n_test) for s in parts]}, {"small": {}})
    try:
        manifest, table = compose(recipe, scan, seed, scale)
    except ValueError:  # a side without a class is refused, which is right for some of these
        return
    assert manifest.groupby("subject").split.nunique().max() == 1
    assert manifest.path.is_unique
    counts = manifest.groupby(["source", "split"]).size()
    for (_, split), n in counts.items():
        assert n <= (n_test if split == "held_out" else n_train)
    shuffled = Scan(scan.images.sample(frac=1, random_state=seed), scan.rejects)
    pd.testing.assert_frame_equal(compose(recipe, shuffled, seed, scale).manifest, manifest)


# --- files ------------------------------------------------------------------------------------------------------------

@given(st.binary(max_size=400), st.integers(0, 3000), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_file_content_raises(tmp_path_factory, noise, at, as_jpeg):
    file = tmp_path_factory.mktemp("fuzz") / "x.jpg"
    if as_jpeg:
        Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(file)
        good = file.read_bytes()
        file.write_bytes(good[:at] + noise + good[at + len(noise):])
    else:
        file.write_bytes(noise)
    facts = image_facts(file)
    assert facts["reason"] or facts["width"] > 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("root") / "world", images=400, workers=1)


def test_a_root_with_every_kind_of_bad_file_is_run_to_the_end(world, tmp_path):
    root = tmp_path / "faces"
    subprocess.run(["cp", "-r", world, root], check=True)
    subprocess.run(["rm", "-r", root / "lfw", root / "generated_photos"], check=True)  # absent sources
    here = root / "utkface" / "UTKFace"
    good = next(here.iterdir()).read_bytes()
    stem = "30_1_0_2017010914240807"
    (here / f"{stem}0.jpg").write_bytes(good[: len(good) // 2])
    (here / f"{stem}1.jpg").write_text("this is no picture")
    (here / f"{stem}2.jpg").write_bytes(b"")
    Image.new("1", (30_000, 30_000)).save(here / f"{stem}3.png")
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(good)
    (here / f"{stem}4.jpg").symlink_to(outside)
    Image.new("CMYK", (64, 64), (10, 60, 80, 0)).save(here / f"{stem}5.jpg")  # these two are fine
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(here / f"{stem}6.png")
    done = fakeface("run", "man-1", "--root", root, "--out", tmp_path / "run", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    rejects = pd.read_csv(tmp_path / "run" / "rejects.csv").set_index("path").reason
    reasons = {Path(p).stem[-1]: reason.split(":")[0].split("(")[0].strip() for p, reason in rejects.items()}
    assert reasons == {"0": "broken or truncated", "1": "not an image", "2": "empty", "3": "oversized",
                       "4": "symbolic link out of the data root"}
    manifest = pd.read_parquet(tmp_path / "run" / "manifest.parquet")
    assert manifest.path.str.contains(f"{stem}[56]").sum() == 2
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["rejected"] == 5
    assert metrics["sources"]["lfw"] == {"asked": 13000, "found": 0, "used": 0}
    assert "absent" in done.stdout


# --- runs -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def elsewhere(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    "A run, and two data roots that are not its own: one without its images, one with another picture under every name."
    folder = tmp_path_factory.mktemp("elsewhere")
    made = experiments.run_recipe("man-1", world, folder / "run", epochs=1, progress=False)
    (folder / "empty").mkdir()
    picture = (world / made.manifest["path"].iloc[0]).read_bytes()
    for path in made.manifest["path"]:
        (folder / "other" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "other" / path).write_bytes(picture)
    (folder / "pictures" / "kind").mkdir(parents=True)
    (folder / "pictures" / "kind" / "a.jpg").write_bytes(picture)
    return {name: folder / name for name in ("run", "empty", "other", "pictures")}


NEEDED = ["explain {run} {pictures}/kind/a.jpg --sample 4", "robustness {run} --sample 4 --sweeps none", "ood {run} {pictures}",
          "quiz {run} --items 4", "score {run} --model {run}", "robustness {run} --sample 4 --detector 'cat {{list}}'"]
OPTIONAL = ["report {run}", "predict {pictures}/kind/a.jpg --model {run} --fast", "export {run} --out b.fakeface"]


@pytest.mark.parametrize("root, words", [("empty", "images are missing"), ("other", "compared are other files")])
def test_a_run_is_not_read_with_a_data_root_that_is_not_its_own(elsewhere, root, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    def told(line: str, *more: str) -> tuple[int, str]:
        code = main(shlex.split(line.format(**elsewhere)) + list(more))
        return code, " ".join(capsys.readouterr())
    for line in NEEDED + OPTIONAL:
        code, text = told(line, "--root", str(elsewhere[root]))
        assert code == 2 and words in text and "a data root called world: give it with --root" in text, (line, text)
    monkeypatch.setenv("FAKEFACE_DATA", str(elsewhere[root]))
    for line in NEEDED:
        code, text = told(line)
        assert code == 2 and words in text and f"the data root {elsewhere[root]} (FAKEFACE_DATA)" in text, (line, text)
    for line in OPTIONAL:
        code, text = told(line)
        assert code in (0, 1, 3) and words in text and "(FAKEFACE_DATA)" in text and "done without the images" in text, (line, text)
    assert "<img src" not in (elsewhere["run"] / "report.html").read_text()


def test_a_data_root_that_lacks_some_images_of_a_run_is_used_and_how_many_it_lacks_is_said(elsewhere, world, tmp_path, capsys):
    shutil.copytree(world, tmp_path / "some")
    (tmp_path / "some" / Run(elsewhere["run"]).manifest.query("split == 'train'")["path"].iloc[0]).unlink()
    assert main(["report", str(elsewhere["run"]), "--root", str(tmp_path / "some")]) == 0
    told = capsys.readouterr().out
    assert "images is missing" in told and "done without" not in told
    assert main(["report", str(elsewhere["run"]), "--root", str(world)]) == 0
    assert "missing" not in capsys.readouterr().out


def test_a_folder_of_images_is_its_own_data_root(elsewhere, tmp_path, monkeypatch):
    own(tmp_path / "mine", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAKEFACE_DATA", str(elsewhere["empty"]))
    assert main(["score", "mine", "--model", str(elsewhere["run"])]) == 0
    assert len(pd.read_csv("predictions.csv")) == 16


def test_metrics_hold_what_scripts_rely_on(world, tmp_path):
    command = [sys.executable, "-m", "fakeface.cli.main", "run", "man-2-test", "--root", world, "--out", tmp_path / "run", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True)  # Python from its very start, once
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["positive"] == "fake" and set(metrics["tests"]) == {"celeba", "ffhq"}
    wanted = {"n", "accuracy", "accuracy_ci95", "balanced_accuracy", "auc", "average_precision", "majority_baseline", "specificity",
              "sensitivity", "by_source"}
    for scores in metrics["tests"].values():
        assert wanted <= scores.keys()
        for row in scores["by_source"].values():
            assert row.keys() == {"label", "n", "correct", "accuracy", "accuracy_ci95"}
    predictions = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert predictions.groupby("split").size()["celeba"] == metrics["tests"]["celeba"]["n"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_run_that_is_killed_leaves_nothing_that_looks_like_a_result(world, tmp_path):
    command = ["-m", "fakeface.cli.main", "run", "man-1", "--root", world, "--out", tmp_path / "run", "--epochs", "500"]
    process = forked.Popen(command, stdout=forked.DEVNULL, stderr=forked.DEVNULL)
    limit = time.time() + 120
    while not list(tmp_path.glob(".run.partial-*/manifest.parquet")) and process.poll() is None and time.time() < limit:
        time.sleep(0.1)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run").exists()
    again = fakeface("run", "man-1", "--root", world, "--out", tmp_path / "run", "--epochs", 1)
    assert again.returncode == 0 and (tmp_path / "run" / "metrics.json").exists()


def test_bad_input_is_one_line_without_traceback(world, tmp_path):
    out = ("--out", tmp_path / "x", "--model", "transfer")
    for args, says in [(("man-1", "--root", tmp_path / "none"), "is no folder"), (("man-7", "--root", world), "known: "),
                       (("man-1", "--root", world, *out, "--arch", "resnet35"), "close: "),
                       (("man-1", "--root", world, *out, "--arch", "small"), "give --model small"),
                       (("man-1", "--root", world, "--model", "resnet34"), "--model transfer --arch resnet34")]:
        done = fakeface("run", *args)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and says in done.stderr
    assert not (tmp_path / "x").exists()


def own(folder: Path, n: int = 120, side: int = 32) -> Path:
    "A folder of noise with real and fake in it."
    rng = np.random.default_rng(0)
    for label, noise in (("real", 20), ("fake", 60)):
        (folder/label).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.normal(128, noise, (side, side, 3)).clip(0, 255).astype(np.uint8)).save(folder/label/f"{i}.jpg")
    return folder


def test_a_folder_is_trained_on_several_times_on_one_split_and_gone_on_with(tmp_path, monkeypatch, capsys):
    own(tmp_path / "faces", 24)
    monkeypatch.chdir(tmp_path)
    ask = ["run", "faces", "--profile", "small", "--epochs", "1", "--seed", "3", "--seeds"]
    assert main([*ask, "2"]) == 0
    first, second = (Run(tmp_path / "runs/faces/seeds" / f"seed-{k}") for k in range(2))
    pd.testing.assert_frame_equal(first.manifest, second.manifest)
    once = [*ask[:-1], "--out", "once"]
    assert main(once) == 0 and dict(Run("once").manifest[["path", "split"]].values) == dict(first.manifest[["path", "split"]].values)
    assert (first.info["seed"], second.info["seed"], first.info["split_seed"]) == (0, 1, 3)
    made = first.file("metrics").stat().st_mtime_ns
    assert main([*ask, "3"]) == 0 and first.file("metrics").stat().st_mtime_ns == made
    assert pd.read_csv("runs/faces/seeds/summary.csv")["runs"].unique().tolist() == [3]
    own(tmp_path / "more", 30)
    assert main(["run", "more", *ask[2:], "2", "--out", "runs/faces/seeds"]) == 2


def test_what_a_training_did_not_use_is_not_recorded_and_older_folders_that_name_it_are_read(elsewhere, world, tmp_path):
    run = Run(elsewhere["run"])
    idle = dict(arch="resnet34", pretrained=True, frozen="train", frozen_epochs=1)
    info, card = (json.loads(run.file(name).read_text()) for name in ("info", "card"))
    assert info["settings"]["model"] == "small" and [info["settings"][k] for k in idle] == [None] * 4 and card["arch"] is None
    assert ">arch<" not in run.file("report").read_text()
    shutil.copytree(run.folder, tmp_path / "old")
    (tmp_path / "old" / "run.json").write_text(json.dumps(info | {"settings": info["settings"] | idle}))
    (tmp_path / "old" / "model.json").write_text(json.dumps(card | {"arch": "resnet34", "pretrained": True}))
    old, rows = Run(tmp_path / "old"), run.predictions.head(4)
    pictures = [world / path for path in rows["path"]]
    np.testing.assert_array_equal(load_scorer(old.folder, "cpu")(pictures), load_scorer(run.folder, "cpu")(pictures))
    assert old.fingerprint == run.fingerprint
    bundle = read_bundle(export_bundle(old.folder, tmp_path / "old.fakeface"))
    assert bundle.info.fingerprint == run.fingerprint and "resnet34" not in bundle.parts["README.md"].decode()


def test_names_are_checked_before_a_folder_is_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fakeface.experiments.plan.own_folder", lambda *args, **more: pytest.fail("the folder was listed"))
    (tmp_path/"faces"/"real").mkdir(parents=True)
    for options, says in ((["--arch", "small"], "give --model small"), (["--arch", "resnet35"], "close: "),
                          (["--model", "smal"], "use one of")):
        assert main(["run", str(tmp_path/"faces"), *options]) == 2 and says in capsys.readouterr().err


def test_an_arch_asked_for_by_name_is_not_replaced_and_a_profiles_is_noted(tmp_path, capsys, monkeypatch):
    from fakeface.data.recipes import read_recipe
    from fakeface.experiments.plan import own_folder
    from fakeface.serve.export import export_bundle
    monkeypatch.setattr("fakeface.train.models.hub_answers", lambda arch: False)  # a machine without internet
    tuned = read_recipe("man-1").profiles  # they ask for resnet34
    monkeypatch.setattr("fakeface.experiments.plan.checked_profiles", lambda profiles, where: tuned)
    faces, short = own(tmp_path/"faces"), ["--epochs", "1", "--size", "32", "--out", str(tmp_path/"run")]
    assert main(["run", str(faces), "--arch", "squeezenet1_1", *short]) == 2
    said = capsys.readouterr().err
    assert "squeezenet1_1, which was asked for by name" in said
    assert "--weights package:efficientnet-lite0 --arch tf_efficientnet_lite0" in said
    recipe, *images = own_folder(faces)
    with pytest.raises(InputError, match="asked for by name"):
        experiments.run_recipe(recipe, faces, tmp_path/"run", own=images, progress=False, arch="squeezenet1_1")
    assert not (tmp_path/"run").exists()
    assert main(["run", str(faces), *short]) == 0
    out, err = capsys.readouterr()
    assert "takes the place of resnet34" in err and "frozen epoch 1 of 1: " in out and "in the place of resnet34" in out
    run = Run(tmp_path/"run")
    assert (run.info["arch_asked"], run.settings["arch"]) == ("resnet34", "tf_efficientnet_lite0")
    page = run.file("report").read_text()
    assert "tf_efficientnet_lite0 (asked for: resnet34)" in page and "1 frozen + 1 epoch." in page
    card = (export_bundle(run.folder, tmp_path/"card")/"README.md").read_text()
    assert "the recipe asks for resnet34" in card and "1 frozen + 1 epoch" in card
    assert main(["run", str(faces), *short, "--overwrite", "--arch", "tf_efficientnet_lite0"]) == 0  # named, and the package's own
    assert "takes the place" not in capsys.readouterr().err and Run(tmp_path/"run").info["arch_asked"] is None


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")
def test_a_training_with_workers_that_is_stopped_says_one_line(tmp_path):
    command = [sys.executable, "-m", "fakeface.cli.main", "run", own(tmp_path/"faces", side=128), "--model", "small", "--size", "96",
               "--augment", "fastai", "--no-cache", "--epochs", "500", "--out", tmp_path/"run"]
    heard = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # whoever runs these tests in the background ignores it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **heard)
    while not (line := process.stdout.readline()).startswith("epoch 2 of 500") and line: pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in out + err, out + err
    said = "fakeface: stopped; What was trained is kept: the same command goes on from there."
    assert [w for w in err.splitlines() if not w.startswith("note: ")] == [said]


def test_a_stop_that_was_lost_ends_a_training_at_the_next_batch(world):
    made = plan("man-2-test", world, epochs=1, size=32, scale=0.25)
    learn = make_learner(face_dataloaders(made.manifest, world, **loader_options(made.settings)), made.settings)

    def deaf(number, frame): pass  # its exception vanished
    deaf.heard = KeyboardInterrupt()
    usual = signal.signal(signal.SIGINT, deaf)
    try:
        with pytest.raises(KeyboardInterrupt): train(learn, 1, progress=False)
    finally: signal.signal(signal.SIGINT, usual)


# --- a training that was stopped --------------------------------------------------------------------------------------

TRAINED = """
import os, signal, sys, torch
from fakeface.experiments import run as experiments
from fakeface.train.checkpoint import Checkpoint
from fakeface.train.learners import StopDiverged
torch.set_num_threads(1)
experiments.write_report, experiments.measure_baselines = lambda *args: None, lambda *args: {}
Checkpoint.due = lambda self: True  # after every epoch, however short
root, out, each_epoch, *at = sys.argv[1:]
plain = StopDiverged.after_batch
def killing(self):
    if at and self.training and at[0] == f"{self.learn.epoch}:{self.iter}": os.kill(os.getpid(), signal.SIGKILL)
    plain(self)
StopDiverged.after_batch = killing
experiments.run_recipe("man-2-test", root, out, epochs=4, size=32, scale=0.4, batch_size=16, augment="flip", precision="32", progress=False,
                       each_epoch=each_epoch == "yes")
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("each_epoch", ["no", "yes"])
def test_a_training_that_is_killed_twice_comes_to_the_same_bits(each_epoch, world, tmp_path):
    def made(folder: str, *at: str) -> subprocess.CompletedProcess:
        (tmp_path / folder).mkdir(exist_ok=True)
        return forked.run(["-c", TRAINED, world, tmp_path / folder / "run", each_epoch, *at], capture_output=True, text=True)
    assert made("whole").returncode == 0
    for at, goes_on in (("1:2", ""), ("2:3", "goes on from epoch 2 of 4")):
        done = made("cut", at)
        assert done.returncode == -signal.SIGKILL and goes_on in done.stderr
        assert not (tmp_path / "cut" / "run").exists()
    done = made("cut")
    assert done.returncode == 0 and "goes on from epoch 3 of 4" in done.stderr, done.stderr
    whole, cut = (Run(tmp_path / folder / "run") for folder in ("whole", "cut"))
    pd.testing.assert_frame_equal(whole.predictions, cut.predictions, check_exact=True)
    pd.testing.assert_frame_equal(whole.history.drop(columns="seconds"), cut.history.drop(columns="seconds"), check_exact=True)
    if each_epoch == "yes":
        tables = [pd.read_csv(run.file("epochs")).drop(columns="seconds") for run in (whole, cut)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert {p.name for p in whole.folder.iterdir()} == {p.name for p in cut.folder.iterdir()}
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["run", "test_use.jsonl"]
    uses = [[json.loads(line) for line in (run.folder.parent / "test_use.jsonl").read_text().splitlines()] for run in (whole, cut)]
    assert len(uses[0]) == len(uses[1]) == 2 and {use["trained"] for use in uses[1]} == {cut.info["started"]}
    assert cut.info["training"] == whole.info["training"] | {"went_on": "epoch 2 of 4, epoch 3 of 4"}


@pytest.fixture
def stopped(world, monkeypatch) -> Callable[..., Run]:
    "Runs man-2-test with options; with `at`, Ctrl-C comes in that epoch."
    monkeypatch.setattr(experiments, "write_report", lambda *args: None)
    monkeypatch.setattr(experiments, "measure_baselines", lambda *args: {})
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    plain = StopDiverged.after_batch
    def run(out: Path | None, at: int = 0, why: type[BaseException] = KeyboardInterrupt, **options: object) -> Run:
        def stopping(self: StopDiverged) -> None:
            if at and self.training and self.learn.epoch == at - 1 and self.iter: raise why("stopped")
            plain(self)
        with monkeypatch.context() as patched:
            patched.setattr(StopDiverged, "after_batch", stopping)
            return experiments.run_recipe("man-2-test", world, out, **SMALL | dict(epochs=3, batch_size=16) | options)
    return run


def test_another_question_begins_anew_and_says_what_differs(stopped, tmp_path):
    for at, change, says in ((2, {}, None), (2, dict(lr=0.001), "with other lr lies there: this one begins anew"), (0, dict(seed=3), "lr")):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(KeyboardInterrupt) if at else nullcontext(): stopped(tmp_path / "run", at, **change)
        words = [str(w.message) for w in told if "begins anew" in str(w.message) or "goes on" in str(w.message)]
        assert len(words) == bool(says) and (not says or says in words[0]), words
    assert "went_on" not in Run(tmp_path / "run").info["training"] and len(Run(tmp_path / "run").history) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "test_use.jsonl"]


def test_a_damaged_file_begins_anew(stopped, tmp_path):
    for damage in (lambda data: data[:-500] + bytes(500), lambda data: data[:1000]):
        with pytest.raises(KeyboardInterrupt): stopped(tmp_path / "run", 2)
        (file,) = tmp_path.glob(".run.partial-*/training.pt")
        file.write_bytes(damage(file.read_bytes()))
        with pytest.warns(DataNote, match="cannot be read any more .*its bytes are not those.*it begins anew"):
            assert "went_on" not in stopped(tmp_path / "run").info["training"]
        shutil.rmtree(tmp_path / "run")


def test_without_a_folder_of_its_own_a_command_finds_what_it_began(stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt): stopped(None, 2)
    (begun,) = (tmp_path / "runs" / "man-2-test").glob(".*.partial-*")
    time.sleep(1.1)  # the clock gives another name
    with pytest.warns(DataNote, match="goes on from epoch 2 of 3"): run = stopped(None)
    assert begun.name.startswith(f".{run.folder.name}.partial-")
    assert sorted(p.name for p in run.folder.parent.iterdir()) == sorted([run.folder.name, "test_use.jsonl"])


def test_clean_leaves_a_training_that_was_stopped_until_all_is_asked_for(stopped, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt) as error: stopped(tmp_path / "run", 2)
    assert "the same command goes on" in " ".join(error.value.__notes__)
    for args, says in (((), ": a training that was stopped; the command that began it goes on from there"), (("--all",), "removed ")):
        assert main(["clean", str(tmp_path), *args]) == 0 and says in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_a_training_that_diverged_is_not_gone_on_with(stopped, tmp_path):
    with pytest.raises(DivergedError) as error: stopped(tmp_path / "run", 2, DivergedError)
    assert not hasattr(error.value, "__notes__") and list(tmp_path.iterdir()) == []


def test_a_kill_between_the_saved_network_and_the_end_of_its_checkpoint_leaves_none_in_the_finished_run(stopped, tmp_path, monkeypatch):
    def killed(self, all_of_it: bool = False) -> None: raise KeyboardInterrupt
    with monkeypatch.context() as broken:
        broken.setattr(Checkpoint, "forget", killed)
        with pytest.raises(KeyboardInterrupt): stopped(tmp_path / "run")
    (kept,) = tmp_path.glob(".run.partial-*")
    assert {"training.pt", "model.json"} <= {p.name for p in kept.iterdir()}
    run = stopped(tmp_path / "run")
    assert not (run.folder / "training.pt").exists() and len(run.predictions)


def test_a_disk_that_cannot_take_a_checkpoint_costs_the_training_nothing(stopped, tmp_path, monkeypatch):
    def full(*args: object) -> None: raise OSError(28, "No space left on device", "training.pt")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_state", full)
        with pytest.warns(DataNote, match="could not be kept .No space left on device.; it goes on"): run = stopped(tmp_path / "run")
    pd.testing.assert_frame_equal(run.predictions, stopped(tmp_path / "other").predictions.assign(run="man-2-test"), check_exact=True)


# --- two at once ------------------------------------------------------------------------------------------------------

def test_two_processes_that_draw_the_same_world_do_not_disturb_each_other(world, tmp_path):
    code = f"from fakeface.synthetic.world import build_world; build_world({str(tmp_path / 'world')!r}, images=400, workers=1)"
    drawing = [forked.Popen(["-c", code], stderr=forked.PIPE, text=True) for _ in range(2)]
    for process in drawing:
        assert process.communicate()[1] == "" and process.returncode == 0
    files = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()} for root in (tmp_path / "world", world)]
    assert files[0] == files[1]  # as one process alone draws it
    assert [p.name for p in tmp_path.iterdir()] == ["world"]


# --- work is not thrown away ------------------------------------------------------------------------------------------

SMALL = dict(epochs=1, size=32, scale=0.25, progress=False)


def test_images_that_break_after_the_scan_become_rejects_and_the_run_goes_on(world, tmp_path, monkeypatch):
    root, plain, lost = shutil.copytree(world, tmp_path / "faces"), experiments._train_and_predict, {}
    def breaking(composed, root, *args):
        for split in ("train", "valid", "ffhq"):
            lost[split] = composed.manifest.query("split == @split").path.iloc[2]
        (root / lost["train"]).write_bytes(b"")
        (root / lost["valid"]).unlink()
        (root / lost["ffhq"]).write_bytes((root / lost["ffhq"]).read_bytes()[:400])
        return plain(composed, root, *args)
    monkeypatch.setattr(experiments, "_train_and_predict", breaking)
    run = experiments.run_recipe("man-2-test", root, tmp_path / "run", **SMALL)
    assert set(lost.values()) <= set(run.rejects.path) and run.rejects.set_index("path").reason[list(lost.values())].notna().all()
    assert run.metrics["lost"] == 3 and run.metrics["rejected"] == len(run.rejects)
    assert not set(lost.values()) & (set(run.predictions.path) | set(run.manifest.path))
    assert run.metrics["tests"]["ffhq"]["n"] == (run.manifest.split == "ffhq").sum()
    assert not list(run.folder.glob(".*"))


def test_a_run_that_fails_while_predicting_keeps_its_network_and_the_same_command_goes_on(world, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(experiments, "predict", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError) as error:
            experiments.run_recipe("man-2-test", world, tmp_path / "run", **SMALL)
    assert "the same command goes on" in " ".join(error.value.__notes__)
    (kept,) = tmp_path.glob(".run.partial-*")
    weights = (kept / "model.safetensors").read_bytes()
    assert {"history.csv", "model.json", "manifest.parquet"} <= {p.name for p in kept.iterdir()}
    with monkeypatch.context() as again:
        again.setattr(experiments, "train", lambda *args: pytest.fail("it was trained again"))
        run = experiments.run_recipe("man-2-test", world, tmp_path / "run", **SMALL)
    assert run.file("weights").read_bytes() == weights and len(run.predictions) and len(run.history) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "test_use.jsonl"]
    assert not run.file("weights").with_name("begun.json").exists()


def test_a_disk_that_cannot_take_the_network_costs_the_network_alone(world, tmp_path, monkeypatch):
    def full(*args):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(experiments, "save_file", full)
    with pytest.raises(OSError, match="model.safetensors could not be written .No space left on device.; the rest of the run is there"):
        experiments.run_recipe("man-2-test", world, tmp_path / "run", **SMALL)
    run = Run(tmp_path / "run")
    assert len(run.predictions) and run.file("report").exists() and not run.file("weights").exists()


def test_a_folder_that_somebody_writes_is_refused_at_once_and_given_free_afterwards(world, tmp_path):
    with Claim(tmp_path / "run"), pytest.raises(InputError, match="another process is writing there"):
        experiments.run_recipe("man-2-test", tmp_path / "no root", tmp_path / "run", **SMALL, profile="small")
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_foreseen_is_one_line_and_a_file(monkeypatch, tmp_path, capsys):
    def sources_table(root):
        raise RuntimeError("nobody thought\nof this")
    monkeypatch.setattr(cards, "sources_table", sources_table)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["sources"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    (log,) = tmp_path.glob("fakeface-error-*.log")
    assert "RuntimeError: nobody thought of this" in line and str(log) in line and "Traceback" in log.read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_as_ctrl_c_does(number, monkeypatch, tmp_path, capsys):
    def sources_table(root):
        with Claim(tmp_path / "r") as claim, whole_folder(claim):
            os.kill(os.getpid(), number)
            time.sleep(5)
    monkeypatch.setattr(cards, "sources_table", sources_table)
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP)}  # a job in the background is started deaf to them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert main(["sources"]) == 128 + number
    finally:
        for s, handler in kept.items():
            signal.signal(s, handler)
    assert "stopped; nothing half-written is left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "fakeface.cli.main", "sources"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 141)


def test_clean_removes_what_killed_commands_left_and_says_what_it_leaves(tmp_path, capsys):
    for name in (".a.partial-x0123456789", ".b.partial-77"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert main(["clean", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "removed" in told and "cannot be told" in told
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [".b.partial-77"]
