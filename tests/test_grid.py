"A grid that is killed goes on with its finished trials untouched, and a trial that raises stops no other."
import json
import os
import shutil
import signal
import time
from pathlib import Path

import forked
import pandas as pd
import pytest
import torch
from torchvision import models

from fakeface.core.basics import InputError
from fakeface.evaluate.scores import score_predictions
from fakeface.experiments.grid import combinations, grid_answer, grid_table, read_grid, run_grid
from fakeface.experiments.holdout import run_holdout
from fakeface.experiments.learning_curve import curve
from fakeface.experiments.run import run_recipe
from fakeface.experiments.seeds import run_seeds
from fakeface.experiments.series import Trial, open_folder
from fakeface.experiments.transfer import (divide, present_sets, read_transfer, row_manifest, run_transfer,
                                           transfer_table)
from fakeface.report.origins import data_words
from fakeface.synthetic.world import build_world
from fakeface.train.runs import Run, store

GRID = """
name: tiny
title: four tiny trials, of which one cannot work
recipe: man-2-test
profile: small
settings: {epochs: 2, size: 32, lr: 1e-3}
axes:
  model: [small(width=4), two_conv]
  color: [rgb, grey]
  crop: [1.0]
trials:
  - {name: impossible, model: two_conv(width=3)}
"""
RUN = """
import sys, torch
from fakeface.experiments.grid import run_grid
torch.set_num_threads(1)
run_grid(*sys.argv[1:4], progress=False)
"""
ROWS = RUN.replace("grid", "transfer").replace("progress=False", "progress=False, epochs=2, size=32")

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("root") / "world", images=300, workers=1)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(GRID)
    return tmp_path / "tiny.yaml"


def done(out: Path) -> dict[str, dict[str, tuple[int, bytes]]]:
    "The finished run folders: trial -> file -> time of the last change, content."
    return {m.parent.name: {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in m.parent.iterdir()}
            for m in sorted(out.glob("[!.]*/metrics.json"))}


def kill_in_the_middle(code: str, args: list[str], out: Path, after: int) -> None:
    "Starts a process and kills it once so many trials are finished."
    process = forked.Popen(["-c", code, *args], stdout=forked.DEVNULL, stderr=forked.DEVNULL)
    limit = time.time() + 300
    while len(list(out.glob("[!.]*/metrics.json"))) < after and process.poll() is None and time.time() < limit:
        time.sleep(0.01)
    while not list(out.glob(".*.partial-*")) and process.poll() is None and time.time() < limit:
        time.sleep(0.01)  # in the middle of the next one
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


# --- killed and resumed -----------------------------------------------------------------------------------------------

