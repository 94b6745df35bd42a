"""The probe of the recipe `robust` on all cells of `fakeface holdout detectors` at once: `python benchmarks/holdout_probe.py --root FACES`.

The same images, splits and fit as the command's, but the body is asked once a seed for all cells (a plain pass and the draws), not once
a training: about ten CPU minutes on slices of the real datasets instead of more than an hour. Printed are the AUC of each cell, the mean
over the seeds, the row over all cells, which `--out` puts into the table of study 11, and what thresholds that were fitted on validation
for three aims do on the photographs and fakes that were left out (`--thresholds`). `--cells` keeps the AUCs, a row a scale and cell, to
see what more images of the same kinds bring. Where the data root has them, the photographs of CIPLAB are a kind more, unknown to
trainings on all others: no choice of the probe was made on them. They are in no mean and not in the row over all cells.
"""
import argparse
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from probe_search import features
from probing import images_of_pairs, planned_pairs

from fakeface import __version__
from fakeface.core.basics import InputError, data_manifests
from fakeface.core.stats import auc_with_interval, photograph_kinds, rate_interval, subject_codes
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, eligible
from fakeface.evaluate.thresholds import UNSEEN, fit_operating_point
from fakeface.experiments.holdout import Holdout, present_kinds, read_holdout
from fakeface.experiments.study_tables import package_commit
from fakeface.train.probe import fit_linear

POOLED = data_manifests() / "reference" / "holdout_real_faces_pooled.csv"
THRESHOLDS, CELLS = (POOLED.with_name(f"holdout_real_faces_{name}.csv") for name in ("thresholds", "scales"))
KEPT_ASIDE = Part("real_and_fake_face", where="kind == 'photograph'", count=450, label="real")
AIMS, FPRS = ("tpr", "each", "unseen"), (0.01, 0.05)


