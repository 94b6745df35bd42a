"A sweep that is killed goes on where it was, and what its cells have in common stays so."
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import forked
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeface.cli.main import main
from fakeface.core.basics import InputError
from fakeface.data.recipes import SETTINGS, read_recipe
from fakeface.experiments import learning_curve as sweeps
from fakeface.experiments.advice import enough_epochs, rank_agreement
from fakeface.experiments.learning_curve import curve, first_images, mix, nested_order
from fakeface.experiments.plan import choose
from fakeface.experiments.series import series_failures
from fakeface.synthetic.world import build_world
from fakeface.train.runs import Run

ASKED = dict(sizes=(40, 70, 100), epochs=2, seeds=(0, 1), progress=False)
SWEEP = """
import sys, torch
from fakeface.experiments.learning_curve import curve
torch.set_num_threads(1)
curve("man-2-test", sys.argv[1], sys.argv[2], sizes=(40, 70, 100), epochs=2, seeds=(0, 1), progress=False)
"""

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("root") / "world", images=300, workers=1)


def finished(out: Path) -> dict[str, dict[str, tuple[int, bytes]]]:
    "The finished cells: name -> file -> time of the last change, content."
    return {m.parent.name: {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in m.parent.iterdir()}
            for m in sorted(out.glob("[!.]*/metrics.json"))}


# --- killed and resumed -----------------------------------------------------------------------------------------------

