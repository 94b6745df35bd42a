"Tables of predictions and manifests as they should not be, and the doors that read tables."
import gzip
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .images import _maybe, _pick
from .verdicts import Silent, Verdict, command, knock

Rng = np.random.Generator
HEAD = ["path", "label", "p_fake", "split", "source", "subject", "age", "gender", "race"]
ODD = (
    "",
    " ",
    "NA",
    "None",
    "nan",
    "null",
    "-",
    "?",
    "0",
    "1",
    "-1",
    "1e400",
    "1,5",
    "0,73",
    "inf",
    "-inf",
    "1e-320",
    "TRUE",
    "=1+1",
    "#REF!",
    "é",
    "\u202e",
    "\ufeff",
    "'",
    '"',
    "a\nb",
    "a;b",
    "a,b",
    "../x",
    "C:\\faces\\a.jpg",
    "x" * 5000,
    "\0",
    "2020-01-01",
    "3-Sep",
    "9" * 400,
    "real ",
    "Fake",
    "٣",
    "1_0",
    "0x1",
    "½",
)


@dataclass
class Table:
    "Rows as they will be written, and what is known of them."
    head: list[str]
    rows: list[list[Any]]
    cosmetic: bool = True # whether nothing that was done may change a figure
    counted: bool = True # whether every line that is written is a row
    options: dict[str, Any] = field(default_factory=dict) # of the writer

    def column(self, name: str) -> int | None: return self.head.index(name) if name in self.head else None


def good_table(rng: Rng) -> Table:
    "Predictions without a fault: three tests and validation, or one test alone."
    n = int(_pick(rng, (1, 2, 3, 10, 20, 40, 40, 60)))
    label = rng.choice(["real", "fake"], n)
    p = np.where(label == "fake", rng.beta(4, 2, n), rng.beta(2, 4, n)).round(int(_pick(rng, (1, 3, 6))))
    splits = _pick(rng, (("test",), ("valid", "a", "b"), ("train", "valid", "test"), ("valid", "test")))
    rows = [[f"f/{i:03}.jpg", label[i], float(p[i]), splits[i % len(splits)], "ab"[i % 2], f"s{i // 2}" if len(splits) == 1 else f"s{i}",
             int(rng.integers(0, 99)), _pick(rng, ("male", "female")), _pick(rng, ("white", "black", "east asian"))] for i in range(n)]
    keep = HEAD[:3] + [c for c in HEAD[3:] if _maybe(rng, 0.7)]
    return Table(keep, [[r[HEAD.index(c)] for c in keep] for r in rows])


# --- changes that no figure may feel -----------------------------------------------------------------------------------

def order_of_columns(rng: Rng, t: Table) -> None:
    order = [int(i) for i in rng.permutation(len(t.head))]
    t.head, t.rows = [t.head[i] for i in order], [[r[i] for i in order] for r in t.rows]


def padding(rng: Rng, t: Table) -> None:
    t.rows = [[f" {v} " if isinstance(v, str) and _maybe(rng, 0.3) else v for v in r] for r in t.rows]


def case_of_words(rng: Rng, t: Table) -> None:
    for name in ("label", "split"):
        if (c := t.column(name)) is None: continue
        for r in t.rows:
            if str(r[c]).strip() in ("real", "fake", "train", "valid", "test"): r[c] = _pick(rng, (str.upper, str.title, str.lower))(r[c])


def order_of_rows(rng: Rng, t: Table) -> None: t.rows = [t.rows[int(i)] for i in rng.permutation(len(t.rows))]
def encoding(rng: Rng, t: Table) -> None: t.options["encoding"] = _pick(rng, ("utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"))
def separator(rng: Rng, t: Table) -> None: t.options["sep"] = _pick(rng, (";", "\t", "|"))
def line_ends(rng: Rng, t: Table) -> None: t.options["lineterminator"] = _pick(rng, ("\r\n", "\r"))
def quotes(rng: Rng, t: Table) -> None: t.options["quoting"] = int(_pick(rng, (1, 2)))


def further_column(rng: Rng, t: Table) -> None:
    t.head.append(_pick(rng, ("note", "", "Unnamed: 0", "index", "loss", "run", "width", "sha256", "kind", "part")))
    for r in t.rows: r.append(_pick(rng, (1, "x", "", 2.5)))


COSMETIC = (order_of_columns, padding, case_of_words, order_of_rows, encoding, separator, line_ends, quotes, further_column)


