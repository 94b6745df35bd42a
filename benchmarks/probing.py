"What the benchmarks of the linear probe share: the pairs that a holdout leaves out, and what the body sees in images."
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fakeface.experiments.holdout import Holdout, cell_recipe
from fakeface.experiments.plan import plan
from fakeface.train.models import arch_feed, transfer_net
from fakeface.train.probe import probe_net
from fakeface.train.runs import normalised

ARCH, WEIGHTS, DRAWS = "tf_efficientnet_lite0", "package:efficientnet-lite0", 2
Pair = tuple[str, str] # a kind of photographs and a kind of fakes


def planned_pairs(spec: Holdout, root: Path, scale: float, pairs: Iterable[Pair]) -> dict[Pair, pd.DataFrame]:
    "The images of each pair with their splits, as `fakeface holdout` plans them for the detector `robust`."
    options = dict(scale=scale, split_seed=spec.split_seed, **spec.detectors["robust"])
    return {pair: plan(cell_recipe(spec, *pair), root, **options).manifest for pair in pairs}


def images_of_pairs(pairs: dict[Pair, pd.DataFrame]) -> pd.DataFrame:
    "Every image once: path, label, subject, source."
    return pd.concat(pairs.values())[["path", "label", "subject", "source"]].drop_duplicates("path", ignore_index=True)


def body_features(n: int, image: Callable[[int], torch.Tensor], size: int) -> np.ndarray: # (n, d)
    "What the body of a probe says of `n` images of `size` pixels a side, uint8, each asked for by its number, in order."
    body, stats, out = probe_net(transfer_net(ARCH, size, True, WEIGHTS)[0], size)[0], arch_feed(ARCH)["stats"], []
    body.to(memory_format=torch.channels_last)
    for lot in np.array_split(np.arange(n), max(1, n // 32)):
        x = normalised(torch.stack([image(i) for i in lot]), stats)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out.append(body(x.contiguous(memory_format=torch.channels_last)).float().numpy())
    return np.concatenate(out)
