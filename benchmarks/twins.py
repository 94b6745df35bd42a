"""Does the format-matched evaluation name a trained detector's bias, and keep quiet without one: `python benchmarks/twins.py`.

For every seed two equalised built-in worlds (the same people, framing, light and camera everywhere) and a detector trained on each:

- injected: the generators leave no trace (grid 0) and the photographs are saved worse (`jpeg-quality`), so the file's history is all that
  there is to learn;
- not injected: the generators leave their trace, and nothing else tells.

Counted are the seeds in which the format-matched evaluation says *bias* (more is lost than chance takes when both classes go through one
file, and the files had told the classes apart), with the balanced accuracy before and after. A loss where the files were alike is the
trace that the re-encoding wipes out; it is printed, and is no bias. Ten seeds are about a quarter of an hour of one core.
"""
import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fakeface.core.basics import percent
from fakeface.core.stats import wilson
from fakeface.evaluate.detectors import images_to_score
from fakeface.evaluate.robustness import FormatMatched
from fakeface.experiments.run import run_recipe
from fakeface.report.robustness import robustness_report
from fakeface.synthetic.world import build_world
from fakeface.train.runs import load_scorer


def one(seed: int, images: int, epochs: int, n: int, **world: object) -> FormatMatched:
    "A world, a training, the format-matched evaluation of its test images."
    with TemporaryDirectory() as d:
        root = build_world(Path(d) / "world", seed=seed, images=images, equal=True, psi=1.0, **world)
        run = run_recipe("man-1", root, Path(d) / "run", seed=seed, epochs=epochs, progress=False)
        return robustness_report(load_scorer(run.folder), *images_to_score(run.folder, root), n=n, sweeps=[], seed=seed).twins


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="pairs of worlds and trainings")
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--images", type=int, default=2000, help="size of a world, as build_world counts")
    p.add_argument("--epochs", type=int, default=12, help="of each training")
    p.add_argument("--trace", type=float, default=14.0, help="the trace where nothing is injected, grey levels")
    p.add_argument("--strength", type=float, default=3.0, help="of the defect")
    p.add_argument("--n", type=int, default=150, help="test images of each class at most")
    args = p.parse_args()
    start = time.time()
    worlds = {"injected": dict(trace=0, defect=[f"jpeg-quality:{args.strength:g}"]), "not injected": dict(trace=args.trace)}
    found: dict[str, list[FormatMatched]] = {name: [] for name in worlds}
    for seed in range(args.first, args.first + args.seeds):
        for name, world in worlds.items():
            found[name].append(one(seed, args.images, args.epochs, args.n, **world))
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    print(f"\n{args.seeds} pairs of worlds of {args.images:,} images, {time.time() - start:.0f} s")
    for name, all_twins in found.items():
        k, n = sum(t.bias for t in all_twins), len(all_twins)
        raw, after = (percent(float(np.mean([getattr(t, x) for t in all_twins]))) for x in ("raw", "after"))
        lost = sum(t.found for t in all_twins)
        print(f"{name}: bias in {k} of {n} ({percent(k / n, list(wilson(k, n)))}), a loss beyond chance in {lost}; "
              f"balanced accuracy {raw} before, {after} after, on average")


if __name__ == "__main__":
    main()
