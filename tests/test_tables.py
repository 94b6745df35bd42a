"The one door for tables: what people write is read or refused, what was done is said, and no row is left out without a count."
import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fakeface.audit.audit import audit
from fakeface.audit.duplicates import byte_duplicates
from fakeface.audit.evidence import read_audited
from fakeface.audit.labels import contradictions
from fakeface.audit.shortcut_checks import judge_shortcut
from fakeface.cli.main import main
from fakeface.core.basics import DataNote, InputError
from fakeface.data.duplicates import find_leakage
from fakeface.data.labels import apply_labels
from fakeface.data.manifest import load_manifest, scan
from fakeface.data.tables import column_map, tidy_table
from fakeface.evaluate.big_tables import BigTable
from fakeface.evaluate.compare import compare, comparison_words
from fakeface.evaluate.detectors import Detector, images_to_score
from fakeface.evaluate.fairness import fairness_report, fairness_reports
from fakeface.evaluate.ledger import images_fingerprint
from fakeface.evaluate.many import list_images
from fakeface.evaluate.scores import check_predictions, read_predictions, score_lines, score_predictions
from fakeface.evaluate.thresholds import fit_operating_point, point_words, score_at_point

pytestmark = pytest.mark.usefixtures("own_cache")


def scores(n: int = 40, **columns) -> pd.DataFrame:
    "A table of scores, real and fake by turns."
    return pd.DataFrame({"path": [f"{i}.jpg" for i in range(n)], "label": ["real", "fake"] * (n // 2),
                         "p_fake": [round(0.2 + 0.5 * (i % 2) + 0.01 * (i % 7), 3) for i in range(n)]} | columns)


def noted(f, *args, **kwargs):
    "What a call returns, and the notes that it gave."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        out = f(*args, **kwargs)
    return out, [str(w.message) for w in said if issubclass(w.category, DataNote)]


def picture(path: Path, seed: int, side: int = 32) -> Path:
    "A picture of noise."
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG" if path.suffix in (".jpg", ".jfif") else None)
    return path


def listed(root: Path, n: int = 30, **columns) -> pd.DataFrame:
    "A list of pictures that are there, half of them real."
    rows = [(f"{label}/{i}.jpg", label) for label in ("real", "fake") for i in range(n)]
    for i, (path, _) in enumerate(rows): picture(root/path, i)
    return pd.DataFrame(rows, columns=["path", "label"]).assign(**columns)


# --- words ------------------------------------------------------------------------------------------------------------

WORDS = [dict(split=["Train", "TEST"] * 20), dict(split=["training", " testing "] * 20), dict(label=["Real", "GENERATED"] * 20),
         dict(path=[rf"pics\{i}.jpg" for i in range(40)]), dict(p_fake=[f"0,{2 + 5 * (i % 2)}" for i in range(40)]),
         dict(source=["ffhq", ""] * 20), dict(race=[0, 4] * 20), dict(age_band=["9-Mar", "Oct-19"] * 20), dict(subject=["None", "a"] * 20)]


@pytest.mark.parametrize("columns", WORDS, ids=[next(iter(w)) + str(i) for i, w in enumerate(WORDS)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_read_otherwise_than_written_is_said_once_with_its_rows(columns, suffix, tmp_path):
    table = scores(**columns)
    for c in columns: table[c] = table[c].astype(str)
    file = tmp_path/f"p{suffix}"
    table.to_csv(file, index=False) if suffix == ".csv" else table.to_parquet(file)
    read, notes = noted(read_predictions, file)
    assert len(read) == 40 and len(notes) >= 1 and any("rows)" in n for n in notes)
    assert noted(check_predictions, read)[1] == []


REFUSED = {
    "row 1: label is 0; write real or fake: a number": dict(label=[0, 1] * 20), "row 2: label is": dict(label=["real", "neither"] * 20),
    "row 11: split is empty": dict(split=["test"] * 10 + [""] * 30), "split is 0": dict(split=[0, 1] * 20),
    "split is train_2, which may be": dict(split=["train_2", "test"] * 20), "row 3: path is empty": dict(path=["a", "b", " "] + ["c"] * 37),
    "a stands twice in one split": dict(path=["a", "b", "a", "c"] + [f"{i}.jpg" for i in range(36)]),
    "a stands under both labels": dict(path=["a", "a"] + [f"{i}.jpg" for i in range(38)]),
    "stands in two splits, `valid` and `ffhq`": dict(path=["a", "b", "a"] + [f"{i}.jpg" for i in range(37)],
                                                     split=["valid"] * 2 + ["ffhq"] * 38),
    "divide percentages by 100": dict(p_fake=[20, 70] * 20), "log-odds": dict(p_fake=[-2, 3] * 20),
    "percentages by 100": dict(p_fake=[20, 70] * 19 + [-3, 140]),
    "p_fake is empty": dict(p_fake=["0.5", ""] * 20)}


@pytest.mark.parametrize("why", REFUSED)
def test_every_reader_of_scores_refuses_what_cannot_be_read(why, tmp_path):
    table = scores(**REFUSED[why])
    for ask in (score_predictions, lambda t: compare(t, scores()), lambda t: fairness_report(t.assign(gender=["male", "female"] * 20)),
                lambda t: fit_operating_point(t.assign(split=t.get("split", "valid")))):
        with pytest.raises(InputError, match=why.replace("(", r"\(")): ask(table)
    table.to_csv(tmp_path/"p.csv", index=False)
    for command in ("score", "fairness", "operating"): assert main([command, str(tmp_path/"p.csv")]) == 2
    assert main(["compare", str(tmp_path/"p.csv"), str(tmp_path/"p.csv")]) == 2


@pytest.mark.parametrize("name", ["None", "NA", "null", "", "NaN"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_source_of_any_name_keeps_its_rows(name, suffix, tmp_path):
    table, file = scores(source=["ffhq", name] * 20), tmp_path/f"p{suffix}"
    table.to_parquet(file) if suffix == ".parquet" else table.to_csv(file, index=False)
    by = noted(score_predictions, noted(read_predictions, file)[0])[0]["tests"]["test"]["by_source"]
    assert {k: r["n"] for k, r in by.items()} == {"ffhq": 20, name or "(none)": 20}


@pytest.mark.parametrize("source", [None, np.nan, pd.NA, pd.NaT, ""])
def test_a_hole_in_a_dataframe_is_a_source_too(source):
    by = noted(score_predictions, scores(source=["ffhq", source] * 20))[0]["tests"]["test"]["by_source"]
    assert sum(r["n"] for r in by.values()) == 40
    assert noted(score_predictions, scores(source=[source] * 40))[0]["tests"]["test"]["by_source"].keys() == {"real", "fake"}


def test_a_dataframe_comes_in_many_dresses():
    plain = score_predictions(scores(subject=["1", "2"] * 20, source="7"))
    dressed = scores(subject=[1.0, 2.0] * 20, source=7).astype({"label": "category", "path": "string"}).set_axis([5] * 40)
    assert noted(score_predictions, dressed)[0] == plain
    for bad in (scores().set_axis([0, 1, 2], axis=1), scores().set_axis(["path", "label", "Label"], axis=1), scores().iloc[:0],
                scores(path=[["a"]] * 40)):
        with pytest.raises(InputError): score_predictions(bad)


# --- files ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_separator_and_encoding_are_found(sep, encoding, tmp_path):
    table = scores(path=[f"é{i}.jpg" for i in range(40)])
    (tmp_path/"p.csv").write_bytes(table.to_csv(index=False, sep=sep).encode(encoding))
    read = noted(read_predictions, tmp_path/"p.csv")[0]
    assert [read[c].tolist() for c in table] == [table[c].tolist() for c in table]


FILES = {"does not exist": None, "is empty": b"", "no rows": b"path,label,p_fake\n", "names no known column": b"a b c\n1 2 3\n",
         "zero bytes": b"path,label,p_fake\na,real,\0.5\n", "spreadsheet": b"PK\x03\x04...", "no column `p_fake`": b"path,label\na,real\n",
         "Expected 3 fields in line 2, saw 4": b"path,label,p_fake\n1,a,real,0.5\n", "gzipped, and damaged": b"\x1f\x8b\x08rest",
         "ArrowInvalid": b"PAR1rest", "line break": b'path,label,p_fake\n"a\nb",real,0.5\n'}


@pytest.mark.parametrize("why", FILES)
def test_a_file_that_is_no_table_is_refused_in_a_line(why, tmp_path, capsys):
    if FILES[why] is not None: (tmp_path/"p.csv").write_bytes(FILES[why])
    for command in (["score"], ["fairness"], ["operating"], ["score", "--detector", "true"], ["audit", "--root", str(tmp_path)]):
        assert main([command[0], str(tmp_path/"p.csv"), *command[1:]]) in ((0, 2) if "detector" in str(command) else (2,))
    with pytest.raises(InputError, match=why.split(",")[0].replace("`", "`")): read_predictions(tmp_path/"p.csv")
    assert "Traceback" not in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["keep", "twice", "empty", "no split", "blank", "Real", "\\"]), min_size=3, max_size=30),
       st.sampled_from([",", ";"]), st.booleans(), st.integers(0, 9))
def test_every_row_is_scored_or_counted_or_the_table_is_refused(kinds, sep, zipped, seed):
    import tempfile
    rows = []
    for i, kind in enumerate(kinds):
        row = [f"d/{i}.jpg", ("real", "fake")[i % 2], "0.5", "test", "ffhq"]
        if kind == "\\": row[0] = rf"d\{i}.jpg"
        if kind == "Real": row[1] = row[1].title()
        if kind == "no split": row[3] = ""
        if kind == "blank": row[4] = ""
        rows += [[""] * 5] if kind == "empty" else [row, row] if kind == "twice" else [row]
    order = np.random.default_rng(seed).permutation(len(rows))
    text = "\n".join(sep.join(r) for r in [["path", "label", "p_fake", "split", "source"], *[rows[i] for i in order]]).encode()
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/"p.csv").write_bytes(gzip.compress(text) if zipped else text)
        try: table, notes = noted(read_predictions, Path(d)/"p.csv")
        except InputError: return
    left_out = sum(int(n.rpartition("(")[2].split(" ")[0]) for n in notes if "left out" in n)
    metrics = score_predictions(table)
    assert sum(s["n"] for s in metrics["tests"].values()) + left_out == len(rows)
    assert all(sum(r["n"] for r in s["by_source"].values()) == s["n"] for s in metrics["tests"].values())


# --- scores -----------------------------------------------------------------------------------------------------------

def test_scores_that_are_upside_down_say_so_and_flip(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = scores(200, p_fake=np.clip(np.tile([0.7, 0.3], 100) + rng.normal(0, 0.15, 200), 0, 1))
    table.to_csv(tmp_path/"p.csv", index=False)
    assert main(["score", str(tmp_path/"p.csv"), "--out", str(tmp_path/"s.json")]) == 0
    assert "--flip" in capsys.readouterr().out and "--flip" in json.loads((tmp_path/"s.json").read_text())["tests"]["test"]["notes"][0]
    assert main(["score", str(tmp_path/"p.csv"), "--flip"]) == 0 and "--flip" not in capsys.readouterr().out
    assert score_predictions(read_predictions(tmp_path/"p.csv", flip=True))["tests"]["test"]["auc"] > 0.9
    assert score_predictions(scores(200))["tests"]["test"]["notes"] == []
    assert main(["score", str(tmp_path), "--flip"]) == 2 # a run's numbers speak for fake


def test_an_option_that_would_change_nothing_is_refused(tmp_path, capsys):
    scores(40).to_csv(tmp_path/"p.csv", index=False)
    scores(40).to_parquet(tmp_path/"p.parquet")
    def refused(said: str, command: str, file: str, *options: str) -> None:
        assert main([command, str(tmp_path/file), *options]) == 2 and said in capsys.readouterr().err
    for option in ("--sample 3", "--save x.csv", "--takes paths", "--batch 3"):
        refused(f"{option.split()[0]} changes nothing here", "score", "p.csv", *option.split())
    refused("are for Parquet files", "score", "p.csv", "--exact")
    refused("is to be asked about", "score", "p.parquet", "--exact", "--detector", "true")
    refused("--flip changes nothing here", "score", "p.csv", "--model", "a.fakeface", "--flip")
    refused("--logit changes nothing here", "robustness", "p.csv", "--logit")
    refused("`fakeface merge`", "score", "p.csv", "--detector", "true", "--parts", str(tmp_path/"parts"), "--out", "s.json")


MAPPED = "path=file,p_fake=score,label=is_fake,fake=1"


def foreign(n: int = 40) -> pd.DataFrame:
    "The table of `scores` as somebody else writes it."
    return scores(n).assign(label=[0, 1] * (n // 2)).rename(columns={"path": "file", "label": "is_fake", "p_fake": "score"})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_by_other_names_are_mapped_once_and_said(tmp_path, suffix, capsys):
    file, table = tmp_path/f"theirs{suffix}", foreign().assign(sex=["f", "f", "m", "m"] * 10)
    table.to_csv(file, index=False) if suffix == ".csv" else table.to_parquet(file)
    ours = check_predictions(scores())
    read, notes = noted(read_predictions, file, columns=MAPPED)
    pd.testing.assert_frame_equal(read[ours.columns.tolist()], ours, check_dtype=False)
    pd.testing.assert_frame_equal(check_predictions(table, columns=MAPPED)[ours.columns.tolist()], ours, check_dtype=False)
    assert [n.partition(": ")[2] for n in notes] == ["columns: file as path, score as p_fake, is_fake as label (40 rows)",
                                                     "labels: 0 as real, 1 as fake (40 rows)"]
    assert main(["score", str(file), "--map", MAPPED]) == 0
    assert main(["fairness", str(file), "--map", f"{MAPPED},gender=sex", "--min-n", "5"]) == 0 and "gender" in capsys.readouterr().out
    assert main(["compare", str(file), str(file), "--map", *MAPPED.split(",")]) == 0 # one a word is read as well
    capsys.readouterr()
    assert main(["score", str(file), "--map", "p_fake=scored"]) == 2
    said = "no column `scored`, which was to be read as `p_fake` (nearest: `score`); it has file, is_fake, score, sex"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score {f}", "compare {f} {f}", "fairness {f} --min-n 5", "operating {f}",
                                     "score {f} --detector true"])
@pytest.mark.parametrize("given, mend", [("fake=Real", "fake=Real,real=FAKE"), ("real=FAKE", "real=FAKE,fake=Real")])
def test_a_map_that_would_make_all_images_one_class_is_refused_with_the_whole_map(command, given, mend, tmp_path, capsys):
    table = scores(40).assign(subject=[f"s{i}" for i in range(40)], gender=["f", "f", "m", "m"] * 10)
    table.assign(label=table["label"].map({"real": "Real", "fake": "FAKE"})).to_csv(tmp_path/"t.csv", index=False)
    args = command.format(f=tmp_path/"t.csv").split()
    assert main([*args, "--map", given]) == 2
    said = capsys.readouterr().err
    assert "is the map upside down?" in said and f"as in {mend}" in said and "Traceback" not in said
    with pytest.raises(InputError, match="upside down"): read_predictions(tmp_path/"t.csv", columns=given)
    turned = read_predictions(tmp_path/"t.csv", columns=mend)["label"] # said in full it is done
    assert (turned.to_numpy() != table["label"].to_numpy()).all()


@pytest.mark.parametrize("flip", [[], ["--flip"]])
def test_probabilities_read_as_log_odds_are_named(flip, tmp_path, capsys):
    scores(40).to_csv(tmp_path/"p.csv", index=False)
    assert main(["score", str(tmp_path/"p.csv"), "--logit", *flip]) == 0
    said = capsys.readouterr().err
    assert "p_fake: all 40 numbers lie in 0 to 1" in said and "--logit" in said


def test_a_folder_of_parts_is_mapped_as_a_table_is(tmp_path, capsys):
    pytest.importorskip("duckdb")
    (tmp_path/"parts").mkdir()
    for k, some in enumerate((foreign()[:20], foreign()[20:])): some.to_parquet(tmp_path/"parts"/f"{k}.parquet")
    foreign().to_parquet(tmp_path/"one.parquet")
    told = []
    for what in ("parts", "one.parquet"):
        assert main(["score", str(tmp_path/what), "--map", MAPPED, "--json"]) == 0
        told.append({k: v for k, v in json.loads(capsys.readouterr().out)["tests"]["test"].items() if k in ("n", "accuracy", "confusion")})
    assert told[0] == told[1] and told[0]["n"] == 40
    assert main(["score", str(tmp_path/"parts"), "--map", "p_fake=scored"]) == 2 and "nearest: `score`" in capsys.readouterr().err


def test_a_list_of_images_is_mapped_for_those_who_are_asked(tmp_path):
    table = listed(tmp_path, 3).assign(label=[0] * 3 + [1] * 3).rename(columns={"path": "file"})
    table.to_csv(tmp_path/"list.csv", index=False)
    rows, _ = images_to_score(tmp_path/"list.csv", columns="path=file,fake=1")
    assert rows["path"].tolist() == table["file"].tolist() and rows["label"].tolist() == ["real"] * 3 + ["fake"] * 3
    with pytest.raises(InputError, match="--map says how a table"): images_to_score(tmp_path, columns="path=file")


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["path", "p_fake", "label", "split", "source"]), st.text("abc=, ", min_size=1, max_size=6),
                       min_size=1))
