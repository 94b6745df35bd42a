"""Does the fairness report find a injected bias, and keep quiet without one: `python benchmarks/fairness_known_answers.py`.

For every seed a built-in world of FairFace and its twins, and a detector trained once on half of the people: photographs against
twins. It is tested on the other half as they are, and on the same half with the defect `group-bias`: the photographs of everybody aged
60 or more went through the generator, as their twins did. Nothing else differs. A detector that knows the generator now calls these
people's photographs fake, and that is the bias to be found; the rates are printed. Counted are the seeds in which the report

- injected: names an age group from 60 on, with the direction (real faces called fake more often); names it first;
- not injected: raises any warning at all, about any group or split.

The generator's trace is strong here (grid 24): a detector that knows it makes hardly an error, so the defect is the only bias there is.
Where the trace is faint (--trace 7), detectors go by how generated people look as well, err more often about those who look like that,
and an warning without a defect need not be false. Ten seeds are about ten
minutes on one free core.
"""
import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fakeface.core.basics import percent
from fakeface.core.stats import wilson
from fakeface.data.recipes import Part, Recipe, read_recipe
from fakeface.evaluate.fairness import fairness_report
from fakeface.experiments.run import run_recipe
from fakeface.synthetic.world import cached_world
from fakeface.train.inference import predict
from fakeface.train.runs import load_run_model

OLD = {"60-69", "more than 70", "70 years and more"} # the planted bias is from 60 on
TWINS = "fairface_psp_twins"


def recipe() -> Recipe:
    "Photographs against their twins: half of the people to learn from, half for the test."
    parts = [Part(TWINS, 49_000, "photographs"), Part(TWINS, 49_000, "generated")]
    return Recipe("twins", "photographs against their twins", parts, {"twins": parts}, read_recipe("kyllo-twins").profiles, valid=0.1)


def reported(predictions: pd.DataFrame, seed: int, injected: bool) -> dict[str, object]:
    "What the report says, printed and counted."
    report = fairness_report(predictions, test="twins")
    differences = report.differences
    old = differences["group"].isin(OLD) & (differences["measure"] == "fpr") & (differences["direction"] == "higher")
    rows = predictions[(predictions["split"] == "twins") & (predictions["label"] == "real")]
    wrong, aged = rows["p_fake"] >= 0.5, rows["age"] >= 60
    said = [f"{g}: {d}, {100 * x:+.1f}" for g, d, x in zip(differences["group"], differences["direction"], differences["difference"])]
    verdict = report.refused or "; ".join(said) or "no difference"
    print(f"seed {seed}, {'injected' if injected else 'nothing injected'}: called fake {percent(wrong[aged].mean())} of {aged.sum()} from "
          f"60 on, {percent(wrong[~aged].mean())} of {(~aged).sum()} others; {verdict}", flush=True)
    return dict(seed=seed, injected=injected, refused=bool(report.refused), warned=len(differences) > 0, named=bool(old.any()),
                first=bool(len(differences) and old.iloc[0]))


def one(seed: int, defect: str, images: int, grid: float) -> list[dict[str, object]]:
    "A world, a training, two tests."
    root, with_plant = (cached_world(images=images, seed=seed, trace=grid, sources=TWINS, defect=p) for p in ((), defect))
    with TemporaryDirectory() as d:
        run = run_recipe(recipe(), root, Path(d)/"run", seed=seed, progress=False)
        plain, manifest = run.predictions, run.manifest
        faces = manifest[(manifest["split"] == "twins") & (manifest["label"] == "real")]
        theirs = faces.assign(path=[os.path.relpath(with_plant / path, root) for path in faces["path"]], sha256=None) # other files
        again = predict(load_run_model(run.folder, root), theirs).assign(path=faces["path"].to_numpy())
    injected = pd.concat([plain[~plain["path"].isin(faces["path"])], again], ignore_index=True)
    return [reported(plain, seed, False), reported(injected, seed, True)]


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="worlds and trainings")
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--images", type=int, default=12_000, help="size of a world, as build_world counts; a tenth are FairFace's")
    p.add_argument("--trace", type=float, default=24.0, help="strength of the generator's trace, grey levels")
    p.add_argument("--strength", type=float, default=1.0, help="of the defect")
    args = p.parse_args()
    start = time.time()
    defect = f"group-bias:{args.strength:g}"
    table = pd.DataFrame([row for i in range(args.seeds) for row in one(args.first + i, defect, args.images, args.trace)])
    print(f"\n{args.seeds} worlds of {args.images:,} images, grid {args.trace:g}, {defect}, {time.time() - start:.0f} s")
    asked = ((True, "named", "names the group and the direction"), (True, "first", "names it first"), (False, "warned", "warns"))
    for injected, column, what in asked:
        rows = table[table["injected"] == injected]
        k = int(rows[column].sum())
        print(f"{'injected' if injected else 'nothing injected'}: {what} in {k} of {len(rows)} "
              f"({percent(k / len(rows), wilson(k, len(rows)))}), no verdict in {rows['refused'].sum()}")


if __name__ == "__main__":
    main()