@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_sweep_that_is_killed_goes_on_and_leaves_its_finished_cells_alone(world, tmp_path):
    out = tmp_path / "killed"
    process = forked.Popen(["-c", SWEEP, str(world), str(out)], stdout=forked.DEVNULL, stderr=forked.DEVNULL)
    limit = time.time() + 300
    while len(list(out.glob("[!.]*/metrics.json"))) < 2 and process.poll() is None and time.time() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    before = finished(out)
    assert 2 <= len(before) < 6
    done = forked.run(["-c", SWEEP, str(world), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = finished(out)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before  # neither bytes nor times
    whole = tmp_path / "whole"
    curve("man-2-test", world, whole, **ASKED)
    assert not list(out.glob(".*"))  # what was being written is gone
    killed, unbroken = (pd.concat([pd.read_csv(p) for p in sorted(d.glob("*/epochs.csv"))]) for d in (out, whole))
    pd.testing.assert_frame_equal(killed.drop(columns="seconds"), unbroken.drop(columns="seconds"))


def test_a_cell_that_was_being_written_is_not_taken_for_one(world, tmp_path):
    asked = {**ASKED, "sizes": (40,), "seeds": (0,)}
    (tmp_path / ".size-40-seed-0.partial-123").mkdir()
    (tmp_path / ".size-40-seed-0.partial-123" / "epochs.csv").write_text("epoch,test\n1,")
    table = curve("man-2-test", world, tmp_path, **asked)
    assert set(table["epoch"]) == {1, 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.json", "size-40-seed-0", "sweep.csv", "test_use.jsonl"]


def test_a_cell_notes_the_body_that_was_asked_for_where_a_package_takes_its_place(world, tmp_path, monkeypatch):
    monkeypatch.setattr("fakeface.train.models.hub_answers", lambda arch: False)  # a machine without internet
    asked = dict(profile="published", size=32, epochs=1, augment="none", weights="auto", progress=False)
    curve("man-2-test", world, tmp_path / "curve", sizes=(40,), seeds=(0,), **asked)
    sweeps.mix("man-2-test", world, tmp_path / "mix", shares=(0.5,), total=40, seeds=(0,), **asked)
    for cell in tmp_path.glob("*/*-seed-0"):
        info = Run(cell).info
        assert (info["arch_asked"], info["settings"]["arch"]) == ("resnet34", "tf_efficientnet_lite0"), cell
        assert pd.read_csv(cell / "epochs.csv").groupby("epoch")["frozen"].first().tolist() == [True, False]  # the head alone first
        assert Run(cell).history["frozen"].tolist() == [True, False], cell
    assert len(list(tmp_path.glob("*/*-seed-0"))) == 2


# --- a cell that raises -----------------------------------------------------------------------------------------------

def test_a_cell_that_raises_stops_no_other_and_each_of_the_others_is_a_run(world, tmp_path, monkeypatch):
    plain = sweeps._run_cell
    def moody(made, composed, seed, schedule, folder):
        if folder.name == "size-80-seed-0":
            raise ValueError("out of luck")
        return plain(made, composed, seed, schedule, folder)
    monkeypatch.setattr(sweeps, "_run_cell", moody)
    table = curve("man-2-test", world, tmp_path / "sweep", **{**ASKED, "epochs": 1, "seeds": (0,), "sizes": (40, 60, 80, 100)})
    assert set(table["size"]) == {40, 60, 100}
    assert series_failures(tmp_path / "sweep", "curve") == ["FAILED size-80-seed-0: ValueError: out of luck"]
    cells = [tmp_path / "sweep" / f"size-{n}-seed-0" for n in (40, 60, 100)]
    assert main(["compare", *map(str, cells[:2])]) == 0 and main(["score", str(cells[2])]) == 0
    for cell in cells:
        assert main(["report", str(cell)]) == 0 and (cell / "report.html").exists()
    monkeypatch.setattr(sweeps, "_run_cell", plain)
    again = curve("man-2-test", world, tmp_path / "sweep", **{**ASKED, "epochs": 1, "seeds": (0,), "sizes": (40, 60, 80, 100)})
    assert set(again["size"]) == {40, 60, 80, 100} and not (tmp_path / "sweep" / "failed").exists()


# --- what is refused --------------------------------------------------------------------------------------------------

def test_arguments_that_contradict_the_folder_are_refused_with_the_mend(world, tmp_path):
    asked = {**ASKED, "sizes": (40,), "seeds": (0,)}
    curve("man-2-test", world, tmp_path / "sweep", **asked)
    before = finished(tmp_path / "sweep")
    other = build_world(tmp_path / "other", images=300, seed=1, workers=1)
    for change, says in [(dict(epochs=3), "epochs 2, now 3"), (dict(lr=0.1), "lr 0.002, now 0.1"), (dict(recipe="man-1"), "images|recipe"),
                         (dict(schedule="one-cycle"), "schedule 'flat'"), (dict(root=other), "images")]:
        recipe, root = change.pop("recipe", "man-2-test"), change.pop("root", world)
        with pytest.raises(InputError, match=says) as error:
            curve(recipe, root, tmp_path / "sweep", **{**asked, **change})
        assert "--out" in str(error.value)
    with pytest.raises(InputError, match="no mix"):
        mix("man-2-test", world, tmp_path / "sweep", epochs=2, seeds=(0,), schedule="flat", progress=False)
    assert finished(tmp_path / "sweep") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="no curve"):
        curve("man-2-test", world, tmp_path / "mine", **asked)


# --- nested subsets ---------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(0, 60), min_size=30, max_size=150), st.integers(30, 120), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_smaller_training_set_is_part_of_the_larger_and_subjects_stay_whole(people, n_fake, seed):
    rows = [dict(path=f"r/{i}", source="lfw", label="real", subject=f"p{k}") for i, k in enumerate(people)]
    train = pd.DataFrame(rows + [dict(path=f"f/{i}", source="1m", label="fake", subject=f"s{i}") for i in range(n_fake)])
    order, images, last = nested_order(train, seed), train.groupby("subject").size(), set()
    pd.testing.assert_frame_equal(order, nested_order(train.sample(frac=1, random_state=seed), seed))
    assert sorted(order.path) == sorted(train.path)
    for size in (20, 40, len(train)):
        try:
            part = first_images(order, size)
        except InputError:  # whole subjects come to another size
            continue
        assert last <= set(part.path)
        assert part.groupby("subject").size().to_dict() == images[part.subject.unique()].to_dict()  # nobody is halved
        last = set(part.path)


def test_validation_and_tests_are_the_same_for_all_cells(world, tmp_path):
    table = curve("man-2-test", world, tmp_path, **{**ASKED, "epochs": 1})
    assert (table.groupby("test")[["n", "n_fake"]].nunique() == 1).all().all()
    assert {"valid", "celeba", "ffhq"} == set(table["test"])


# --- trainings that stop early ------------------------------------------------------------------------------------------

def stopped_sweep() -> pd.DataFrame:
    "Three sizes and seeds, twenty epochs; most runs stop at the ninth, those of the largest size all."
    last = {(100, 0): 20, (200, 1): 20}
    return pd.DataFrame([dict(size=size, seed=seed, epoch=e, test="t", n=500, n_real=250, n_fake=250,
                              accuracy=base + 0.002 * min(e, 8) - 0.01 * seed)
                         for size, base in ((100, 0.7), (200, 0.8), (400, 0.9)) for seed in (0, 1, 2)
                         for e in range(1, last.get((size, seed), 9) + 1)])


def test_a_run_that_stopped_early_counts_with_its_last_epoch():
    table = stopped_sweep()
    assert sweeps.curve_table(table)["runs"].tolist() == [3, 3, 3]
    law = sweeps.fit_power_law(table, draws=50)
    assert (law.runs, law.seeds) == (9, 3)
    assert "last epoch of each run, 9 to 20" in sweeps.plot_curve(table).get_title()
    small = table[table["size"] == 100]
    assert len(sweeps.at(small)) == 3
    same = sweeps.at(small.assign(share_real=0.5), x="share_real")
    assert len(same) == 3


def test_advice_on_epochs_uses_all_seeds_where_some_stop_early():
    table = stopped_sweep()
    found, whole = (enough_epochs(t, size=100) for t in (table, table[table["epoch"] <= 9]))
    assert found.accuracy == pytest.approx(whole.accuracy)  # the mean of three seeds, not what one of them has
    ranks = rank_agreement(table[table["size"] < 300])
    assert ranks["same_order"].tolist() == ranks["pairs"].tolist()


# --- what was asked for reaches every cell ------------------------------------------------------------------------------

def test_weights_of_the_hub_are_not_those_of_the_profile_again(world, tmp_path, monkeypatch):
    file = tmp_path / "own.pth"
    file.write_bytes(b"")
    recipe = read_recipe("man-2-test")
    recipe = replace(recipe, profiles={"small": {"model": "transfer", "arch": "squeezenet1_1", "size": 64, "weights": str(file)}})
    asked = []
    monkeypatch.setattr(sweeps, "run_recipe", lambda *args, **kwargs: asked.append(kwargs) or (_ for _ in ()).throw(InputError("enough")))
    with pytest.raises(InputError, match="enough"):
        curve(recipe, world, tmp_path / "hub", sizes=(40,), seeds=(0,), epochs=1, progress=False, weights="hub")
    own = {k: v for k, v in asked[0].items() if k in SETTINGS}
    assert choose(recipe, world, "small", **own)[1]["weights"] is None