def test_a_map_is_read_or_refused_with_one_line(pairs):
    try: found = column_map(pairs)
    except InputError as e: assert "\n" not in str(e) and str(e).startswith("map: "); return
    theirs = list(found.columns.values())
    assert list(found.columns) == list(pairs) and len(set(theirs)) == len(theirs)


def test_log_odds_too_large_to_keep_their_order_are_named(tmp_path):
    large = scores(p_fake=[40.0 + i for i in range(40)])
    assert any("40 different numbers are 0 or 1" in n for n in noted(check_predictions, large, logit=True)[1])
    assert not noted(check_predictions, scores(p_fake=[-20.0 + i for i in range(40)]), logit=True)[1]
    assert not noted(check_predictions, scores(p_fake=[0.0, 1.0] * 20), flip=True)[1]
    detector = Detector("mine", lambda images: np.arange(len(images)) + 40.0, logit=True)
    assert "are 0 or 1 to the last digit" in noted(detector, [None] * 5)[1][0] and not noted(detector, [None] * 5)[1]
    pytest.importorskip("duckdb", reason="the extra scale is not installed")
    large.to_parquet(tmp_path/"t.parquet")
    big, notes = noted(BigTable, tmp_path/"t.parquet", logit=True)
    big.close()
    assert any("are 0 or 1 to the last digit" in n for n in notes)