def fitted_answers(layers: list[np.ndarray], fake: np.ndarray, train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    "p_fake of images by a fit on others."
    layer = torch.nn.Linear(layers[0].shape[1], 2)
    fit_linear(layer, np.concatenate([x[train] for x in layers]), np.tile(fake[train], len(layers)).astype(int))
    with torch.no_grad(): return layer(torch.from_numpy(layers[0][asked])).softmax(1)[:, 1].double().numpy()


def cell_answers(m: pd.DataFrame, layers: list[np.ndarray], fake: np.ndarray, at: dict[str, int]) -> pd.DataFrame:
    "A cell's validation and test images with p_fake, and real validation images with what fits without their kind say, as a run has them."
    place, kind = m["path"].map(at).to_numpy(), photograph_kinds(m)
    train, asked = ((m["split"] == "train").to_numpy() == side for side in (True, False))
    out = m[asked].assign(p_fake=fitted_answers(layers, fake, place[train], place[asked]), **{UNSEEN: np.nan})
    real = (m["label"] == "real").to_numpy()
    for name in sorted(set(kind[train & real])):
        own = (m["split"] == "valid").to_numpy() & real & (kind == name)
        rest = train & ~(real & (kind == name))
        out.loc[m.index[own], UNSEEN] = fitted_answers(layers, fake, place[rest], place[own])
    return out


def cell_row(cell: tuple[str, str], tests: list[pd.DataFrame]) -> dict: # tests: one a seed
    "The AUC of a cell, its interval by subject, and of how many images."
    fake = (tests[0]["label"] == "fake").to_numpy()
    area = auc_with_interval(fake, np.stack([t["p_fake"] for t in tests]), subject_codes(tests[0]))
    return dict(real=cell[0], fake=cell[1], n_real=int((~fake).sum()), n_fake=int(fake.sum()),
                **dict(zip(("auc", "auc_lo", "auc_hi"), area)))


def keep_cells(rows: pd.DataFrame, file: Path) -> None:
    "Puts the rows of a scale into a table, in the place of those that were there."
    new = rows.assign(version=__version__, commit=package_commit()).round(4)
    known = pd.read_csv(file) if file.is_file() else new.iloc[:0]
    pd.concat([known[known["scale"] != rows["scale"].iloc[0]], new]).sort_values("scale", kind="stable").to_csv(file, index=False)


def threshold_rows(cell: tuple[str, str], tables: list[pd.DataFrame]) -> list[dict]: # tables: one a seed
    "What thresholds fitted on validation do on the pair that was left out, mean of the seeds, intervals by subject."
    out = []
    for aim in AIMS:
        for fpr in FPRS:
            above = []
            for t in tables:
                valid, test = t[t["split"] == "valid"].reset_index(drop=True), t[t["split"] != "valid"]
                above.append((test["p_fake"] >= fit_operating_point(valid, aim, fpr).threshold).to_numpy())
            mean, test = np.mean(above, axis=0), tables[0][tables[0]["split"] != "valid"]
            row = dict(zip(("real", "fake"), cell), aim=aim, asked=fpr)
            for name, label in (("fpr", "real"), ("tpr", "fake")):
                own = (test["label"] == label).to_numpy()
                row |= {f"n_{label}": int(own.sum()), **dict(zip((name, f"{name}_lo", f"{name}_hi"),
                                                                rate_interval(mean[own], subject_codes(test[own]))))}
            out.append(row)
    return out


def with_kept_aside(spec: Holdout, root: Path) -> Holdout:
    "The holdout with one kind of photographs more, where the data root has it."
    return replace(spec, real=spec.real | {"ciplab": [KEPT_ASIDE]}) if len(eligible(scan(root).images, KEPT_ASIDE, spec.name)) else spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--scale", type=float, default=0.35, help="as of fakeface holdout")
    parser.add_argument("--out", type=Path, help=f"the table whose row `robust` is replaced, such as {POOLED.name}")
    parser.add_argument("--cells", type=Path, help=f"the table of the cells' AUCs, such as {CELLS.name}")
    parser.add_argument("--thresholds", type=Path, help=f"the table of thresholds, such as {THRESHOLDS.name}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    spec = read_holdout("detectors")
    try: spec = present_kinds(spec, scan(args.root).images)
    except InputError as e: raise SystemExit(f"holdout_probe: {e}") from e
    chosen, more = spec.detectors["robust"], with_kept_aside(spec, args.root)
    cells = planned_pairs(spec, args.root, args.scale, product(spec.real, spec.fake))
    cells |= planned_pairs(more, args.root, args.scale, product([r for r in more.real if r not in spec.real], spec.fake))
    rows = images_of_pairs(cells)
    at, fake = {p: i for i, p in enumerate(rows["path"])}, (rows["label"] == "fake").to_numpy()
    tables = {cell: [] for cell in cells}
    for seed in spec.seeds:
        layers = features(rows, args.root, chosen["size"], chosen["history"], chosen["epochs"], seed)
        for cell, m in cells.items(): tables[cell].append(cell_answers(m, layers, fake, at))
    tests = {cell: [t[~t["split"].isin(("train", "valid"))] for t in some] for cell, some in tables.items()}
    areas = pd.DataFrame([cell_row(cell, some) for cell, some in tests.items()])
    print(areas.round(4).to_string(index=False))
    if args.cells: keep_cells(areas.assign(scale=args.scale, trainings=len(spec.seeds)), args.cells)
    rates = pd.DataFrame([row for cell, some in tables.items() for row in threshold_rows(cell, some)])
    print(rates.round(3).to_string(index=False))
    if args.thresholds:
        rates.assign(trainings=len(spec.seeds), version=__version__, commit=package_commit()).round(4).to_csv(args.thresholds, index=False)
    pooled = {cell: some for cell, some in tests.items() if cell[0] in spec.real}
    p, whole = (np.stack([np.concatenate([some[k]["p_fake"] for some in pooled.values()]) for k in range(len(spec.seeds))]),
                pd.concat([some[0] for some in pooled.values()], ignore_index=True))
    truth = (whole["label"] == "fake").to_numpy()
    right = (p >= 0.5) == truth
    found = dict(zip(("auc", "auc_lo", "auc_hi"), auc_with_interval(truth, p, subject_codes(whole))),
                 balanced_accuracy=(right[:, truth].mean() + right[:, ~truth].mean()) / 2)
    print({k: round(float(v), 4) for k, v in found.items()})
    if args.out:
        table = pd.read_csv(args.out)
        words = ", ".join(f"{k} {chosen[k]}" for k in ("arch", "size", "history", "epochs", "augment"))
        run = f"model probe; {words}; the body asked once a seed for all cells"
        new = dict(detector="robust", cells=len(pooled), trainings=len(spec.seeds), n=whole["path"].nunique(), **found, run=run,
                   images=table["images"].iloc[0], version=__version__, commit=package_commit())
        pd.concat([table[table["detector"] != "robust"], pd.DataFrame([new])]).round(4).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
