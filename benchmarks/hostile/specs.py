"YAML and JSON as they should not be: the shipped files changed where it hurts, and the doors that read them."
import copy
import datetime
import functools
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .images import _maybe, _pick
from .runs import Store
from .verdicts import Silent, Verdict, command, knock

Rng = np.random.Generator
CANARY = "canary" # a file that no input may bring about
CODE = (
    f"__import__('os').system('touch {CANARY}')",
    f"@pd.io.common.os.system('touch {CANARY}')",
    "age.__class__",
    f"open('{CANARY}','w')",
    "age >= 60 and (",
    "age > 1 if",
    "`a`",
    "age == age == age",
    "not not age",
    "age in ['a', 1]",
    "1/0 == 1",
    "9**9**9 > age",
    "(lambda: 1)()",
    "[x for x in age]",
    "age.sum() > 1",
    "index == 0",
    "(" * 300 + "age" + ")" * 300,
    " and ".join(["age > 1"] * 3000),
    "age >= '60'",
    "gender > 5",
    "nowhere == 1",
    "'a' * 10**9 == gender",
    "",
    "   ",
    "True",
    "age",
    "@age",
    "path == 'é'",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    10**30,
    0.5,
    1.0,
    -0.0,
    1e-300,
    float("inf"),
    float("nan"),
    "",
    " ",
    "x",
    "real",
    "fake",
    "train",
    "valid",
    "test",
    "1",
    "1e-3",
    "../x",
    "/etc",
    "/",
    "~",
    ".",
    "..",
    "a/b",
    "\u202e",
    "é",
    "\ufeff",
    "\0",
    "a\nb",
    "{x}",
    "{0.__class__}",
    "%s",
    "(",
    "(?P<key>",
    "**/*",
    "*" * 40,
    "[",
    "x" * 3000,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"a": 1},
    {1: 2},
    {None: None},
    {True: "x"},
    [1, "a", None],
    {"source": "ffhq", "count": 5},
    datetime.date(2020, 1, 1),
    b"bytes",
    {"glob": "**/*", "kind": "generated"},
    *CODE,
)


def nested(rng: Rng, depth: int = 0) -> Any:
    "A random nesting."
    lot = rng.random()
    if depth > 3 or lot < 0.5: return copy.deepcopy(_pick(rng, VALUES))
    if lot < 0.75: return [nested(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))]
    names = ("name", "source", "a", 1, None, "x.y", "settings", "tests", "glob")
    return {_pick(rng, names): nested(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))}


def places(tree: Any, at: tuple = ()) -> list[tuple]:
    "The way to every node of a tree but its root."
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [p for k, v in steps for p in ((*at, k), *places(v, (*at, k)))]


def change(rng: Rng, tree: Any) -> Any:
    "One node of a tree is another, is missing, has another name, stands deeper, or stands twice."
    ways = places(tree)
    if not ways: return nested(rng)
    *way, last = _pick(rng, ways)
    inside = tree
    for k in way: inside = inside[k]
    what, value = _pick(rng, ("put", "put", "put", "nest", "drop", "rename", "wrap", "swap", "add", "near")), inside[last]
    if what == "put": inside[last] = copy.deepcopy(_pick(rng, VALUES))
    elif what == "nest": inside[last] = nested(rng)
    elif what == "drop": del inside[last]
    elif what == "wrap": inside[last] = _pick(rng, ([value], {"a": value}, {str(value)[:9]: None}, [value, value]))
    elif what == "near" and isinstance(value, (int, float)) and not isinstance(value, bool):
        inside[last] = _pick(rng, (-value, value * 10**6, float(value), str(value), value / 3, bool(value), value + 0.5, [value]))
    elif what == "near" and isinstance(value, str):
        near = (value + "x", value[:-1], value.upper(), f" {value} ", value * 50, [*value[:20]], {value[:9]: value})
        inside[last] = _pick(rng, near)
    elif what == "swap":
        *other, o = _pick(rng, ways)
        there = tree
        for k in other: there = there[k]
        inside[last] = copy.deepcopy(there[o])
    elif isinstance(inside, dict) and what == "rename":
        inside[_pick(rng, (f"{last}s", str(last).upper(), str(last)[:-1], 5, None, "x"))] = inside.pop(last)
    elif isinstance(inside, dict): inside[_pick(rng, ("extra", 7, "name", "extends", "where", "seed", "profiles", ""))] = nested(rng)
    elif isinstance(inside, list): inside.append(nested(rng))
    return tree


