"""How often the permutation test of feature maps rejects: `python benchmarks/feature_permutation.py`.

On the built-in world with a strong trace of generation, two convolutions are trained on FFHQ-like photographs against the
generator's images. Then, again and again, groups are drawn from images that the network was not trained on:

- groups that differ by construction: photographs against fakes; photographs with glasses against those without;
- random halves of one group, where every rejection is a false positive: of photographs, of fakes;
- halves by person of photographs with several images a person, permuted by person and, for comparison, as if they were
  strangers, which is wrong.

Rejection means p <= 0.05; the rates come with Wilson intervals. Minutes on one core; `--repeats 50` halves them.
"""
import argparse
import time

import numpy as np
import pandas as pd
import torch

from fakeface.core.basics import percent
from fakeface.core.stats import wilson
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.evaluate.scores import score_test
from fakeface.interpret.features import feature_maps, permutation_test
from fakeface.synthetic.world import cached_world
from fakeface.train.blocks import face_dataloaders
from fakeface.train.inference import predict
from fakeface.train.learners import seeded, two_conv_learner

TESTED = {("first", "every channel"): ("0.1", False), ("first", "mean activation"): ("0.1", True),
          ("second", "every channel"): ("0.4", False), ("second", "mean activation"): ("0.4", True)}
ALPHA = 0.05


def trained(images: int, grid: float, epochs: int, seed: int):
    "A two-convolution Learner on a world, the images it did not learn from, and the world's folder."
    root = cached_world(images=images, trace=grid, sources=["ffhq", "1m_fake_faces", "celeba"])
    found = scan(root)
    parts = [Part("ffhq", 100), Part("1m_fake_faces", 100)]
    rest = [Part("ffhq", 200), Part("1m_fake_faces", 200), Part("celeba", 300)]
    manifest = compose(Recipe("features", "permutation benchmark", parts, {"test": rest}, {"small": {}}, seed=seed), found).manifest
    with seeded(seed):
        learn = two_conv_learner(face_dataloaders(manifest, root, size=64, batch_size=16))
        with learn.no_bar(), learn.no_logging():
            learn.fit(epochs, 1e-3)
    return learn, manifest[manifest["split"] == "test"].reset_index(drop=True), root


def drawn(n: int, half: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Two disjoint random sets of `half` positions out of `n`."
    order = rng.permutation(n)
    return order[:half], order[half:2 * half]


def p_values(maps: torch.Tensor, rows: pd.DataFrame, args: argparse.Namespace) -> dict[str, list[float]]:
    "The p-values of every kind of comparison, `repeats` of each."
    where = {"photographs": rows["source"] == "ffhq", "fakes": rows["label"] == "fake",
             "glasses": (rows["source"] == "ffhq") & (rows["glasses"] == "yes"),
             "no glasses": (rows["source"] == "ffhq") & (rows["glasses"] == "no"), "celeba": rows["source"] == "celeba"}
    at = {name: np.flatnonzero(mask) for name, mask in where.items()}
    rng, out = np.random.default_rng(args.seed), {}

    def test(kind: str, a: np.ndarray, b: np.ndarray, subjects: pd.Series | None = None) -> None:
        who = (subjects[a], subjects[b]) if subjects is not None else None
        permuted = permutation_test(maps[a], maps[b], who, args.permutations, args.statistic, int(rng.integers(2**31)))
        out.setdefault(kind, []).append(permuted.p)

    for _ in range(args.repeats):
        for first, second in (("photographs", "fakes"), ("glasses", "no glasses")):
            n = min(args.group, len(at[first]), len(at[second]))
            test(f"differ: {first} against {second} ({n} each)", *(rng.choice(at[name], n, replace=False) for name in (first, second)))
        for name in ("photographs", "fakes"):
            a, b = drawn(len(at[name]), min(args.group, len(at[name]) // 2), rng)
            test(f"halves: {name} ({len(a)} each)", at[name][a], at[name][b])
        people = rows["subject"][at["celeba"]].unique()
        a, b = (at["celeba"][rows["subject"][at["celeba"]].isin(people[i])] for i in drawn(len(people), args.group // 3, rng))
        test(f"halves: {args.group // 3} people each, permuted by person", a, b, rows["subject"])
        test(f"halves: {args.group // 3} people each, permuted as strangers (wrong)", a, b)
    return out


def main() -> None:
    "Trains, draws, tests, prints the rates."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("repeats", 100), ("permutations", 199), ("group", 40), ("seed", 0), ("images", 2000), ("epochs", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--trace", type=float, default=16.0, help="strength of the generator's trace, grey levels")
    parser.add_argument("--statistic", default="max", help="max or energy")
    args = parser.parse_args()
    began = time.time()
    learn, rows, root = trained(args.images, args.trace, args.epochs, args.seed)
    scores = score_test(predict(learn, rows[rows["source"] != "celeba"]))
    print(f"world of {args.images} images, grid {args.trace:g}; network right on {percent(scores['accuracy'], scores['accuracy_ci95'])} "
          f"of {scores['n']} held-out images; {args.permutations} dealings a test, statistic {args.statistic}, seed {args.seed}")
    for (convolution, tested), (layer, mean) in TESTED.items():
        maps = feature_maps(learn, rows, root, layer, mean=mean)
        print(f"\n{convolution} convolution, {tested}, maps of {'×'.join(map(str, maps.shape[1:]))}", flush=True)
        for kind, ps in p_values(maps, rows, args).items():
            k, n = int((np.array(ps) <= ALPHA).sum()), len(ps)
            print(f"  {kind:62} rejected {k:3} of {n}: {percent(k / n, wilson(k, n)):22} median p {np.median(ps):.3f}", flush=True)
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