# --- changes that may be refused or cost rows, which then are counted --------------------------------------------------

def odd_cells(rng: Rng, t: Table) -> None:
    for _ in range(int(rng.integers(1, 6))):
        if t.rows: t.rows[int(rng.integers(len(t.rows)))][int(rng.integers(len(t.head)))] = _pick(rng, ODD)


def odd_column(rng: Rng, t: Table) -> None:
    c = int(rng.integers(len(t.head)))
    some = [_pick(rng, ODD) for _ in range(int(rng.integers(1, 3)))]
    for r in t.rows: r[c] = _pick(rng, some)


def missing_column(rng: Rng, t: Table) -> None:
    c = int(rng.integers(len(t.head)))
    t.head, t.rows = t.head[:c] + t.head[c + 1:], [r[:c] + r[c + 1:] for r in t.rows]


def other_names(rng: Rng, t: Table) -> None:
    ways = (str.upper, str.title, lambda s: f" {s} ", lambda s: s + ".1", str.lower)
    t.head = [_pick(rng, ways)(h) for h in t.head]


def twice_named(rng: Rng, t: Table) -> None:
    c = int(rng.integers(len(t.head)))
    t.head, t.rows = [*t.head, t.head[c]], [[*r, _pick(rng, (r[c], "x", 0.5))] for r in t.rows]


def rows_twice(rng: Rng, t: Table) -> None:
    t.rows = t.rows + [list(r) for r in t.rows[:int(rng.integers(1, len(t.rows) + 1))]]
    c = t.column(_pick(rng, ("label", "split", "p_fake")))
    if _maybe(rng, 0.5) and c is not None: t.rows[-1][c] = _pick(rng, ("real", "fake", "valid", "test", 0.4))


def blank_cells(rng: Rng, t: Table) -> None:
    c, share = int(rng.integers(len(t.head))), float(_pick(rng, (0.1, 0.5, 1)))
    for r in t.rows: r[c] = "" if _maybe(rng, share) else r[c]


def other_words(rng: Rng, t: Table) -> None:
    words = {
        "label": ("0", "1", "true", "photo", "genuine", "synthetic", "REAL", "deepfake"),
        "split": ("val", "training", "TEST", "dev", "holdout", ""),
        "p_fake": ("0.5%", "50 %", "1.2", "-3.4", ".5", "5e-1", "0,5"),
        "age": ("20-29", "Sep-03", "3-Sep", "abc", "-5", "999", "20.5"),
        "race": ("Latino_Hispanic", "0", "4", "Middle Eastern"),
        "gender": ("0", "1", "M", "F", "Male"),
        "path": ("a\\b.jpg", "/a/b.jpg", "", ".", "..", "~/x.jpg"),
    }
    name = _pick(rng, words)
    if (c := t.column(name)) is None: return
    for r in t.rows: r[c] = _pick(rng, words[name]) if _maybe(rng, 0.4) else r[c]


def one_class(rng: Rng, t: Table) -> None:
    if (c := t.column("label")) is not None: t.rows = [[("real" if i == c else v) for i, v in enumerate(r)] for r in t.rows]


def one_split(rng: Rng, t: Table) -> None:
    if (c := t.column("split")) is None: return
    for r in t.rows: r[c] = _pick(rng, ("valid", "train", "test", "valid "))


def no_rows(rng: Rng, t: Table) -> None: t.rows = []


def decimal_comma(rng: Rng, t: Table) -> None:
    t.options["sep"] = ";"
    t.rows = [[str(v).replace(".", ",") if isinstance(v, float) else v for v in r] for r in t.rows]


def wide_rows(rng: Rng, t: Table) -> None:
    t.counted = False
    for r in t.rows:
        if _maybe(rng, 0.2): r += ["more"] * int(rng.integers(1, 3))
        elif r and _maybe(rng, 0.1): del r[-1]


def huge(rng: Rng, t: Table) -> None:
    if t.rows: t.rows[0][int(rng.integers(len(t.head)))] = "x" * int(_pick(rng, (140_000, 2_000_000)))


CHANGES = (
    odd_cells,
    odd_column,
    missing_column,
    other_names,
    twice_named,
    rows_twice,
    blank_cells,
    other_words,
    one_class,
    one_split,
    no_rows,
    decimal_comma,
    wide_rows,
    huge,
)


# --- files -------------------------------------------------------------------------------------------------------------