def text_changes(rng: Rng, text: str) -> bytes:
    "The text is damaged, or is of a kind that a reader may choke on."
    data, n = text.encode(), len(text.encode())
    a, b = sorted(int(x) for x in rng.integers(0, n + 1, 2))
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: data[:a],
        lambda: data[:a] + data[b:],
        lambda: data[:a] + rng.bytes(3) + data[a + 3 :],
        lambda: data[:b] + data[a:],
        lambda: data + data,
        lambda: b"",
        lambda: b"\n",
        lambda: b"\0",
        lambda: b"---\n...\n---\n" + data,
        lambda: text.encode("utf-16"),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: text.encode("latin-1", "replace") + b"\xe9",
        lambda: data.replace(b"\n", b"\r"),
        lambda: data.replace(b"  ", b"\t"),
        lambda: laughs.encode() + data,
        lambda: f"name: &r [*r]\n{text}".encode(),
        lambda: f"a: &r {{b: *r}}\n{text}".encode(),
        lambda: b"[" * int(_pick(rng, (50, 900, 3000))),
        lambda: b'{"a":' * int(_pick(rng, (50, 900, 30_000))),
        lambda: b"- " * 1500,
        lambda: f"name: !!python/object/apply:os.system ['touch {CANARY}']\n{text}".encode(),
        lambda: f"name: !!python/name:os.system\n{text}".encode(),
        lambda: f"<<: {{name: x}}\n{text}".encode(),
        lambda: f"? [a, b]\n: 1\n{text}".encode(),
        lambda: f"? {{a: b}}\n: 1\n{text}".encode(),
        lambda: text.replace(": ", ": !!binary ", 1).encode(),
        lambda: text.replace(": ", ": !!set ", 2).encode(),
        lambda: text.replace(": ", ": 2020-13-45 #", 1).encode(),
        lambda: text.replace(": ", ": 2001-02-30 ", 1).encode(),
        lambda: text.replace(": ", ": " + "9" * 5000 + " #", 1).encode(),
        lambda: text.replace(": ", ": 1:30:59 #", 1).encode(),
        lambda: text.replace("1", "NaN", 1).encode(),
        lambda: b"5",
        lambda: b"null",
        lambda: b"[]",
        lambda: b"{}",
        lambda: b'"x"',
        lambda: b"true",
        lambda: b"[1, 2]",
        lambda: b"%YAML 9.9\n---\n" + data,
        lambda: b"a: b: c",
        lambda: b"\xff\xfe\xfa",
        lambda: rng.bytes(200),
        lambda: b"x" * 3_000_000,
        lambda: b"a: 1\n" * 20_000,
        lambda: b"!!omap [a: 1]",
        lambda: b"name: !x {}\n" + data,
        lambda: b"? ? ? a",
        lambda: b"&a *a",
        lambda: b"{{}: 1}",
        lambda: b"<<: 5\n" + data,
    )
    return _pick(rng, kinds)()


def hostile_spec(rng: Rng, tree: Any, write: Callable[[Any], str]) -> bytes:
    "A file of one kind, changed in its structure (four of five) or as a text."
    tree = copy.deepcopy(tree)
    for _ in range(int(_pick(rng, (1, 1, 1, 2, 3, 6)))): tree = change(rng, tree)
    if _maybe(rng, 0.02): tree = nested(rng)
    try: text = write(tree)
    except Exception: text = write(json.loads(json.dumps(tree, default=str, skipkeys=True)))
    return text.encode("utf-8", "surrogatepass") if _maybe(rng, 0.8) else text_changes(rng, text)


def as_yaml(tree: Any) -> str: return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
def as_json(tree: Any) -> str: return json.dumps(tree, indent=1)


# --- kinds -------------------------------------------------------------------------------------------------------------

