"""Do the 95 % intervals hold the truth in 95 % of cases? `python benchmarks/interval_coverage.py`.

Detectors are simulated whose truth is known: normal scores a known distance apart, or answers that are right with a known probability,
a probability that differs from subject to subject where subjects repeat. Each case is drawn 1,000 times (--sims), each draw gets the
interval that the package would print, and it is counted how often the truth lies inside. 93 to 97 % is what the methods promise; for
cases marked "small" too few images decide, and there they promise to err on the wide side only. The verdict allows for chance, `+-`:
twice the Monte-Carlo standard error. Differences are drawn with and without one; of those without, it is also counted how often p falls
below 0.05. Nothing is trained; about two minutes on one core.
"""
import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from fakeface.core.stats import (auc_difference, auc_difference_unpaired, auc_with_interval, paired_difference,
                                 rate_interval)
from fakeface.evaluate.compare import paired, unpaired
from fakeface.evaluate.thresholds import _threshold, equal_error, ppv, tpr_at_fpr

Interval = tuple[float, float, float | None]  # lowest, highest, and p where there is a test
Case = tuple[str, float, Callable[[np.random.Generator], Interval], bool]  # what, the truth, one draw, whether it is small


def of_auc(auc: float) -> float:
    "How far apart two normal distributions of scores are."
    return float(norm.ppf(auc) * np.sqrt(2))