@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_grid_that_is_killed_goes_on_and_leaves_its_finished_trials_alone(world, grid, tmp_path):
    out, args = tmp_path / "killed", [str(grid), str(world), str(tmp_path / "killed")]
    kill_in_the_middle(RUN, args, out, after=2)
    before = done(out)
    assert 2 <= len(before) < 4
    assert set(grid_table(out)["status"]) == {"done", "waiting"}
    finished = forked.run(["-c", RUN, *args], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    after = done(out)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before  # neither bytes nor times
    assert not list(out.glob(".*"))  # what was being written is gone
    table = pd.read_csv(out / "grid.csv")
    assert table.groupby("status")["trial"].nunique().to_dict() == {"done": 4, "failed": 1}
    whole = run_grid(grid, world, tmp_path / "whole", progress=False)
    figures = ["trial", "test", "n", "rank"]
    pd.testing.assert_frame_equal(grid_table(out)[figures], whole[figures])


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_transfer_matrix_that_is_killed_goes_on_and_leaves_its_finished_rows_alone(world, tmp_path):
    out, args = tmp_path / "killed", ["kyllo", str(world), str(tmp_path / "killed")]
    kill_in_the_middle(ROWS, args, out, after=1)
    before = done(out)
    assert 1 <= len(before) < 3
    table = run_transfer("kyllo", world, out, progress=False, epochs=2, size=32)
    after = done(out)
    assert {name: after[name] for name in before} == before
    assert (list(after), set(table["status"])) == (["140k", "combined", "fairface_twins"], {"done"})


# --- a trial that raises ----------------------------------------------------------------------------------------------

def test_a_trial_that_raises_is_reported_and_the_others_finish_and_it_is_tried_again(world, grid, tmp_path, capsys):
    short = read_grid(grid)
    object.__setattr__(short, "axes", {"color": ["rgb", "grey"]})
    object.__setattr__(short, "trials", [dict(name="impossible", model="two_conv(width=3)"), dict(name="last", model="small(width=4)")])
    table = run_grid(short, world, tmp_path / "grid", epochs=1)
    said = capsys.readouterr().out
    assert "impossible" in said and "FAILED, WeightsError" in said and "trial 4 of 4 (last)" in said
    assert table.groupby("status")["trial"].nunique().to_dict() == {"done": 3, "failed": 1}
    assert "unexpected keyword argument 'width'" in table.set_index("trial").loc["impossible", "error"]
    assert any(line.startswith("FAILED impossible") for line in grid_answer(table))
    assert "Traceback" in (tmp_path / "grid" / "failed" / "impossible.txt").read_text()
    before = done(tmp_path / "grid")
    run_grid(short, world, tmp_path / "grid", epochs=1)
    said = capsys.readouterr().out
    assert "3 of 4 trials are finished already" in said and "trial 1 of 1 (impossible): FAILED" in said
    assert done(tmp_path / "grid") == before


def test_settings_with_equal_means_are_ranked_by_auc(tmp_path):
    "20 and 40 of 53 correct are as many as 21 and 39, though the mean of the two shares is the larger number by a bit."
    def trial(name: str, correct: int, miss: float) -> None:
        fake = [k % 2 == 1 for k in range(53)]
        p = [abs(f - (0.1 if k < correct else 0.5 + miss)) for k, f in enumerate(fake)]
        labels = ["fake" if f else "real" for f in fake]
        rows = pd.DataFrame(dict(path=[f"{k}.png" for k in range(53)], label=labels, p_fake=p, split="valid", source="lfw"))
        info = dict(recipe="", settings={}, seconds={})
        for part, value in (("metrics", score_predictions(rows)), ("predictions", rows), ("info", info)):
            store(tmp_path / "grid" / name, part, value)
    settings = dict(far={0: (20, 0.4), 1: (40, 0.4)}, near={0: (21, 0.1), 1: (39, 0.1)})
    trials = [Trial(f"{s}-{seed}", dict(setting=s, seed=seed), None) for s, seeds in settings.items() for seed in seeds]
    open_folder(tmp_path / "grid", "grid", {}, trials)
    for s, seeds in settings.items():
        for seed, (correct, miss) in seeds.items(): trial(f"{s}-{seed}", correct, miss)
    table = grid_table(tmp_path / "grid")
    assert table["auc"].astype(float).groupby(table["setting"]).mean().idxmax() == table["setting"][table["rank"] == 1].iloc[0] == "near"


# --- what is refused --------------------------------------------------------------------------------------------------

def test_a_grid_file_that_was_changed_is_refused_in_its_old_folder(world, grid, tmp_path):
    only = grid.with_name("only.yaml")
    only.write_text(GRID.partition("axes:")[0] + "axes: {color: [grey]}\n")
    run_grid(only, world, tmp_path / "old", progress=False, epochs=1)
    before = done(tmp_path / "old")
    for change, says in [("axes: {color: [rgb, grey]}", r"axes.color \['grey'\], now \['rgb', 'grey'\]"),
                         ("axes: {color: [grey]}\nscale: 0.5", "scale 1.0, now 0.5"), ("axes: {crop: [0.5]}", "axes")]:
        only.write_text(GRID.partition("axes:")[0] + change)
        with pytest.raises(InputError, match=says) as error:
            run_grid(only, world, tmp_path / "old", progress=False, epochs=1)
        assert "--out" in str(error.value)
    assert done(tmp_path / "old") == before


@pytest.fixture
def holdout(tmp_path: Path) -> Path:
    "A holdout of two by two kinds."
    (tmp_path / "pairs.yaml").write_text("""
name: pairs
title: four cells
real: {celeba: [{source: celeba, count: 500}], celeba-hq: [{source: lfw, count: 500}]}
fake: {one: [{source: 1m_fake_faces, count: 500}], two: [{source: thispersondoesnotexist, count: 500}]}
profiles: {small: {model: small, size: 32, epochs: 1}}
seeds: [0, 1, 1]
""")
    return tmp_path / "pairs.yaml"


@pytest.mark.parametrize("kind", ["grid", "holdout", "seeds", "transfer", "learning_curve"])
def test_a_series_ends_where_files_change_between_two_of_its_trainings(world, grid, holdout, tmp_path, monkeypatch, kind):
    root, out, begun = tmp_path / "root", tmp_path / "series", []
    shutil.copytree(world, root)
    def train(*args, **kwargs):
        begun.append(kwargs.get("out"))
        if len(begun) == 2: next(root.glob("celeba/**/*.jpg")).unlink()
        raise ValueError("out of luck")
    monkeypatch.setattr(f"fakeface.experiments.{kind}.run_recipe", train)
    run = dict(grid=lambda: run_grid(grid, root, out, progress=False), holdout=lambda: run_holdout(holdout, root, out, progress=False),
               seeds=lambda: run_seeds("man-2-in", root, out, progress=False, epochs=1, size=32),
               transfer=lambda: run_transfer("faces", root, out, progress=False, epochs=1, size=32),
               learning_curve=lambda: curve("man-2-in", root, out, sizes=[40], progress=False, epochs=1, size=32))[kind]
    with pytest.raises(InputError, match=r"series: files below the data root have changed since its first training began \(2 of"): run()
    assert len(begun) == 2


def test_a_holdout_whose_subjects_are_mended_is_begun_anew(world, holdout, tmp_path, monkeypatch):
    def train(*args, **kwargs): raise ValueError("out of luck")
    monkeypatch.setattr("fakeface.experiments.holdout.run_recipe", train)
    root, out = tmp_path / "root", tmp_path / "series"
    shutil.copytree(world, root)
    assert len(run_holdout(holdout, root, out, progress=False)) == 2 * 2 * 2  # a seed that is there twice is one
    note = json.loads((out / "holdout.json").read_text())
    (root / "celeba" / "identity_CelebA.txt").unlink()  # no image changes, but who is on which side
    with pytest.raises(InputError, match=r"its trials were made with kinds.celeba '\w{16}', now '\w{16}'; give another folder"):
        run_holdout(holdout, root, out, progress=False)
    del note["asked"]["kinds"]  # one that was begun before it was noted goes on
    note["asked"]["profile"] = None  # as it was noted before
    (out / "holdout.json").write_text(json.dumps(note))
    run_holdout(holdout, root, out, progress=False)
    run_holdout(holdout, root, out, profile="small", progress=False)  # which it was, named or not


def test_two_cells_of_one_name_are_refused(world, holdout, tmp_path):
    holdout.write_text(holdout.read_text().replace("one:", "hq-two:"))
    with pytest.raises(InputError, match="two trainings would lie in detector_celeba-hq-two_seed-0: rename one of the kinds"):
        run_holdout(holdout, world, tmp_path / "series", progress=False)
    assert not (tmp_path / "series").exists()


def test_trials_have_readable_names_of_their_own(grid):
    names = list(combinations(read_grid(grid)))
    assert names[0] == "model-small-width=4_color-rgb_crop-1.0"
    assert len({n.lower() for n in names}) == len(names) == 5


# --- one division for all rows ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["faces", "kyllo"])
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_image_and_no_subject_of_a_test_is_in_any_training(world, name, equal, seed):
    spec = read_transfer(name)
    divided, _ = divide(spec, world, seed)
    present = present_sets(spec, divided)
    rows = [row_manifest(spec, divided, names, present, equal, seed=seed) for names in [*([n] for n in present), present]]
    training = pd.concat([m[m["split"].isin(["train", "valid"])] for m in rows])
    tests = [m[~m["split"].isin(["train", "valid"])].reset_index(drop=True) for m in rows]
    for other in tests[1:]:
        pd.testing.assert_frame_equal(tests[0], other)
    assert not set(training["path"]) & set(tests[0]["path"])
    assert not set(training["subject"]) & set(tests[0]["subject"])
    sizes = [tuple(m.groupby(["split", "label"]).size().loc[["train", "valid"]]) for m in rows]
    assert not equal or len(set(sizes)) == 1


def test_a_copy_of_a_test_image_is_taken_out_of_training(world, tmp_path):
    root, spec = shutil.copytree(world, tmp_path / "copy"), read_transfer("faces")
    before, _ = divide(spec, root)
    test = before[before["split"] == "celeba"]["path"].iloc[0]
    learnt = before[(before["split"] == "train") & (before["set"] == "ffhq")]["path"].iloc[0]
    shutil.copy(root / test, root / learnt)
    after, _ = divide(spec, root)
    assert set(before["path"]) - set(after["path"]) == {learnt}


def test_cells_of_one_column_have_the_same_images(world, tmp_path):
    run_transfer("faces", world, tmp_path / "faces", progress=False, epochs=1, size=32, images=40)
    table = transfer_table(tmp_path / "faces")
    assert len(table) == 25
    for test, images in table.groupby("test")[["n_real", "n_fake"]]:
        assert (images.nunique() == 1).all(), test


def test_an_axis_that_a_model_does_not_know_is_no_axis(world, tmp_path):
    file = tmp_path / "idle.yaml"
    file.write_text(GRID.split("settings:")[0] + "settings: {model: transfer, arch: squeezenet1_1, pretrained: false}\n"
                    "axes: {model.dropout: [0.1, 0.9]}\n")
    with pytest.raises(InputError, match="transfer takes no options in brackets, dropout would change nothing"):
        run_grid(file, world, tmp_path / "idle", progress=False)
    with pytest.raises(InputError, match="probe takes no options in brackets"):
        run_recipe("man-2-test", world, tmp_path / "run", progress=False, model="probe(stages=2)")


def test_every_run_of_a_matrix_says_at_which_scale_it_was_made(world, tmp_path):
    run_transfer("faces", world, tmp_path / "matrix", scale=0.5, epochs=1, size=32, progress=False)
    runs = [Run(p.parent) for p in sorted((tmp_path / "matrix").glob("*/metrics.json"))]
    assert {r.info["scale"] for r in runs} == {0.5}
    assert all("multiplied by 0.5" in " ".join(data_words(r)) for r in runs)


def test_weights_on_an_axis_or_in_a_trial_are_told_apart_too(world, tmp_path, monkeypatch):
    file, out = tmp_path / "model.pth", tmp_path / "grid"
    monkeypatch.chdir(tmp_path)  # the same words in the file of the grid, whatever lies there
    texts = {"axis": "axes: {weights: [model.pth]}", "trial": "trials: [{name: one, weights: model.pth}]"}
    for kind, text in texts.items():
        (tmp_path / f"{kind}.yaml").write_text(f"name: {kind}\ntitle: t\nrecipe: man-2-test\nprofile: small\n{text}\n"
                                               "settings: {model: transfer, arch: squeezenet1_1, epochs: 1, size: 32}\n")
        torch.manual_seed(0)
        torch.save(models.squeezenet1_1(weights=None).state_dict(), file)
        run_grid(tmp_path / f"{kind}.yaml", world, out / kind, scale=0.2, progress=False)
        torch.save(models.squeezenet1_1(weights=None).state_dict(), file)
        with pytest.raises(InputError, match="weights_sha256.model.pth"):  # else the first one's figures would stand for the second
            run_grid(tmp_path / f"{kind}.yaml", world, out / kind, scale=0.2, progress=False)


def test_weights_of_the_same_name_are_told_apart(world, tmp_path):
    body = models.squeezenet1_1(weights=None).state_dict()
    for k in ("a", "b"):
        (tmp_path / k).mkdir()
        torch.save(body | {"features.0.bias": body["features.0.bias"] + (k == "b")}, tmp_path / k / "model.pth")
    asked = dict(profile="small", model="transfer_head", arch="squeezenet1_1", size=64, epochs=1, progress=False, seeds=1, scale=0.5)
    run_seeds("man-2-test", world, tmp_path / "seeds", weights=str(tmp_path / "a" / "model.pth"), **asked)
    with pytest.raises(InputError, match="weights_sha256"):  # else the first one's figures would stand for the second
        run_seeds("man-2-test", world, tmp_path / "seeds", weights=str(tmp_path / "b" / "model.pth"), **asked)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    run_seeds("man-2-test", world, tmp_path / "seeds", weights=str(tmp_path / "c" / "model.pth"), **asked)
