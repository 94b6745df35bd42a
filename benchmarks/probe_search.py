"""Which linear probe survives: `python benchmarks/probe_search.py --root FACES`.

Candidates differ in size, in the common history of all images, in whether training images are drawn (`train.history`), in the fit (the
logistic regression of the first search, the ridge of `train.probe`) and in whether the centre is seen as well. For every pair of
a kind of photographs and a kind of fakes that is left out, each candidate is fitted on the rest and asked about the pair. Which candidate
one would have taken is decided without the pair: by the mean AUC over the other kinds of photographs, each left out in turn against a half
of the known fakes that is left out too. The ledger (`--out`) has a row for every candidate and pair, with the AUC by which it was chosen
and the AUC on the pair; what is printed last is the mean over the pairs for the candidate that was chosen for each.

A search that was stopped goes on from its ledger. Features are computed once for all fits; on slices of the real datasets (about 2,300
images) all of it is about half an hour of one core.
"""
import argparse
import itertools
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from probing import ARCH, DRAWS, body_features
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fakeface.core.basics import InputError
from fakeface.core.stats import auc_with_interval, subject_codes
from fakeface.data.manifest import scan
from fakeface.data.recipes import eligible
from fakeface.experiments.holdout import Holdout, present_kinds, read_holdout
from fakeface.experiments.study_tables import package_commit
from fakeface.train.blocks import OpenFace
from fakeface.train.models import arch_feed
from fakeface.train.probe import VIEWS, fit_ridges

SIZES, HISTORIES, AUGMENTS = (128, 160, 192), (None, "96:75"), ("none", "matched")
# fit, views; all but the first at one size, drawn, with the history
FITS = (("logistic", 1), ("logistic", VIEWS), ("ridge", 1), ("ridge", VIEWS))


def images_of(spec: Holdout, root: Path, count: int) -> pd.DataFrame:
    "At most `count` images a kind, by chance; `kind` among the columns."
    found, kinds = scan(root), []
    spec = present_kinds(spec, found.images)
    for label in ("real", "fake"):
        for kind, parts in getattr(spec, label).items():
            rows = pd.concat([eligible(found.images, p, spec.name) for p in parts])
            rows = rows.sample(min(count, len(rows)), random_state=spec.split_seed)
            kinds.append(rows.assign(kind=kind, label=label))
    return pd.concat(kinds, ignore_index=True).drop_duplicates("path", ignore_index=True)


def features(rows: pd.DataFrame, root: Path, size: int, history: str | None, draws: int, seed: int) -> list[np.ndarray]:
    "Features of the images as they are, then drawn so many times; (n, d) each."
    opener, paths = OpenFace(size, history=history, interpolation=arch_feed(ARCH)["interpolation"]), rows["path"].tolist()
    random.seed(seed)
    return [body_features(len(paths), lambda i, draw=draw: opener.pixels(root / paths[i], draw), size) for draw in [False] + [True] * draws]


def answers(layers: list[np.ndarray], fake: np.ndarray, train: np.ndarray, test: np.ndarray, fit: str,
            views: int) -> np.ndarray:
    "Scores of the test images after a fit on the training images, drawn and as they are."
    x, y = np.concatenate([part[train] for part in layers]), np.tile(fake[train], len(layers)).astype(int)
    scale = StandardScaler().fit(x)
    if fit == "ridge":
        weights, start = fit_ridges(scale.transform(x), y, views)
        return scale.transform(layers[0][test]) @ weights + start
    made = LogisticRegression(C=0.003, class_weight="balanced", max_iter=1000).fit(scale.transform(x), y)
    return made.decision_function(scale.transform(layers[0][test]))


def inner_auc(layers: list[np.ndarray], rows: pd.DataFrame, reals: list[str], fakes: list[str], half: np.ndarray, *how: str | int) -> float:
    "The mean AUC over the known kinds of photographs, each left out with one half of the known fakes."
    fake, kind, aucs = (rows["label"] == "fake").to_numpy(), rows["kind"].to_numpy(), []
    known = np.isin(kind, reals + fakes)
    for real in reals:
        test = ((kind == real) | (np.isin(kind, fakes) & half)) & known
        p = answers(layers, fake, known & ~test, test, *how)
        aucs.append(auc_with_interval(fake[test], p, subject_codes(rows[test]))[0])
    return float(np.mean(aucs))