def test_log_odds_in_a_table_become_probabilities(tmp_path):
    scores(p_fake=[-2.0, 2.0] * 20).to_csv(tmp_path/"p.csv", index=False)
    assert read_predictions(tmp_path/"p.csv", logit=True)["p_fake"].round(3).unique().tolist() == [0.119, 0.881]


def test_a_table_with_validation_only_is_scored_and_called_that(tmp_path, capsys):
    scores(split="val").to_csv(tmp_path/"p.csv", index=False)
    assert main(["score", str(tmp_path/"p.csv")]) == 0
    told = capsys.readouterr().out
    assert "no test set" in told and "valid: 40 validation images" in told
    assert score_lines(score_predictions(scores(split="train")))[0].endswith("test nothing")


def test_windows_paths_pair_with_the_same_images():
    there = scores(path=[f"pics/{i}.jpg" for i in range(40)])
    for path in ([rf"pics\{i}.jpg" for i in range(40)], [f"./pics//{i}.jpg" for i in range(40)]):
        found, notes = noted(compare, there, there.assign(path=path))
        assert found["how"].tolist() == ["paired"] * 3 and notes


# --- people -----------------------------------------------------------------------------------------------------------

def test_codes_that_no_card_explains_make_no_groups():
    race, notes = noted(check_predictions, scores(race=[0, 6] * 20, gender=[0, 1] * 20))
    assert "race" not in race and "gender" not in race and {"race_code", "gender_code"} <= set(race) and len(notes) == 2
    faces, notes = noted(check_predictions, scores(race=[0, 3] * 20, gender=[0, 1] * 20))
    assert faces["race"].unique().tolist() == ["white", "indian"] and faces["gender"].unique().tolist() == ["male", "female"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_empty_cell_is_no_group_and_words_for_nothing_are_no_race(suffix, tmp_path):
    rng = np.random.default_rng(0)
    table = scores(400, race=rng.choice(["white", "black", "", "nan", "None"], 400), gender=rng.choice(["f", "m", ""], 400),
                   hat=rng.choice(["none", "cap", ""], 400))
    table.to_csv(tmp_path/"p.csv", index=False) if suffix == ".csv" else table.to_parquet(tmp_path/"p.parquet")
    read, notes = noted(read_predictions, tmp_path/f"p{suffix}")
    assert [read[c].nunique() for c in ("race", "gender", "hat")] == [2, 2, 2]
    assert [n for n in notes if "race is a word for nothing" in n]
    known = table["race"].isin(["white", "black"])
    report = fairness_report(read, by=("race",))
    assert report.groups["group"].tolist() == ["black", "white"]
    split = report.splits.set_index("split").loc["White"]
    reals = (known & (table["label"] == "real")).sum()
    assert split["n"] == (table["race"] == "black").sum() and split["n_real"] + split["others_real"] == reals


def test_an_empty_cell_of_a_label_file_is_no_attribute(tmp_path):
    for i, kind in enumerate(("real", "fake") * 2):
        (tmp_path/"mine"/kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path/"mine"/kind/f"{i}.png")
    (tmp_path/"mine"/"who.csv").write_text("file,hat\n0.png,cap\n1.png,\n2.png, \n3.png,none\n")
    (tmp_path/"mine"/"fakeface-card.yaml").write_text(
        "{name: mine, title: t, what: w, homepage: '-', get: g, licence: l, citation: c, folders: [mine], "
        "layouts: {own: {a: {glob: 'real/*', kind: photograph}, b: {glob: 'fake/*', kind: generated}}}, "
        "attributes: [{from: table, files: [who.csv], format: csv, key: file, "
        "match: '(?:^|/)(?P<key>[^/]+)$', columns: {hat: hat}}]}")
    images = noted(scan, tmp_path)[0].images.set_index("path")
    assert images["hat"].dropna().to_dict() == {"mine/real/0.png": "cap", "mine/fake/3.png": "none"}


def test_a_label_by_hand_is_for_every_row_of_its_file():
    listed = pd.DataFrame(dict(path=["a", "a", "b"], label=["real", "real", "fake"], source=["s", "t", "s"],
                               kind=["photograph"] * 2 + ["generated"]))
    by_hand = pd.DataFrame(dict(path=["a", "b"], sha256=None, attribute=["label", "left_out"], value=["fake", "yes"], when=None))
    new, notes = noted(apply_labels, listed, by_hand)
    assert new["label"].tolist() == ["fake", "fake"] and "2 labels corrected" in notes[0]


def test_one_strange_word_takes_no_age_band_from_the_others_and_a_loss_is_a_number():
    read, notes = noted(check_predictions, scores(age=["20-29", "30-39", "3-9", "no idea"] * 10, loss=["0,5", "0.25"] * 20))
    assert read["age_band"].tolist()[:4] == ["20-29", "30-39", "3-9", None] and any("age_band is no idea" in n for n in notes)
    assert read["loss"].tolist()[1] == 0.25 and read["loss"].isna().sum() == 20
    assert any("loss is 0,5" in n and "20 rows" in n for n in notes)


@pytest.mark.parametrize("index", [["path"], ["path", "subject"], ["file"]])
def test_names_in_an_index_are_names_of_images(index, tmp_path):
    table = scores(subject=[f"s{i // 2}" for i in range(40)])
    theirs, map_ = (table.rename(columns=dict(path="file")), "path=file") if index == ["file"] else (table, None)
    theirs.set_index(index).to_parquet(tmp_path/"t.parquet")
    of_file, of_frame = tmp_path/"t.parquet", theirs.set_index(index)
    for read in (noted(f, of, columns=map_)[0] for f, of in ((read_predictions, of_file), (check_predictions, of_frame))):
        assert read["path"].tolist() == table["path"].tolist() and read["subject"].tolist() == table["subject"].tolist()


def test_images_without_a_hash_are_not_one_picture(tmp_path):
    listed = pd.DataFrame(dict(path=list("abcd"), source="s", label=["real", "fake"] * 2, split=["train", "train", "t", "t"],
                               subject=list("abcd"), sha256=["", "", "None", ""]))
    listed.to_csv(tmp_path/"m.csv", index=False)
    assert not len(find_leakage(noted(load_manifest, tmp_path/"m.csv")[0]))
    one, other = (noted(check_predictions, scores(path=[f"{k}{i}" for i in range(40)], sha256=""))[0] for k in "ab")
    assert images_fingerprint(one) != images_fingerprint(other)
    upper, lower = (noted(check_predictions, scores(sha256=[word * 64] + [None] * 39))[0] for word in "Aa")
    assert images_fingerprint(upper) == images_fingerprint(lower)


def test_age_bands_are_mended_and_strange_ones_sort_nobody():
    ages = noted(check_predictions, scores(age_band=["9-Mar", "2003-09-09", "20-29", "5 or 6"] * 10))
    assert ages[0]["age_band"].tolist()[:4] == ["3-9", "3-9", "20-29", None] and any("5 or 6" in n for n in ages[1])
    own = noted(check_predictions, scores(age_band=["young", "old"] * 20))[0]
    assert "age_band" not in own and own["age_group"].tolist()[:2] == ["young", "old"]


# --- lists of images --------------------------------------------------------------------------------------------------

def quick(table: pd.DataFrame, root: Path) -> dict[str, dict]:
    "The audit's checks without shortcuts that take time."
    return noted(audit, table, root, faces=0, workers=1, only=("exact-duplicates", "shared-subjects", "labels"))[0].checks


def test_a_file_listed_in_two_splits_or_under_both_labels_is_found_before_anything_is_cleaned(tmp_path):
    m = listed(tmp_path)
    m["split"] = np.where(m.index % 2, "Train", "Test")
    fine = quick(m, tmp_path)
    assert fine["exact-duplicates"]["verdict"] == "pass" and fine["labels"]["both_labels"] == 0
    both = pd.concat([m, m[m["split"] == "Train"].assign(split="TEST")])
    assert quick(both, tmp_path)["exact-duplicates"]["verdict"] == "fail"
    labels = quick(pd.concat([m, m[:10].assign(label="fake")]), tmp_path)["labels"]
    assert labels["verdict"] == "warn" and labels["both_labels"] == 10
    again, notes = noted(read_audited, pd.concat([m, m[:5]]), tmp_path)
    assert len(again.manifest) == len(m) and any("5 rows stand twice" in n for n in notes)


def test_a_copy_in_training_is_seen_though_another_test_holds_one_too():
    m = pd.DataFrame({"split": ["celeba", "ffhq", "train"], "sha256": ["x", "x", "x"]})
    assert byte_duplicates(m)[["i", "j"]].to_numpy().tolist() == [[2, 0], [2, 1]]


def test_a_list_reads_absolute_paths_inside_its_root_and_refuses_what_leads_out(tmp_path):
    m = listed(tmp_path/"pics", 3)
    for path in (m["path"].map(lambda p: str(tmp_path/"pics"/p)), m["path"].str.replace("/", "\\"), " " + m["path"]):
        for read in (images_to_score, lambda t, r: (noted(read_audited, t, r)[0].manifest, r)):
            assert noted(read, m.assign(path=path), tmp_path/"pics")[0][0]["path"].tolist() == m["path"].tolist()
    picture(tmp_path/"out.jpg", 0)
    for path in ("../out.jpg", str(tmp_path/"out.jpg")):
        for read in (images_to_score, read_audited):
            with pytest.raises(InputError, match="leads out of the data root"): read(m.assign(path=[path, *m["path"][1:]]), tmp_path/"pics")


def test_a_list_to_score_names_what_it_leaves_out(tmp_path):
    m = listed(tmp_path, 4, split=["Train", "test"] * 4, p_fake=0.5)
    m.to_csv(tmp_path/"m.csv", index=False)
    (rows, _), notes = noted(images_to_score, tmp_path/"m.csv")
    assert len(rows) == 4 and "p_fake" not in rows and any("4 of 8 are left out: 4 in train or valid" in n for n in notes)
    for bad in (m.assign(path=[None, *m["path"][1:]]), pd.concat([m, m]), pd.concat([m, m.assign(label="real")])):
        with pytest.raises(InputError): noted(images_to_score, bad, tmp_path)


LAYOUTS = {"splits": ["train/real", "train/fake", "test/real", "test/fake"], "capitals": ["Real", "FAKE"], "numbered": ["0_real", "1_fake"],
           "deep": ["test/progan/cat/0_real", "test/progan/cat/1_fake", "val/progan/0_real"]}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_as_image_folders_and_benchmarks_keep_them_are_asked(layout, tmp_path):
    for i, folder in enumerate(LAYOUTS[layout]):
        for k in range(4): picture(tmp_path/folder/f"{k}.jpg", 10 * i + k)
    (rows, root), notes = noted(images_to_score, tmp_path)
    assert rows["label"].value_counts().to_dict() == {"real": 4, "fake": 4} and set(rows["split"]) == {"test"}
    assert any("left out" in n for n in notes) == (layout in ("splits", "deep"))


def test_what_a_folder_in_parts_leaves_out_is_counted_as_without_parts(tmp_path):
    for k, name in enumerate(("train/real/0.png", "valid/fake/1.png", "test/real/2.png", "test/fake/3.png", "other/4.png")):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path/name)
    (tmp_path/"test/real/x.heic").write_bytes(b"x")
    (rows, _), notes = noted(list_images, tmp_path)
    assert rows["path"].tolist() == ["test/fake/3.png", "test/real/2.png"]
    assert notes == noted(images_to_score, tmp_path)[1] and "4 of 6 are left out" in notes[0]


