"""The project's report card: is every injected problem found, how early, and how often do the warnings ring on clean worlds?
`python benchmarks/report_card.py`.

For every seed, small equalised worlds (the same people, framing, light and camera everywhere, so that nothing but the generators'
trace tells fake from real) in the composition of `recipe()`: a small `man-1` with held-out sources. In each world one problem is injected
at one strength, and `fakeface.audit.audit` is asked about the composed manifest. A world of all sources is asked about as it lies in its
folder, as `fakeface audit ROOT` does: small sources that are hard to tell take part there. Counted are

- injected: the seeds in which the check that must find it does not say `pass`, for every strength. The weakest strength found is the lowest
  from which on at least 9 of 10 are found;
- nothing injected: how often each check does not say `pass`, in the equalised world with the generators' trace and without it (trace 0),
  in the default world, whose sources honestly differ, and in a default world of all sources.

`group-bias` is asked of the fairness report, as in `fairness_known_answers.py`: one training a seed, the same test at every strength.

The answers are kept world by world in `report_card_worlds.csv` beside this file (a run that was stopped goes on there, with the same
versions) and summed up in `report_card.csv`, which study 9 and the README show. Its column `found_by` says what general tools found of the
same defects (`general_tools.py`, which asks them). Eye and mouth positions are only looked for where the
check `geometry` is asked for and in worlds with nothing injected; that costs most. Everything with ten seeds is about an hour of one
core.
"""
import argparse
import ast
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import sklearn
from fairness_known_answers import OLD, TWINS
from fairness_known_answers import recipe as twins_recipe

import fakeface
from fakeface.audit.audit import CHECKS, audit
from fakeface.core.files import write_table
from fakeface.core.stats import wilson
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.evaluate.fairness import fairness_report
from fakeface.synthetic.defects import DEFECTS
from fakeface.synthetic.world import build_world, cached_world, plan_world

HERE = Path(__file__).parent
FACES = 150 # looked for in a world whose geometry is asked for
RANG = ("warn", "fail") # verdicts
FAIRNESS = "fairness" # the report that stands in for a check where group-bias is injected
MUST_FIND = {"jpeg-quality": "file-facts", "size": "size", "alignment": "geometry", "colour": "colour",
             "exact-duplicates": "exact-duplicates", "near-duplicates": "near-duplicates", "trained-on": "near-duplicates",
             "shared-subject": "shared-subjects", "mislabelled": "labels", "provenance": "provenance", "group-bias": FAIRNESS}
DOSES = {"jpeg-quality": (0.1, 0.2, 0.3, 0.4, 1), "size": (0.1, 0.2, 0.3, 0.4, 1),
         "alignment": (0.05, 0.1, 0.2, 0.3, 1), "colour": (0.1, 0.2, 0.3, 0.4, 1),
         "exact-duplicates": (0.003, 0.01, 0.03, 0.1), "near-duplicates": (0.003, 0.01, 0.03, 0.1), "trained-on": (0.01, 0.02, 0.05, 0.2),
         "shared-subject": (0.05, 0.1, 0.2, 0.4), "mislabelled": (0.005, 0.01, 0.03, 0.1),
         "provenance": (0.1, 0.2, 0.3, 0.5, 1), "group-bias": (0.1, 0.25, 0.5, 1)}
CLEAN = {"equal": dict(equal=True), "equal, no trace": dict(equal=True, trace=0), "default": {}, "default, all sources": {}}
WHOLE = "default, all sources" # audited as it lies in its folder, without a recipe; twice as large, since its images go to all of them
SOURCES = ("utkface", "lfw", "lag", "celeba", "1m_fake_faces", "generated_photos")
ROOMS = ("synthetic/world", "synthetic/defects", "synthetic/population", "data/duplicates", "data/blazeface", "data/faces", "data/marks",
         "audit/shortcuts", "audit/shortcut_checks", "audit/provenance", "audit/labels", "audit/coverage", "audit/audit") # in answers


def versions() -> str:
    "Of the packages and of the rooms that an answer depends on; answers of other versions are made anew."
    trees = [ast.parse((Path(fakeface.__file__).parent/f"{room}.py").read_text()) for room in ROOMS]
    code = "\n".join(ast.unparse(tree.body[1:]) for tree in trees) # without comments and the sentence at the top
    rooms = hashlib.sha256(code.encode()).hexdigest()[:8]
    return ", ".join([f"{m.__name__} {m.__version__}" for m in (fakeface, np, pd, sklearn)] + [f"rooms {rooms}"])


VERSIONS = versions()


class Case(NamedTuple):
    "One world."
    world: str # of CLEAN; injected ones are `equal`
    defect: str # "" where nothing is injected
    strength: float
    seed: int


