"What people write and what run folders hold: whatever is in it, a file is read, or is refused in one line."
import json
import math
import re
import shutil
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakeface.core.basics import InputError
from fakeface.core.query import select
from fakeface.core.records import COLUMNS_OF, RECORDS, Metrics, read_record
from fakeface.core.schema import parse_json, read_json, read_yaml
from fakeface.data.recipes import Recipe, read_recipe
from fakeface.data.sources import Card, read_card, read_cards
from fakeface.evaluate.scores import score_test

SHORT = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
ODD = ["..", "a/b", "", "train", "1e-3", "real", "2020-01-01", "a\nb", "\x00", "@x", "__import__('os')"]
TEXT = st.text(max_size=12) | st.sampled_from(ODD)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12)


def one_line(read, *args):
    "What `read` gives, None where it refuses in one line; whatever else it raises goes through."
    try:
        return read(*args)
    except InputError as e:
        assert "\n" not in str(e) and str(e).strip()
        return None


def changed(data: st.DataObject, value: dict) -> dict:
    "`value` with something else in one of its places, however deep, or without it."
    value = json.loads(json.dumps(value))
    at, keys = value, []
    while True:
        key = data.draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else data.draw(st.integers(0, len(at) - 1))
        keys.append(key)
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    if isinstance(at, dict) and data.draw(st.booleans()):
        del at[key]
    else:
        at[key] = data.draw(VALUES)
    return value


# --- what the program itself writes -----------------------------------------------------------------------------------

SCORES = st.lists(st.tuples(st.sampled_from(["real", "fake"]), st.sampled_from([0, 1e-9, 1 / 3, 0.5, 0.7, 1]) | st.floats(0, 1)),
                  min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows=SCORES, told_apart=st.integers(0, 300))
def test_whatever_the_predictions_their_scores_are_a_record_that_is_read_back(rows, told_apart):
    if told_apart:  # sums of floats that should be 1, and end a rounding beside it
        rows = [(label, p / 3 + 0.6 * (label == "fake")) for label, p in rows]
        rows += [("fake", 0.6 + 0.3 * i / told_apart) for i in range(told_apart)]
    predictions = pd.DataFrame(rows, columns=["label", "p_fake"]).assign(source="a", split="a")
    predictions["path"] = [f"{i}.jpg" for i in range(len(predictions))]
    written = json.dumps(dict(tests=dict(a=score_test(predictions))))
    assert parse_json(written, "metrics.json", Metrics)["tests"]["a"]["n"] == len(predictions)


# --- what people write ------------------------------------------------------------------------------------------------

PART = dict(source="ffhq", count=3, where="age >= 60", label="real")
RECIPE = dict(name="x", title="t", train=[PART, dict(source="lfw", count=5)], tests=dict(a=[PART]), valid=0.2, seed=1, study="s",
              citation="c", published=["man-1"], notes="n", duplicates=dict(lfw="drop"),
              profiles=dict(small=dict(model="small", size=32, epochs=1, lr=0.01)))
GRID = dict(name="x", title="t", recipe="man-1", profile="small", scale=0.5, settings=dict(size=32), axes=dict(lr=[0.1, 0.2], crop=[0.5]),
            skip=[dict(lr=0.1, crop=0.5)], trials=[dict(lr=0.3, name="z")], seeds=[0, 1], notes="n")
TRANSFER = dict(name="x", title="t", sets=dict(a=dict(real=[PART]), b=dict(real=[PART], fake=[PART])), profiles=RECIPE["profiles"],
                fakes=[PART], all="both", test=0.3, valid=0.2, equal=True, seed=1, duplicates="drop", notes="n")
OWN = dict(sources=dict(mine=dict(folder="m", glob="*.jpg", kind="generated", licence="l", citation="c"), ffhq=dict(folder="f")))


def read_own(path: Path) -> dict:
    "The cards of a data root with this `fakeface.yaml`."
    shutil.copy(path, path.with_name("fakeface.yaml"))
    return read_cards(path.parent)


def read_grid(path):
    from fakeface.experiments.grid import read_grid
    return read_grid(path)


def read_transfer(path):
    from fakeface.experiments.transfer import read_transfer
    return read_transfer(path)


def card() -> dict:
    "A card of the package."
    from fakeface.core.basics import data_manifests
    return read_yaml(data_manifests() / "sources" / "celeba.yaml", "card")


KINDS = {"recipe": (read_recipe, RECIPE), "grid": (read_grid, GRID), "transfer": (read_transfer, TRANSFER), "own": (read_own, OWN)}


@pytest.mark.parametrize("kind", [*KINDS, "card"])
def test_a_good_file_of_each_kind_is_read(kind, tmp_path):
    read, good = KINDS.get(kind) or (read_card, card())
    (tmp_path / "x.yaml").write_text(json.dumps(good), encoding="utf-8")
    assert read(tmp_path / "x.yaml")


