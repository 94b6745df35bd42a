"""Training and scoring at 224 on a GPU beside plain fastai, on the same files: images a second, and the share of the time in which the
GPU waits for data. Where there is no CUDA it says so and measures nothing.

Both ways have the same number of worker processes and mixed precision, as fastai users have it on a GPU. The share is measured in an
epoch of its own, in which the GPU is waited for after every batch: what passes from there to the next batch is waiting for data.
"""
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .common import Row, in_turns

SIZE, BATCH, ARCH = 224, 64, "resnet18"


def measure(older: str | None, quick: bool) -> list[Row]:
    "The rows of one GPU; none where there is none."
    import torch
    if not torch.cuda.is_available():
        print("timing/gpu.py: no CUDA device (torch.cuda.is_available() is False), so nothing is measured", flush=True)
        return []
    print(f"GPU: {torch.cuda.get_device_name()}, {len(os.sched_getaffinity(0))} cores for the loaders", flush=True)
    return rows("cuda", 512 if quick else 8000, 1 if quick else 3)


def rows(device: str, n: int, repeats: int, size: int = SIZE, workers: int | None = None) -> list[Row]:
    "Training, the same compiled, and scoring; on a CPU too, to see that it runs."
    workers = min(16, len(os.sched_getaffinity(0))) if workers is None else workers
    with tempfile.TemporaryDirectory() as folder:
        root, table = drawn(Path(folder), n)
        ours, theirs = our_learner(table, root, size, workers, device), plain_learner(table, root, size, workers, device)
        theirs.model.load_state_dict(ours.model.state_dict())
        scored = scoring(ours, theirs, table, root, n, size, repeats)
        return [training(ours, theirs, n, size, repeats), *compiled(ours, table, root, n, size, workers, device, repeats), scored]


def drawn(folder: Path, n: int) -> tuple[Path, Any]:
    "Files of 256 pixels a side and their table; half of them train."
    import numpy as np
    import pandas as pd
    from fakeface.synthetic.world import build_world
    root = build_world(folder / "world", images=max(100, n), size=256)
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.jpg"))[:n]
    rng = np.random.default_rng(0)
    return root, pd.DataFrame({"path": files, "label": rng.permutation(np.resize(["real", "fake"], len(files))),
                               "is_valid": np.arange(len(files)) % 2 == 1})


def our_learner(table: Any, root: Path, size: int, workers: int, device: str) -> Any:
    "As `fakeface run` makes it."
    from fakeface.data.recipes import SETTINGS
    from fakeface.train.blocks import face_dataloaders
    from fakeface.train.learners import make_learner
    chosen = {**SETTINGS, "model": "transfer", "arch": ARCH, "pretrained": False, "weights": None}
    dls = face_dataloaders(table, root, batch_size=BATCH, workers=workers, device=device, size=size)
    return make_learner(dls, chosen)


def plain_learner(table: Any, root: Path, size: int, workers: int, device: str) -> Any:
    "As fastai's documentation makes it."
    import torch
    from fastai.vision.all import ImageDataLoaders, Resize, ResizeMethod, accuracy, resnet18, vision_learner
    dls = ImageDataLoaders.from_df(table, root, fn_col="path", label_col="label", valid_col="is_valid", bs=BATCH, num_workers=workers,
                                   item_tfms=Resize(size, ResizeMethod.Squish), device=torch.device(device))
    learn = vision_learner(dls, resnet18, pretrained=False, normalize=False, metrics=accuracy)
    return learn.to_fp16() if device == "cuda" else learn


def fit(learn: Any) -> Callable[[], None]:
    "One epoch, its validation included."
    def once() -> None:
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4)
        synchronize()
    return once


def synchronize() -> None:
    "Waits for the GPU."
    import torch
    if torch.cuda.is_available(): torch.cuda.synchronize()