def cells_of(name: dict, layers: list[np.ndarray], rows: pd.DataFrame, half: np.ndarray) -> list[dict]:
    "A row for every pair that can be left out."
    fake, kind, how, out = (rows["label"] == "fake").to_numpy(), rows["kind"].to_numpy(), (name["fit"], name["views"]), []
    reals, fakes = (list(rows.loc[rows["label"] == label, "kind"].unique()) for label in ("real", "fake"))
    for real, generator in itertools.product(reals, fakes):
        others = [r for r in reals if r != real], [f for f in fakes if f != generator]
        test = np.isin(kind, (real, generator))
        p = answers(layers, fake, np.isin(kind, others[0] + others[1]), test, *how)
        auc = auc_with_interval(fake[test], p, subject_codes(rows[test]))
        n = dict(n_real=int((~fake[test]).sum()), n_fake=int(fake[test].sum()))
        out.append(name | dict(real=real, fake=generator, **n, chosen_by=inner_auc(layers, rows, *others, half, *how),
                               **dict(zip(("auc", "auc_lo", "auc_hi"), auc)), commit=package_commit()))
    return out


KEYS = ["size", "history", "augment", "fit", "views"]


def candidates(size: int, history: str | None, seed: int) -> list[dict]:
    "What is fitted on the features of one size, history and seed."
    out = []
    for augment, (fit, views) in itertools.product(AUGMENTS, FITS):
        if augment == "none" and seed: continue # nothing is drawn
        if (fit, views) != FITS[0] and (size, history, augment) != (160, "96:75", "matched"): continue
        out.append(dict(zip(KEYS, (size, history or "none", augment, fit, views)), seed=seed))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--count", type=int, default=400, help="images of each kind, at most")
    parser.add_argument("--seeds", type=int, default=3, help="of the draws")
    parser.add_argument("--out", type=Path, default=Path("probe_search.csv"), help="the ledger")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try: rows = images_of(read_holdout("faces"), args.root, args.count)
    except InputError as e: raise SystemExit(f"probe_search: {e}") from e
    half = np.random.default_rng(0).random(len(rows)) < 0.5
    print(rows.groupby(["label", "kind"]).size().to_string(), flush=True)
    ledger = pd.read_csv(args.out, keep_default_na=False).to_dict("records") if args.out.is_file() else []
    have = {tuple(r[k] for k in (*KEYS, "seed")) for r in ledger} # of an earlier call that was stopped
    for size, history, seed in itertools.product(SIZES, HISTORIES, range(args.seeds)):
        todo = [c for c in candidates(size, history, seed) if tuple(c.values()) not in have]
        if not todo: continue
        began, layers = time.process_time(), features(rows, args.root, size, history, DRAWS, seed)
        for name in todo:
            some = [x[:, :x.shape[1] // VIEWS * name["views"]] for x in (layers if name["augment"] == "matched" else layers[:1])]
            ledger += cells_of(name, some, rows, half)
            pd.DataFrame(ledger).round(4).to_csv(args.out, index=False)
        print(f"size {size}, history {history}, seed {seed}: {time.process_time() - began:.0f} CPU s", flush=True)
    table = pd.DataFrame(ledger)
    each = table.groupby([*KEYS, "real", "fake"])[["chosen_by", "auc"]].mean().reset_index()
    print(each.pivot_table(index=KEYS, columns="real", values="auc").assign(mean=each.groupby(KEYS)["auc"].mean()).round(3))
    best = each.loc[each.groupby(["real", "fake"])["chosen_by"].idxmax()]
    print(best.round(3).to_string(index=False))
    print(f"chosen without the pair: AUC {best['auc'].mean():.3f} on average over {len(best)} pairs, lowest {best['auc'].min():.3f}")


if __name__ == "__main__":
    main()
