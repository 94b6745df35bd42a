"""Do the intervals of the quiz hold the truth: `python benchmarks/quiz_coverage.py`.

Simulated observers of known d' and criterion, which vary by person and by picture (`evaluate.people.simulate_answers`), answer a quiz; the
analysis that `fakeface quiz --results` makes is asked for its 95 % intervals. Counted is how often they hold the mean over people of d' and
of the criterion, and the hit and false-positive rate that such people have with such pictures. For comparison: intervals for d' that take
every answer for an independent trial, and those that take the people alone for random (each person's d', the mean and Student's t).

A design is a number of people and pictures, the spread of d' and criterion over people, and the share of a class's variance that belongs
to the picture. In the last designs each person sees a part of the pictures only. Seeds: the design's number and the simulation's. Some
15 ms a simulation with its comparisons.
"""
import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from fakeface.core.basics import data_manifests, percent, progress
from fakeface.core.files import write_table
from fakeface.core.stats import wilson
from fakeface.evaluate.people import by_person, interval, signal_detection, simulate_answers

DESIGNS = pd.DataFrame([  # part: the share of the pictures that each person sees
    ("the quiz as it stands", 20, 40, 0.8, 0.2, 0.4, 0.3, 0.3, 1.0),
    ("guessing", 20, 40, 0.0, 0.0, 0.4, 0.3, 0.3, 1.0),
    ("experts", 20, 40, 1.8, 0.0, 0.5, 0.3, 0.3, 1.0),
    ("slow to say fake", 20, 40, 0.8, 0.8, 0.4, 0.3, 0.3, 1.0),
    ("quick to say fake, below chance", 20, 40, -0.3, -0.5, 0.4, 0.3, 0.3, 1.0),
    ("people all alike", 20, 40, 0.8, 0.2, 0.0, 0.0, 0.3, 1.0),
    ("pictures all alike", 20, 40, 0.8, 0.2, 0.4, 0.3, 0.0, 1.0),
    ("pictures that differ widely", 20, 40, 0.8, 0.2, 0.4, 0.3, 0.6, 1.0),
    ("few people", 10, 40, 0.8, 0.2, 0.4, 0.3, 0.3, 1.0),
    ("few people and pictures", 12, 24, 0.8, 0.2, 0.4, 0.3, 0.3, 1.0),
    ("many people", 100, 64, 0.8, 0.2, 0.4, 0.3, 0.3, 1.0),
    ("people that differ widely", 40, 64, 0.8, 0.2, 0.8, 0.6, 0.3, 1.0),
    ("each sees half of the pictures", 24, 80, 0.8, 0.2, 0.4, 0.3, 0.3, 0.5),
    ("each sees a fifth of the pictures", 30, 200, 0.8, 0.2, 0.4, 0.3, 0.3, 0.2),
], columns=["design", "people", "pictures", "d_prime", "criterion", "spread_d", "spread_c", "shared", "part"])


def truth(design: pd.Series) -> dict[str, float]:
    "What the intervals should hold."
    wide = np.sqrt(1 + design.spread_d**2 / 4 + design.spread_c**2)
    hit, false = (norm.cdf((sign * design.d_prime / 2 - design.criterion) / wide) for sign in (1, -1))
    return {"d'": design.d_prime, "criterion": design.criterion, "hit rate": hit, "false-positive rate": false}


def simulated(k: int, seed: int) -> dict[str, object]:
    "One simulation: for each figure its value, and whether the interval held the truth."
    design, rng = DESIGNS.iloc[k], np.random.default_rng([k, seed])
    spread = design.spread_d, design.spread_c
    answers = simulate_answers(design.people, int(design.pictures), design.d_prime, design.criterion, spread, design.shared, rng)
    if design.part < 1:  # as many of either class
        lot = pd.Series(rng.random(len(answers)), answers.index).groupby([answers["person"], answers["label"]]).rank()
        answers = answers[lot <= design.part * design.pictures / 2]
    found, row = signal_detection(answers), dict(k=k, seed=seed)
    for name, true in truth(design).items():
        lo, hi = interval(found[name])
        row |= {name: found[name].value, f"{name} held": lo <= true <= hi, f"{name} width": hi - lo}
    rates = [found[n].value for n in ("hit rate", "false-positive rate")]
    z, half = norm.ppf(np.clip(rates, 0.001, 0.999)), len(answers) / 2
    se = np.sqrt(sum(p * (1 - p) / half / norm.pdf(x)**2 for p, x in zip(rates, z)))
    each = by_person(answers)["d_prime"]
    wide = t.ppf(0.975, len(each) - 1) * each.std() / np.sqrt(len(each))
    return row | {"independent held": abs(z[0] - z[1] - design.d_prime) <= 1.96 * se,
                  "people held": abs(each.mean() - design.d_prime) <= wide}


def summed(table: pd.DataFrame) -> pd.DataFrame:
    "One row a design and figure: in how many simulations the interval held the truth, of how many; mean error and mean width."
    rows = []
    for k, some in table.groupby("k"):
        design = DESIGNS.iloc[k]
        for name, true in truth(design).items():
            others = {"independent": int(some["independent held"].sum()), "people_only": int(some["people held"].sum())}
            if name != "d'": others = {}
            rows.append({**design, "figure": name, "truth": round(float(true), 4), "held": int(some[f"{name} held"].sum()),
                         "simulations": len(some), "bias": round(float(some[name].mean() - true), 4),
                         "width": round(float(some[f"{name} width"].mean()), 4), **others})
    return pd.DataFrame(rows)


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--simulations", type=int, default=2000, help="of each design")
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--workers", type=int, default=2, help="processes")
    p.add_argument("--out", default=data_manifests() / "reference" / "quiz_coverage.csv", help="one row a design and figure")
    args = p.parse_args()
    start, n = time.time(), len(DESIGNS) * args.simulations
    designs = np.repeat(np.arange(len(DESIGNS)), args.simulations)
    seeds = np.tile(np.arange(args.first, args.first + args.simulations), len(DESIGNS))
    with ProcessPoolExecutor(args.workers) as pool:
        table = summed(pd.DataFrame(progress(pool.map(simulated, designs, seeds, chunksize=50), n, "simulations")))
    write_table(table, args.out)
    for row in table.itertuples():
        share = percent(row.held / row.simulations, wilson(row.held, row.simulations))
        alone, people = (percent(x / row.simulations) for x in (row.independent, row.people_only))
        more = "" if np.isnan(row.independent) else f"; answers taken for independent {alone}, people alone {people}"
        print(f"{row.design}, {row.figure}: {share} of {row.simulations:,}, bias {row.bias:+.3f}{more}")
    print(f"{time.time() - start:.0f} s; {args.out}")


if __name__ == "__main__":
    main()