def waiting(learn: Any) -> float: # share of the time
    "For how much of an epoch's training the GPU has nothing to do but to wait for the next batch."
    from fastai.callback.core import Callback
    class Clock(Callback):
        order = 200 # after all that computes

        def before_train(self) -> None: self.waited, self.began = 0.0, time.perf_counter(); self.end = self.began
        def before_batch(self) -> None:
            synchronize() # the batch has arrived
            self.waited += (time.perf_counter() - self.end) if self.training else 0
        def after_batch(self) -> None:
            synchronize()
            self.end = time.perf_counter()
        def after_train(self) -> None: self.share = self.waited / (time.perf_counter() - self.began)
    clock = Clock()
    with learn.no_bar(), learn.no_logging(), learn.added_cbs(clock): learn.fit(1, 1e-4)
    return clock.share


def training(ours: Any, theirs: Any, n: int, size: int, repeats: int) -> Row:
    "An epoch and its validation."
    t = in_turns({"ours": fit(ours), "theirs": fit(theirs)}, repeats)
    (cpu, wall), (cpu2, wall2) = t["ours"], t["theirs"]
    note = f"{n / wall:,.0f} against {n / wall2:,.0f} images/s; the GPU waits {waiting(ours):.0%} against {waiting(theirs):.0%} of the time"
    return Row(f"an epoch, {ARCH}@{size}, GPU", "plain fastai", n, cpu, cpu2, wall, wall2, repeats, pixels=pixels(ours, theirs), note=note)


def pixels(ours: Any, theirs: Any) -> float: # of 255
    "The largest difference of a pixel of the first validation batch."
    a, b = (learn.dls.valid.one_batch()[0].float() for learn in (ours, theirs))
    return round(float((a - b).abs().max()) * 255, 2)


def compiled(ours: Any, table: Any, root: Path, n: int, size: int, workers: int, device: str, repeats: int) -> list[Row]:
    "The same training through `torch.compile`, whose first, uncounted epoch compiles; none where it cannot be had."
    import torch
    twin = our_learner(table, root, size, workers, device)
    twin.model.load_state_dict(ours.model.state_dict())
    try:
        twin.model.compile()
        with torch.no_grad(): twin.model(twin.dls.valid.one_batch()[0].as_subclass(torch.Tensor))
    except Exception as e:
        print(f"timing/gpu.py: torch.compile does not work here ({type(e).__name__}), its row is left out", flush=True)
        return []
    t = in_turns({"compiled": fit(twin), "plain": fit(ours)}, repeats)
    (cpu, wall), (cpu2, wall2) = t["compiled"], t["plain"]
    return [Row(f"the same through torch.compile, {ARCH}@{size}, GPU", "ours without", n, cpu, cpu2, wall, wall2, repeats,
                note=f"{n / wall:,.0f} against {n / wall2:,.0f} images/s; no option unless this pays")]


def scoring(ours: Any, theirs: Any, table: Any, root: Path, n: int, size: int, repeats: int) -> Row:
    "All files, through networks with the same weights."
    from fakeface.experiments.run import predict
    from sklearn.metrics import roc_auc_score
    answers = {}
    def one() -> None: answers["ours"] = predict(ours, table, "", root).p_fake.to_numpy()
    def two() -> None:
        with theirs.no_bar(), theirs.no_logging(): p = theirs.get_preds(dl=theirs.dls.test_dl(table, bs=BATCH))[0]
        answers["theirs"] = p[:, 1].numpy() # the weights are ours, and so is the order of the classes
    t = in_turns({"ours": one, "theirs": two}, repeats)
    (cpu, wall), (cpu2, wall2) = t["ours"], t["theirs"]
    aucs = [roc_auc_score(table["label"] == "fake", answers[k]) for k in ("ours", "theirs")]
    return Row(f"scoring, {ARCH}@{size}, GPU", "get_preds", n, cpu, cpu2, wall, wall2, repeats, auc=aucs[0] - aucs[1],
               p=float(abs(answers["ours"] - answers["theirs"]).max()), note=f"{n / wall:,.0f} against {n / wall2:,.0f} images/s")