def as_csv(t: Table) -> bytes:
    "The table as text, written by hand where a writer would refuse it."
    o = {"sep": ",", "lineterminator": "\n", "quoting": 0, "encoding": "utf-8", **t.options}
    def cell(v: Any) -> str:
        text = str(v)
        needed = any(x in text for x in (o["sep"], '"', "\n", "\r"))
        return '"' + text.replace('"', '""') + '"' if needed or o["quoting"] == 1 or (o["quoting"] == 2 and isinstance(v, str)) else text
    lines = [o["sep"].join(map(cell, row)) for row in [t.head, *t.rows]]
    return (o["lineterminator"].join(lines) + o["lineterminator"]).encode(o["encoding"], "replace")


def as_parquet(rng: Rng, t: Table) -> bytes:
    "The table as parquet, its columns of odd types."
    rows = [r[:len(t.head)] + [None] * (len(t.head) - len(r)) for r in t.rows]
    frame = pd.DataFrame(rows, columns=t.head).loc[:, lambda f: ~f.columns.duplicated()]
    for c in frame:
        lot = rng.random()
        try:
            if lot < 0.75: frame[c] = frame[c] if frame[c].map(type).nunique() < 2 else frame[c].astype(str)
            elif lot < 0.80: frame[c] = frame[c].astype(str).astype("category")
            elif lot < 0.85: frame[c] = [[v] for v in frame[c]]
            elif lot < 0.88: frame[c] = [{"a": str(v)} for v in frame[c]]
            elif lot < 0.91: frame[c] = frame[c].astype(str).str.encode("utf-8")
            elif lot < 0.94: frame[c] = pd.to_datetime("2020-01-01")
            elif lot < 0.97: frame[c] = None
            else: frame[c] = frame[c].map(bool)
        except Exception: frame[c] = frame[c].astype(str)
        else: t.cosmetic &= lot < 0.8
    if _maybe(rng, 0.1): frame = frame.set_index(frame.columns[0])
    out = io.BytesIO()
    try: frame.to_parquet(out)
    except Exception: frame.astype(str).to_parquet(out)
    return out.getvalue()


def as_other(rng: Rng, t: Table) -> bytes:
    "The table as no table that is read, or as none at all."
    text = as_csv(t)
    records = [dict(zip(t.head, map(str, r))) for r in t.rows]
    return _pick(
        rng,
        (
            b"",
            b"\n",
            b"\0" * 50,
            b"PK\3\4" + rng.bytes(200),
            json.dumps(records).encode(),
            gzip.compress(text),
            b"<html><table></table>",
            b"PAR1" + rng.bytes(90) + b"PAR1",
            b"path,label,p_fake",
            b"path,label,p_fake\n",
            b",,,\n,,,\n",
            b'"' + text,
            text.replace(b"\n", b"\n\n"),
            b"# a remark\n" + text,
            b"sep=;\n" + text,
            b"\xff\xfe" + text,
        ),
    )


def hostile_table(rng: Rng) -> tuple[str, bytes, Table]:
    "The file's name, its bytes, and what is known of it; a good share is only dressed oddly and has to be read right, or refused."
    t = good_table(rng)
    for _ in range(int(_pick(rng, (0, 1, 1, 2, 3)))): _pick(rng, COSMETIC)(rng, t)
    changes = [_pick(rng, CHANGES) for _ in range(int(_pick(rng, (0, 0, 1, 1, 2, 3))))]
    for change in sorted(changes, key=lambda c: c is wide_rows): # after it rows have no longer as many cells as there are columns
        t.cosmetic = False
        if t.head and (t.rows or change is no_rows): change(rng, t)
    lot, name = rng.random(), _pick(rng, ("t.csv",) * 8 + ("t.tsv", "t.txt", "t", "T.CSV", "ü t.csv"))
    if lot < 0.2:
        data, name = as_parquet(rng, t), "t.parquet"
    elif lot < 0.27:
        data, name, t.cosmetic, t.counted = as_other(rng, t), _pick(rng, (name, "t.parquet", "t.xlsx", "t.json")), False, False
    else: data = as_csv(t)
    if _maybe(rng, 0.12):
        t.cosmetic, t.counted = False, False
        a = int(rng.integers(len(data) + 1))
        data = _pick(rng, (data[:a], data[:a] + rng.bytes(3) + data[a + 3:], data[:a] + b"\0" + data[a:], data[:a] + b'"' + data[a:]))
    return name, data, t


# --- doors -------------------------------------------------------------------------------------------------------------

