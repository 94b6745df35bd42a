"""What tells real from fake in the images a network sees: `python benchmarks/batch_shortcuts.py --root FACES`.

The training images of the recipe `robust`, as they are at the size of the network, with its common history, and with the history drawn
(`fakeface.experiments.batches`), and those of them that come in pairs of which shortcuts say the same (of twice as many images). For each
shortcut the cross-validated AUC with its interval by subject; for the pairs also of which sources their photographs are. On slices of the
real datasets about a quarter of an hour of one core, most of it for the places of eyes and mouth.
"""
import argparse
import warnings
from pathlib import Path

import pandas as pd

from fakeface.audit.shortcuts import sample_rows
from fakeface.core.basics import InputError
from fakeface.data.recipes import read_recipe, settings
from fakeface.experiments.batches import batch_shortcuts, matched_pairs, shortcut_propensity
from fakeface.experiments.plan import plan
from fakeface.experiments.study_tables import package_commit

WAYS = {"as they are": dict(history=None, augment="none"), "common history": dict(augment="none"), "matched": {}, "matched pairs": {}}


def pairs_of(manifest: pd.DataFrame, root: Path, chosen: dict, most: int) -> pd.DataFrame:
    "The training images that come in pairs; other draws decide about them than are measured."
    train = manifest[manifest["split"] == "train"]
    train = train[sample_rows(train, most)].reset_index(drop=True)
    return matched_pairs(train, shortcut_propensity(train, root, chosen))


def sources_of(images: pd.DataFrame) -> str:
    "Such as `ffhq 170, lfw 2`."
    return ", ".join(f"{k} {n}" for k, n in images.loc[images["label"] == "real", "source"].value_counts().items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--most", type=int, default=1000, help="images, at most")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), help="some of the rows; the table keeps its others")
    parser.add_argument("--out", type=Path, default=Path("batch_shortcuts.csv"), help="the table")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    try: made = plan("robust", args.root, "published")
    except InputError as e: raise SystemExit(f"batch_shortcuts: {e}") from e
    chosen, rows = settings(read_recipe("robust"), "published"), []
    kept = pd.read_csv(args.out) if args.out.is_file() else pd.DataFrame(columns=["images"])
    for name in args.only:
        images = pairs_of(made.manifest, args.root, chosen, 2 * args.most) if name == "matched pairs" else made.manifest
        seen = batch_shortcuts(images, args.root, {**chosen, **WAYS[name]}, args.most, seed=1 if name == "matched pairs" else 0)
        rows.append(seen.assign(images=name, photographs=sources_of(images) if name == "matched pairs" else ""))
        print(rows[-1].round(3).to_string(index=False), flush=True)
    made_now = pd.concat(rows).assign(seed=0, commit=package_commit()).round(4)
    table = pd.concat([kept[~kept["images"].isin(args.only)], made_now])
    table["images"] = pd.Categorical(table["images"], WAYS)
    table.sort_values("images", kind="stable").to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
