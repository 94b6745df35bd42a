"The figures of the studies on real faces: complete, true to their origin, and the same in the studies that show them."
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from fakeface.core.basics import area, data_manifests
from fakeface.data.sources import read_cards
from fakeface.experiments.study_tables import COLUMNS, real_figures, real_left_out

FILES = sorted((data_manifests() / "reference" / "real").glob("*.csv"))
STUDIES = Path(__file__).resolve().parents[1] / "nbs" / "studies"
LEFT_OUT = pd.read_csv(data_manifests() / "reference" / "real_left_out.csv")
PARTS = {part for study in STUDIES.glob("*.ipynb")
         for part in re.findall(r'beside_real\(settings, \\"([^"\\]+)', study.read_text(encoding="utf-8"))}


def test_every_part_of_a_study_has_figures_on_real_faces_or_a_reason_why_not():
    assert {"01", "02", "03", "04", "05", "06", "07", "08", "10"} == {part[:2] for part in PARTS}
    assert {f.stem for f in FILES} | {*LEFT_OUT["part"]} == PARTS and not {f.stem for f in FILES} & {*LEFT_OUT["part"]}


def test_a_part_is_left_out_for_want_of_a_dataset_and_its_study_says_so():
    assert list(LEFT_OUT) == ["part", "why", "version", "commit"] and LEFT_OUT.notna().all(axis=None) and LEFT_OUT["part"].is_unique
    assert LEFT_OUT["why"].str.contains("absent here: ").all() and LEFT_OUT["commit"].str.fullmatch("[0-9a-f]{7,40}").all()
    for part in LEFT_OUT["part"]:
        assert real_left_out(part) in shown(next(STUDIES.glob(f"{part[:2]}_*.ipynb")))[part]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_figure_has_its_interval_number_trainings_and_origin(file):
    t = pd.read_csv(file)
    assert list(t) == [*COLUMNS, "run", "images", "version", "commit"] and len(t)
    assert t[["of", "measure", "value", "lo", "hi", "n", "trainings", "run", "images", "version", "commit"]].notna().all(axis=None)
    assert not t.duplicated(["of", "measure"]).any()
    assert (t["lo"] <= t["value"]).all() and (t["value"] <= t["hi"]).all() and (t["n"] >= 1).all() and (t["trainings"] >= 1).all()
    several = t[t["trainings"] > 1]
    assert (several["lowest"] <= several["value"]).all() and (several["value"] <= several["highest"]).all()
    assert t["commit"].str.fullmatch("[0-9a-f]{7,40}").all() and t[["run", "images", "version", "commit"]].nunique().eq(1).all()


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_what_was_run_is_told_by_settings_seeds_and_counts_of_known_sources(file):
    run, images = pd.read_csv(file).iloc[0][["run", "images"]]
    assert re.search(r"\bmodel \w+", run) and re.search(r"size \d+; epochs \d+", run)
    trainings, seeds = re.search(r"(\d+) trainings?, seeds? ([\d, ]+)$", run).groups()
    assert int(trainings) >= len(seeds.split(", ")) >= 1
    assert {side.split()[0] for side in images.split("; ")} >= {"train", "valid"}
    assert set(re.findall(r"[\d,]+ (\S+) \(", images)) <= {*read_cards()}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_no_file_holds_a_name_of_an_image_or_a_folder(file):
    assert not re.search(r"\.(jpe?g|png|webp)\b|/", file.read_text(encoding="utf-8"), re.I)


def shown(study: Path) -> dict[str, str]:
    "What a study's cells show of real faces, by part."
    found = {}
    for cell in json.loads(study.read_text(encoding="utf-8"))["cells"]:
        parts = re.findall(r'beside_real\(settings, "([^"]+)"', "".join(cell["source"]))
        text = "\n".join("".join(o.get("text", o.get("data", {}).get("text/html", ""))) for o in cell.get("outputs", []))
        found |= dict.fromkeys(parts, text)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_study_shows_every_figure_and_what_was_run(file):
    text, t = shown(next(STUDIES.glob(f"{file.name[:2]}_*.ipynb")))[file.stem], real_figures(file.stem)
    for r in t.itertuples():
        assert area(r.value, [r.lo, r.hi]) in text, (r.of, r.measure)
    assert f"commit {t['commit'].iloc[0]}" in text and t["run"].iloc[0][:60] in " ".join(text.split())