def test_files_of_a_folder_that_cannot_be_scored_are_counted_and_named(tmp_path):
    for i in range(6): picture(tmp_path/("real", "fake")[i % 2]/f"{i}.jpg", i)
    (tmp_path/"fake"/"1.jpg").write_bytes((tmp_path/"fake"/"1.jpg").read_bytes()[:200])
    (tmp_path/"fake"/"note.txt").write_text("x")
    (rows, _), notes = noted(images_to_score, tmp_path)
    assert len(rows) == 5 and any(n.count("left out") and "1 truncated" in n.replace("file is ", "") or "2 of 7" in n for n in notes)


def test_a_manifest_goes_through_the_same_door(tmp_path):
    m = listed(tmp_path, 4, split=["Train", "val"] * 4, subject=[str(i) for i in range(8)], source="NA")
    m.to_csv(tmp_path/"m.csv", index=False, sep=";")
    read, notes = noted(load_manifest, tmp_path/"m.csv")
    assert set(read["split"]) == {"train", "valid"} and set(read["source"]) == {"NA"} and len(notes) == 2
    m.assign(subject="").to_csv(tmp_path/"m.csv", index=False)
    with pytest.raises(InputError, match="subject"): noted(load_manifest, tmp_path/"m.csv")


# --- headlines of the audit -------------------------------------------------------------------------------------------