def scores(rng: np.random.Generator, reals: int, fakes: int, apart: float,
           common: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    "Labels and scores; a part that two detectors share may be given."
    is_fake = np.arange(reals + fakes) >= reals
    own = rng.normal(size=reals + fakes)
    return is_fake, apart * is_fake + (own if common is None else np.sqrt(0.5) * (own + common))


def answers(rng: np.random.Generator, accuracy: float, who: np.ndarray, alike: float, times: int = 1) -> list[np.ndarray]:
    "Right or wrong for each image, of so many detectors; `alike` is the correlation within a subject."
    a, b = accuracy * (1 / alike - 1), (1 - accuracy) * (1 / alike - 1)
    return [rng.random(len(who)) < rng.beta(a, b, who.max() + 1)[who] for _ in range(times)]


# --- rates ------------------------------------------------------------------------------------------------------------

def rates() -> Iterator[Case]:
    "Accuracies, with and without subjects."
    for n, accuracy, small in ((30_000, 0.999, False), (30_000, 1 - 17 / 30_000, False), (1000, 0.95, False), (300, 0.998, True)):
        draw = lambda rng, n=n, a=accuracy: (*rate_interval(rng.random(n) < a)[1:], None)
        yield f"accuracy {100 * accuracy:.4g} % of {n:,}", accuracy, draw, small
    for subjects, per, accuracy, small in ((10_000, 3, 0.999, False), (2000, 5, 0.98, False), (300, 5, 0.9, False), (200, 5, 0.995, True)):
        who = np.repeat(np.arange(subjects), per)
        draw = lambda rng, who=who, a=accuracy: (*rate_interval(answers(rng, a, who, 0.3)[0], who)[1:], None)
        yield f"accuracy {100 * accuracy:.4g} %, {subjects:,} subjects x {per}", accuracy, draw, small
    who = np.repeat(np.arange(1500), np.random.default_rng(0).geometric(0.4, 1500))
    yield (f"accuracy 95 %, 1,500 subjects, 1 to {np.bincount(who).max()} images", 0.95,
           lambda rng: (*rate_interval(answers(rng, 0.95, who, 0.2)[0], who)[1:], None), False)


# --- areas ------------------------------------------------------------------------------------------------------------

def areas() -> Iterator[Case]:
    "AUC, with and without subjects."
    for reals, fakes, auc, small in ((500, 500, 0.99, False), (5000, 5000, 0.99, False), (1000, 50, 0.99, False), (50, 1000, 0.99, False),
                                     (5000, 5000, 0.999, False), (100, 100, 0.99, True), (1000, 1000, 0.9, False)):
        yield (f"AUC {auc} of {reals:,} real + {fakes:,} fake", auc,
               lambda rng, r=reals, f=fakes, a=auc: (*auc_with_interval(*scores(rng, r, f, of_auc(a)))[1:], None), small)
    for subjects, per, auc in ((400, 5, 0.99), (200, 5, 0.95)):
        who, is_fake = np.repeat(np.arange(subjects), per), np.repeat(np.arange(subjects) % 2 == 1, per)
        def draw(rng: np.random.Generator, who: np.ndarray = who, is_fake: np.ndarray = is_fake, auc: float = auc) -> Interval:
            z = np.sqrt(0.5) * (rng.normal(size=who.max() + 1)[who] + rng.normal(size=len(who)))
            return *auc_with_interval(is_fake, z + of_auc(auc) * is_fake, who)[1:], None
        yield f"AUC {auc}, {subjects} subjects x {per}", auc, draw, False


# --- differences ------------------------------------------------------------------------------------------------------

def differences() -> Iterator[Case]:
    "Of accuracies and areas."
    def two(rng: np.random.Generator, a: float, b: float, n: int) -> Interval:
        r = unpaired(int(rng.binomial(n, 1 - a)), n, int(rng.binomial(n, 1 - b)), n)
        return *r["ci95"], r["p"] if a == b else None
    for a, b, n in ((0.999, 0.999, 30_000), (0.9994, 0.9982, 30_000), (0.95, 0.97, 1000)):
        what = f"accuracy {100 * a:.4g} against {100 * b:.4g} %, other images, {n:,} each"
        yield what, b - a, lambda rng, k=(a, b, n): two(rng, *k), False

    def matched(rng: np.random.Generator, a: float, b: float, n: int) -> Interval:
        k = rng.multinomial(n, [a, b, 1 - a - b])
        r = paired(int(k[0]), int(k[1]), n)
        return *r["ci95"], r["p"] if a == b else None
    for a, b, n in ((0.001, 0.001, 30_000), (0.002, 0.001, 30_000), (0.05, 0.03, 1000)):
        what = f"wrong alone {100 * a:g} against {100 * b:g} %, same {n:,} images"
        yield what, a - b, lambda rng, k=(a, b, n): matched(rng, *k), False

    who = np.repeat(np.arange(1000), 4)
    def clustered(rng: np.random.Generator, b: float) -> Interval:
        first, second = answers(rng, 0.95, who, 0.3)[0], answers(rng, b, who, 0.3)[0]
        r = paired_difference(~first, ~second, subject=who)
        return *r["ci95"], r["p"] if b == 0.95 else None
    for b in (0.95, 0.97):
        yield f"accuracy 95 against {100 * b:g} %, same images, 1,000 subjects x 4", b - 0.95, lambda rng, b=b: clustered(rng, b), False

    def runs(rng: np.random.Generator) -> Interval:
        hard = rng.beta(2, 20, 2000)  # how often a run gets an image wrong
        r = paired_difference(rng.binomial(3, hard), rng.binomial(3, hard), (3, 3))
        return *r["ci95"], r["p"]
    yield "3 runs against 3 runs, same 2,000 images", 0.0, runs, False


def area_differences() -> Iterator[Case]:
    "DeLong, on the same and on other images."
    def same(rng: np.random.Generator, a: float, b: float, r: int, f: int) -> Interval:
        common = rng.normal(size=r + f)
        (is_fake, x), (_, y) = (scores(rng, r, f, of_auc(v), common) for v in (a, b))
        found = auc_difference(is_fake, x, y)
        return *found["ci95"], found["p"] if a == b else None
    for a, b, r, f, small in ((0.99, 0.99, 2000, 2000, False), (0.98, 0.99, 1000, 1000, False), (0.98, 0.99, 1000, 100, False),
                              (0.99, 0.99, 1000, 50, True)):
        yield f"AUC {a} against {b}, same {r:,} + {f:,}", b - a, lambda rng, k=(a, b, r, f): same(rng, *k), small

    def other(rng: np.random.Generator, a: float, b: float, r: int, f: int) -> Interval:
        found = auc_difference_unpaired(*(scores(rng, r, f, of_auc(v)) for v in (a, b)))
        return *found["ci95"], found["p"] if a == b else None
    for a, b, r, f in ((0.99, 0.99, 1000, 1000), (0.98, 0.99, 1000, 1000)):
        yield f"AUC {a} against {b}, other images, {r:,} + {f:,}", b - a, lambda rng, k=(a, b, r, f): other(rng, *k), False


# --- operating points -------------------------------------------------------------------------------------------------

def points() -> Iterator[Case]:
    "TPR at an FPR, the equal error rate, the positive predictive value, and how well validation knows a threshold's FPR."
    apart = 3.0
    for reals, fakes, fpr, small in ((5000, 5000, 0.01, False), (1000, 1000, 0.01, False), (1000, 1000, 0.05, False),
                                     (5000, 500, 0.005, False), (200, 200, 0.01, True)):
        def draw(rng: np.random.Generator, r: int = reals, f: int = fakes, x: float = fpr) -> Interval:
            return *tpr_at_fpr(rng.normal(size=r), rng.normal(apart, size=f), x)[1:], None
        yield f"TPR at {100 * fpr:g} % FPR, {reals:,} + {fakes:,}", float(norm.sf(norm.isf(fpr) - apart)), draw, small
    for reals, fakes, small in ((1000, 1000, False), (5000, 500, False), (100, 100, True)):
        yield (f"equal error rate, {reals:,} + {fakes:,}", float(norm.sf(apart / 2)),
               lambda rng, r=reals, f=fakes: (*equal_error(rng.normal(size=r), rng.normal(apart, size=f))[1:], None), small)
    rare, caught = 0.001, float(norm.sf(norm.isf(0.01) - apart))
    right = rare * caught / (rare * caught + (1 - rare) * 0.01)
    for reals, fakes, small in ((5000, 5000, False), (1000, 1000, False), (300, 300, True)):
        def predictive_value(rng: np.random.Generator, r: int = reals, f: int = fakes) -> Interval:
            ci = ppv((rng.binomial(f, caught), f), (rng.binomial(r, 0.01), r), rare)["ci95"]
            return *(ci or (0.0, 1.0)), None
        yield f"positive predictive value, 1 in 1,000 fake, {reals:,} + {fakes:,}", right, predictive_value, small


def thresholds(rng: np.random.Generator, sims: int, n: int = 499, fpr: float = 0.01) -> str:
    "The true FPR of thresholds fitted on n real validation images: its mean is promised to be fpr at most."
    true = []
    for _ in range(sims):
        real, fake = expit(rng.normal(size=n) - 1.5), expit(rng.normal(3.0, size=200) - 1.5)
        true.append(norm.sf(logit(_threshold(real, fake, "tpr", fpr, 1, 0.5)) + 1.5))
    return (f"thresholds for {100 * fpr:g} % FPR from {n} real validation images: true FPR {100 * np.mean(true):.2f} % on average, "
            f"{100 * np.quantile(true, 0.025):.2f} to {100 * np.quantile(true, 0.975):.2f} % in 95 of 100")


def main() -> int:
    "Draws, counts, prints; 1 where an interval is too narrow."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sims", type=int, default=1000, help="draws of each case")
    p.add_argument("--seed", type=int, default=0)
    args, began, bad = p.parse_args(), time.time(), 0
    rng, error = np.random.default_rng(args.seed), 2 * np.sqrt(0.95 * 0.05 / args.sims)
    print(f"{args.sims} draws of each case; +- {100 * error:.1f} points\n")
    print(f"{'case':68}{'inside':>9}{'width':>9}{'p < .05':>9}  verdict")
    for group in (rates, areas, differences, area_differences, points):
        for what, truth, draw, small in group():
            found = [draw(rng) for _ in range(args.sims)]
            inside = np.mean([lo <= truth <= hi for lo, hi, _ in found])
            width, ps = np.median([hi - lo for lo, hi, _ in found]), [x for _, _, x in found if x is not None]
            narrow = inside < 0.93 - error or (bool(ps) and np.mean(np.array(ps) < 0.05) > 0.05 + error)
            verdict = "TOO NARROW" if narrow else "holds" if inside <= 0.97 + error else "wide side"
            bad += narrow
            alarm = f"{100 * np.mean(np.array(ps) < 0.05):.1f} %" if ps else ""
            print(f"{what + (' (small)' if small else ''):68}{100 * inside:7.1f} %{width:9.4f}{alarm:>9}  {verdict}", flush=True)
    print(f"\n{thresholds(rng, args.sims)}\n{time.time() - began:.0f} s")
    return int(bad > 0)


if __name__ == "__main__": sys.exit(main())
