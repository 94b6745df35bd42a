"""The audit is shown small worlds with known answers: what was injected is found, and nothing on the clean one.

How often, and at which strengths, is counted over many seeds in benchmarks/report_card.py; here one world each keeps the parts together.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fakeface.audit.audit import CHECKS, audit
from fakeface.core.basics import InputError
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.synthetic.world import build_world

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from general_tools import judged, summary  # noqa: E402
from report_card import found_by, joined  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_cache")
RECIPE = Recipe("known", "photographs of two sources and a generator; two other sources as the test",
                [Part("utkface", 24_000), Part("lfw", 13_000), Part("1m_fake_faces", 30_000)],
                {"new": [Part("celeba", 202_000), Part("lag", 3_800), Part("1m_fake_faces", 30_000)]}, {"small": {}})


def warned(folder: Path, defect: list[str], only: tuple[str, ...] = CHECKS, images: int = 240) -> set[str]:
    "The checks that say `warn` or `fail` in an equalised world with these problems."
    sources = ["utkface", "lfw", "lag", "celeba", "1m_fake_faces"]
    root = build_world(folder/"world", seed=7, images=images, equal=True, defect=defect, sources=sources, workers=1)
    faces = images if "alignment" in defect else 80 # with few an AUC of 0.98 can still have an interval from 0.53 on
    checks = audit(compose(RECIPE, scan(root)).manifest, root, faces=faces, workers=1, only=only).checks
    return {name for name, check in checks.items() if check["verdict"] in ("warn", "fail")}


def test_nothing_warns_on_a_clean_world_but_the_generators_trace(tmp_path):
    assert warned(tmp_path, []) <= {"spectrum"}


@pytest.mark.parametrize("defect, checks", [
    (["jpeg-quality", "near-duplicates:0.06"], ("file-facts", "near-duplicates")),
    (["size", "exact-duplicates:0.06"], ("size", "exact-duplicates")),
    (["colour", "trained-on:0.1"], ("colour", "near-duplicates")),
    (["alignment", "shared-subject:0.3"], ("geometry", "shared-subjects"))])
def test_what_is_injected_fails_its_check(tmp_path, defect, checks):
    assert warned(tmp_path, defect, checks) == set(checks)


def test_wrong_labels_are_suspected_where_the_trace_is_known(tmp_path):
    assert warned(tmp_path, ["mislabelled:0.06"], ("labels",), images=500) == {"labels"}


def test_the_worlds_truth_says_what_was_injected(tmp_path):
    root = build_world(tmp_path/"world", images=120, equal=True, defect=["mislabelled:0.2", "near-duplicates:0.2"],
                       sources=["utkface", "1m_fake_faces"], workers=1)
    truth = pd.read_csv(root/"truth.csv")
    wrong = truth["label"] != truth["kind"].map({"generated": "fake", "photograph": "real"})
    assert wrong.tolist() == truth["injected"].eq("mislabelled").tolist() and wrong.any()
    assert truth["altered"].notna().tolist() == truth["injected"].eq("near-duplicates").tolist()


# --- general tools beside the audit -----------------------------------------------------------------------------------

def answer(issue: str, defect: str = "", world: str = "equal", images: int = 100, changed: int = 10, of_changed: float = 0,
           of_others: float = 0, score: float = np.nan, seed: int = 0) -> dict[str, object]:
    "What a general tool said of one world, as benchmarks/general_tools.py keeps it."
    return dict(world=world, defect=defect, seed=seed, images=images, changed=changed if defect else 0, issue=issue, of_changed=of_changed,
                of_others=of_others, score=score, best="")


def test_a_general_tool_finds_what_it_names_and_rings_where_it_names_anything():
    rows = [answer("a: copies", "size", of_changed=1), answer("a: copies", "size", of_changed=1, of_others=2),
            answer("a: copies", "size", of_changed=6), answer("a: copies", of_others=1), answer("a: copies"),
            answer("cleanlab: spurious_correlations", "size", of_changed=np.nan, of_others=np.nan, score=0.29),
            answer("cleanlab: spurious_correlations", of_changed=np.nan, of_others=np.nan, score=0.31),
            *(answer("fairlearn: MetricFrame", defect, "twins", of_others=1) for defect in ("group-bias", ""))]
    told = judged(pd.DataFrame(rows))
    assert told["answer"].tolist() == [True, False, True, True, False, True, False, False, True]
    assert told["most"].tolist() == [False, False, True, False, False, True, False, False, False]


def test_found_by_leaves_out_what_rings_anyway():
    rows = [answer(issue, defect, of_changed=hit, of_others=other, seed=seed) for seed in range(4) for issue, defect, hit, other in
            [("a: copies", "size", 2, 0), ("a: copies", "", 0, 0), ("b: odd", "size", 2, 0), ("b: odd", "", 0, 1),
             ("c: dark", "size", 0, 0), ("c: dark", "", 0, 0), ("a: copies", "colour", 0, 0)]]
    assert found_by(summary(pd.DataFrame(rows))) == {"size": "a copies 4 of 4", "colour": "none"}


def test_the_committed_card_says_what_the_general_tools_found():
    card, tools = pd.read_csv(BENCHMARKS/"report_card.csv", keep_default_na=False), BENCHMARKS/"general_tools.csv"
    assert joined(card, tools)["found_by"].tolist() == card["found_by"].tolist()
    default = card[card["default"].astype(str) == "True"]
    assert (default["found_by"] != "").all() and len(default) == 11


def test_a_defect_that_lies_in_no_source_that_is_drawn_is_refused_and_no_world_bears_its_name(tmp_path):
    with pytest.raises(InputError, match="defect group-bias lies in fairface, fairface_psp_twins, none of which is drawn"):
        build_world(tmp_path/"w", images=100, size=16, workers=1, sources=["utkface"], defect=["group-bias"])
    assert not (tmp_path/"w").exists()
    with pytest.raises(InputError, match="defect shared-subject lies in lag"):
        build_world(tmp_path/"w", images=100, size=16, workers=1, sources=["lfw"], defect=["jpeg-quality", "shared-subject"])
