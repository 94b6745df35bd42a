"""What tells real from fake in the images a network sees: `python benchmarks/batch_shortcuts.py --root FACES`.

The training images of the recipe `robust`, as they are at the size of the network, with its common history, and with the history drawn
(`fakeface.experiments.batches`). For each shortcut the cross-validated AUC with its interval by subject. On slices of the real datasets
about ten CPU minutes, most of them for the places of eyes and mouth.
"""
import argparse
import warnings
from pathlib import Path

import pandas as pd

from fakeface.core.basics import InputError
from fakeface.data.recipes import read_recipe, settings
from fakeface.experiments.batches import batch_shortcuts
from fakeface.experiments.plan import plan
from fakeface.experiments.study_tables import package_commit

WAYS = {"as they are": dict(history=None, augment="none"), "common history": dict(augment="none"), "matched": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--most", type=int, default=1000, help="images, at most")
    parser.add_argument("--out", type=Path, default=Path("batch_shortcuts.csv"), help="the table")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    try: made = plan("robust", args.root, "published")
    except InputError as e: raise SystemExit(f"batch_shortcuts: {e}") from e
    chosen, rows = settings(read_recipe("robust"), "published"), []
    for name, more in WAYS.items():
        seen = batch_shortcuts(made.manifest, args.root, {**chosen, **more}, args.most)
        rows.append(seen.assign(images=name))
        print(rows[-1].round(3).to_string(index=False), flush=True)
    pd.concat(rows).assign(seed=0, commit=package_commit()).round(4).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
