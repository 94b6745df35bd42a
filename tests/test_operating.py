"Sealed tests: nothing is fitted on one, and no look at one goes unwritten, whatever happens to the process that looks."
import json
import os
import signal
import time
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeface.cli.main import main
from fakeface.core.basics import InputError
from fakeface.core.stats import sign_flip
from fakeface.evaluate.ledger import Ledger, SealedError
from fakeface.evaluate.thresholds import fit_operating_point, load_point, point_words, save_point, score_at_point

IMAGES = pd.DataFrame({"path": [f"{i}.jpg" for i in range(5)]})
posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")


def predictions(split: str, n: int = 400, seed: int = 0) -> pd.DataFrame:
    "Scores of a fair detector."
    rng, label = np.random.default_rng(seed), np.repeat(["real", "fake"], n // 2)
    z = rng.normal(np.where(label == "fake", 4.0, -4.0), 3.0)
    return pd.DataFrame(dict(path=[f"{split}{i}.jpg" for i in range(n)], label=label, p_fake=1 / (1 + np.exp(-z)), split=split))


# --- the ledger -------------------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys
import pandas as pd
from fakeface.evaluate.ledger import Ledger
rows, whole = pd.DataFrame({"path": [f"{i}.jpg" for i in range(5)]}), os.write
def half(handle, data):
    whole(handle, data[: max(1, len(data) * int(sys.argv[2]) // 100)])  # a part of the line gets to the disk, then the power goes
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] != "none": os.write = half
book = Ledger(sys.argv[1])
for i in range(int(sys.argv[3])): book.enter("celeba", rows, f"writer-{os.getpid()}-{i}")
"""


def writer(home: Path, share: object, entries: int) -> forked.Popen:
    "A process that writes entries, or is killed with only so many per cent of its first one written."
    return forked.Popen(["-c", WRITER, str(home), str(share), str(entries)])


@posix
@pytest.mark.parametrize("share", [1, 50, 99])
def test_the_ledger_survives_a_kill_in_the_middle_of_a_write(tmp_path, share):
    book = Ledger(tmp_path)
    for i in range(3):
        book.enter("celeba", IMAGES, f"before-{i}")
    process = writer(tmp_path, share, 1)
    assert process.wait() == -signal.SIGKILL
    assert not book.file.read_bytes().endswith(b"\n")  # it really was torn
    after = book.enter("celeba", IMAGES, "after")
    assert [e["model"] for e in book.entries()] == ["before-0", "before-1", "before-2", "after"]
    assert after["before"] == 3


@posix
def test_a_writer_killed_at_any_moment_loses_at_most_what_it_was_writing(tmp_path):
    book, seen = Ledger(tmp_path), 0
    for _ in range(3):
        process = writer(tmp_path, "none", 100_000)
        limit = time.time() + 60
        while len(book.entries()) < seen + 5 and time.time() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = book.entries()
        assert len(now) >= seen + 5 and [e["before"] for e in now] == list(range(len(now)))
        seen = len(now)


@posix
def test_two_writers_at_once_lose_no_entry_and_count_right(tmp_path):
    both = [writer(tmp_path, "none", 40) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert [e["before"] for e in Ledger(tmp_path).entries()] == list(range(80))


def test_a_look_that_cannot_be_written_down_is_not_taken_silently(tmp_path):
    (tmp_path / "home").write_text("a file stands where the runs' folder should be")
    with pytest.raises(OSError):
        Ledger(tmp_path / "home").enter("celeba", IMAGES, "run")


# --- nothing is fitted on a test --------------------------------------------------------------------------------------

def test_fitting_a_threshold_on_a_test_set_is_refused_with_the_mend():
    with pytest.raises(SealedError, match=r"fitted on validation only.*`celeba` \(400 rows\).*predictions\['split'\] == 'valid'"):
        fit_operating_point(predictions("celeba"))


def test_one_test_row_among_the_validation_rows_is_enough_to_be_refused():
    with pytest.raises(SealedError, match=r"`ffhq` \(1 rows\)"):
        fit_operating_point(pd.concat([predictions("valid"), predictions("ffhq").head(1)]))


def test_a_table_that_does_not_say_what_is_validation_is_refused():
    with pytest.raises(SealedError, match="add a column `split`"):
        fit_operating_point(predictions("valid").drop(columns="split"))


def test_a_frozen_point_is_not_replaced_by_a_second_fit_unless_asked(tmp_path):
    first, second = (fit_operating_point(predictions("valid"), fpr=f) for f in (0.01, 0.05))
    save_point(first, tmp_path)
    with pytest.raises(SealedError, match="is frozen"):
        save_point(second, tmp_path)
    assert load_point(tmp_path) == first
    save_point(second, tmp_path, again=True)
    assert load_point(tmp_path) == second and len(json.loads((tmp_path / "operating.json").read_text())["earlier"]) == 1


@given(st.integers(2, 600), st.integers(2, 600), st.integers(0, 9), st.sampled_from([0.005, 0.01, 0.05, 0.3]))
@settings(max_examples=60, deadline=None)
def test_no_validation_set_lets_more_reals_through_than_promised(n_real, n_fake, seed, fpr):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"label": np.repeat(["real", "fake"], [n_real, n_fake]), "split": "valid"})
    rows["p_fake"] = rng.random(len(rows)).round(rng.integers(1, 6))  # with ties
    point = fit_operating_point(rows, fpr=fpr)
    assert point.valid_fpr * n_real <= max(0, fpr * (n_real + 1) - 1) + 1e-9
    assert ("too few" in str(point)) == ((n_real + 1) * fpr < 1 - 1e-9)
    reading = score_at_point(point, rows.assign(split="test", path=[f"t{i}" for i in range(len(rows))]))
    assert reading["fpr"] == point.valid_fpr and json.dumps(reading)


def test_a_reading_goes_through_json_and_back_to_words():
    point = fit_operating_point(predictions("valid"))
    reading = score_at_point(point, predictions("celeba", seed=1))
    assert point_words(json.loads(json.dumps(reading))) == point_words(reading)


# --- the exact test ---------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_sign_flips_counted_by_convolution_are_sign_flips_counted_one_by_one(differences):
    d = np.array(differences)
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(d))).reshape(len(d), -1).T
    assert sign_flip(d) == pytest.approx((np.abs(signs @ d) >= abs(d.sum())).mean())


# --- one figure, one interval; sources; parts of test sets ----------------------------------------------------------------

def two_sources(split: str, seed: int) -> pd.DataFrame:
    "A detector that is good on one source, and knows nothing of the other."
    rng, rows = np.random.default_rng(seed), []
    for name, shift, n in (("tidy", 2, 400), ("wild", 0.1, 200)):
        z = np.r_[rng.normal(-shift, 1.3, n), rng.normal(shift, 1.3, n)]
        rows.append(pd.DataFrame({"path": [f"{split}/{name}/{i}" for i in range(2 * n)], "label": ["real"] * n + ["fake"] * n,
                                  "p_fake": 1 / (1 + np.exp(-z)), "source": name, "split": split}))
    return pd.concat(rows)


@pytest.fixture
def mixed(tmp_path) -> Path:
    file = tmp_path / "mixed.csv"
    pd.concat([two_sources("valid", 0), two_sources("test", 1)]).to_csv(file, index=False)
    return file


@pytest.mark.parametrize("asked", [["operating", "--aim", "tpr", "--fpr", "0.05"], ["operating", "--aim", "each"], ["score"]])
def test_a_bad_source_is_not_hidden_behind_the_others(mixed, capsys, asked):
    assert main([asked[0], str(mixed), *asked[1:]]) == 0
    said = capsys.readouterr().out
    assert "wild does worse than the other sources, by more than chance: AUC 0.5" in said and "Source by source" in said
    assert main([asked[0], str(mixed), *asked[1:], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for sources in (found["tests"]["test"]["sources"], *([found["valid_sources"]] if "valid_sources" in found else [])):
        assert sources["wild"]["auc"] < 0.65 < 0.95 < sources["tidy"]["auc"]
        assert (sources["wild"]["n_real"], sources["tidy"]["n_fake"]) == (200, 400)
        assert all(lo <= r[k] <= hi for r in sources.values() for k in ("auc", "fpr", "tpr") for lo, hi in [r[f"{k}_ci95"]])


def test_a_comparison_has_a_row_for_each_source(mixed, tmp_path, capsys):
    other = tmp_path / "other.csv"
    table = pd.read_csv(mixed)
    table.assign(p_fake=table["p_fake"] * 0.9).to_csv(other, index=False)
    assert main(["compare", str(mixed), str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["images"] for r in found["comparison"]] == ["all", "real", "fake", "source tidy", "source wild"]
    assert any("wild" in note for note in found["source_notes"])


def test_a_part_of_a_used_test_set_is_no_fresh_one(tmp_path):
    rows = predictions("ffhq", 800)
    Ledger(tmp_path).enter("ffhq", rows, "run-1")
    part = Ledger(tmp_path).enter("some", rows.sample(6, random_state=0), "run-2", "quiz")
    assert (part["before"], part["overlap"]) == (1, 1.0)
    assert Ledger(tmp_path).enter("other", predictions("celeba", 800), "run-2")["before"] == 0
    assert tmp_path.joinpath("test_use.jsonl").stat().st_size < 40_000


def test_the_test_set_that_is_asked_for_stands_source_by_source_beside_validation(mixed, tmp_path, capsys):
    one = two_sources("celeba", 2)
    table = pd.concat([pd.read_csv(mixed), one[one["source"] == "tidy"]])
    table.to_csv(tmp_path / "three.csv", index=False)
    assert main(["operating", str(tmp_path / "three.csv"), "--aim", "each", "--test", "celeba"]) == 0
    by_source = capsys.readouterr().out.partition("Source by source")[2]
    rows = [line.split()[:2] for line in by_source.splitlines() if line.startswith((" celeba", "celeba", "validation", " validation"))]
    assert rows and {row[0] for row in rows} == {"celeba", "validation"}, by_source


# --- images that the threshold was fitted on, in a test set ---------------------------------------------------------------

def test_test_images_that_are_validations_are_counted_and_named_in_python_command_and_file(tmp_path, capsys):
    rows = pd.concat([two_sources("valid", 0), two_sources("test", 1)], ignore_index=True)
    rows["sha256"] = [f"{i:064x}" for i in range(len(rows))]
    test, valid = np.flatnonzero(rows["split"] == "test"), np.flatnonzero(rows["split"] == "valid")
    rows.loc[test[:40], "sha256"] = rows.loc[valid[:40], "sha256"].to_numpy()  # the same files under other names
    rows.to_csv(tmp_path / "p.csv", index=False)
    point = fit_operating_point(rows[rows["split"] == "valid"])
    found = score_at_point(point, rows[rows["split"] == "test"])
    assert (found["fitted_on"]["n"], found["fitted_on"]["paths"][0]) == (40, "test/tidy/0")
    sentence = "40 of 1,200 images here, such as test/tidy/0, are among those the threshold was fitted on and test nothing"
    assert sentence in point_words(found)[0]
    assert main(["operating", str(tmp_path / "p.csv")]) == 0
    assert sentence in capsys.readouterr().out
    save_point(point, tmp_path)  # and after a file
    assert score_at_point(load_point(tmp_path), rows[rows["split"] == "test"])["fitted_on"] == found["fitted_on"]


def test_images_without_hashes_are_known_by_source_and_path():
    valid, test = two_sources("valid", 0), two_sources("test", 1)
    both = pd.concat([test, valid.head(25).assign(split="test")])
    assert score_at_point(fit_operating_point(valid), both)["fitted_on"]["n"] == 25
    elsewhere = pd.concat([test, valid.head(25).assign(split="test", source="other")])
    assert score_at_point(fit_operating_point(valid), elsewhere)["fitted_on"] is None
    nameless = [t.drop(columns="path") for t in (valid, test.head(300))]  # a row's number is no name
    assert score_at_point(fit_operating_point(nameless[0]), nameless[1])["fitted_on"] is None


def test_a_table_without_names_is_not_refused_for_having_as_many_rows_as_validation():
    valid, test = (two_sources(split, seed).drop(columns="path") for split, seed in (("valid", 0), ("test", 1)))
    point = fit_operating_point(valid)
    assert len(test) == len(valid) and score_at_point(point, test)["n_real"] == (test["label"] == "real").sum()
    with pytest.raises(InputError, match="fitted on, all of them"): score_at_point(point, valid.assign(split="test"))


def test_a_test_of_validation_images_alone_is_refused():
    valid = two_sources("valid", 0).assign(sha256=[f"{i:064x}" for i in range(1200)])
    part = valid.head(100).assign(split="test", path=[f"copy/{i}" for i in range(100)])
    with pytest.raises(InputError, match="fitted on, all of them"): score_at_point(fit_operating_point(valid), part)
