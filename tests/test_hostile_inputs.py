"Inputs that nobody would make on purpose are taken or refused in one line; the long form is `benchmarks/hostile_inputs.py`."
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import hostile_inputs  # noqa: E402
from hostile import images, runs, specs, tables, verdicts  # noqa: E402

pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.filterwarnings("ignore"),
              pytest.mark.skipif(sys.platform != "linux", reason="memory is read off /proc")]
few = settings(max_examples=15, derandomize=True, deadline=None, database=None,
               suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
COUNTS = {"image": 150, "table": 40, **dict.fromkeys(specs.KINDS, 20), "series": 8, "run": 9} # of each the first ones of seed 1


@pytest.fixture(autouse=True)
def bell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    "A test that hangs is ended, and one that changes the folder is brought back."
    def ring(*_: object) -> None: raise TimeoutError("still there after 240 s")
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> runs.Store:
    "A world, and one series of two runs to damage."
    made = runs.Store(tmp_path_factory.mktemp("store") / "store")
    before = os.environ.get("FAKEFACE_CACHE")
    os.environ["FAKEFACE_CACHE"] = str(made.home) + ".cache"
    try: made.build(all_series=False)
    finally:
        if before is None: os.environ.pop("FAKEFACE_CACHE")
        else: os.environ["FAKEFACE_CACHE"] = before
    return made


def offences(found: list[verdicts.Verdict]) -> list[verdicts.Verdict]:
    "What must not be."
    return [v for v in found if v.kind in verdicts.OFFENCES]


# --- the benchmark's own inputs, in small numbers ----------------------------------------------------------------------

def offending(kind: str, n: int, folder: Path, store: runs.Store) -> list[str]:
    "The offences of the benchmark's first inputs of a kind."
    cases = list(hostile_inputs.try_task(kind, range(n), 1, folder, store))
    assert len({c.index for c in cases}) == n
    return [f"{kind} {c.index} ({c.name}) at {v.door}: {v.kind}: {v.said}" for c in cases for v in offences(c.verdicts)]


@pytest.mark.parametrize("kind", COUNTS)
def test_no_hostile_input_ends_in_a_traceback_a_hang_or_a_wrong_answer(kind, store, tmp_path):
    bad = offending(kind, COUNTS[kind], tmp_path / "task", store)
    assert not bad, f"{len(bad)} offences, such as\n" + "\n".join(bad[:5])


def fault(*_: object, **__: object) -> None:
    "What no door may let out."
    raise KeyError("injected")


def nameless(*_: object, **__: object) -> None:
    "A refusal that does not say of what."
    raise verdicts.InputError("something is wrong")


PLANTED = { # what it is called -> where it is injected, the fault, the kind of input that has to meet it, how many, the verdict
    "an error of Python's own": ("fakeface.core.schema._fault_words", fault, "recipe", 10, "TRACEBACK"),
    "a decoder that never turns": ("fakeface.train.blocks.to_rgb", lambda image: image.convert("RGB"), "image", 150, "SILENT"),
    "a message without a file": ("fakeface.data.recipes.check_fields", nameless, "recipe", 20, "WORDS"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_injected_into_the_program_is_found(name, store, tmp_path, monkeypatch):
    where, wrong, kind, n, verdict = PLANTED[name]
    monkeypatch.setattr(where, wrong)
    assert any(f": {verdict}: " in told for told in offending(kind, n, tmp_path / "task", store))


def test_what_is_unchanged_is_taken(store, tmp_path):
    "The doors are no walls: without damage nothing is refused."
    (tmp_path / "a.jpg").write_bytes(images.saved(images.picture(np.random.default_rng(0)), "JPEG"))
    found = images.try_image(tmp_path / "a.jpg")[0]
    doors = specs.run_doors(store.copy_run(tmp_path / "run"), store)
    found += [verdicts.knock(name, call) for name, call in doors if name not in ("report", "audit")] # `report --root` is both
    for kind in ("card", "grid", "transfer", "holdout"):
        for name, tree in specs.shipped(kind):
            (tmp_path / name).write_text(specs.as_yaml(tree), encoding="utf-8")
            found.append(verdicts.knock(f"{kind} {name}", lambda path=tmp_path / name, kind=kind: specs.DOORS[kind](path, store)))
    assert {v.door: v.said for v in found if v.kind != verdicts.FINE} == {}


def test_offences_are_seen(tmp_path, monkeypatch):
    "The jury is awake: each kind of offence is called by its name."
    def broken() -> None: raise KeyError("x")
    def silent() -> None: raise verdicts.Silent("wrong")
    def wordy() -> None: raise verdicts.InputError("two\nlines")
    def nameless() -> None: raise verdicts.InputError("something is wrong")
    found = [verdicts.knock("door", d, ["a.csv"]).kind for d in (broken, silent, wordy, nameless, lambda: None)]
    assert found == ["TRACEBACK", "SILENT", "WORDS", "WORDS", "pass"]
    monkeypatch.setattr(verdicts, "LIMIT", 0.01)
    assert verdicts.knock("door", lambda: sum(range(5_000_000))).kind == "HANG"
    assert hostile_inputs._weighed(hostile_inputs.Case("image", 0, "a.jpg", [], 2.0)).verdicts[0].kind == "MEMORY"
    monkeypatch.undo()
    assert verdicts.knock("door", lambda: verdicts.command("score", tmp_path / "none.csv"), ["none.csv"]).kind == "refused"


def test_a_worker_that_dies_is_told_and_replaced(monkeypatch, store, tmp_path):
    def mortal(kind: str, index: int, *_: object) -> tuple[str, list[verdicts.Verdict]]:
        if index == 1: os._exit(7)
        return "a.yaml", [verdicts.Verdict("door", verdicts.FINE)]
    monkeypatch.setattr(hostile_inputs, "try_one", mortal)
    found = [(c.index, v.kind) for c in hostile_inputs.try_all({"card": 3}, 0, tmp_path, store, 1) for v in c.verdicts]
    assert found == [(0, "pass"), (1, "TRACEBACK"), (2, "pass")]


def test_a_large_picture_is_copied_in_strips_without_a_change(monkeypatch, tmp_path):
    "Held whole, a hundred million pixels would be held four times."
    from fakeface.train import blocks
    monkeypatch.setattr(blocks, "LARGE", 4 * 37 * 5)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(images.saved(images.Image.fromarray(pixels), "PNG"))
    assert (blocks.open_image(tmp_path / "a.png").permute(1, 2, 0).numpy() == pixels).all()


# --- inputs of no plan ---------------------------------------------------------------------------------------------------

HEADS = st.sampled_from(
    [
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"GIF89a",
        b"BM",
        b"II*\0\x08\0\0\0",
        b"RIFF\xff\0\0\0WEBPVP8X",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ]
)


@few
@given(head=HEADS, rest=st.binary(max_size=400), suffix=st.sampled_from(images.SUFFIXES))
def test_any_bytes_behind_an_images_suffix_are_taken_or_rejected(head, rest, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(head + rest)
    assert not offences(images.try_image(path)[0])


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates() | st.binary(max_size=4)
TREES = st.recursive(
    PLAIN,
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), x, max_size=4),
    max_leaves=12,
)


@few
@given(kind=st.sampled_from(list(specs.DOORS)), fields=st.data(), value=TREES)
def test_any_value_in_any_field_of_a_yaml_file_is_taken_or_refused_in_a_line(kind, fields, value, store, tmp_path):
    name, tree = (kind, specs.OWN) if kind == "fakeface.yaml" else fields.draw(st.sampled_from(specs.shipped(kind)))
    field = fields.draw(st.sampled_from(list(tree)))
    path = tmp_path / name
    path.write_text(yaml.safe_dump({**tree, field: value}, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    verdict = verdicts.knock(kind, lambda: specs.DOORS[kind](path, store), [name, str(tree.get("name"))])
    assert verdict.kind not in verdicts.OFFENCES, verdict


@few
@given(kind=st.sampled_from(["card", "recipe", "grid", "transfer", "holdout"]), text=st.text(max_size=60))
def test_any_text_as_a_yaml_file_is_refused_in_a_line(kind, text, store, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    verdict = verdicts.knock(kind, lambda: specs.DOORS[kind](path, store), ["own.yaml"])
    assert verdict.kind == verdicts.REFUSED, verdict


CELLS = st.text(max_size=6) | st.sampled_from(tables.ODD[:34]) | st.floats().map(str)


@few
@given(
    rows=st.lists(
        st.tuples(
            CELLS, st.sampled_from(["real", "fake"]) | CELLS, st.floats(0, 1).map(str) | CELLS, st.sampled_from(["test", "valid"]) | CELLS
        ),
        max_size=8,
    )
)
def test_any_cells_in_a_table_are_read_counted_or_refused_in_a_line(rows, store, tmp_path):
    table = tables.Table(["path", "label", "p_fake", "split"], [list(r) for r in rows], cosmetic=False)
    found = tables.try_table("own.csv", tables.as_csv(table), table, tmp_path, len(rows), store.good)
    assert not offences(found)


@few
@given(text=st.text(max_size=30) | st.sampled_from(specs.CODE))
def test_no_condition_of_a_recipe_is_run_as_code(text, store, tmp_path):
    _, tree = next(s for s in specs.shipped("recipe") if s[0] == "man-1.yaml")
    path = tmp_path / "man-1.yaml"
    path.write_text(yaml.safe_dump({**tree, "train": [{**part, "where": text} for part in tree["train"]]}), encoding="utf-8")
    verdict = verdicts.knock("recipe", lambda: specs.recipe_door(path, store), ["man-1"])
    assert verdict.kind not in verdicts.OFFENCES and not specs.canary(tmp_path), verdict
