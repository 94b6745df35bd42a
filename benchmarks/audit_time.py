"""How long an audit of 100,000 images takes: `python benchmarks/audit_time.py`.

The images are JPEGs of 178 x 218 pixels (CelebA's size) of coloured noise, smooth enough to be saved and read as photographs are; drawing
them takes some minutes and is not counted. Half of them are labelled fake, no two are alike, and a tenth is the test. Counted is the whole
of `fakeface audit` as its defaults have it (8,000 images in the sample for shortcuts, copies among all), without looking for faces: on
noise there are none. One process a core.
"""
import argparse
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image

from fakeface.audit.audit import audit


def draw(start: int, folder: Path, n: int) -> None:
    "Images `start` to `start + n`."
    rng = np.random.default_rng(start)
    for i in range(start, start + n):
        small = Image.fromarray(rng.integers(40, 215, (14, 12, 3)).astype(np.uint8))
        noise = rng.normal(0, 6, (218, 178, 3))
        picture = np.asarray(small.resize((178, 218), Image.Resampling.BICUBIC)) + noise
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder/f"{i:06}.jpg", quality=90)


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--images", type=int, default=100_000)
    args = p.parse_args()
    with TemporaryDirectory() as d:
        os.environ["FAKEFACE_CACHE"] = f"{d}/cache"
        (folder := Path(d)/"images").mkdir()
        with ProcessPoolExecutor() as pool: list(pool.map(partial(draw, folder=folder, n=500), range(0, args.images, 500)))
        i = np.arange(args.images)
        fake, split = i % 2 == 1, np.where(i % 10 == 0, "test", "train")
        manifest = pd.DataFrame(dict(path=[f"{k:06}.jpg" for k in i], label=np.where(fake, "fake", "real"), split=split,
                                     source=np.where(fake, "a", "b"), subject=i.astype(str)))
        start = time.perf_counter()
        found = audit(manifest, folder, faces=0)
        took = time.perf_counter() - start
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    said = ", ".join(f"{name} {t['verdict']}" for name, t in found.checks.items())
    print(f"{args.images:,} images: {took:.0f} s on {os.cpu_count()} cores, peak {most:.2f} GiB a process; {said}")


if __name__ == "__main__":
    main()
