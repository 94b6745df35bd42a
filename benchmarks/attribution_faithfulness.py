"""Which attribution methods find a mark that is known to be what tells the fakes? `python benchmarks/attribution_faithfulness.py`.

For every seed a built-in world whose generator leaves no trace but one injected patch, elsewhere in every face. A small network
learns to tell these faces from photographs; asked about the same faces drawn without the patch it has to call them real, so the patch
is what it goes by. Then `check_faithfulness` on fakes it was not trained on: randomisation, deletion and insertion, and
whether the highest point of a map lies in the patch. The last lines say, seed by seed, what was claimed beforehand:

- the network calls at least 95 % of the fakes fake;
- at least one method has its maximum inside the patch in at least 90 % of images, where the patch's share of the area is at most 15 %;
- guided backprop fails the randomisation test.

With `--root FOLDER` the same table for Real and Fake Face Detection below that folder: a pretrained network is tuned to tell its
photographs from its Photoshop composites, and the parts that file names say were replaced are looked for in fixed boxes, which are
approximate. `--weights FILE` are ImageNet weights where there is no internet. No picture is written anywhere.
"""
import argparse
import time
from pathlib import Path

import pandas as pd
from fastai.layers import ConvLayer
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from torch import nn

from fakeface.core.basics import LABELS, percent
from fakeface.core.stats import wilson
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.evaluate.scores import auc_interval
from fakeface.interpret.faithfulness import Faithfulness, faithfulness_table, check_faithfulness
from fakeface.synthetic.world import cached_world
from fakeface.train.blocks import face_dataloaders
from fakeface.train.fitting import train
from fakeface.train.inference import predict
from fakeface.train.learners import seeded, transfer_learner

WORLD = dict(images=3000, trace=0, psi=1, sources=["ffhq", "1m_fake_faces"])


def say(b: Faithfulness) -> None:
    "The table, a column a method."
    with pd.option_context("display.width", 250, "display.max_columns", None, "display.max_colwidth", None):
        print(b.said, faithfulness_table(b).T.to_string(), sep="\n", flush=True)


def share(hits: pd.Series) -> str:
    "A rate with its interval and n."
    return f"{percent(hits.mean(), wilson(int(hits.sum()), len(hits)))} of {len(hits)}"


def local_net() -> nn.Module:
    "Three convolutions and a maximum over places, for a mark that is small and may be anywhere."
    body = nn.Sequential(ConvLayer(3, 16, stride=2), ConvLayer(16, 32, stride=2), ConvLayer(32, 64))
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 2)))


def on_world(seed: int, args: argparse.Namespace) -> list[bool]:
    "One world: its table, and whether each of the three claims holds."
    root, bare = (cached_world(seed=seed, defect=defect, **WORLD) for defect in ([f"artefact:{args.strength:g}"], []))
    parts, held = [Part("ffhq", 350), Part("1m_fake_faces", 350)], [Part("ffhq", 100), Part("1m_fake_faces", 200)]
    manifest = compose(Recipe("artefact", "A injected artefact", parts, {"test": held}, {"small": {}}), scan(root), seed=seed).manifest
    with seeded(seed):
        dls = face_dataloaders(manifest, root, augment="flip", batch_size=16)
        learn = Learner(dls, local_net(), loss_func=CrossEntropyLossFlat(), metrics=accuracy)
        train(learn, 10, 0.012, progress=False)
    p = predict(learn, manifest[manifest["split"] == "test"])
    fakes, photographs = (p[p["label"] == label] for label in ("fake", "real"))
    without = predict(learn, fakes.drop(columns="sha256"), root=bare) # other files of the same names
    found = fakes["p_fake"] >= 0.5
    print(f"\nworld {seed}: sensitivity {share(found)}; the same faces without the patch {share(without['p_fake'] >= 0.5)}; "
          f"photographs called real {share(photographs['p_fake'] < 0.5)}")
    b = check_faithfulness(learn, p, root)
    say(b)
    best = b.table["hits"].max()
    return [found.mean() >= 0.95, best >= 0.9 and b.table["chance"].max() <= 0.15,
            b.table.loc["guided_backprop", "randomisation"] == "fails"]


def on_composites(args: argparse.Namespace) -> None:
    "Real and Fake Face Detection: half of its images to learn from, half to look at."
    rows = scan(args.root, ["real_and_fake_face"]).images.sort_values("path").sample(frac=1, random_state=args.seed, ignore_index=True)
    rows["label"] = rows["kind"].map({"photograph": LABELS[0], "photoshopped": LABELS[1]})
    turn = rows.groupby("label").cumcount() % 10
    rows["split"] = turn.map(lambda k: "test" if k < 5 else "valid" if k < 6 else "train")
    print(rows.groupby(["split", "label"]).size().to_string())
    with seeded(args.seed):
        dls = face_dataloaders(rows, args.root, size=args.size, imagenet=True, augment="flip", batch_size=16, workers=0)
        learn = transfer_learner(dls, args.arch, weights=args.weights)
        train(learn, args.epochs, 2e-3, progress=False)
    p = predict(learn, rows[rows["split"] == "test"])
    fake = p["label"] == "fake"
    print(f"{args.arch}, {args.size} px, {args.epochs} epochs; on images not trained on: "
          f"composites called fake {share(p.p_fake[fake] >= 0.5)}; photographs called real {share(p.p_fake[~fake] < 0.5)}; "
          "AUC {:.3f} [{:.3f}, {:.3f}]".format(*auc_interval(fake.to_numpy(), p["p_fake"].to_numpy())))
    print("places: fixed boxes for the parts that file names say were replaced; approximate")
    say(check_faithfulness(learn, p, args.root, steps=2, most=args.most, random_n=args.random))


def main() -> None:
    "The worlds, or the composites below --root."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33], help="of the worlds")
    parser.add_argument("--strength", type=float, default=3, help="of the planted patch")
    parser.add_argument("--root", type=Path, help="a data root with Real and Fake Face Detection, instead of worlds")
    parser.add_argument("--weights", type=Path, help="ImageNet weights for --arch; default torchvision's, fetched")
    parser.add_argument("--arch", default="squeezenet1_1")
    # most: images for the maps; random: of them, those that the randomisation is run on
    for name, default in (("size", 112), ("epochs", 6), ("most", 24), ("random", 6), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args, start = parser.parse_args(), time.time()
    if args.root: on_composites(args)
    else:
        claims = pd.DataFrame({f"world {seed}": on_world(seed, args) for seed in args.seeds},
                              index=["detector finds >= 95 %", "a maximum in the patch >= 90 %, area <= 15 %", "guided backprop fails"])
        print(f"\n{claims.to_string()}\nall three hold in {int(claims.all().sum())} of {claims.shape[1]} worlds")
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
