"Headlines that cannot mislead: what is announced is there, what is not is called undecided, and a gain is not taken for robustness."
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fakeface.cli.main import main
from fakeface.evaluate.fairness import fairness_report, fairness_reports, fairness_table
from fakeface.evaluate.ledger import Ledger, ledger_table
from fakeface.evaluate.scores import base_rate_words, easier_notes, score_predictions, scores_table
from fakeface.evaluate.thresholds import fit_operating_point, save_point
from fakeface.report.robustness import robustness_report
from fakeface.report.run import group_sections, load_run, report_values, write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from group_differences import BY, by_fairness, by_images, by_report, data_set, equivalence  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_cache")


# --- group rates: one engine, by subject ------------------------------------------------------------------------------

def test_no_difference_is_announced_where_errors_are_a_matter_of_the_person():
    tables = [data_set(seed, kind=kind) for seed in range(20) for kind in ("beta", "all or none")]
    assert sum(bool(by_fairness(t, draws=2000)) for t in tables) <= 5  # 5 % of 40 are 2; more than 5 in one of 100 series
    assert sum(by_images(t) for t in tables) > 10  # what one gets who takes photographs for people


def test_an_injected_difference_is_named_with_its_direction():
    found = [by_fairness(data_set(seed, 0.7), draws=2000) for seed in range(100, 120)]
    assert sum(("female", "higher") in f for f in found) >= 18


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_report_says_what_fairness_says(shift, tmp_path):
    for seed in range(200, 203):
        table = data_set(seed, shift)
        said = [w for r in fairness_reports(table, crossed=()) for w in r.answer if w.startswith("Different")]
        assert by_report(table, tmp_path) == said and bool(said) == bool(shift)


def test_equivalence_is_shown_where_it_is_and_not_at_the_margin():
    same, margin = ([equivalence(seed, shift) for seed in range(20)] for shift in (0.0, 0.1))
    assert sum(r["equivalent"] for r in same) >= 15
    assert sum(r["equivalent"] for r in margin) <= 3  # 5 % of 20 is 1; more than 3 in two of 100 series


def test_few_images_are_undecided_not_fair():
    report = fairness_report(data_set(0, people=30, per=2, kind="mild"), by=BY)
    assert set(report.groups["fpr_verdict"]) == {"undecided"} and set(report.groups["verdict"]) == {"undecided"}
    assert any(w.startswith("Undecided, neither different nor equivalent within 2 points") for w in report.answer)
    assert {row["fpr_claim"] for row in report.values["groups"]} == {"undecided"}


def test_a_group_of_one_person_is_too_few_however_many_photographs():
    table = data_set(1, people=40)
    one = table["subject"] == "celeba/0"
    told = fairness_table(table.assign(race=np.where(one, "black", np.where(table["label"] == "real", "white", None))), by=["race"])
    assert one.sum() == 10 and set(told["verdict"]) == {"too few"}
    many = pd.concat([table[one]] * 9 + [table[~one]], ignore_index=True)
    many = many.assign(race=np.where(many["subject"] == "celeba/0", "black", "white")).assign(path=[str(i) for i in range(len(many))])
    told = fairness_table(many[many["label"] == "real"], by=["race"])
    assert set(told["verdict"]) == {"too few"} and told.set_index("group").loc["black", "n_real"] == 90


def test_an_attribute_with_one_value_is_too_few_to_compare():
    table = data_set(2).assign(gender="female")
    report = fairness_report(table, by=["gender"])
    assert report.answer[0].startswith("No verdict about fairness: no group has 20 images") and len(report.groups) == 1


def test_photographs_alone_name_a_difference_and_call_nothing_equivalent():
    table = data_set(3, 0.7).query("label == 'real'")
    report = fairness_report(table, by=BY, margin=0.9)
    assert report.answer[0].startswith("Different: Gender, female") and "equivalent" not in set(report.groups["fpr_verdict"])
    assert any("Add the other class" in n for n in report.notes)