def test_the_verdict_of_a_shortcut_is_that_of_the_worst_of_training_and_each_test():
    rng, n = np.random.default_rng(0), 400
    split = np.repeat(["train", "mild", "bad"], n)
    fake = rng.random(3 * n) < 0.5
    m = pd.DataFrame({"split": split, "label": np.where(fake, "fake", "real"), "subject": [f"s{i}" for i in range(3 * n)], "source": "x"})
    size = np.where(split == "mild", rng.normal(0, 1, 3 * n), np.where(fake, 256.0, 200.0))
    t = judge_shortcut("size", size[:, None].repeat(2, 1), m)[0]
    assert t["verdict"] == "fail" and t["figure"] > 0.98 and ("on test bad" in t["why"] or "in training" in t["why"])
    assert t["pooled"]["ci95"][0] < 0.95 and len(t["by_place"]) == 3 and {"by_test", "figure", "ci95", "n"} <= set(t)
    unsplit = judge_shortcut("size", size[:, None].repeat(2, 1), m.assign(split="all"))[0]
    assert "place" not in unsplit and unsplit["verdict"] != "fail"


def test_twins_that_a_card_declares_are_no_label_error(tmp_path):
    from fakeface.data.sources import read_cards
    pair = dict(kind="near", alike=0.999, label_i="real", label_j="fake", source_i="lag", source_j="lag", subject_i="a", subject_j="a")
    twins = pair | dict(source_i="fairface", source_j="fairface_psp_twins")
    pairs = pd.DataFrame([pair, twins, twins | dict(subject_j="b"), twins | dict(kind="exact")])
    assert contradictions(pairs, read_cards()).index.tolist() == [0, 2, 3]


