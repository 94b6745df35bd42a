"The equalising steps take away what they name, the same bytes come out whoever writes them, and a ladder that is killed goes on."
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
from PIL import Image

from fakeface.audit.shortcuts import baseline, read_features
from fakeface.data.manifest import scan
from fakeface.experiments.equalise import STEPS, TIGHT, align, equalise, face_frame, steps_for
from fakeface.experiments.ladder import (FAKES, INSIDE, NARROWEST, NONE, REALS, STILL, WELL, ladder, ladder_rows,
                                         name_cause)
from fakeface.synthetic.world import build_world, world_points

pytestmark = pytest.mark.usefixtures("own_cache")
PLANTED = {"jpeg-quality": ("encoding", "spectrum"), "size": ("resolution", "spectrum"), "alignment": ("alignment", "thumbnail"),
           "colour": ("colour", "thumbnail")} # defect -> step, a shortcut that sees it


# --- the steps --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("defect", PLANTED)
def test_a_step_takes_away_the_difference_it_names(defect: str, tmp_path: Path) -> None:
    "FFHQ and UTKFace of an equalised world differ in what was injected alone: told apart before the step, hardly after it."
    step, seen = PLANTED[defect]
    strength = {"jpeg-quality": 3, "colour": 2}.get(defect, 1)
    asked = dict(seed=3, images=260, equal=True, defect=[f"{defect}:{strength}"], sources=["utkface", "ffhq"])
    root = build_world(tmp_path / "world", workers=1, **asked)
    manifest = scan(root).images
    is_ffhq, subject = (manifest["source"] == "ffhq").to_numpy(), manifest["path"].to_numpy()
    auc = {}
    for each in ("nothing", step):
        copies = equalise(manifest, root, tmp_path / each, each, world_points(manifest, root))
        auc[each] = baseline(read_features(copies["path"], tmp_path / each).values[seen], is_ffhq, subject).auc
    assert auc["nothing"] > 0.85
    assert abs(auc[step] - 0.5) < 0.5 * (auc["nothing"] - 0.5)


@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 40), st.floats(0.3, 4), st.floats(-200, 200), st.floats(-200, 200))
def test_any_similarity_is_undone_exactly(degrees: float, scale: float, x: float, y: float) -> None:
    wanted, turn = np.array(TIGHT) * 64, np.exp(1j * np.radians(degrees))
    there = scale * turn * (wanted @ (1, 1j)) + x + 1j * y
    a, b = face_frame(np.column_stack([there.real, there.imag]), wanted)
    assert abs(a - scale * turn) < 1e-9 * scale and abs(b - (x + 1j * y)) < 1e-6


def test_an_aligned_face_has_its_marks_where_they_are_wanted() -> None:
    "Three coloured dots on a turned, shrunk and shifted picture come out at the three places, large or small."
    for side in (60, 500):
        picture, at = np.full((side, side, 3), 128, np.uint8), np.array([(0.35, 0.4), (0.6, 0.5), (0.4, 0.7)])
        y, x = np.indices((side, side))
        for k, (u, v) in enumerate(at):
            near = (x + 0.5 - u * side)**2 + (y + 0.5 - v * side)**2 < (0.04 * side)**2
            picture[near] = 128 + 127 * np.eye(3, dtype=int)[k] - 128 * (1 - np.eye(3, dtype=int)[k])
        a, b = face_frame(at * side, np.array(TIGHT) * 64)
        expected = ((at * side) @ (1, 1j) - b) / a
        out = np.asarray(align(Image.fromarray(picture), at.ravel(), 64)).astype(int)
        for k, z in enumerate(expected):
            mask = (out[..., k] - np.delete(out, k, 2).max(2)) > 60
            found = np.argwhere(mask).mean(0)[::-1] + 0.5
            assert np.abs(found - (z.real, z.imag)).max() < 1.5


def test_the_same_bytes_whoever_writes_them(tmp_path: Path) -> None:
    root = build_world(tmp_path / "world", images=110, sources=["utkface", "ffhq", "1m_fake_faces"], workers=1)
    manifest = scan(root).images
    points = world_points(manifest, root)
    for step in ("all", "nothing"):
        for workers in (1, 2): equalise(manifest, root, tmp_path / f"{step}{workers}", step, points, workers=workers)
        folders = (tmp_path / f"{step}1", tmp_path / f"{step}2")
        one, two = ({p.relative_to(f): p.read_bytes() for p in sorted(f.rglob("*.png"))} for f in folders)
        assert len(one) == len(manifest) >= 64 and one == two