OWN = {
    "sources": {
        "mine": {"folder": "mine", "glob": "**/*", "kind": "generated", "licence": "own", "citation": "-"},
        "ffhq": {"folder": "ffhq"},
        "utkface": {"glob": "**/*.jpg", "kind": "photograph"},
    }
}
SHIPPED = {"card": "sources", "recipe": "recipes", "grid": "grids", "transfer": "transfers", "holdout": "holdouts"}


@functools.cache
def shipped(kind: str) -> list[tuple[str, Any]]:
    "The package's own files of a kind: name and content, which nobody may change."
    from fakeface.core.basics import data_manifests
    return [(p.name, yaml.safe_load(p.read_text(encoding="utf-8"))) for p in sorted((data_manifests()/SHIPPED[kind]).glob("*.yaml"))]


def card_door(path: Path, store: Store) -> None:
    "A card that is taken can be used."
    from fakeface.data.sources import find_images, read_attributes, read_card, read_subjects
    card = read_card(path)
    images = find_images(card, store.root)
    if len(images):
        read_attributes(card, store.root, images["path"])
        read_subjects(card, store.root, images["path"])


def own_door(path: Path, store: Store) -> None:
    "A `fakeface.yaml` that is taken can be scanned with."
    from fakeface.data.manifest import scan
    from fakeface.data.sources import read_cards
    cards = read_cards(path.parent)
    found = scan(path.parent, [c for c in cards if c in ("mine", "ffhq", "utkface")] + [c for c in cards if c not in store.cards][:3])
    inside = path.parent.resolve()
    for p in found.images["path"].head(50):
        if not (path.parent/p).resolve().is_relative_to(inside): raise Silent(f"{p} lies outside the data root")


def recipe_door(path: Path, store: Store) -> None:
    "A recipe that is taken has settings, and can be composed with."
    from fakeface.data.recipes import compose, read_recipe, settings
    recipe = read_recipe(path)
    for profile in recipe.profiles: knock_inside(settings, recipe, profile)
    composed = compose(recipe, store.scanned)
    if not set(composed.manifest["split"]) <= {"train", "valid", *recipe.tests}: raise Silent(f"splits {set(composed.manifest['split'])}")