def test_what_is_tidy_passes_as_the_same_table():
    table = scores(split="test", source="ffhq", subject=[f"s{i}" for i in range(40)])
    tidy, notes = noted(tidy_table, table)
    assert tidy is table or tidy.equals(table)
    assert notes == []


def test_images_that_one_side_lacks_are_counted_and_none_in_common_is_said():
    there = scores()
    assert noted(compare, there, there)[1] == []
    found, notes = noted(compare, there, there[:30])
    assert found.loc[("test", "all"), "n_a"] == 30 and any("10 of 40 images are not in every table" in n for n in notes)
    found, notes = noted(compare, there, there.assign(path=there["path"].str.upper()))
    assert found["how"].eq("unpaired").all() and any("no image of the first is in the second" in n for n in notes)


def test_an_image_whose_hash_one_table_lacks_is_compared_and_another_file_is_said():
    there = scores(sha256=[f"{i:064x}" for i in range(40)])
    for other in (there.assign(sha256=[None] * 20 + there["sha256"].tolist()[20:]), there.drop(columns="sha256")):
        found, notes = noted(compare, there, other)
        assert found.loc[("test", "all"), ["how", "n_a"]].tolist() == ["paired", 40] and notes == []
    changed = there.assign(sha256=["f" * 64] * 10 + there["sha256"].tolist()[10:])
    found, notes = noted(compare, there, changed)
    assert found.loc[("test", "all"), "n_a"] == 30 and any("10 images have one path and another file" in n for n in notes)
    found, notes = noted(compare, [there, changed], there)
    assert found.loc[("test", "all"), "n_a"] == 30 and any("10 images have one path and another file" in n for n in notes)