def test_steps_do_not_depend_on_labels() -> None:
    rng = np.random.default_rng(0)
    m = pd.DataFrame(dict(quality=rng.integers(40, 99, 200), width=rng.integers(60, 300, 200), height=100, label=["real", "fake"] * 100))
    assert steps_for(m) == steps_for(m.assign(label=m["label"][::-1].to_numpy()))
    assert steps_for(m).quality <= m["quality"].quantile(0.06) and steps_for(m.drop(columns="quality")).quality == 75


# --- the cause --------------------------------------------------------------------------------------------------------

def answers(rng: np.random.Generator, rates: dict[str, float], n: int = 150) -> pd.DataFrame:
    "One run's predictions: a group is correct at its rate."
    parts = {"ffhq": ("ffhq", "real"), FAKES: ("celeba", "fake"), REALS: ("valid", "real"), "valid fakes": ("valid", "fake")}
    rows = []
    for name, (split, label) in parts.items():
        fake = (rng.random(n) < rates[name]) == (label == "fake")
        paths = [f"{name}{i}" for i in range(n)]
        rows.append(pd.DataFrame(dict(path=paths, split=split, source=name, label=label, p_fake=np.where(fake, 0.9, 0.1))))
    return pd.concat(rows, ignore_index=True)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.dictionaries(st.sampled_from(STEPS[1:]), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1),
       st.integers(1, 3))
def test_what_is_named_has_mended_and_still_finds_fakes(seed: int, steps: dict[str, tuple[float, float]], seeds: int) -> None:
    rng = np.random.default_rng(seed)
    def run(ffhq: float, fakes: float) -> pd.DataFrame:
        return answers(rng, {"ffhq": ffhq, FAKES: fakes, REALS: 0.98, "valid fakes": fakes})
    table = ladder_rows({r: [run(*rates) for _ in range(seeds)] for r, rates in {"nothing": (0.1, 0.95), **steps}.items()})
    cause = name_cause(table)
    assert cause.name != WELL and cause.said
    if cause.name in NARROWEST:
        row = cause.table.loc[cause.name]
        assert row["mends"] and row["mended"] > 0.5 and row["inside"] >= STILL and row["p"] < 0.05
    if cause.name == NONE: assert not cause.table["mends"].any()


def test_chance_alone_is_seldom_named() -> None:
    "A detector that calls each FFHQ photograph real by lot, at the same rate on every step."
    named = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rates = {"ffhq": 0.6, FAKES: 0.95, REALS: 0.98, "valid fakes": 0.95}
        named += name_cause(ladder_rows({r: [answers(rng, rates, 40)] for r in STEPS[:-1]})).name in NARROWEST
    assert named <= 3 # 5 % of 12 are 0.6; more than 3 would be odd (p < 0.005)


def test_inside_is_balanced() -> None:
    "A detector that calls everything real is at one half in distribution, whatever the mix."
    rates = {"ffhq": 1, FAKES: 0, REALS: 1, "valid fakes": 0}
    p = answers(np.random.default_rng(0), rates)
    few = p[~(p["path"].str.startswith("valid fakes") & ~p["path"].str.endswith("7"))]
    assert ladder_rows({"nothing": [few]}).set_index("images").loc[INSIDE, "accuracy"] == 0.5


# --- killed and resumed -----------------------------------------------------------------------------------------------

CLIMB = """
import sys, torch
from fakeface.experiments.ladder import ladder
torch.set_num_threads(1)
ladder("man-2-test", sys.argv[1], sys.argv[2], seeds=1, steps=("nothing", "colour"), shortcuts=(), epochs=1, progress=False)
"""


def test_a_killed_ladder_goes_on(tmp_path: Path) -> None:
    root = build_world(tmp_path / "world", images=120, sources=["utkface", "celeba", "ffhq", "1m_fake_faces"], workers=1)
    out = tmp_path / "ladder"
    killed = forked.Popen(["-c", CLIMB, root, out], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while killed.poll() is None and not (out / "nothing-seed0" / "metrics.json").exists(): time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = {p: p.stat().st_mtime_ns for p in (out / "nothing-seed0").iterdir()}
    table = ladder("man-2-test", root, out, seeds=1, steps=("nothing", "colour"), shortcuts=(), epochs=1, progress=False)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert set(table["step"]) == {"nothing", "colour"} and not list(out.glob(".*partial*")) and not list((out / "images").glob(".*"))
