"""Is the learning curve's forecast right: `python benchmarks/learning_curve_forecast.py`.

For every seed a built-in world, and a user who has a part of its training images (N = 600). The user sweeps smaller parts of
them, three training runs a size, fits the power law and forecasts the accuracy of one training run on twice the data. Then the
other half arrives, that run is made, once, with a seed of its own, and is measured on the same test. Counted are the seeds
whose measured accuracy lies in the stated interval. An interval that holds everything is no success, so its width stands beside the
gain it forecasts, and the forecast's error beside that of a forecast that nothing will change.

The task is FFHQ-like photographs against the images of the generator that was fitted to them, both through the same camera, with
a faint trace of generation: what is learnt is how generated people differ. Pictures have 32 pixels a side, for speed. The settings were
chosen on seeds from 200 on. Ten seeds are about fifteen minutes on one free core; the worlds are kept in FAKEFACE_CACHE, finished
training runs in --out, so that a benchmark that was stopped goes on.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fakeface.core.basics import percent
from fakeface.core.stats import wilson
from fakeface.data.recipes import Part, Recipe
from fakeface.experiments.learning_curve import (at, first_images, fit_power_law, nested_order, points, predict_at,
                                                 run_cells)
from fakeface.experiments.plan import plan
from fakeface.synthetic.world import cached_world

SOURCES = ("ffhq", "1m_fake_faces")


def recipe(epochs: int) -> Recipe:
    "1,200 training images, 40 % of them photographs; 1,400 for the test."
    train = [Part("ffhq", 500), Part("1m_fake_faces", 750)]
    tests = {"others": [Part("ffhq", 500), Part("1m_fake_faces", 900)]}
    profile = dict(model="small", size=32, epochs=epochs, lr=0.003, augment="flip", batch_size=16)
    return Recipe("forecast", "photographs against their generator", train, tests, {"small": profile}, valid=0.04)


def forecast(seed: int, args: argparse.Namespace) -> dict[str, float]:
    "One world, its sweep, the forecast, and what came of it."
    root = cached_world(images=6400, seed=seed, trace=args.trace, psi=args.psi, size=32, sources=SOURCES)
    cooking = recipe(args.epochs)
    made = plan(cooking, root, split_seed=seed)
    train = made.manifest[made.manifest["split"] == "train"]
    mine, sizes = first_images(nested_order(train, seed), len(train) // 2), [len(train) // 2**k for k in range(args.sizes, 0, -1)]
    cells = {f"size-{n}-seed-{s}": (dict(size=n, seed=s), first_images(nested_order(mine, s), n)) for s in range(args.runs) for n in sizes}
    ahead = {f"size-{len(train)}-seed-{args.runs}": (dict(size=len(train), seed=args.runs), train)}
    folder = Path(args.out) / f"world-{seed}-grid-{args.trace:g}-psi-{args.psi:g}-epochs-{args.epochs}"
    table = run_cells(made, "curve", cells, folder, "one-cycle", False)
    guess = predict_at(fit_power_law(table), len(train), level=args.level)
    new = at(run_cells(made, "curve", ahead, folder, "one-cycle", False)).iloc[0]
    runs = at(table)
    if args.verbose: print(runs.pivot(index="seed", columns="size", values="accuracy").round(3).to_string())
    return dict(seed=seed, n=int(new["n"]), at_n=runs[runs["size"] == sizes[-1]]["accuracy"].mean(), forecast=guess.accuracy,
                lo=guess.interval[0], hi=guess.interval[1], gain=guess.gain, measured=new["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=3, help="training runs a size")
    parser.add_argument("--sizes", type=int, default=4, help="sizes of the sweep, each half the next")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--trace", type=float, default=2, help="the generator's trace, grey levels")
    parser.add_argument("--psi", type=float, default=0.5, help="the generator's truncation")
    parser.add_argument("--level", type=float, default=0.95, help="of the interval")
    parser.add_argument("--out", default="runs/learning-curve-forecast", help="where finished training runs lie")
    parser.add_argument("--verbose", action="store_true", help="the runs of every sweep")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, start = [], time.time()
    for seed in range(args.first, args.first + args.seeds):
        rows.append(r := forecast(seed, args))
        inside = r["lo"] <= r["measured"] <= r["hi"]
        print(f"seed {seed}: at N {percent(r['at_n'])}; at 2N forecast {percent(r['forecast'], [r['lo'], r['hi']])}, measured "
              f"{percent(r['measured'])} of {r['n']:,}: {'inside' if inside else 'OUTSIDE'} ({time.time() - start:.0f} s)", flush=True)
    summary(pd.DataFrame(rows), args.level)


def summary(table: pd.DataFrame, level: float) -> None:
    "The count, the widths, the failures."
    ok = table["measured"].between(table["lo"], table["hi"])
    k, n = int(ok.sum()), len(ok)
    print(f"\nmeasured accuracy inside the {level:.0%} interval: {k} of {n} seeds, {percent(k / n, wilson(k, n))}")
    print(f"failures: {', '.join(map(str, table['seed'][~ok])) or 'none'}")
    print(f"interval, median width {points((table['hi'] - table['lo']).median())}; sampling of the test alone "
          f"{points(np.median([np.ptp(wilson(round(m * t), t)) for m, t in zip(table['forecast'], table['n'])]))}")
    print(f"gain from N to 2N, medians: forecast {points(table['gain'].median())}, "
          f"measured {points((table['measured'] - table['at_n']).median())}")
    print(f"mean error of the forecast {points((table['measured'] - table['forecast']).abs().mean())}; of 'as at N' "
          f"{points((table['measured'] - table['at_n']).abs().mean())}; signed {points((table['measured'] - table['forecast']).mean())}")


if __name__ == "__main__":
    main()