def test_subjects_that_one_table_alone_knows_count_for_both():
    rng = np.random.default_rng(0)
    a, b = (scores(400, p_fake=rng.random(400).round(3)) for _ in range(2))
    who = [f"s{i // 20}" for i in range(400)]
    both = compare(a.assign(subject=who), b.assign(subject=who))
    for found in (compare(a.assign(subject=who), b), compare(a, b.assign(subject=who)), compare([a, a.assign(subject=who)], [b, b])):
        for column in ("subjects", "auc_p"): assert found[column].iloc[0] == both[column].iloc[0]


def test_runs_of_one_side_are_of_the_same_labels_and_what_is_not_compared_is_said():
    there = scores()
    with pytest.raises(InputError, match="40 images have another label"):
        compare([there, there.assign(label=there["label"].to_numpy()[::-1])], there)
    two = pd.concat([there.assign(split="t1"), there.assign(split="t2")])
    found, notes = noted(compare, two, there.assign(split="t1"))
    assert set(found.index.get_level_values(0)) == {"t1"} and any("not compared" in n and "`t2`" in n for n in notes)
    said = comparison_words(compare(there.assign(split="train"), there.assign(split="train")))
    assert said[-1].startswith("train: these images were trained")


def test_rows_that_are_compared_by_their_place_are_said_to_be():
    there = scores()
    assert not noted(compare, there, there)[1]
    found, notes = noted(compare, there.drop(columns="path"), there.drop(columns="path"))
    assert found["how"].eq("paired").all() and any("compared by their place" in n for n in notes)


def test_a_comparison_says_where_an_image_is_called_fake(tmp_path, capsys):
    for name in "ab": scores().to_csv(tmp_path/f"{name}.csv", index=False)
    assert main(["compare", *(str(tmp_path/f"{name}.csv") for name in "ab")]) == 0
    assert "fake, from p_fake 0.5 on" in capsys.readouterr().out


def test_a_report_on_images_that_were_trained_on_says_so():
    table = scores(400, split=["valid"] * 200 + ["train"] * 200, gender=["f", "f", "m", "m"] * 100)
    point = fit_operating_point(table[table["split"] == "valid"])
    assert point_words(score_at_point(point, table[table["split"] == "train"]))[0] == "These images were trained on and test nothing."
    train, valid = (" ".join(r.notes) for r in fairness_reports(table))
    assert "were trained on" in train and "not a test" in valid


