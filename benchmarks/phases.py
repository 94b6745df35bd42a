"""How the steps of a run grow with the images: `fakeface run` on built-in worlds of three sizes, a small network, one epoch.

    python benchmarks/phases.py                      # worlds of 2,000, 8,000 and 32,000 images
    python benchmarks/phases.py --sizes 500,2000     # others

Of each step the CPU seconds are told, and the exponent e of n^e between the smallest and the largest world: 1 is linear. Steps of under
0.3 s at the largest size are told without one. The worlds are drawn before, each run has a process and a cache of its own.
"""
import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

STEPS = {"fakeface.experiments.plan": ("scan", "compose", "find_leakage"),
         "fakeface.experiments.run": ("measure_baselines", "train", "predict", "fit_operating_point", "score_predictions", "write_report",
                                      "store")}


def cpu() -> float:
    "CPU seconds of this process and the children that are done."
    return sum(os.times()[:4])


def timed(root: str, size: int) -> dict[str, float]:
    "CPU seconds of each step of one run, and of the whole."
    import importlib
    spent: dict[str, float] = defaultdict(float)
    def watch(module: Any, name: str) -> None:
        work = getattr(module, name)
        @functools.wraps(work)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = cpu()
            try: return work(*args, **kwargs)
            finally: spent[name] += cpu() - start
        setattr(module, name, call)
    for module, names in STEPS.items():
        for name in names: watch(importlib.import_module(module), name)
    from fakeface.data.recipes import read_recipe
    from fakeface.experiments.run import run_recipe
    start = cpu()
    with tempfile.TemporaryDirectory() as d:
        recipe = replace(read_recipe("man-2-test"), duplicates="drop") # the world of 32,000 draws one face twice
        made = run_recipe(recipe, root, f"{d}/run", epochs=1, size=size, progress=False)
        return dict(spent) | {"whole": cpu() - start, "images": len(made.manifest)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2000,8000,32000", help="images of the worlds")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one: return print(json.dumps(timed(args.one, 64)))
    from fakeface.synthetic.world import cached_world
    found = []
    for n in map(int, args.sizes.split(",")):
        root = cached_world(images=n)
        with tempfile.TemporaryDirectory() as cache:
            path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
            env = os.environ | {"FAKEFACE_CACHE": cache, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
            for again in (False, True): # the second run finds what the first has kept
                start = time.time()
                done = subprocess.run([sys.executable, __file__, "--one", str(root)], env=env, capture_output=True, text=True)
                if done.returncode: sys.exit(done.stderr)
                found.append(json.loads(done.stdout.splitlines()[-1]) | {"again": again})
                which = "second" if again else "first"
                print(f"world of {n:,}, {which} run: {time.time() - start:.0f} s on the clock", file=sys.stderr, flush=True)
    for again in (False, True):
        runs = [f for f in found if f["again"] == again]
        print(f"\n{'second' if again else 'first'} run, CPU s at {', '.join(format(f['images'], ',') for f in runs)} images")
        for name in (k for k in runs[-1] if k not in ("again", "images")):
            s = [f.get(name, 0.0) for f in runs]
            e = np.log(s[-1] / max(s[0], 1e-3)) / np.log(runs[-1]["images"] / runs[0]["images"]) if len(runs) > 1 and s[-1] > 0.3 else None
            print(f"  {name:20}" + "".join(f"{v:9.2f}" for v in s) + ("" if e is None else f"   n^{e:.2f}"))


if __name__ == "__main__":
    main()