def cases(seeds: range, defects: list[str]) -> Iterator[Case]:
    "All worlds that are asked for, default strengths first; `clean` is one of the names."
    audited = [defect for defect in defects if defect in MUST_FIND and defect != "group-bias"]
    first = {defect: [float(DEFECTS[defect].default)] for defect in audited}
    rest = {defect: [float(strength) for strength in DOSES[defect] if strength != DEFECTS[defect].default] for defect in audited}
    for strengths, worlds in ((first, ["equal"]), ({}, ["equal, no trace", "default", WHOLE]), (rest, [])):
        for seed in seeds:
            if "clean" in defects: yield from (Case(world, "", 0.0, seed) for world in worlds)
            yield from (Case("equal", defect, strength, seed) for defect, some in strengths.items() for strength in some)


def recipe() -> Recipe:
    "A small man-1: two sources of photographs and a generator to learn from; two other sources and more of the generator as the test."
    return Recipe("card", "the report card's worlds", [Part("utkface", 24_000), Part("lfw", 13_000), Part("1m_fake_faces", 30_000)],
                  {"new": [Part("celeba", 202_000), Part("lag", 3_800), Part("1m_fake_faces", 30_000), Part("generated_photos", 3_000)]},
                  {"small": {}})


def answers(case: Case, images: int, checks: list[str]) -> dict[str, object]:
    "What the audit says of one world, a row of report_card_worlds.csv; of a check that was not asked, nothing."
    start, check = time.process_time(), MUST_FIND.get(case.defect, "")
    whole = case.world == WHOLE
    with TemporaryDirectory() as d:
        os.environ["FAKEFACE_CACHE"] = f"{d}/cache" # facts about files that will be gone are not kept
        size, sources = (2 * images, ()) if whole else (images, SOURCES)
        root = build_world(Path(d)/"world", seed=case.seed, images=size, workers=1, sources=sources, **CLEAN[case.world],
                           defect=[f"{case.defect}:{case.strength:g}"] if case.defect else [])
        truth = pd.read_csv(root/"truth.csv")
        scanned = scan(root, workers=1)
        manifest = scanned.images if whole else compose(recipe(), scanned, seed=case.seed).manifest
        asked = [check] if check else checks
        found = audit(manifest, root, faces=FACES, workers=1, only=asked).checks
    said = {name: found[name]["verdict"] if name in asked else "" for name in CHECKS}
    return dict(case._asdict(), images=len(manifest), injected=int(truth["injected"].notna().sum()), check=check,
                verdict=said.get(check, ""), figure=found[check]["figure"] if check else None, **said,
                seconds=round(time.process_time() - start, 1), versions=VERSIONS)


def fairness_rows(seed: int, strengths: tuple[float, ...], images: int = 12_000) -> Iterator[tuple[float, pd.DataFrame]]:
    "One training on a world's twins; its predictions of the same test at every strength, `injected` where a photograph was changed."
    from fakeface.experiments.run import run_recipe
    from fakeface.train.inference import predict
    from fakeface.train.runs import load_run_model
    with TemporaryDirectory() as d:
        os.environ["FAKEFACE_CACHE"] = f"{d}/cache"
        plain, full = (cached_world(images=images, seed=seed, trace=24.0, sources=TWINS, defect=p) for p in ((), "group-bias"))
        run = run_recipe(twins_recipe(), plain, Path(d)/"run", seed=seed, progress=False)
        ours, faces = run.predictions, run.manifest[(run.manifest["split"] == "twins") & (run.manifest["label"] == "real")]
        theirs = faces.assign(path=[os.path.relpath(full/path, plain) for path in faces["path"]]).drop(columns="sha256")
        again = predict(load_run_model(run.folder, plain), theirs).assign(path=faces["path"].to_numpy())
    for strength in strengths: yield strength, _mixed(ours, again, seed, strength, images)


def _mixed(plain: pd.DataFrame, again: pd.DataFrame, seed: int, strength: float, images: int) -> pd.DataFrame:
    "The predictions where this share of the old people's photographs went through the generator."
    plan = plan_world(seed, images, 0.7, 24.0, defects={"group-bias": strength} if strength else {})[0]
    injected = again[again["path"].isin(plan["path"][plan["injected"].notna()])].assign(injected=True)
    return pd.concat([plain[~plain["path"].isin(injected["path"])].assign(injected=False), injected], ignore_index=True)


def fairness_answers(seed: int) -> list[dict[str, object]]:
    "The fairness report of the same test, clean and at every strength."
    return [_reported(table, seed, strength) for strength, table in fairness_rows(seed, (0.0, *DOSES["group-bias"]))]


def _reported(table: pd.DataFrame, seed: int, strength: float) -> dict[str, object]:
    "What the fairness report says of one strength."
    differences = fairness_report(table.drop(columns="injected"), test="twins").differences
    named = differences["group"].isin(OLD) & (differences["measure"] == "fpr") & (differences["direction"] == "higher")
    found = bool(named.any()) if strength else len(differences) > 0
    return dict(world="twins", defect="group-bias" if strength else "", strength=strength, seed=seed, images=len(table),
                injected=int(table["injected"].sum()), check=FAIRNESS, verdict="warn" if found else "pass", versions=VERSIONS)


