"""Image files to batches: decoding and resizing alone, and an epoch of the loader, beside a DataBlock that opens images with PIL.

The JPEGs of 1024 and 256 pixels are the built-in world's faces enlarged, with grain (quality 90); those of 64 pixels are the world itself.
"""
import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .common import Row, in_turns

BATCH = 16


def measure(older: str | None, quick: bool) -> list[Row]:
    "All rows."
    import torch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = {k: os.environ.pop(k, None) for k in ("FAKEFACE_CACHE", "FAKEFACE_CACHE_GB")}
        os.environ["FAKEFACE_CACHE"] = folder
        try: return _rows(Path(folder), 16 if quick else 96, 1 if quick else 5)
        finally: os.environ.update({k: v for k, v in before.items() if v is not None} or {"FAKEFACE_CACHE": ""})


def _rows(folder: Path, n: int, repeats: int) -> list[Row]:
    from fakeface.synthetic.world import build_world
    world = build_world(folder / "world", images=max(200, 4 * n), workers=1)
    faces = sorted(p for p in world.rglob("*.jpg"))
    small = [f.relative_to(world).as_posix() for f in faces[:4 * n]]
    sets = {side: _enlarged(faces[:n], folder / str(side), side) for side in (1024, 256)}
    rows = _decoding(sets[1024], repeats)
    for side, least in ((1024, (2.2, 15)), (256, (None, 12))):
        rows += _epochs(folder / str(side), [f.name for f in sets[side]], 224, f"{side} px to 224", least, repeats)
    return rows + _epochs(world, small, 64, "the world, 64 px", (2.5, None), repeats)


def _enlarged(faces: list[Path], to: Path, side: int) -> list[Path]:
    "The faces at another size, with grain, as JPEGs."
    from PIL import Image
    to.mkdir()
    for k, face in enumerate(faces):
        big = np.asarray(Image.open(face).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)).astype(float)
        grain = np.random.default_rng(k).normal(0, 5, big.shape)
        Image.fromarray((big + grain).clip(0, 255).astype(np.uint8)).save(to / f"{k:04}.jpg", quality=90)
    return sorted(to.iterdir())


def _decoding(files: list[Path], repeats: int) -> list[Row]:
    "One image after the other: file to 224 pixels; and what the fastest exact decoder takes alone."
    from fastai.vision.core import PILImage
    from fastai.vision.augment import Resize, ResizeMethod
    from simplejpeg import decode_jpeg
    from fakeface.train.blocks import OpenFace
    opener, squish, data = OpenFace(224), Resize(224, ResizeMethod.Squish), [f.read_bytes() for f in files]
    def ours() -> list: return [opener.pixels(str(f)) for f in files]
    def theirs() -> list: return [squish(PILImage.create(f)) for f in files]
    def decode() -> None:
        for d in data: decode_jpeg(d)
    apart = max(int(np.abs(a.permute(1, 2, 0).numpy().astype(int) - np.asarray(b)).max()) for a, b in zip(ours(), theirs()))
    t = in_turns({"ours": ours, "theirs": theirs, "decode": decode}, repeats)
    def made(work: str, against: str, other: str, least: float, note: str) -> Row:
        times = [t[k][i] for i in (0, 1) for k in ("ours", other)]
        return Row(work, against, len(files), *times, repeats, least=least, pixels=apart, note=note)
    work, share = "1024 px JPEG to 224, uncached", t["ours"][0] / t["decode"][0]
    return [made(work, "PILImage.create, Resize(squish)", "theirs", 2.2, ""),
            made(work, "simplejpeg's decoding alone", "decode", 0.8, f"{share:.2f}x of the decoding; aim: at most 1.25x")]


def _epochs(root: Path, files: list[str], size: int, what: str, least: tuple[float | None, float | None], repeats: int) -> list[Row]:
    "An epoch of batches, normalised floats, without and with kept pixels."
    table = pd.DataFrame({"path": files, "sha256": [hashlib.sha256((root / f).read_bytes()).hexdigest() for f in files],
                          "label": np.resize(["real", "fake"], len(files)), "is_valid": np.arange(len(files)) % 4 == 3})
    plain = _plain_fastai(root, table, size)
    from fakeface.train.blocks import face_dataloaders
    asked = dict(workers=0, device="cpu", size=size, imagenet=True)
    ours = {cache: face_dataloaders(table, root, BATCH, cache=cache, **asked) for cache in (False, True)}
    _drain(ours[True].train)()
    time.sleep(2.1) # a file that was just drawn is read twice
    rows = []
    for cache, name, aim, times in ((False, "without cache", least[0], 1), (True, "from the cache", least[1], 20)):
        _drain(ours[cache].train)()
        t = in_turns({"ours": _drain(ours[cache].train, times), "theirs": _drain(plain.train)}, repeats) # the system counts 10 ms steps
        rows.append(Row(f"an epoch of the loader, {what}, {name}", "ImageBlock with PIL, Resize(squish)", len(plain.train_ds),
                        *(t[way][i] / (times if way == "ours" else 1) for i in (0, 1) for way in ("ours", "theirs")), repeats,
                        least=aim, pixels=_apart(ours[cache].valid, plain.valid)))
    return rows


def _plain_fastai(root: Path, table: pd.DataFrame, size: int) -> Any:
    "The loaders that a user of fastai would write."
    from fastai.vision.all import (CategoryBlock, ColReader, ColSplitter, DataBlock, ImageBlock, Normalize, Resize, ResizeMethod,
                                   imagenet_stats)
    block = DataBlock((ImageBlock, CategoryBlock), get_x=ColReader("path", pref=f"{root}/"), get_y=ColReader("label"),
                      splitter=ColSplitter("is_valid"), item_tfms=Resize(size, ResizeMethod.Squish),
                      batch_tfms=Normalize.from_stats(*imagenet_stats))
    return block.dataloaders(table, bs=BATCH, num_workers=0, device="cpu")


def _drain(loader: Any, times: int = 1) -> Callable[[], None]:
    "So many epochs."
    def epochs() -> None:
        for _ in range(times):
            for _ in loader: pass
    return epochs


def _apart(a: Any, b: Any) -> float:
    "The largest difference of a pixel, of 255, over the validation images."
    std = np.array([0.229, 0.224, 0.225])[:, None, None]
    return round(max(float(np.abs((x[0].numpy() - y[0].numpy()) * std).max()) for x, y in zip(a, b)) * 255, 3)