@pytest.mark.parametrize("kind", [*KINDS, "card"])
@SHORT
@given(data=st.data())
def test_a_file_with_anything_in_any_place_is_read_or_refused_in_a_line(kind, data, tmp_path):
    read, good = KINDS.get(kind) or (read_card, card())
    value = data.draw(VALUES) if data.draw(st.integers(0, 4)) == 0 else changed(data, good)
    (tmp_path / "x.yaml").write_text(json.dumps(value), encoding="utf-8")
    made = one_line(read, tmp_path / "x.yaml")
    if kind == "recipe" and made:
        assert isinstance(made, Recipe) and 0 < made.valid < 1 and all(type(p.count) is int for p in made.train)
        json.dumps({f.name: getattr(made, f.name) for f in fields(made) if f.name not in ("train", "tests")})
    if kind == "card" and made:
        assert isinstance(made, Card)


@SHORT
@given(data=st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>?#\"'%@`~,. \n\t01", max_size=60).map(str.encode))
def test_any_bytes_are_yaml_or_are_refused_in_a_line(tmp_path, data):
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    one_line(read_yaml, path, "recipe")


@SHORT
@given(value=st.dictionaries(st.text(alphabet="abc19", min_size=1), st.recursive(
    st.booleans() | st.integers(-10**9, 10**9) | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(alphabet="abc é:'1", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab", min_size=1), inner, max_size=3), max_leaves=9)))
def test_what_yaml_writes_is_read_back(tmp_path, value):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    assert read_yaml(path, "recipe") == value


def test_no_file_stands_for_more_than_it_should(tmp_path):
    bomb = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))])
    for text in (bomb, "a: " + "[" * 100_000, "a: " + "{b: " * 5000, "- " * 50_000, "a: " + "x" * (2 << 20)):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        assert one_line(read_yaml, tmp_path / "x.yaml", "recipe") is None
    for text in ("[" * 1_000_000, '{"a":' * 5000, "{" * 500 + "}" * 500, "1" * 100_000, '{"a": 1e99999}', '{"a": "\\udfff"}'):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        one_line(read_json, tmp_path / "x.json")


# --- what run folders hold --------------------------------------------------------------------------------------------

CI = [0.1, 0.9]
RATES = ("accuracy", "specificity", "sensitivity", "balanced_accuracy", "auc", "average_precision")
BOTH = dict(n=4, n_real=2, n_fake=2, majority_baseline=0.5, confusion=dict(real=dict(real=1, fake=1), fake=dict(real=0, fake=2)),
            by_source=dict(s=dict(label="real", n=2, correct=1, accuracy=0.5, accuracy_ci95=CI)),
            **dict.fromkeys(RATES, 0.5), **{f"{k}_ci95": CI for k in RATES})
WORLD = dict(seed=0, images=100, trace=7.0, psi=0.7, size=64)
HELD = {"metrics.json": dict(positive="fake", tests=dict(a=BOTH), valid=BOTH, sources=dict(s=dict(asked=2, found=2, used=2))),
        "run.json": dict(recipe="x", title="t", settings=dict(model="small"), seed=0, scale=1.0, world=WORLD, seconds=dict(scan=1.0)),
        "model.json": dict(model="small", arch="resnet34", size=32, resize="squish", color="rgb", crop=1.0, pretrained=True),
        "world.json": WORLD, "grid.json": dict(asked=dict(recipe="x"), trials={"lr-0.1": dict(setting="lr-0.1", seed=0, lr=0.1)})}


@pytest.mark.parametrize("name", HELD)
@SHORT
@given(data=st.data())
def test_a_damaged_json_is_read_or_named(name, data, tmp_path):
    text = json.dumps(changed(data, HELD[name]) if data.draw(st.booleans()) else HELD[name])
    if data.draw(st.booleans()):
        text = text[:data.draw(st.integers(0, len(text)))]
    (tmp_path / name).write_text(text, encoding="utf-8")
    try:
        found = read_record(tmp_path / name)
    except InputError as e:
        assert "\n" not in str(e) and name in str(e)
    else:
        assert {f.name for f in fields(RECORDS[name]) if f.default is MISSING and f.default_factory is MISSING} <= set(found)


TABLE = pd.DataFrame(dict(path=["a", "b", "c"], label=["real", "fake", "real"], p_fake=[0.1, 0.9, 0.5], split=["t", "t", "valid"],
                          source=["s", "s", "u"], epoch=[1, 2, 3], train_loss=[1.0, 0.5, 0.2], valid_loss=[1.0, 0.5, 0.2],
                          accuracy=[0.5, 0.6, 0.7], reason=["x", "y", "z"]))


@pytest.mark.parametrize("name", ["predictions.parquet", "manifest.parquet", "history.csv", "rejects.csv"])
@SHORT
@given(data=st.data())
def test_a_damaged_table_is_read_or_named(name, data, tmp_path):
    file, stem = tmp_path / name, name.partition(".")[0]
    table = TABLE[list(COLUMNS_OF[stem])]
    how = data.draw(st.sampled_from(["cut", "flipped", "column lost", "values", "junk"]))
    if how == "column lost":
        table = table.drop(columns=data.draw(st.sampled_from(list(table))))
    if how == "values":
        odd = data.draw(st.sampled_from([None, "x", 7, math.nan, True, "real"]))
        table = table.assign(**{data.draw(st.sampled_from(list(table))): odd})
    (table.to_parquet if name.endswith("parquet") else table.to_csv)(file, index=False)
    raw = bytearray(file.read_bytes())
    if how == "cut":
        raw = raw[:data.draw(st.integers(0, len(raw)))]
    if how == "flipped":
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(data.draw(st.binary(max_size=40)) if how == "junk" else raw)
    try:
        found = read_record(file)
    except InputError as e:
        assert "\n" not in str(e) and name in str(e)
    else:
        assert how != "column lost" and set(COLUMNS_OF[stem]) <= set(found)


# --- conditions -------------------------------------------------------------------------------------------------------

ROWS = pd.DataFrame(dict(age=[1.0, 20.0, 60.0, 61.0, 90.0], n=[1, 2, 3, 4, 5], gender=["female", "male", "female", "male", "x y"],
                         glasses=[True, False, True, True, False]))
NUMBERS = st.integers(-5, 99) | st.floats(-5, 99, allow_nan=False)
WORDS = st.sampled_from(["female", "male", "x y", "", "a & b", "it's", "`age`", "@x"])
COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
LEAVES = st.one_of(
    st.builds("{} {} {!r}".format, st.sampled_from(["age", "n", "`age`"]), COMPARED, NUMBERS),
    st.builds("{!r} {} {} {} {!r}".format, NUMBERS, COMPARED, st.sampled_from(["age", "n"]), COMPARED, NUMBERS),
    st.builds("gender {} {!r}".format, COMPARED, WORDS),
    st.builds("gender {} {!r}".format, st.sampled_from(["in", "not in"]), st.lists(WORDS, min_size=1, max_size=3)),
    st.builds("n {} {!r}".format, st.sampled_from(["in", "not in"]), st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple)),
    st.builds("age {} n".format, COMPARED), st.builds("glasses == {!r}".format, st.booleans()), st.just("glasses"))