def summary(worlds: pd.DataFrame) -> pd.DataFrame:
    "One row a defect and strength, one a clean world and check: how many of the seeds the warning rang in, with Wilson's 95 % interval."
    rows = []
    for (defect, strength), some in worlds[worlds["defect"] != ""].groupby(["defect", "strength"], sort=False):
        rows.append(dict(defect=defect, warning=MUST_FIND[defect], world=some["world"].iloc[0], strength=strength,
                         default=strength == DEFECTS[defect].default, injected=some["injected"].median(),
                         rang=int(some["verdict"].isin(RANG).sum()), seeds=len(some)))
    clean = worlds[worlds["defect"] == ""]
    for world, some in clean[clean["check"] != FAIRNESS].groupby("world", sort=False):
        rows += [dict(defect="", warning=check, world=world, default=False, rang=int(some[check].isin(RANG).sum()),
                      seeds=int((some[check] != "").sum())) for check in CHECKS]
    some = clean[clean["check"] == FAIRNESS]
    if len(some):
        rows.append(dict(defect="", warning=FAIRNESS, world="twins", default=False,
                         rang=int(some["verdict"].isin(RANG).sum()), seeds=len(some)))
    table = pd.DataFrame(rows)
    return table.assign(low=[wilson(k, n)[0] for k, n in zip(table["rang"], table["seeds"])],
                        high=[wilson(k, n)[1] for k, n in zip(table["rang"], table["seeds"])]).round(4)


def found_by(tools: pd.DataFrame) -> dict[str, str]: # of `general_tools.py`: defect -> what found it, and in how many worlds
    "The general tools' issues that found a defect in more worlds than they ring in where nothing is injected, in fewer than half of those."
    quiet = tools[(tools["defect"] == "") & tools["world"].isin(["equal", "twins"])].set_index("issue")
    told = {}
    for defect, some in tools[tools["defect"] != ""].groupby("defect", sort=False):
        words = []
        for r in some.sort_values("found", ascending=False, kind="stable").itertuples():
            rang = quiet.loc[r.issue]
            if r.found / r.seeds <= rang["found"] / rang["seeds"] or rang["found"] >= rang["seeds"] / 2: continue
            beside = f", rings in {rang['found']} of {rang['seeds']} clean" if rang["found"] else ""
            words.append(f"{r.issue.replace(': ', ' ')} {r.found} of {r.seeds}{beside}")
        told[defect] = "; ".join(words) or "none"
    return told


def joined(card: pd.DataFrame, tools: Path) -> pd.DataFrame:
    "The card with the column `found_by`, at the default strengths; empty where the general tools were not asked."
    told = found_by(pd.read_csv(tools, keep_default_na=False)) if tools.is_file() else {}
    return card.assign(found_by=[told.get(r.defect, "") if r.default is True or r.default == "True" else "" for r in card.itertuples()])


def main() -> None:
    "Runs what is missing, world by world, and sums up."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="worlds for every strength")
    p.add_argument("--first", type=int, default=0, help="the first seed; strengths and composition were settled on seeds from 100 on")
    p.add_argument("--images", type=int, default=500, help="size of a world, as build_world counts")
    p.add_argument("--defects", nargs="+", default=["clean", *MUST_FIND], help="these only; `clean` is worlds with nothing injected")
    p.add_argument("--checks", nargs="+", default=list(CHECKS), help="in worlds with nothing injected, ask these only")
    p.add_argument("--keep", action="store_true", help="answers of other versions stay; the table of worlds says whose they are")
    p.add_argument("--minutes", type=float, default=600, help="stop after so long; a later call goes on")
    p.add_argument("--out", default=str(HERE), help="folder of the two tables")
    args = p.parse_args()
    start, file = time.time(), Path(args.out)/"report_card_worlds.csv"
    worlds = pd.read_csv(file, keep_default_na=False) if file.is_file() else pd.DataFrame(columns=list(Case._fields))
    if "versions" in worlds and not args.keep: worlds = worlds[worlds["versions"] == VERSIONS]
    asked = worlds if set(args.checks) == set(CHECKS) or "versions" not in worlds else worlds[worlds["versions"] == VERSIONS]
    done = set(zip(asked["world"], asked["defect"], asked["strength"].astype(float), asked["seed"].astype(int)))
    seeds = range(args.first, args.first + args.seeds)
    def keep(rows: list[dict[str, object]]) -> None:
        nonlocal worlds
        worlds = pd.concat([worlds, pd.DataFrame(rows)], ignore_index=True) if len(worlds) else pd.DataFrame(rows)
        write_table(worlds, file)
    for case in cases(seeds, args.defects):
        if tuple(case) not in done and time.time() - start < 60 * args.minutes: keep([answers(case, args.images, args.checks)])
    for seed in seeds if "group-bias" in args.defects else ():
        if ("twins", "group-bias", 1.0, seed) not in done and time.time() - start < 60 * args.minutes: keep(fairness_answers(seed))
    worlds = pd.read_csv(file, keep_default_na=False)
    table = joined(summary(worlds), HERE/"general_tools.csv")
    write_table(table, Path(args.out)/"report_card.csv")
    print(table.to_string(index=False), f"\n{len(worlds)} worlds, {time.time() - start:.0f} s", sep="\n")


if __name__ == "__main__":
    main()
