"""The holdout's figures on real faces, for study 11: `python benchmarks/holdout_tables.py runs/holdout-detectors`.

Reads the folder of `fakeface holdout detectors --root FACES --scale 0.35` (or several folders, where detectors were run apart on the same
split) and writes figures only: a row a detector and cell, and a row a detector over all cells, with what was run and on which images.
"""
import argparse
from pathlib import Path

import pandas as pd

from fakeface import __version__
from fakeface.core.basics import data_manifests
from fakeface.experiments.holdout import holdout_cells, pooled_scores
from fakeface.experiments.study_tables import package_commit, run_words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="of fakeface holdout")
    parser.add_argument("--out", type=Path, default=data_manifests() / "reference", help="where the two tables are written")
    args = parser.parse_args()
    for name, read in (("holdout_real_faces", holdout_cells), ("holdout_real_faces_pooled", pooled_scores)):
        parts = []
        for folder in args.folders:
            run, images = run_words(folder)
            parts.append(read(folder).assign(run=run.partition("; ")[2], images=images, version=__version__, commit=package_commit()))
        pd.concat(parts, ignore_index=True).round(4).to_csv(args.out / f"{name}.csv", index=False)
        print(args.out / f"{name}.csv")


if __name__ == "__main__":
    main()