# --- a run folder -----------------------------------------------------------------------------------------------------

def run_folder(folder: Path, predictions: pd.DataFrame, aim: dict | None = None) -> Path:
    "What a run leaves, as far as its readers need it."
    folder.mkdir(parents=True)
    metrics = score_predictions(predictions) | dict(sources={}, rejected=0)
    info = dict(recipe="x", title="x", started="2026-11-28T00:00:00+00:00", world=None, data="d", settings={}, profile="small", seed=0)
    predictions.to_parquet(folder/"predictions.parquet")
    for name, values in (("metrics.json", metrics), ("run.json", info)): (folder/name).write_text(json.dumps(values))
    (folder/"recipe.yaml").write_text("name: x\n")
    for name, columns in (("history", ["epoch", "train_loss", "valid_loss", "accuracy"]), ("rejects", ["path", "source", "reason"])):
        pd.DataFrame(columns=columns).to_csv(folder/f"{name}.csv", index=False)
    if aim is not None: save_point(fit_operating_point(predictions[predictions["split"] == "valid"], **aim), folder)
    return folder


def answers(split: str, real: float, fake: float, n: int = 120, seed: int = 0, **columns: object) -> pd.DataFrame:
    "p_fake around these means, of as many reals as fakes; real or fake None: without that class."
    rng, parts = np.random.default_rng(seed), []
    for label, mean in (("real", real), ("fake", fake)):
        if mean is None: continue
        p = np.clip(rng.normal(mean, 0.15, n), 0.001, 0.999)
        kind, path = "photograph" if label == "real" else "generated", [f"{split}/{label}/{i}.jpg" for i in range(n)]
        parts.append(pd.DataFrame({"label": label, "p_fake": p, "path": path, "split": split, "kind": kind,
                                   "source": label if split == "valid" else split}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{k: rng.choice(v, len(table)) for k, v in columns.items()}) if columns else table


def whole(**columns: object) -> pd.DataFrame:
    "Validation and two tests whose reals carry a gender."
    tests = [answers("celeba", 0.2, 0.8, gender=["female", "male"]), answers("ffhq", 0.7, None, seed=1, gender=["female", "male"])]
    return pd.concat([answers("valid", 0.2, 0.8, seed=2), *tests], ignore_index=True).assign(**columns)


def test_fairness_takes_one_test_set_at_a_time_at_the_frozen_threshold(tmp_path, capsys):
    run = run_folder(tmp_path/"run", whole(), {"aim": "tpr", "fpr": 0.05})
    main(["fairness", str(run), "--out", str(tmp_path/"f.html")])
    out = capsys.readouterr().out
    assert "== celeba ==" in out and "== ffhq ==" in out and "in the test set celeba" in out
    told = {s["test"]: s for s in json.loads((tmp_path/"f.json").read_text())}
    threshold = json.loads((run/"operating.json").read_text())["threshold"]
    assert list(told) == ["celeba", "ffhq"] and {s["terms"]["threshold"] for s in told.values()} == {threshold}
    assert f"from p_fake {threshold:.4g} on (the run's frozen operating point: most fakes caught at 5 % false positives)" in out
    main(["fairness", str(run), "--test", "ffhq"])
    assert "celeba ==" not in capsys.readouterr().out
    main(["fairness", str(run_folder(tmp_path/"bare", whole()))])
    assert "from p_fake 0.5 on (no operating point is frozen there, so it is 0.5)" in capsys.readouterr().out
    assert [s["title"] for s in group_sections(load_run(run))] == ["celeba", "ffhq"]
    assert f"p_fake {threshold:.4g} on" in " ".join(group_sections(load_run(run))[0]["notes"])


def two_sources(folder: Path) -> Path:
    "A table of a source that the detector knows and one on which it is hardly better than a coin, each with fakes of its own."
    tidy, wild = answers("test", 0.2, 0.8, 400, group=["men", "women"]), answers("test", 0.48, 0.52, 400, seed=1, group=["men", "women"])
    table = pd.concat([tidy.assign(source="tidy"), wild.assign(source="wild", path="wild/" + wild["path"])], ignore_index=True)
    table.drop(columns="kind").to_csv(folder/"scores.csv", index=False)
    return folder/"scores.csv"


def test_a_good_source_does_not_vouch_for_another_one(tmp_path, capsys):
    table = two_sources(tmp_path)
    main(["fairness", str(table), "--by", "group", "--out", str(tmp_path/"f.html")])
    tidy, wild = json.loads((tmp_path/"f.json").read_text())
    assert tidy["refused"] is None and wild["answer"][0].startswith("No verdict about fairness: its balanced accuracy is 5")
    assert wild["judged_on"] == "test, source wild" and {r["fpr_claim"] for r in wild["groups"]} <= {"no verdict", "different"}
    page, out = (tmp_path/"f.html").read_text(), capsys.readouterr().out
    headlines = page.partition("<section>")[0]
    assert "test, source wild: No verdict about fairness" in headlines and "test, source wild: No difference" not in headlines
    assert "No difference of interest" not in out.partition("source wild ==")[2]
    main(["fairness", str(table), "--by", "group", "--source", "wild"])
    assert wild["answer"][0] in capsys.readouterr().out
    rows = pd.read_csv(table)
    alone = fairness_report(rows[rows["source"] == "wild"], by=["group"])
    assert alone.answer == wild["answer"] == fairness_report(rows, source="wild", by=["group"]).answer
    only = fairness_reports(rows.assign(group=rows["group"].where(rows["source"] == "wild")), by=["group"]) # tidy carries none: one section
    assert [r.answer[0] for r in only] == wild["answer"][:1]


def test_photographs_without_fakes_of_their_own_are_asked_about_with_those_of_the_test_set():
    rows = whole()
    real = rows[rows["label"] == "real"].assign(gender=lambda t: t["gender"].where(t["split"] == "celeba"))
    a = fairness_report(pd.concat([real, rows[rows["label"] == "fake"].assign(source="gan", gender=None)]), test="celeba", source="celeba")
    assert a.refused is None and a.values["judged_on"] == "celeba, with the fake images of the whole test set"


def test_fairness_says_nothing_of_attributes_that_nobody_asked_for_and_takes_a_threshold(tmp_path, capsys):
    table = two_sources(tmp_path)
    main(["fairness", str(table), "--by", "group", "--threshold", "0.4", "--out", str(tmp_path/"f.html")])
    out, told = capsys.readouterr().out, json.loads((tmp_path/"f.json").read_text())
    assert "is known for no image" not in out and out.count("called fake from p_fake 0.4 on (given with --threshold)") == 2
    assert {(s["terms"]["threshold"], s["cut"]) for s in told} == {(0.4, "given with --threshold")}
    for wrong in ("1.2", "-1", "nan"): assert main(["fairness", str(table), "--by", "group", "--threshold", wrong]) == 2
    assert "give a p_fake from 0 to 1" in capsys.readouterr().err
    run = run_folder(tmp_path/"run", whole(), {"aim": "tpr", "fpr": 0.05})
    main(["fairness", str(run), "--threshold", "0.6"])
    assert "given with --threshold; the run's frozen one is 0." in capsys.readouterr().out


def test_a_run_without_attributes_has_no_section_and_says_so(tmp_path, capsys):
    run = run_folder(tmp_path/"run", whole().drop(columns="gender"))
    assert group_sections(load_run(run)) == [] and "Error rates by group" not in write_report(run).read_text()
    assert main(["fairness", str(run)]) == 2
    assert "has a known attribute" in capsys.readouterr().err


def test_a_run_whose_tests_have_one_class_is_reported(tmp_path):
    rows = whole()
    run = run_folder(tmp_path/"run", rows[(rows["split"] != "celeba")], {})
    values = report_values(load_run(run))
    assert "photographs only" in values["answers"][0] and [p["title"] for p in values["profiles"]] == ["ffhq"]


# --- nothing learnt ---------------------------------------------------------------------------------------------------

def test_a_network_that_learnt_nothing_is_said_to_have_learnt_nothing_everywhere(tmp_path):
    from fakeface.train.runs import Run
    lazy = pd.concat([answers("valid", 0.3, 0.3), answers("celeba", 0.3, 0.3, seed=1), answers("ffhq", 0.3, None, seed=2)])
    run = run_folder(tmp_path/"run", lazy)
    words = base_rate_words(score_predictions(lazy))
    assert words.startswith("No more than the base rate was learnt")
    study = Run(run)
    assert words in repr(study) and "No more than the base rate was learnt" in study._repr_html_()
    assert report_values(load_run(run))["answers"][0] == words and words.partition(":")[0] in write_report(run).read_text()


def test_a_network_that_learnt_is_not_scolded(tmp_path):
    from fakeface.train.runs import Run
    study = Run(run_folder(tmp_path/"run", whole()))
    assert study.learnt == "" and "base rate" not in repr(study) and "base rate" not in study._repr_html_()
    alone = pd.concat([answers("valid", 0.2, 0.8), answers("celeba", 0.3, 0.3)]) # learnt, and does not carry over
    assert base_rate_words(score_predictions(alone)) == ""
    assert base_rate_words(score_predictions(pd.concat([answers("valid", 0.8, 0.2), answers("celeba", 0.8, 0.2)]))) == "" # upside down


# --- a test that is better than validation ----------------------------------------------------------------------------

BETTER = "Better than validation, by more than chance"


def test_a_test_that_is_clearly_better_than_validation_is_spoken_of_everywhere(tmp_path, capsys):
    from fakeface.train.runs import Run
    rows = pd.concat([answers("valid", 0.4, 0.6, seed=1), answers("celeba", 0.15, 0.85, n=40, seed=2), answers("lfw", 0.4, 0.6, seed=3)])
    folder = run_folder(tmp_path/"run", rows)
    run, values = Run(folder), report_values(load_run(folder))
    assert [words.partition(":")[0] for words in run.easier] == ["celeba"] and BETTER in run.easier[0]
    assert all(words in run.easier[0] for words in ("images are easier", "or they are known from training", "cropped copy is found"))
    assert BETTER in repr(run) and BETTER in run._repr_html_() and run.easier[0] in values["answers"]
    assert [any(words.startswith(BETTER) for words in t["remarks"]) for t in values["tests"]] == [True, False]
    assert not any("validation" in words for _, words in values["verdicts"]) and BETTER in write_report(folder).read_text()
    rows.to_csv(tmp_path/"theirs.csv", index=False)
    assert main(["score", str(tmp_path/"theirs.csv")]) == 0
    assert f"celeba: {BETTER}" in " ".join(capsys.readouterr().out.split())


def test_a_test_like_validation_or_worse_is_not_spoken_of(tmp_path):
    for real, fake in ((0.3, 0.7), (0.4, 0.6), (0.7, None)):
        rows = pd.concat([answers("valid", 0.3, 0.7, seed=3), answers("celeba", real, fake, seed=4)])
        assert easier_notes(score_predictions(rows)) == {}
    assert easier_notes(score_predictions(answers("celeba", 0.1, 0.9))) == {} # there is no validation


def test_people_who_recur_make_a_difference_less_certain():
    rows = pd.concat([answers("valid", 0.4, 0.6, seed=1), answers("celeba", 0.3, 0.7, seed=2)], ignore_index=True)
    whose = rows["split"] + rows["label"]
    first = rows.sort_values("p_fake").groupby(["split", "label"]).cumcount().sort_index() // 30 # people are alike in their scores
    alone, recur = (easier_notes(score_predictions(rows.assign(subject=whose + who.astype(str))))
                    for who in (rows.index.to_series(), first))
    assert alone and not recur


# --- what a search does not find --------------------------------------------------------------------------------------

@pytest.mark.parametrize("found", [0, 3])
def test_a_report_says_which_copies_are_not_found(found, tmp_path):
    folder = run_folder(tmp_path/"run", whole())
    metrics = json.loads((folder/"metrics.json").read_text()) | dict(duplicates=dict(found=found, dropped=found, kept=0))
    (folder/"metrics.json").write_text(json.dumps(metrics))
    assert sum("or bear text are not found" in words for words in report_values(load_run(folder))["data_words"]) == 1


def test_an_auc_is_never_in_per_cent():
    cell = scores_table(score_predictions(whole())).loc["celeba", "auc"]
    assert "%" not in cell and cell[:2] in ("0.", "1.")


# --- robustness -------------------------------------------------------------------------------------------------------

def sharp(images: list[Image.Image]) -> list[float]:
    "Says real to anything blurred, fake to all else."
    return [0.9 if np.abs(np.diff(np.asarray(x.convert("L")).astype(float))).mean() > 5 else 0.1 for x in images]


def noisy_faces(root: Path, labels: tuple[str, ...], n: int = 30) -> pd.DataFrame:
    "Pictures full of fine structure."
    rng, rows = np.random.default_rng(0), []
    for i, label in enumerate(np.repeat(labels, n)):
        Image.fromarray(rng.integers(60, 190, (64, 64, 3), dtype=np.uint8)).save(root/f"{i}.png")
        rows.append(dict(path=f"{i}.png", label=label, source=label, split="test"))
    return pd.DataFrame(rows)


def test_a_gain_on_photographs_alone_is_no_robustness(tmp_path):
    found = robustness_report(sharp, noisy_faces(tmp_path, ("real",)), tmp_path, sweeps=["blur:4", "gamma:0.9"])
    told = "\n".join(found.answer)
    assert "No loss beyond chance over" not in told
    assert "Answers change over blur: `blur 4` turns 100.0 % [88.6, 100.0] of the answers, all to real" in told
    assert "On photographs alone it looks like a gain and is none" in told and "format bias (arXiv 2606.20488)" in told
    assert "No change beyond chance over: gamma (at most 0.0 % [0.0, 11.4] of the answers turn)" in told
    assert found.table.set_index("perturbation").loc["blur 4", "beyond"] == "better"


def test_on_fakes_alone_the_same_detector_loses(tmp_path):
    found = robustness_report(sharp, noisy_faces(tmp_path, ("fake",)), tmp_path, sweeps=["blur:4"])
    told = "\n".join(found.answer)
    assert "all to real (accuracy −100.0" in told and "format bias" not in told and "lost beyond chance from: blur 4" in told


def test_degraded_better_than_clean_is_a_sign_of_format_bias(tmp_path):
    def by_format(images: list[Image.Image]) -> list[float]: # says fake to every sharp file, and reads the mean of a blurred one
        x = [np.asarray(i.convert("L")).astype(float) for i in images]
        return [0.9 if np.abs(np.diff(a)).mean() > 5 or a.mean() > 140 else 0.1 for a in x]
    rows = noisy_faces(tmp_path, ("real", "fake"))
    for path in rows.loc[rows["label"] == "fake", "path"]:
        Image.open(tmp_path/path).point(lambda v: min(255, v + 40)).save(tmp_path/path)
    told = "\n".join(robustness_report(by_format, rows, tmp_path, sweeps=["blur:4"]).answer)
    assert "Degraded is better than clean, beyond chance: " in told and "something about the files misled it" in told


def test_scores_that_slide_past_the_threshold_are_no_sign_of_format_bias(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for label, grey in (("real", 128), ("fake", 170)):
        for i in range(60):
            Image.new("RGB", (64, 64), (int(rng.normal(grey, 8)),) * 3).save(tmp_path/f"{label}{i}.png")
            rows.append(dict(path=f"{label}{i}.png", label=label, split="test", source=f"{label}{i % 2}", p_fake=0.5))
    def grey(images: list[Image.Image]) -> list[float]: return [np.asarray(x).mean() / 255 - 0.01 for x in images]
    found = robustness_report(grey, pd.DataFrame(rows), tmp_path, sweeps=["gamma:1.2"]) # darkens: the reals fall below, the order stays
    row, told = found.table.set_index("perturbation").loc["gamma 1.2"], "\n".join(found.answer)
    assert (row["beyond"], row["auc_beyond"]) == ("better", "") and "format bias" not in told and "misled" not in told
    assert "and AUC does not rise beyond chance" in told and "the scores slide past the threshold. More real images fall below it" in told
    assert "By source, as the files are: " in told and "of 30 real0 called real" in told
    higher = robustness_report(grey, pd.DataFrame(rows), tmp_path, sweeps=[], threshold=0.6, cut="given")
    assert "called fake from p_fake 0.6 on (given): " in higher.answer[0] and higher.table["specificity"][0] > found.table["specificity"][0]


# --- the operating point ----------------------------------------------------------------------------------------------

def test_operating_says_where_sensitivity_collapses(tmp_path, capsys):
    rows = pd.concat([answers("valid", 0.2, 0.8), answers("same", 0.2, 0.8, seed=1), answers("other", 0.2, 0.3, seed=2)], ignore_index=True)
    main(["operating", str(run_folder(tmp_path/"run", rows, {"fpr": 0.05}))])
    same, other = (part for part in capsys.readouterr().out.split("\nOn ")[1:])
    assert "Sensitivity collapses here" in other and "less than half of validation's" in other
    assert "ollapses" not in same and "carry over" not in same


# --- test-set use -----------------------------------------------------------------------------------------------------

def test_reading_finished_predictions_again_uses_no_test_set_and_writes_nothing(tmp_path, capsys):
    one, two = (run_folder(tmp_path/"theirs"/name, whole(), {}) for name in ("one", "two"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/"theirs").rglob("*")}
    for command in (["compare", str(one), str(two)], ["score", str(one)], ["fairness", str(one)], ["operating", str(one)]) * 2:
        assert not main(command), command
    assert {p: p.stat().st_mtime_ns for p in (tmp_path/"theirs").rglob("*")} == before
    assert not re.search(r"\bused\b", capsys.readouterr().out)


def test_a_ledger_that_cannot_be_written_is_named_and_the_command_goes_on(tmp_path, capsys):
    run = run_folder(tmp_path/"runs"/"one", whole(), {})
    (tmp_path/"runs"/"test_use.jsonl").mkdir() # whoever the user is, no file can be written there
    assert main(["operating", str(run), "--aim", "eer", "--refit"]) == 0
    assert "could not be entered in the ledger" in capsys.readouterr().out


def test_another_aim_is_a_use_and_the_same_again_is_a_re_reading(tmp_path, capsys):
    run = run_folder(tmp_path/"runs"/"one", whole(), {})
    for _ in range(3): main(["operating", str(run), "--aim", "eer", "--refit"])
    assert [e["again"] for e in Ledger(tmp_path/"runs").entries()] == [False, False] # two tests; later the point is the frozen one
    capsys.readouterr()
    main(["operating", str(run), "--aim", "tpr", "--fpr", "0.02", "--refit"])
    assert "only this model has used" in capsys.readouterr().out
    main(["operating", str(run), "--aim", "eer", "--refit"]) # chosen before, so it tells nothing new
    assert [e["again"] for e in Ledger(tmp_path/"runs").entries()] == [False] * 4 + [True] * 2
    table = ledger_table(tmp_path/"runs")
    assert table.loc["celeba", ["uses", "models", "read again", "folder"]].tolist() == [2, 1, 1, "runs"]
    capsys.readouterr()
    main(["ledger", str(tmp_path/"runs")])
    assert "read again" in capsys.readouterr().out
