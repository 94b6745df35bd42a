"Predictions in many Parquet files: the command line, the shards' parts, and memory."
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fakeface.cli.main import main
from fakeface.core.shards import Shard, part_file, read_plans, write_shard

pytest.importorskip("duckdb", reason="the extra scale is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng, n = np.random.default_rng(0), 3000
    who, fake = rng.integers(0, 400, n), rng.random(n) < 0.5
    z = rng.normal(0, 1, n) + rng.normal(0, 1, 400)[who] + np.where(fake, 1.5, -1.5)
    return pd.DataFrame(dict(path=[f"{k}.jpg" for k in range(n)], label=np.where(fake, "fake", "real"), p_fake=1 / (1 + np.exp(-z)),
                             split=rng.choice(["home", "away"], n), source=np.where(fake, "drawn", "photos"),
                             subject=[f"s{k}" for k in who], gender=rng.choice(["female", "male"], n)))


@pytest.fixture
def parts(table: pd.DataFrame, tmp_path: Path) -> Path:
    "The table as four shards in parts of 200."
    known = table.set_index("path")["p_fake"]
    for i in range(1, 5):
        write_shard(table.drop(columns="p_fake"), Shard(i, 4), "score", dict(model="m"), tmp_path/"parts",
                    lambda rows: rows.assign(p_fake=known[rows["path"]].to_numpy(), reason=None), 200)
    return tmp_path/"parts"


def asked(capsys: pytest.CaptureFixture, *args: object) -> dict:
    assert main(["score", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def close(a: object, b: object) -> bool:
    if isinstance(b, dict): return a.keys() == b.keys() and all(close(a[k], b[k]) for k in b)
    if isinstance(b, list): return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, abs=1e-9) if isinstance(b, float) else a == b


def test_parts_have_the_scores_of_the_same_table_in_memory(parts: Path, table: pd.DataFrame, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture) -> None:
    table.to_parquet(tmp_path/"one.parquet")
    assert close(asked(capsys, parts, "--exact"), asked(capsys, tmp_path/"one.parquet"))


def test_areas_from_bins_are_within_the_error_that_is_stated(parts: Path, capsys: pytest.CaptureFixture) -> None:
    exact, binned = asked(capsys, parts, "--exact")["tests"], asked(capsys, parts)["tests"]
    for test, s in binned.items():
        for name in ("auc", "average_precision"):
            off = abs(s[name] - exact[test][name])
            assert off <= s[f"{name}_error"] < 1e-2
            (lo, hi), (low, high) = s[f"{name}_ci95"], exact[test][f"{name}_ci95"]
            assert lo <= low + off and hi >= high - off
        rest = [{k: v for k, v in some.items() if not k.startswith(("auc", "average"))} for some in (s, exact[test])]
        assert close(*rest)


def test_groups_are_those_of_the_fairness_report(parts: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture) -> None:
    for row in asked(capsys, parts, "--by", "gender")["groups"]:
        mine = table[(table["split"] == row["test set"]) & (table["gender"] == row["group"])]
        assert row["fpr"] == pytest.approx((mine[mine["label"] == "real"]["p_fake"] >= 0.5).mean())
        assert row["fnr"] == pytest.approx((mine[mine["label"] == "fake"]["p_fake"] < 0.5).mean())
        assert row["fpr_ci95"][0] < row["fpr"] < row["fpr_ci95"][1]


def test_the_ledger_knows_the_images_whatever_the_form(parts: Path, table: pd.DataFrame, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture) -> None:
    from fakeface.evaluate.ledger import Ledger
    ledger = Ledger(tmp_path/"runs")
    ledger.enter("home", table[table["split"] == "home"], "another")
    asked(capsys, parts, "--ledger", tmp_path/"runs")
    home = [e for e in ledger.entries() if e["test"] == "home"]
    assert [e["before"] for e in home] == [0, 1] and home[0]["images"] == home[1]["images"]


def test_unfinished_shards_are_not_scored(parts: Path, capsys: pytest.CaptureFixture) -> None:
    part_file(parts, read_plans(parts)[2], 1).unlink()
    assert main(["score", str(parts)]) == 2
    assert "shard 3 of 4 is not finished" in capsys.readouterr().err


def test_a_million_rows_stay_below_half_a_gigabyte_over_what_python_takes(tmp_path: Path) -> None:
    "The same benchmark as for a hundred million, small."
    tool = Path(__file__).parent.parent/"benchmarks/big_tables.py"
    told = subprocess.run([sys.executable, tool, "--rows", "1000000", "--memory", "200MB", "--most", "0.8", "--only",
                           "scores, areas from bins"], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("option", ["--flip", "--logit"])
def test_numbers_of_another_kind_are_read_so_in_place_too(option: str, table: pd.DataFrame, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture) -> None:
    theirs = table.assign(p_fake=1 - table["p_fake"] if option == "--flip" else np.log(table["p_fake"] / (1 - table["p_fake"])))
    (tmp_path/"big").mkdir()
    for k in (0, 1): theirs.iloc[k::2].to_parquet(tmp_path/"big"/f"{k}.parquet")
    table.to_csv(tmp_path/"whole.csv", index=False)
    whole, big = asked(capsys, tmp_path/"whole.csv"), asked(capsys, tmp_path/"big", "--exact", option)
    for test in ("home", "away"):
        for name in ("accuracy", "auc", "sensitivity"): assert big["tests"][test][name] == pytest.approx(whole["tests"][test][name])


ODD = {"splits in other words": dict(split=lambda t: t["split"].replace({"home": "Validation", "away": " Test"})),
       "empty sources": dict(source=lambda t: t["source"].replace("drawn", "")),
       "no source at all": dict(source=lambda t: None),
       "subjects that are none": dict(subject=lambda t: t["subject"].where(t.index % 3 > 0, "nan")),
       "blanks around subjects": dict(subject=lambda t: t["subject"] + pd.Series(" ", t.index).where(t.index % 2 == 0, "")),
       "paths from Windows": dict(path=lambda t: ".\\pics\\" + t["path"]),
       "hashes that are none": dict(sha256=lambda t: pd.Series("", t.index).where(t.index % 2 > 0, "AB" * 32)),
       "a reason of one's own": dict(reason=lambda t: "eyes")}


@pytest.mark.parametrize("odd", ODD)
def test_what_people_write_means_the_same_in_many_files_as_in_one(odd: str, table: pd.DataFrame, tmp_path: Path) -> None:
    from fakeface.evaluate.big_tables import BigTable, big_fingerprint, score_big
    from fakeface.evaluate.ledger import images_fingerprint
    from fakeface.evaluate.scores import read_predictions, score_predictions
    theirs = table.assign(**{c: of(table) for c, of in ODD[odd].items()}).rename(columns=dict(split="Split", subject=" Subject"))
    theirs.to_parquet(tmp_path/"t.parquet")
    with warnings.catch_warnings(record=True) as of_one:
        warnings.simplefilter("always")
        whole = read_predictions(tmp_path/"t.parquet")
    with warnings.catch_warnings(record=True) as of_many:
        warnings.simplefilter("always")
        big = BigTable(tmp_path/"t.parquet")
    with big:
        assert len(of_one) == len(of_many)
        assert close(score_big(big, exact=True), score_predictions(whole, checked=True))
        for test, rows in whole.groupby("split"): assert big_fingerprint(big, test)[0] == images_fingerprint(rows)


@pytest.mark.parametrize("why", ["train-1", "both labels", "two splits", "twice by another writing", "no path"])
def test_many_files_are_refused_where_one_is(why: str, table: pd.DataFrame, tmp_path: Path) -> None:
    from fakeface.core.basics import InputError
    from fakeface.evaluate.big_tables import BigTable
    from fakeface.evaluate.scores import read_predictions
    other = table.iloc[:5].assign(split="train" if why == "two splits" else "elsewhere")
    if why == "both labels": other["label"] = other["label"].map(dict(real="fake", fake="real"))
    if why == "train-1": table = table.assign(split="train-1")
    if why == "twice by another writing": other = table.iloc[:5].assign(path="./" + table["path"].iloc[:5])
    if why == "no path": other["path"] = None
    pd.concat([table, other]).to_parquet(tmp_path/"t.parquet")
    for read in (read_predictions, BigTable):
        with pytest.raises(InputError, match="split is train-1|both labels|two splits|twice|2 times|path"): read(tmp_path/"t.parquet")


def test_images_without_an_answer_are_counted_where_many_files_are_scored(table: pd.DataFrame, tmp_path: Path,
                                                                          capsys: pytest.CaptureFixture) -> None:
    (tmp_path/"big").mkdir()
    bad = table.index < 7
    table.assign(p_fake=table["p_fake"].mask(bad), reason=np.where(bad, "broken", None)).to_parquet(tmp_path/"big"/"0.parquet")
    assert main(["score", str(tmp_path/"big")]) == 0
    assert "without an answer are left out" in (said := capsys.readouterr().err) and "(7 rows)" in said


def test_an_empty_cell_is_no_group_of_many_files(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path/"big").mkdir()
    odd = table.assign(gender=table["gender"].where(table.index % 5 > 0, "").where(table.index % 2 > 0, table["gender"].str.title()))
    odd.to_parquet(tmp_path/"big"/"0.parquet")
    known = odd[odd["gender"] != ""].assign(gender=lambda t: t["gender"].str.lower())
    for row in asked(capsys, tmp_path/"big", "--by", "gender")["groups"]:
        assert row["n_real"] == ((known["split"] == row["test set"]) & (known["gender"] == row["group"]) & (known["label"] == "real")).sum()


def test_scores_next_to_0_and_1_keep_their_order_in_bins(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fake = np.arange(400) % 2 == 1
    small = 10.0**-np.random.default_rng(0).integers(1, 330, 400)
    for k, p in enumerate((np.where(fake, 1e-100, 0.0), np.where(fake, 1.0, 1 - 1e-16), small)):
        (folder := tmp_path/str(k)).mkdir()
        pd.DataFrame(dict(label=np.where(fake, "fake", "real"), p_fake=p)).to_parquet(folder/"t.parquet")
        exact, binned = (asked(capsys, folder, *more)["tests"]["test"] for more in (["--exact"], []))
        assert abs(exact["auc"] - binned["auc"]) <= binned["auc_error"] + 1e-12 and binned["auc_error"] < 0.01


def test_equal_numbers_are_no_error_of_the_bins(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path/"parts").mkdir()
    table.assign(p_fake=table["p_fake"].round(1)).to_parquet(tmp_path/"parts"/"one.parquet") # as a detector that answers in tenths
    exact, binned = asked(capsys, tmp_path/"parts", "--exact")["tests"], asked(capsys, tmp_path/"parts")["tests"]
    for test, s in binned.items():
        assert s.pop("auc_error") == s.pop("average_precision_error") == 0
        assert close(s, exact[test])


@pytest.mark.parametrize("command", ["compare", "fairness", "operating"])
def test_a_folder_of_parts_is_named_with_the_way_to_one_table(parts: Path, command: str, capsys: pytest.CaptureFixture) -> None:
    assert main([command, str(parts), *([str(parts)] if command == "compare" else [])]) == 2
    err = capsys.readouterr().err
    assert f"{parts} is a folder without predictions.parquet" in err and "fakeface merge" in err
