"""Does the group-rate engine announce differences that are not there, and find those that are: `python benchmarks/group_differences.py`.

Every data set has 60 people with 10 photographs each, and 300 fakes of nobody, of whom 90 % are found. Whether a photograph is called
fake is mostly a matter of the person: each has an error probability of his or her own (Beta(0.4, 0.6), or 0 and 1 alone). Gender and
glasses are the person's too. Counted are the data sets in which a difference is announced, by `evaluate.fairness` and by the section of
a run's report, which have to be alike:

- nothing injected: gender and glasses have no effect. At most 5 % may be announced;
- injected: women's error probabilities are raised by 0.7 (at most 1). At least 9 of 10 are to be named, with the group and direction;
- images taken for independent (Newcombe's interval with the same correction), for comparison: what one gets who forgets the people.

The equivalence test (TOST) is asked on 400 people with 4 photographs, with a margin of 10 points: at a true difference of exactly the
margin, *equivalent* may be said in 5 % of the data sets at most; at none at all, it is its power. Each row goes to a CSV.
"""
import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pandas as pd

from fakeface.core.basics import percent
from fakeface.core.stats import difference_interval, wilson
from fakeface.evaluate.fairness import fairness_reports, fairness_table
from fakeface.evaluate.scores import score_predictions
from fakeface.report.run import group_sections

BY = ("gender", "glasses")


def data_set(seed: int, shift: float = 0.0, people: int = 60, per: int = 10, kind: str = "beta") -> pd.DataFrame:
    "Predictions of people whose error probability is their own; `shift` is added to women's."
    rng = np.random.default_rng(seed)
    gender, glasses = rng.choice(["female", "male"], people), rng.choice(["yes", "no"], people)
    p = {"beta": rng.beta(0.4, 0.6, people), "all or none": (rng.random(people) < 0.4) * 1.0, "mild": rng.uniform(0.1, 0.5, people)}[kind]
    who = np.repeat(np.arange(people), per)
    wrong = rng.random(len(who)) < np.clip(p + shift * (gender == "female"), 0, 1)[who]
    reals = pd.DataFrame({"label": "real", "source": "celeba", "subject": [f"celeba/{i}" for i in who], "gender": gender[who],
                          "glasses": glasses[who], "p_fake": np.where(wrong, 0.9, 0.1)})
    fakes = pd.DataFrame({"label": "fake", "source": "1m_fake_faces", "p_fake": np.where(rng.random(300) < 0.9, 0.9, 0.1)})
    table = pd.concat([reals, fakes], ignore_index=True)
    return table.assign(split="celeba", path=[f"{i:05d}.jpg" for i in range(len(table))])


def by_fairness(table: pd.DataFrame, **terms: float) -> set[tuple[str, str]]:
    "The groups and directions that the fairness report announces."
    found = set()
    for report in fairness_reports(table, by=BY, crossed=(), **terms):
        for r in report.groups.to_dict("records"):
            if "higher" in r["fpr_verdict"] or "lower" in r["fpr_verdict"]: found.add((r["group"], r["fpr_verdict"].split()[-1]))
    return found


def by_report(table: pd.DataFrame, folder: Path) -> list[str]:
    "The sentences about differences in the report's section."
    run = SimpleNamespace(folder=folder, metrics=score_predictions(table), predictions=table)
    return [words for section in group_sections(run) for words in section["words"] if words.startswith("Different")]


def by_images(table: pd.DataFrame) -> bool:
    "Whether images taken for independent would announce one, corrected for the same four rows."
    reals, found = table[table["label"] == "real"], False
    for attribute in BY:
        for group in reals[attribute].unique():
            inside, wrong = reals[attribute] == group, reals["p_fake"] >= 0.5
            lo, hi = difference_interval(wrong[inside].sum(), inside.sum(), wrong[~inside].sum(), (~inside).sum(), 1 - 0.05 / 4)
            found |= lo > 0 or hi < 0
    return found


def difference(seed: int, shift: float, kind: str) -> dict[str, object]:
    "One data set, asked by both and by the images."
    table = data_set(seed, shift, kind=kind)
    found = by_fairness(table)
    with TemporaryDirectory() as d: said = by_report(table, Path(d))
    return dict(what="injected" if shift else "nothing injected", kind=kind, seed=seed, fairness=bool(found), report=bool(said),
                independent=by_images(table), named=("female", "higher") in found and any("Gender, female" in w for w in said))


def equivalence(seed: int, shift: float) -> dict[str, object]:
    "One data set, asked whether the genders are equivalent within ten points."
    table = fairness_table(data_set(seed, shift, people=400, per=4, kind="mild"), by=["gender"], margin=0.1, draws=4000)
    return dict(what=f"true difference {100 * shift:g} points", kind="mild", seed=seed, equivalent=bool((table["fpr_verdict"].isin(
        ["equivalent", "slightly higher", "slightly lower"])).any()), different=bool(table["fpr_difference_lo"].gt(0).any()))


def asked(task: tuple) -> dict[str, object]:
    "One row."
    ask, *values = task
    return ask(*values)


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--sets", type=int, default=200, help="data sets with nothing injected, of each kind; a quarter as many with")
    p.add_argument("--workers", type=int, default=2, help="processes")
    p.add_argument("--out", default="benchmarks/group_differences.csv", help="one row a data set")
    args = p.parse_args()
    start, tasks = time.time(), []
    for kind in ("beta", "all or none"):
        tasks += [(difference, seed, 0.0, kind) for seed in range(args.sets)]
        tasks += [(difference, 10_000 + seed, 0.7, kind) for seed in range(max(1, args.sets // 4))]
    tasks += [(equivalence, 20_000 + seed, shift) for shift in (0.0, 0.1) for seed in range(args.sets)]
    with ProcessPoolExecutor(args.workers) as pool: table = pd.DataFrame(pool.map(asked, tasks, chunksize=10))
    table.to_csv(args.out, index=False)
    for (what, kind), some in table.groupby(["what", "kind"], sort=False):
        for column in ("fairness", "report", "independent", "named", "equivalent", "different"):
            if some[column].isna().all(): continue
            k, n = int(some[column].sum()), len(some)
            print(f"{what}, {kind}: {column} in {k} of {n}, {percent(k / n, wilson(k, n))}")
    print(f"{time.time() - start:.0f} s; {args.out}")


if __name__ == "__main__":
    main()
