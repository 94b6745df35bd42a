"""Does the control ladder name the cause that was injected: `python benchmarks/ladder_known_causes.py --out known_causes.csv`.

Every case is a built-in world in which all sources have the same people, framing, light and camera (`equal=True`), and one difference:
the generator's pictures and its own photographs (FFHQ) have a property that the other photographs have not. A detector is trained without
FFHQ (recipe man-2-test) after each equalising step, and `name_cause` has to say which step mends FFHQ. The cases:

- jpeg-quality, size, alignment, colour: the defects of `fakeface world --defect`, to be named encoding, resolution, alignment, colour;
- bias: the generator and FFHQ like glasses, the others wear none (drafted here); to be named `none of these`;
- nothing: no difference at all; to be named `nothing to mend`.

What is not the product's default, so that one training takes some five seconds: 760 images of 64 pixels a world, one training a step
(the default is three), the step `all` left out, no shortcut baselines. And the generator: its trace is coarse (period 8, 30 grey levels),
so that it survives every step, and 30 % of its pictures have none. These can only be told by the planted property; so the detector learns
it, and still finds the others once it is taken away. The defects' strengths are such that a detector does learn them: see DOSES.

Doses and training were settled on seeds from 100 on; the figures in benchmarks/README.md are of seeds 0 to 9. One world takes about 40
seconds of one free core. A world that is in the CSV is not run again.
"""
import argparse
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from fakeface.core.basics import percent
from fakeface.core.stats import wilson
from fakeface.experiments.ladder import NONE, WELL, ladder, name_cause
from fakeface.synthetic.defects import OWN, read_defects
from fakeface.synthetic.population import FINGERPRINTS
from fakeface.synthetic.world import draw_row, plan_world

DOSES = {"jpeg-quality": 6, "size": 1, "alignment": 1, "colour": 2}
EPOCHS = {"jpeg-quality": 14} # what an encoding leaves is learnt late; the others get --epochs
EXPECTED = {"jpeg-quality": "encoding", "size": "resolution", "alignment": "alignment", "colour": "colour", "bias": NONE, "nothing": WELL}
SOURCES = ["utkface", "lfw", "lag", "celeba", "ffhq", "1m_fake_faces"]
STEPS = ("nothing", "encoding", "resolution", "alignment", "colour")
TRACE, COARSE, TRACED = 30.0, 8, 0.7 # grey levels, period in pixels, share of the generated pictures that have it
FINGERPRINTS["coarse"] = COARSE


def draw(root: Path, case: str, seed: int, images: int) -> None:
    "The world of one case."
    defects = read_defects([f"{case}:{DOSES[case]}"] if case in DOSES else [])
    plan, texts = plan_world(seed, images, 1.0, TRACE, 64, defects, equal=True)
    made, rng = plan["kind"] == "generated", np.random.default_rng([seed, 70])
    plan = plan.assign(index=plan.index, trace=plan["trace"].where(rng.random(len(plan)) < TRACED, 0.0))
    plan["fingerprint"] = plan["fingerprint"].mask(made, "coarse")
    if case == "bias": plan["glasses"] = np.where(made | plan["source"].isin(OWN), 0.8, 0.2)
    plan = plan[plan["source"].isin(SOURCES)]
    for path, text in texts.items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_text(text)
    for row in plan.to_dict("records"):
        (root/row["path"]).parent.mkdir(parents=True, exist_ok=True)
        (root/row["path"]).write_bytes(draw_row(row, seed, 64))
    plan.drop(columns=[c for c in plan if c.startswith("_")]).to_csv(root/"truth.csv", index=False)
    mark = dict(seed=seed, images=images, trace=TRACE, psi=1.0, size=64, equal=True, defects=defects)
    (root/"world.json").write_text(json.dumps(mark))


def one(case: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    "A world, five trainings, a name."
    start = time.process_time()
    with TemporaryDirectory() as d:
        root = Path(d)/"world"
        root.mkdir()
        draw(root, case, seed, args.images)
        options = dict(epochs=EPOCHS.get(case, args.epochs), lr=0.004, batch_size=16)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            table = ladder("man-2-test", root, Path(d)/"ladder", seeds=args.trainings, steps=STEPS, shortcuts=(), **options)
    cause = name_cause(table)
    rates = {f"{images}, {step}": round(a, 3) for step, images, a in zip(table["step"], table["images"], table["accuracy"])
             if images in ("ffhq", "celeba", "in-distribution")}
    print(f"{case}, seed {seed}: {cause.name}. {cause.said}", flush=True)
    return dict(case=case, seed=seed, named=cause.name, right=cause.name == EXPECTED[case], images=args.images, epochs=options["epochs"],
                trainings=args.trainings, strength=DOSES.get(case), cpu_seconds=round(time.process_time() - start), **rates)


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--cases", nargs="+", default=list(EXPECTED), choices=list(EXPECTED), help="what is injected")
    p.add_argument("--seeds", type=int, default=10, help="worlds a case")
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--images", type=int, default=800, help="size of a world, as build_world counts")
    p.add_argument("--epochs", type=int, default=10, help="of every training")
    p.add_argument("--trainings", type=int, default=1, help="a step")
    p.add_argument("--out", default="ladder_known_causes.csv", help="one row a world; a world that is in it is not run again")
    args = p.parse_args()
    torch.set_num_threads(1)
    out = Path(args.out)
    for seed in range(args.first, args.first + args.seeds): # seed by seed, so that what is cut short is complete for its seeds
        for case in args.cases:
            done = pd.read_csv(out) if out.is_file() else pd.DataFrame(columns=["case", "seed"])
            if ((done["case"] == case) & (done["seed"] == seed)).any(): continue
            row = pd.DataFrame([one(case, seed, args)])
            (pd.concat([done, row]) if len(done) else row).to_csv(out, index=False)
    table = pd.read_csv(out)
    table = table[table["seed"].between(args.first, args.first + args.seeds - 1) & table["case"].isin(args.cases)]
    for case, t in table.groupby("case", sort=False):
        n, k = len(t), int(t["right"].sum())
        print(f"{case}: named {EXPECTED[case]!r} in {k} of {n} worlds ({percent(k / n, wilson(k, n))}); FFHQ called real at `nothing` "
              f"{percent(t['ffhq, nothing'].mean())}; named: {t['named'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