CONDITIONS = st.recursive(LEAVES, lambda inner: st.one_of(
    st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or", "&", "|"]), inner),
    st.builds("{} ({})".format, st.sampled_from(["not", "~"]), inner)), max_leaves=6)


@settings(max_examples=80, deadline=None)
@given(CONDITIONS)
def test_a_condition_selects_what_pandas_selects(text):
    assert select(ROWS, text).index.equals(ROWS.query(text, engine="python").index)


PIECES = ["age", "gender", "and", "or", "not", "in", "is", "None", "==", "<", "(", ")", "[", "]", "1", "'x'", "@pd", "@", ".", ",",
          "~", "&", "|", "-", "**", "`", "`age`", "__import__", "('os')", ".system('touch ran')", "open('ran', 'w')", "eval", "lambda:",
          "f'{age}'", ":=", "for", "if", "else", "{", "}", ":", "\\", "\n", "#", ";", "="]
WORDS_OF_CODE = st.lists(st.sampled_from(PIECES), max_size=9)


@settings(max_examples=150, deadline=None)
@given(WORDS_OF_CODE.map(" ".join) | WORDS_OF_CODE.map("".join) | st.text(max_size=20))
def test_whatever_a_condition_says_it_is_not_run(text):
    HEARD.clear()
    LISTENING.append(True)
    try:
        one_line(select, ROWS, text)
    finally:
        LISTENING.clear()
    assert not HEARD, text


HEARD, LISTENING = [], []
RUNS = {"exec", "os.system", "open", "import", "subprocess.Popen", "os.exec", "socket.connect"}
sys.addaudithook(lambda name, _: HEARD.append(name) if LISTENING and name in RUNS else None)


def test_the_listener_hears_code_that_is_run():
    LISTENING.append(True)
    exec("1 + 1")
    LISTENING.clear()
    assert "exec" in HEARD


def test_nothing_in_the_package_runs_text():
    runs = re.compile(r"\.query\(|(?<![.\w])(eval|exec)\(|yaml\.\w*load\w*\(|pickle\.load")
    found = [f"{p.name}:{i}: {line.strip()}" for p in sorted((Path(__file__).parents[1] / "fakeface").rglob("*.py"))
             for i, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1) if runs.search(line)]
    assert not found, found


def test_missing_values_are_neither_so_nor_otherwise():
    rows = pd.DataFrame(dict(age=[70, np.nan, 20], gender=["female", None, "male"], empty=[None, None, None]))
    for text, found in {"age > 60": [0], "not age > 60": [2], "age != 70": [2], "gender != 'male'": [0], "gender not in ['male']": [0],
                        "empty == 'x'": [], "age is None": [1], "age > 60 or gender == 'male'": [0, 2],
                        "age is not None and not (gender == 'male')": [0]}.items():
        assert select(rows, text).index.tolist() == found, text
