"""The probe of the recipe `robust` on all cells of `fakeface holdout detectors` at once: `python benchmarks/holdout_probe.py --root FACES`.

The same images, splits and fit as the command's, but the body is asked once a seed for all cells (a plain pass and the draws), not once a
training: about five CPU minutes on slices of the real datasets instead of more than an hour. Printed are the AUC of each cell, the mean
over the seeds, and the row over all cells, which `--out` puts into the table of study 11.
"""
import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from probe_search import features

from fakeface import __version__
from fakeface.core.basics import InputError, data_manifests
from fakeface.core.stats import auc_with_interval, subject_codes
from fakeface.data.manifest import scan
from fakeface.experiments.holdout import cell_recipe, present_kinds, read_holdout
from fakeface.experiments.plan import plan
from fakeface.experiments.study_tables import package_commit
from fakeface.train.probe import fit_linear

POOLED = data_manifests() / "reference" / "holdout_real_faces_pooled.csv"


def cell_answers(layers: list[np.ndarray], fake: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    "p_fake of a cell's test images."
    layer = torch.nn.Linear(layers[0].shape[1], 2)
    fit_linear(layer, np.concatenate([x[train] for x in layers]), np.tile(fake[train], len(layers)).astype(int))
    with torch.no_grad(): return layer(torch.from_numpy(layers[0][test])).softmax(1)[:, 1].double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--scale", type=float, default=0.35, help="as of fakeface holdout")
    parser.add_argument("--out", type=Path, help=f"the table whose row `robust` is replaced, such as {POOLED.name}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    spec = read_holdout("detectors")
    try: spec = present_kinds(spec, scan(args.root).images)
    except InputError as e: raise SystemExit(f"holdout_probe: {e}") from e
    chosen = spec.detectors["robust"]
    cells = {(r, f): plan(cell_recipe(spec, r, f), args.root, scale=args.scale, split_seed=spec.split_seed, **chosen).manifest
             for r in spec.real for f in spec.fake}
    rows = pd.concat(cells.values())[["path", "label", "subject"]].drop_duplicates("path", ignore_index=True)
    at, fake = {p: i for i, p in enumerate(rows["path"])}, (rows["label"] == "fake").to_numpy()
    answers = []
    for seed in spec.seeds:
        layers, each = features(rows, args.root, chosen["size"], chosen["history"], chosen["epochs"], seed), []
        for m in cells.values():
            sides = m["split"] == "train", ~m["split"].isin(("train", "valid"))
            train, test = (m.loc[side, "path"].map(at).to_numpy() for side in sides)
            each.append((test, cell_answers(layers, fake, train, test)))
        answers.append(np.concatenate([p for _, p in each]))
    p, begin = np.stack(answers), 0
    for cell, (test, _) in zip(cells, each):
        a = auc_with_interval(fake[test], p[:, begin:begin + len(test)], subject_codes(rows.iloc[test]))
        print(*cell, "{:.4f} [{:.4f}, {:.4f}]".format(*a))
        begin += len(test)
    whole = rows.iloc[np.concatenate([test for test, _ in each])].reset_index(drop=True)
    truth = (whole["label"] == "fake").to_numpy()
    right = (p >= 0.5) == truth
    found = dict(zip(("auc", "auc_lo", "auc_hi"), auc_with_interval(truth, p, subject_codes(whole))),
                 balanced_accuracy=(right[:, truth].mean() + right[:, ~truth].mean()) / 2)
    print({k: round(float(v), 4) for k, v in found.items()})
    if args.out:
        table = pd.read_csv(args.out)
        words = ", ".join(f"{k} {chosen[k]}" for k in ("arch", "size", "history", "epochs", "augment"))
        run = f"model probe; {words}; the body asked once a seed for all cells"
        new = dict(detector="robust", cells=len(cells), trainings=len(spec.seeds), n=whole["path"].nunique(), **found, run=run,
                   images=table["images"].iloc[0], version=__version__, commit=package_commit())
        pd.concat([table[table["detector"] != "robust"], pd.DataFrame([new])]).round(4).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
