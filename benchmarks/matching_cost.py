"""What it costs to take the shortcuts away: `python benchmarks/matching_cost.py --root FACES`.

Images are made alike in steps: one history, eyes and mouth at one place, then drawn shift, rotation, scale and colour on top of one mean
and deviation of every channel, then ever fewer pixels. After each step two things are measured. How far single shortcuts tell fake from
real in drawn training images of all kinds (cross-validated AUC, subjects kept together, as `experiments.batches` does). And what a linear
probe on these images still sees of the pairs of `fakeface holdout detectors`, each left out of its training: the body of the recipe
`robust`, the whole image alone, drawn twice and once as it is. A step pays where the shortcuts fall and the pairs do not.

Eyes and mouth are found once (`data.faces`); an image without a face is left out everywhere. On slices of the real datasets about half an
hour of one core.
"""
import argparse
import random
import warnings
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from PIL import Image
from probing import DRAWS, body_features, images_of_pairs, planned_pairs

from fakeface import __version__
from fakeface.audit.shortcuts import sample_rows, shortcut_aucs
from fakeface.core.basics import InputError
from fakeface.core.stats import auc_with_interval, subject_codes
from fakeface.data.faces import POINTS, face_points
from fakeface.data.manifest import scan
from fakeface.experiments.batches import SEEN
from fakeface.experiments.equalise import TIGHT, align
from fakeface.experiments.holdout import present_kinds, read_holdout
from fakeface.experiments.study_tables import package_commit
from fakeface.train.blocks import open_image
from fakeface.train.history import recompressed
from fakeface.train.probe import VIEWS, fit_linear

SIZE, QUALITY = 160, 75
# step -> aligned, drawn and of one colour, pixels a side
STEPS = {"one history": (False, False, 96), "aligned": (True, False, 96), "drawn": (True, True, 96), "64 pixels": (True, True, 64),
         "48 pixels": (True, True, 48), "32 pixels": (True, True, 32), "24 pixels": (True, True, 24)}


def moved(dice: random.Random) -> np.ndarray: # (3, 2), shares of the square
    "The places of eyes and mouth after a drawn shift, rotation and scale."
    turn, by, shift = np.deg2rad(dice.uniform(-12, 12)), dice.uniform(0.85, 1.2), [dice.uniform(-0.08, 0.08) for _ in range(2)]
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (np.array(TIGHT) - 0.5) @ turned.T * by + 0.5 + shift


def of_one_colour(image: Image.Image, dice: random.Random | None) -> Image.Image:
    "One mean and deviation of every channel; both drawn around them where there are dice."
    x = np.asarray(image, np.float32)
    z = (x - x.mean((0, 1))) / np.maximum(x.std((0, 1)), 1)
    mean, sd = (np.array([dice.gauss(m, s) for _ in range(3)]) if dice else m for m, s in ((120, 12), (55, 5)))
    return Image.fromarray(np.rint(z * sd + mean).clip(0, 255).astype(np.uint8))


def seen(image: torch.Tensor, points: np.ndarray, step: str, dice: random.Random | None) -> torch.Tensor: # uint8, (3, SIZE, SIZE)
    "An image after a step; `dice` where it is drawn."
    aligned, drawn, side = STEPS[step]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    if aligned: picture = align(picture, points, side, tuple(map(tuple, moved(dice))) if drawn and dice else TIGHT)
    else: picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    if drawn: picture = of_one_colour(picture, dice)
    if dice and dice.random() < 0.5: picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = recompressed(torch.from_numpy(np.array(picture)).permute(2, 0, 1), QUALITY)
    large = Image.fromarray(small.permute(1, 2, 0).numpy()).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1)


def shortcuts_of(rows: pd.DataFrame, images: list[torch.Tensor], points: np.ndarray, step: str, most: int) -> pd.DataFrame:
    "The shortcut baselines of drawn images."
    chosen, dice = sample_rows(rows, most), random.Random(0)
    some = rows[chosen].reset_index(drop=True)
    with TemporaryDirectory() as folder:
        for k, i in enumerate(np.flatnonzero(chosen)):
            Image.fromarray(seen(images[i], points[i], step, dice).permute(1, 2, 0).numpy()).save(f"{folder}/{k}.png")
        return shortcut_aucs(some.assign(path=[f"{k}.png" for k in range(len(some))]), folder, SEEN)


def features(images: list[torch.Tensor], points: np.ndarray, step: str, seed: int) -> list[np.ndarray]: # (n, d) each
    "What the body sees in the whole image, as it is and drawn."
    dice = random.Random(seed)
    out = [body_features(len(images), lambda i, draw=draw: seen(images[i], points[i], step, draw), SIZE)
           for draw in [None] + [dice] * DRAWS]
    return [x[:, :x.shape[1] // VIEWS] for x in out]


def pair_auc(layers: list[np.ndarray], rows: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
    "What a fit on the rest sees of a pair."
    fake, layer = (rows["label"] == "fake").to_numpy(), torch.nn.Linear(layers[0].shape[1], 2)
    fit_linear(layer, np.concatenate([x[train] for x in layers]), np.tile(fake[train], len(layers)).astype(int), views=1)
    with torch.no_grad(): p = layer(torch.from_numpy(layers[0][test])).softmax(1)[:, 1].numpy()
    return auc_with_interval(fake[test], p, subject_codes(rows.iloc[test]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--scale", type=float, default=0.35, help="as of fakeface holdout")
    parser.add_argument("--most", type=int, default=1000, help="images for the shortcuts, at most")
    parser.add_argument("--out", type=Path, default=Path("matching_cost.csv"), help="the table")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    spec = read_holdout("detectors")
    try: spec = present_kinds(spec, scan(args.root).images)
    except InputError as e: raise SystemExit(f"matching_cost: {e}") from e
    cells = planned_pairs(spec, args.root, args.scale, product(spec.real, spec.fake))
    rows = images_of_pairs(cells)
    points = face_points(rows, args.root, workers=1)[list(POINTS)]
    rows, points = rows[points.notna().all(axis=1)].reset_index(drop=True), points.dropna().to_numpy()
    images, at, table = [open_image(args.root / p) for p in rows["path"]], {p: i for i, p in enumerate(rows["path"])}, []
    for step in STEPS:
        caught = shortcuts_of(rows, images, points, step, args.most)
        layers = features(images, points, step, 0)
        for (real, fake), m in cells.items():
            sides = m["split"] == "train", ~m["split"].isin(("train", "valid"))
            train, test = (np.array([at[p] for p in m.loc[side, "path"] if p in at]) for side in sides)
            auc = dict(zip(("auc", "auc_lo", "auc_hi"), pair_auc(layers, rows, train, test)))
            table.append(dict(step=step, what="pair", name=f"{real} {fake}", n=len(test), **auc))
        table += [dict(step=step, what="shortcut", name=s, n=n, auc=a, auc_lo=lo, auc_hi=hi)
                  for s, a, lo, hi, n in caught[["shortcut", "auc", "lo", "hi", "n"]].itertuples(index=False)]
        done = pd.DataFrame(table).assign(seed=0, version=__version__, commit=package_commit())
        done.round(4).to_csv(args.out, index=False)
        now = done[done["step"] == step].set_index("name")["auc"]
        print(f"{step}: shortcuts {now[list(SEEN)].round(3).to_dict()}; pairs {now[[k for k in now.index if ' ' in k]].mean():.3f}, "
              f"with FFHQ {now[[k for k in now.index if k.startswith('ffhq')]].mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
