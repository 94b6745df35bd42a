"Scoring image files, and one image: the run's own way beside plain fastai's on the same Learner's weights."
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fastai.data.all import get_image_files
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, ResizeMethod, imagenet_stats
from PIL import Image
from torch import nn

from fakeface.train.backends import rewriter
from fakeface.train.blocks import OpenFace
from fakeface.train.folding import folded
from fakeface.train.inference import FixedBatches
from fakeface.train.models import make_net, transfer_net
from fakeface.train.runs import normalised

from .common import Row, product_seconds, row


def measure(older: str | None, quick: bool) -> list[Row]:
    "Rows of scoring and of one image."
    torch.set_num_threads(1)
    n, repeats = (32, 1) if quick else (1_000, 3)
    with tempfile.TemporaryDirectory() as d:
        rows = []
        for side in (256, 1024):
            some = n if side == 256 else max(16, n // 4)
            rows += scoring(pictures(Path(d)/str(side), some, side), side, repeats)
        rows += [one_image(Path(d)/"256", "small", 64, repeats, 2.8), one_image(Path(d)/"256", "resnet18", 128, repeats, 2.8)]
        return rows


def pictures(folder: Path, n: int, side: int) -> Path:
    "JPEG files of smooth noise in two folders, real and fake."
    rng = np.random.default_rng(0)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        file = folder/("real", "fake")[i % 2]/f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        small.resize((side, side), Image.Resampling.BICUBIC).save(file, quality=90)
    return folder


def learner(folder: Path, name: str, size: int) -> Learner:
    "Plain fastai: a network with lively batch norms, ImageNet's statistics, batches of 64."
    torch.manual_seed(0)
    net = make_net(name, size) if name == "small" else transfer_net(name, size, False)[0]
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, 0.1); m.running_var.uniform_(0.5, 2); m.weight.data.uniform_(0.5, 1)
    with torch.no_grad(): # answers between 0 and 1, where a difference shows
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        z = net.eval()(torch.randn(16, 3, size, size))
        last.weight /= (z[:, 1] - z[:, 0]).std()
    dls = ImageDataLoaders.from_folder(folder, valid_pct=0.2, seed=1, bs=64, num_workers=0, item_tfms=Resize(size, ResizeMethod.Squish),
                                       batch_tfms=Normalize.from_stats(*imagenet_stats), device="cpu")
    return Learner(dls, net, loss_func=CrossEntropyLossFlat())


class Ours:
    "What `train.runs.RunScorer` does: open, normalise, ask the rewritten network."
    def __init__(self, learn: Learner, size: int, rewrite: Callable = folded):
        self.asked = FixedBatches(learn.model, rewrite)
        self.open, self.fake = OpenFace(size), list(learn.dls.vocab).index("fake")

    def __call__(self, files: list) -> np.ndarray:
        return np.concatenate([self.batch([self.open(f).as_subclass(torch.Tensor) for f in files[i:i + 64]])
                               for i in range(0, len(files), 64)])

    def batch(self, pixels: list[torch.Tensor]) -> np.ndarray:
        return self.asked(normalised(torch.stack(pixels), imagenet_stats)).softmax(1)[:, self.fake].numpy()


def scoring(folder: Path, side: int, repeats: int) -> list[Row]:
    "All files of a folder by resnet18 at 128, files opened anew and pixels kept: single precision, bf16, and OpenVINO where it is there."
    files, learn = sorted(get_image_files(folder)), learner(folder, "resnet18", 128)
    fake = list(learn.dls.vocab).index("fake")
    def theirs():
        with learn.no_bar(): return learn.get_preds(dl=learn.dls.test_dl(files, num_workers=0))[0][:, fake].numpy()
    wanted, out = theirs(), []
    kept = [OpenFace(128)(f).as_subclass(torch.Tensor) for f in files]
    ways = [("32", "torch"), ("bf16", "torch")] + [("bf16", "openvino")] * bool(importlib.util.find_spec("openvino"))
    for precision, backend in ways:
        ours, what = Ours(learn, 128, rewriter(precision, backend)), f"{side} px, resnet18@128, {precision}, {backend}"
        out += one_way(ours, what, files, kept, theirs, wanted, 2.0 if precision == "32" else 3.5, repeats)
    return out


def one_way(ours: Ours, what: str, files: list, kept: list, theirs: Callable, wanted: np.ndarray, least: float, repeats: int) -> list[Row]:
    "Files, and pixels that were kept. |p| is on the same pixels; fastai's own resize differs from ours by 1 of 255 at most."
    x = normalised(torch.stack(kept[:64]), imagenet_stats)
    with torch.no_grad(): plain = ours.asked.net.eval()(x).softmax(1)[:, ours.fake].numpy()
    gap = float(np.abs(ours.batch(kept[:64]) - plain).max())
    note = f"on fastai's own pixels |p| {np.abs(ours(files) - wanted).max():.1e}"
    again = lambda: [ours.batch(kept[i:i + 64]) for i in range(0, len(kept), 64)]
    rows = [row(f"scoring files, {what}", "get_preds", len(files), lambda: ours(files), theirs, repeats, least=least, p=gap, note=note),
            row(f"scoring from the pixel cache, {what}", "get_preds", len(files), again, theirs, repeats, least=least, p=gap)]
    return [with_floor(r, ours.asked.net, kept[:1], len(files)) for r in rows] if ", 32, torch" in what else rows


def with_floor(r: Row, net: nn.Module, pixels: list, n: int) -> Row:
    "The row, its note saying what as many multiplications cost elsewhere."
    floor = n * product_seconds(net.eval(), torch.stack(pixels).float())
    words = f"as many products in a large matrix product: {floor:.3f} s"
    r.note = "; ".join(filter(None, [r.note, words]))
    return r


def one_image(folder: Path, name: str, size: int, repeats: int, least: float | None) -> Row:
    "One file, everything warm; ten times each, since one is short of what the clock of the processor can tell."
    files, learn = sorted(get_image_files(folder)), learner(folder, name, size)
    ours = Ours(learn, size)
    for _ in range(3): ours(files[:1]) # the second time it is found out whether an image may be asked alone
    def theirs():
        with learn.no_bar(): return [learn.predict(f) for f in files[:10]]
    pixels = ours.open(files[0]).as_subclass(torch.Tensor)
    with torch.no_grad(): plain = learn.model.eval()(normalised(pixels[None], imagenet_stats)).softmax(1)[0, ours.fake].item()
    note = "asked alone: the same bits" if ours.asked.alone[(3, size, size)] else "filled up to 16"
    made = row(f"one image, ten times, warm, {name}@{size}", "learn.predict", 10, lambda: [ours([f]) for f in files[:10]], theirs, repeats,
               least=least, p=abs(float(ours(files[:1])[0]) - plain), note=note)
    return with_floor(made, learn.model, [pixels], 10)