def knock_inside(call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    "A call that may refuse in a line."
    from fakeface.core.basics import InputError
    try: call(*args, **kwargs)
    except InputError: pass


def grid_door(path: Path, store: Store) -> None:
    "A grid that is taken has settings for every trial."
    from fakeface.data.recipes import settings
    from fakeface.experiments.grid import combinations, read_grid
    grid = read_grid(path)
    for values in list(combinations(grid).values())[:20]:
        options = {k: v for k, v in {**grid.settings, **values}.items() if "." not in k}
        for profile in grid.recipe.profiles: knock_inside(settings, grid.recipe, profile, **options)


def transfer_door(path: Path, store: Store) -> None:
    "A transfer file that is taken can be divided."
    from fakeface.experiments.transfer import read_transfer
    spec = read_transfer(path)
    if len(spec.sets) < 2: raise Silent(f"{len(spec.sets)} sets")


def holdout_door(path: Path, store: Store) -> None:
    "A holdout that is taken has a recipe for every cell, and settings for every detector."
    from fakeface.data.recipes import settings
    from fakeface.experiments.holdout import cell_recipe, read_holdout
    spec = read_holdout(path)
    for real, fake in list(itertools.product(spec.real, spec.fake))[:20]:
        cell = cell_recipe(spec, real, fake)
        for own in spec.detectors.values():
            for profile in cell.profiles: knock_inside(settings, cell, profile, **own)


DOORS = {"card": card_door, "fakeface.yaml": own_door, "recipe": recipe_door, "grid": grid_door, "transfer": transfer_door,
         "holdout": holdout_door}
RUN_FILES = ("run.json", "metrics.json", "model.json", "operating.json") # of a run folder
KINDS = (*DOORS, *RUN_FILES, "series")


def try_spec(kind: str, rng: Rng, index: int, folder: Path, store: Store) -> tuple[str, list[Verdict]]:
    "Makes one file of a kind and tries it; its name and the verdicts."
    if kind in RUN_FILES: return try_run_file(kind, rng, index, folder, store)
    if kind == "series": return try_series(rng, index, folder, store)
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "fakeface.yaml":
        name, tree = kind, OWN
        shutil.copytree(store.small_root, folder, symlinks=True)
    else:
        name, tree = _pick(rng, shipped(kind))
        folder.mkdir(parents=True)
    path = folder/name
    path.write_bytes(hostile_spec(rng, tree, as_yaml))
    verdicts = [knock(f"read {kind}", lambda: DOORS[kind](path, store), [name, path.stem, *_names(path)])]
    return name, [*verdicts, *canary(folder)]


def _names(path: Path) -> list[str]:
    "The name that a file gives itself, by which later messages call it."
    try: return [str(yaml.safe_load(path.read_text(encoding="utf-8"))["name"])]
    except Exception: return []


def canary(folder: Path) -> list[Verdict]:
    "An offence where somebody's text was run."
    born = [p for p in (Path(CANARY), folder/CANARY) if p.exists()]
    for p in born: p.unlink()
    return [Verdict("canary", "SILENT", "the file's text was run as code")] * bool(born)


# --- files of run folders ----------------------------------------------------------------------------------------------

SLOW = ("report", "report --root", "audit") # seconds each


def run_doors(run: Path, store: Store) -> list[tuple[str, Callable[[], object]]]:
    "The functions and commands that open a run folder."
    from fakeface.report.run import load_run
    from fakeface.train.runs import Run
    from fakeface.train.runs import load_model
    picture = next((store.root/"ffhq").rglob("*.*g"))
    return [
        ("load_model", lambda: load_model(run)),
        ("score", lambda: command("score", run)),
        ("operating", lambda: command("operating", run)),
        ("operating --fpr", lambda: command("operating", run, "--fpr", 0.1, "--refit")),
        ("compare", lambda: command("compare", run, store.run)),
        ("compare with", lambda: command("compare", store.run, run)),
        ("ledger", lambda: command("ledger", run.parent)),
        ("load_run", lambda: load_run(run)),
        ("Run", lambda: repr(Run(run))),
        ("fairness", lambda: command("fairness", run)),
        ("explain", lambda: command("explain", run, picture, "--method", "grad_cam", "--out", run.parent / "maps.png")),
        ("robustness", lambda: command("robustness", run, "--root", store.root, "--sample", 4, "--sweeps", "jpeg:50")),
        ("audit", lambda: command("audit", run, "--root", store.root, "--sample-faces", 0, "--sample", 100)),
        ("report", lambda: command("report", run)),
        ("report --root", lambda: command("report", run, "--root", store.root)),
    ]


FOR_FILE = {"run.json": ("load_model", "score", "operating", "compare", "load_run", "Run", "fairness", "report"),
            "metrics.json": ("load_run", "Run", "score", "report"), "model.json": ("load_model", "robustness", "explain"),
            "operating.json": ("operating", "operating --fpr", "load_run", "report")}


def try_run_file(kind: str, rng: Rng, index: int, folder: Path, store: Store) -> tuple[str, list[Verdict]]:
    "One file of a run is changed, then one of the doors that read it is tried; every twenty-fourth time also the report."
    run = store.copy_run(folder)
    (run/kind).write_bytes(hostile_spec(rng, json.loads((store.run/kind).read_text()), as_json))
    doors = {name: call for name, call in run_doors(run, store) if name in FOR_FILE[kind]}
    quick = [name for name in doors if name not in SLOW]
    chosen = [quick[index % len(quick)]] + ["report"] * ("report" in doors and index % 24 == 0)
    return kind, [*[knock(f"{name}, {kind}", doors[name], [kind, run.name]) for name in chosen], *canary(run)]


def try_series(rng: Rng, index: int, folder: Path, store: Store) -> tuple[str, list[Verdict]]:
    "The note of a series of runs is changed, then the functions that go on with a series or read it are tried."
    note, make = store.series[index % len(store.series)]
    out = store.copy_series(note, folder)
    (out/note.name).write_bytes(hostile_spec(rng, json.loads(note.read_text()), as_json))
    return note.name, [*[knock(f"{name}, {note.name}", call, [note.name, out.name]) for name, call in make(out)], *canary(out)]