def numbers(text: str) -> list[int]:
    "The whole numbers in a text."
    return [int(x.replace(",", "")) for x in re.findall(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?![\w.])|(?<![\w.,])\d+(?![\w,]|\.\d)", text)]


def score_door(path: Path, t: Table, truth: dict[str, Any] | None) -> None:
    "Scores it: every row is in a test, in validation, or counted in a note; what is only dressed oddly has the plain table's figures."
    out = path.with_name("scores.json")
    out.unlink(missing_ok=True)
    said = command("score", path, "--out", out)
    metrics = json.loads(out.read_text())
    n = sum(s["n"] for s in metrics["tests"].values()) + metrics.get("valid", {}).get("n", 0)
    notes = "\n".join(line for line in said.splitlines() if line.startswith("note: "))
    if t.counted and n != len(t.rows) and not _adds_up(len(t.rows) - n, numbers(notes)):
        raise Silent(f"{len(t.rows)} rows written, {n} scored, and no note counts the rest: {notes[:300]!r}")
    apart = differences(truth, metrics) if t.cosmetic and truth is not None else ""
    if apart: raise Silent(f"figures differ from the plain table's: {apart}")


def _adds_up(gap: int, counts: list[int]) -> bool:
    "Whether some of the counts make up the gap."
    sums = {0}
    for c in counts[:24]: sums |= {s + c for s in sums if abs(s + c) <= abs(gap)}
    return abs(gap) in sums and gap != 0


def differences(one: dict[str, Any], two: dict[str, Any]) -> str:
    "Where the tests of two sets of scores differ in n, accuracy or AUC; empty where they do not."
    a, b = ({**m["tests"], **({"valid": m["valid"]} if "valid" in m else {})} for m in (one, two))
    a, b = ({k.lower().strip(): s for k, s in x.items()} for x in (a, b))
    if a.keys() != b.keys(): return f"tests {sorted(a)} and {sorted(b)}"
    measures = ("n", "n_fake", "accuracy", "auc")
    return "; ".join(f"{k}.{m} {a[k][m]} and {b[k][m]}" for k in a for m in measures if not _same(a[k][m], b[k][m]))


def _same(a: float | None, b: float | None) -> bool: return a is b or (a is not None and b is not None and abs(a - b) < 1e-9)


def plain_scores(t: Table) -> dict[str, Any] | None:
    "The scores of the rows as they are meant, whatever the words, spaces and columns around them; None without any."
    from fakeface.evaluate.scores import score_predictions
    plain = pd.DataFrame(t.rows, columns=t.head).loc[:, lambda f: ~f.columns.duplicated()]
    for c in plain.columns.intersection(["path", "label", "split", "source", "subject"]):
        plain[c] = plain[c].map(lambda v: v.strip() if isinstance(v, str) else v)
    for c in plain.columns.intersection(["label", "split"]): plain[c] = plain[c].str.lower()
    plain = plain.assign(**{c: v for c, v in dict(split="test", source=plain["label"]).items() if c not in plain})
    return score_predictions(plain) if len(plain) else None


def try_table(name: str, data: bytes, t: Table, folder: Path, # for its files
              index: int, # which of the slower doors it is tried at
              good: Path, # a good table
             ) -> list[Verdict]:
    "All doors for one table; of the slower ones, one."
    from fakeface.data.manifest import load_manifest
    from fakeface.evaluate.detectors import images_to_score
    from fakeface.evaluate.scores import read_predictions
    path = folder/name
    path.write_bytes(data)
    truth = plain_scores(t) if t.cosmetic else None
    doors: dict[str, Callable[[], object]] = {
        "read_predictions": lambda: read_predictions(path), "load_manifest": lambda: load_manifest(path),
        "images_to_score": lambda: images_to_score(path, folder), "score": lambda: score_door(path, t, truth)}
    slow: list[tuple[str, Callable[[], object]]] = [
        ("compare", lambda: command("compare", path, good)), ("compare", lambda: command("compare", good, path)),
        ("fairness", lambda: command("fairness", path)), ("operating", lambda: command("operating", path)),
        ("audit", lambda: command("audit", path, "--root", folder, "--sample-faces", 0)),
        ("compare", lambda: command("compare", path, path))]
    doors |= dict([slow[index % len(slow)]])
    try: return [knock(door, call, [path.name, "in common", "second table"]) for door, call in doors.items()]
    finally: path.unlink(missing_ok=True)
