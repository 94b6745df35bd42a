"""Does the audit notice that one class was saved as JPEG twice, and the other once: `python benchmarks/double_compression.py`.

Drawn faces with a camera's grain, never compressed before. Half of them, by lot, are called fake: nothing but what is done to the files can
tell the classes apart. The fakes are saved at the second quality alone, the photographs at the first and then at the second. For each pair
of qualities the AUC of every check of the files and the pixels, with its interval and its verdict. The table goes to
`data_manifests/reference/double_compression.csv` with `--out`. Six minutes of one core beside other work.
"""
import argparse
import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image

from fakeface.audit.audit import audit
from fakeface.synthetic.faces import draw_face
from fakeface.synthetic.population import draw_people

PAIRS = ((75, 90), (90, 75), (60, 85), (85, 75), (95, 85), (85, 95), (95, 90), (90, 90))
CHECKS = ("file-facts", "size", "thumbnail", "colour", "spectrum")


def pictures(n: int, size: int, grain: float, seed: int) -> list[Image.Image]:
    "Drawn faces as a sensor would see them."
    rng = np.random.default_rng(seed)
    faces = (draw_face(latent, size).astype(float) for latent in draw_people({}, n, rng))
    return [Image.fromarray((face + rng.normal(0, grain, face.shape)).clip(0, 255).astype(np.uint8)) for face in faces]


def saved(image: Image.Image, *qualities: int) -> bytes:
    "The file after one JPEG encoding (4:2:0) after the other."
    for quality in qualities:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        image = Image.open(io.BytesIO(buffer.getvalue()))
    return buffer.getvalue()


def measured(images: list[Image.Image], first: int, second: int, seed: int) -> pd.DataFrame:
    "The checks of one pair of qualities, one row a check."
    with TemporaryDirectory() as folder:
        lot = np.random.default_rng([seed, first, second]).permutation(len(images))
        for i, image in enumerate(images):
            fake = lot[i] % 2 == 0
            file = Path(folder) / ("fake" if fake else "real") / f"{i:05d}.jpg"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(saved(image, second) if fake else saved(image, first, second))
        checks = audit(folder, faces=0, only=CHECKS, workers=1, seed=seed).checks
    rows = [(first, second, name, c["figure"], *(c["ci95"] or (None, None)), c["verdict"]) for name, c in checks.items() if name in CHECKS]
    return pd.DataFrame(rows, columns=["first", "second", "check", "auc", "lo", "hi", "verdict"])


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--images", type=int, default=400, help="of both classes together")
    p.add_argument("--size", type=int, default=128, help="pixels a side")
    p.add_argument("--grain", type=float, default=4.0, help="standard deviation, grey levels")
    p.add_argument("--seed", type=int, default=0, help="of people, grain and lot")
    p.add_argument("--out", type=Path, help="a CSV file for the table")
    args = p.parse_args()
    start, images = time.time(), pictures(args.images, args.size, args.grain, args.seed)
    table = pd.concat([measured(images, *pair, args.seed) for pair in PAIRS], ignore_index=True)
    table = table.assign(n=args.images, size=args.size, grain=args.grain, seed=args.seed).round({"auc": 4, "lo": 4, "hi": 4})
    print(table.to_string(index=False))
    print(f"{len(PAIRS)} pairs of qualities, {args.images:,} drawn faces each, {time.time() - start:.0f} s")
    if args.out: table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
