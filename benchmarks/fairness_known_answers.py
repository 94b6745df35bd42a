"""Does the fairness report find a planted bias, and keep quiet without one: `python benchmarks/fairness_known_answers.py`.

For every seed a built-in world, and a detector trained on it once (recipe fairface-test: UTKFace and LFW against the generator;
it learns nothing of FairFace). It is tested on FairFace as it is, and on the same FairFace with the plant `group-bias`, which
puts the generators' traces on the photographs of everybody aged 60 or more and changes nothing else. Counted are the seeds
in which the report

- planted: names an age group from 60 on, with the direction (real faces called fake more often); names it first;
- not planted: raises any alarm at all, about any group or split.

A detector may be biased without a plant; such an alarm counts as false here, although it need not be. Ten seeds are about
ten minutes on one free core.
"""
import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fakeface.data.recipes import Part, Recipe, read_recipe
from fakeface.data.world import cached_world
from fakeface.evaluate.fairness import fairness_report
from fakeface.evaluate.scores import percent, wilson
from fakeface.train.experiments import run_recipe
from fakeface.train.learners import predict
from fakeface.train.saved import load_run_model

OLD = {"60-69", "more than 70", "70 years and more"} # the planted bias is from 60 on
SOURCES = ("utkface", "lfw", "1m_fake_faces", "fairface")


def recipe() -> Recipe:
    "fairface-test with both of FairFace's parts as the test: the detector learns from neither."
    base = read_recipe("fairface-test")
    tests = {"fairface": [Part("fairface", 97_698), Part("1m_fake_faces", 15_000)]}
    return Recipe(base.name, base.title, base.train, tests, base.profiles)


def reported(predictions: pd.DataFrame, seed: int, planted: bool) -> dict[str, object]:
    "What the report says, printed and counted."
    report = fairness_report(predictions, test="fairface")
    alarms = report.alarms
    old = alarms["group"].isin(OLD) & (alarms["measure"] == "fpr") & (alarms["direction"] == "higher")
    rows = predictions[(predictions["split"] == "fairface") & (predictions["label"] == "real")]
    wrong, aged = rows["p_fake"] >= 0.5, rows["age"] >= 60
    said = [f"{g}: {d}, {100 * x:+.1f}" for g, d, x in zip(alarms["group"], alarms["direction"], alarms["difference"])]
    print(f"seed {seed}, {'planted' if planted else 'nothing planted'}: called fake {percent(wrong[aged].mean())} of {aged.sum()} from 60 "
          f"on, {percent(wrong[~aged].mean())} of {(~aged).sum()} others; {report.refused or '; '.join(said) or 'no alarm'}", flush=True)
    return dict(seed=seed, planted=planted, refused=bool(report.refused), alarm=len(alarms) > 0, named=bool(old.any()),
                first=bool(len(alarms) and old.iloc[0]))


def one(seed: int, plant: str, images: int) -> list[dict[str, object]]:
    "A world, a training, two tests."
    root = cached_world(images=images, seed=seed, sources=SOURCES)
    with_plant = cached_world(images=images, seed=seed, sources="fairface", plant=plant)
    with TemporaryDirectory() as d:
        run = run_recipe(recipe(), root, Path(d)/"run", seed=seed, progress=False)
        plain, manifest = run.predictions, run.manifest
        faces = manifest[(manifest["split"] == "fairface") & (manifest["source"] == "fairface")]
        again = predict(load_run_model(run.folder, with_plant), faces)
    planted = pd.concat([plain[~plain["path"].isin(faces["path"])], again], ignore_index=True)
    return [reported(plain, seed, False), reported(planted, seed, True)]


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="worlds and trainings")
    p.add_argument("--first", type=int, default=300, help="the first seed")
    p.add_argument("--images", type=int, default=4000, help="size of a world, as build_world counts; a tenth are FairFace's")
    p.add_argument("--dose", type=float, default=1.0, help="of the plant")
    args = p.parse_args()
    start = time.time()
    table = pd.DataFrame([row for i in range(args.seeds) for row in one(args.first + i, f"group-bias:{args.dose:g}", args.images)])
    print(f"\n{args.seeds} worlds of {args.images:,} images, group-bias at dose {args.dose:g}, {time.time() - start:.0f} s")
    asked = ((True, "named", "names the group and the direction"), (True, "first", "names it first"), (False, "alarm", "raises an alarm"))
    for planted, column, what in asked:
        rows = table[table["planted"] == planted]
        k = int(rows[column].sum())
        print(f"{'planted' if planted else 'nothing planted'}: {what} in {k} of {len(rows)} "
              f"({percent(k / len(rows), wilson(k, len(rows)))}), no verdict in {rows['refused'].sum()}")


if __name__ == "__main__":
    main()
