"""Which face detector finds what, how much the points spread, and how quickly: by source, on real slices and on drawn faces.

    python benchmarks/face_detectors.py --root /path/to/faces

Every face detector of `fakeface.data.faces` that is installed is asked for the largest face of the same pictures, `--images` of each
source and label. Counted are

- found: the share of the pictures in which there is a face;
- the spread of the eyes and of the mouth: standard deviations over the pictures in shares of their width and height, the largest of the
  coordinates. In aligned datasets (FFHQ, CelebA) the truth spreads little, so what is more is the detector's;
- images a second on one core, without opening the file;
- in the built-in world, which knows the truth: the median error of the worst of the three points, and the share below a quarter, in eye
  distances.

`--also NAME=MODULE:FUNCTION` asks another one as well: a function that takes a PIL image and returns eyes and mouth as an array (3, 2) in
shares of width and height, or None. About ten minutes of one core for 300 images a source.
"""
import argparse
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fakeface.core.basics import progress
from fakeface.core.files import write_table
from fakeface.core.stats import wilson
from fakeface.data.faces import DETECTORS, find_faces
from fakeface.data.images import open_rgb
from fakeface.data.manifest import scan
from fakeface.synthetic.world import cached_world, world_points

HERE = Path(__file__).parent
Find = Callable[[Image.Image], np.ndarray | None] # eyes and mouth of the largest face, (3, 2)


def installed() -> dict[str, Find]:
    "The package's own, by name."
    def points(name: str) -> Find:
        def find(image: Image.Image) -> np.ndarray | None:
            faces = find_faces(image, name)
            return faces[0].points if faces else None
        return find
    return {name: points(name) for name, d in DETECTORS.items() if d.there()}


def measured(images: list[Image.Image], find: Find, true: np.ndarray | None, what: str) -> dict[str, object]:
    "One row: a face detector on the pictures of a source."
    start = time.process_time()
    found = [find(image) for image in progress(images, len(images), what)]
    seconds = time.process_time() - start
    there = np.array([p is not None for p in found])
    points = np.array([np.full((3, 2), np.nan) if p is None else p for p in found], float)
    low, high = wilson(int(there.sum()), len(images))
    spread = points[there].std(axis=0) if there.any() else np.full((3, 2), np.nan)
    row = dict(images=len(images), found=there.mean(), found_low=low, found_high=high, eyes_sd=spread[:2].max(), mouth_sd=spread[2].max(),
               images_per_s=len(images) / max(seconds, 1e-9))
    if true is not None:
        wrong = np.linalg.norm(points - true, axis=2).max(1) / np.linalg.norm(true[:, 1] - true[:, 0], axis=1)
        row |= dict(error=np.nanmedian(wrong), below_quarter=(wrong < 0.25).mean())
    return row


def rows(root: Path, where: str, detectors: dict[str, Find], each: int, drawn: bool) -> list[dict[str, object]]:
    "All face detectors on all sources of a data root."
    table = []
    for (source, label), some in scan(root).images.groupby(["source", "label"], sort=False):
        some = some.sample(min(each, len(some)), random_state=0)
        images = [open_rgb(root/p) for p in some["path"]]
        true = world_points(some, root).to_numpy().reshape(-1, 3, 2) if drawn else None
        size = int(np.median([max(image.size) for image in images]))
        for name, find in detectors.items():
            find(images[0]) # loaded once, not timed
            table.append(dict(faces=where, source=source, label=label, pixels=size, detector=name,
                              **measured(images, find, true, f"{source} ({label}): {name}")))
        these = pd.DataFrame(table[-len(detectors):]).drop(columns=["faces", "found_low", "found_high"])
        print(these.round(3).to_string(index=False), flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("FAKEFACE_DATA"), help="a data root of photographs; without it drawn faces alone")
    parser.add_argument("--images", type=int, default=300, help="of each source and label")
    parser.add_argument("--detectors", nargs="+", choices=[*DETECTORS], help="without it all that are installed")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=MODULE:FUNCTION", help="another face detector")
    parser.add_argument("--out", default=HERE/"face_detectors.csv")
    args = parser.parse_args()
    detectors = {name: find for name, find in installed().items() if not args.detectors or name in args.detectors}
    for other in args.also:
        name, _, place = other.partition("=")
        module, _, function = place.partition(":")
        detectors[name] = getattr(importlib.import_module(module), function)
    world = cached_world(images=600)
    table = rows(Path(world), "drawn", detectors, args.images, drawn=True)
    if args.root: table += rows(Path(args.root), "photographs", detectors, args.images, drawn=False)
    result = pd.DataFrame(table)
    write_table(result.round(4), args.out)
    total = result.assign(n=result["found"] * result["images"]).groupby(["faces", "detector"], sort=False).agg(
        images=("images", "sum"), found=("n", "sum"), images_per_s=("images_per_s", "median"))
    print(total.assign(found=total["found"] / total["images"]).round(3).to_string())


if __name__ == "__main__":
    main()