def test_a_damaged_manifest_of_a_run_is_refused_by_name(tmp_path):
    for text in (b"", b"PAR1 and no more", b"no table"):
        (tmp_path/"manifest.parquet").write_bytes(text)
        for read in (read_audited, images_to_score):
            with pytest.raises(InputError, match="manifest.parquet"): read(tmp_path, tmp_path)


def test_all_kinds_of_bad_rows_are_said_in_one_error_with_their_count_and_first_row(tmp_path, capsys):
    rows = [("a.jpg", "real", 0.1, "test")] * 2 + [("b.jpg", "fake", 7, "test"), ("c.jpg", "fake", "x", "test"), ("", "real", 0.2, "test"),
            ("d.jpg", "maybe", 0.3, "test"), ("e.jpg", "", 0.3, "test"), ("f.jpg", "fake", 0.4, ""), ("g.jpg", "perhaps", 0.4, "1"),
            ("h.jpg", "real", 0.1, "test"), ("h.jpg", "fake", 0.1, "test")]
    pd.DataFrame(rows, columns=["path", "label", "p_fake", "split"]).to_csv(tmp_path / "p.csv", index=False)
    kinds = ["row 5: path is empty", "row 7: label is empty", "row 6: label is maybe", "row 8: split is empty", "row 9: split is 1",
             "row 3: p_fake is 7", "h.jpg stands under both labels", "a.jpg stands twice in one split"]
    assert main(["score", str(tmp_path / "p.csv")]) == 2
    told = capsys.readouterr().err
    assert "p.csv: 8 kinds of bad rows: (1) row 5" in told and told.count("2 such rows") == 2  # of words that are no label, and of p_fake
    for kind in kinds: assert kind in told
    with pytest.raises(InputError, match="7 kinds of bad rows"): images_to_score(tmp_path / "p.csv", tmp_path)
    good = pd.read_csv(tmp_path / "p.csv").assign(label="real", p_fake=0.5, split="test", path=[f"{k}.jpg" for k in range(len(rows))])
    good.to_csv(tmp_path / "p.csv", index=False)
    assert main(["score", str(tmp_path / "p.csv")]) == 0


def test_score_says_what_four_images_one_class_or_nobody_leave_open(tmp_path, capsys):
    for name, some in {"tiny": scores(n=4), "one": scores(label="fake"), "people": scores(subject=["ada", "bea"] * 20)}.items():
        some.to_csv(tmp_path/f"{name}.csv", index=False)
        assert main(["score", str(tmp_path/f"{name}.csv")]) == 0
        told = capsys.readouterr()
        said = " ".join((told.out + told.err).split())
        assert ("cannot be read off so few" in said) == (name == "tiny"), said
        assert ("only fake images: always answering that scores 100 %" in said) == (name == "one"), said
        assert ("no column `subject`, so every image counts as a person of its own" in said) == (name != "people"), said


@pytest.mark.parametrize("command", ["score", "operating", "fairness", "compare"])
def test_bad_rows_are_left_out_where_that_is_asked_for_and_counted(command, tmp_path, capsys):
    groups = dict(split=["valid", "valid", "test", "test"], gender=["male", "male", "female", "female"])
    good = scores(200, **{k: words * 50 for k, words in groups.items()}, subject=range(200))
    bad = scores(6, label=["real", "fake", "", "maybe", "real", "fake"], split="test", gender="male", subject=range(300, 306),
                 path=[f"bad/{i}.jpg" for i in range(6)]).assign(p_fake=["n/a", "7", "0.5", "0.5", "", "-1"])
    both = pd.concat([good[:50].astype({"p_fake": object}), bad[:4], good[50:], bad[4:]])
    for name, table in (("good", good), ("both", both)): table.to_csv(tmp_path/f"{name}.csv", index=False)
    def ask(name, *more): # exit code, JSON, what else was said
        files = [str(tmp_path/f"{name}.csv")] * (2 if command == "compare" else 1)
        code, told = main([command, *files, "--json", *more]), capsys.readouterr()
        return code, json.loads(told.out) if code == 0 else None, told.err
    assert ask("both")[0] == 2
    code, found, said = ask("both", "--skip-bad-rows")
    assert code == 0 and "6 rows are left out: 3 kinds of bad rows" in " ".join(said.split()), said
    def bare(x): return json.dumps(x).replace("both.csv", "good.csv")
    assert bare(found) == bare(ask("good")[1])


def test_a_table_of_bad_rows_alone_is_refused_all_the_same(tmp_path):
    with pytest.raises(InputError, match="p_fake is 7"): noted(read_predictions, _csv(scores(p_fake=7), tmp_path), skip=True)


@pytest.mark.parametrize("numbers, mend", [([0.4, 0.7, 31, 99, None, 88], "divide percentages by 100"),
                                           ([-3, 0.2, 5, 0.8, -7, -2], "log-odds")])
def test_no_row_of_a_column_on_another_scale_is_left_out(numbers, mend, tmp_path):
    table = scores(6, label=["real", "real", "fake"] * 2, p_fake=numbers)
    with pytest.raises(InputError, match=f"{mend}.*the others are on the same scale"):
        noted(read_predictions, _csv(table, tmp_path), skip=True)


def _csv(table: pd.DataFrame, folder: Path) -> Path:
    table.to_csv(folder/"p.csv", index=False)
    return folder/"p.csv"
