"Training steps, frozen bodies and a whole epoch beside plain fastai's and an earlier commit's; the same batches, in memory, for both."
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import mean, median, stdev

from timing.common import Row, in_turns

TRACE = 4  # grey levels of the generator's trace: weak, so that no network is at its ceiling
SEEDS = 5
NETS = {  # name -> (settings, pixels a side, images a step, training images, epochs for the AUC, the ratio aimed at)
    "small": (dict(model="small"), 64, 64, 1280, 4, 2.0),
    "resnet18 at 128": (dict(model="transfer", arch="resnet18", pretrained=False, weights=None), 128, 32, 384, 3, 2.0),
    "resnet18 at 224": (dict(model="transfer", arch="resnet18", pretrained=False, weights=None), 224, 32, 256, 2, 2.2),
}


def images_of(size: int, train: int, valid: int, trace: float = TRACE, seed: int = 0) -> list[tuple]:
    "Pictures of a drawn world (x, shape (n, 3, size, size), floats, and y) for training and validation, real and fake in equal numbers."
    import torch
    from fakeface.synthetic.world import cached_world
    from fakeface.train.blocks import open_image, resize
    root = cached_world(images=4 * (train + valid), trace=trace, seed=seed, sources=["ffhq", "1m_fake_faces"], equal=True)
    files = [sorted(p for p in (root / name).rglob("*") if p.suffix in (".png", ".jpg")) for name in sides(root)]
    draw, out = random.Random(seed), []
    for some in files: draw.shuffle(some)
    for start, n in ((0, train // 2), (train // 2, valid // 2)):
        assert all(len(some) >= start + n for some in files), "the world is too small"
        chosen = [(p, label) for label, some in enumerate(files) for p in some[start:start + n]]
        draw.shuffle(chosen)
        x = torch.stack([resize(open_image(p), size) for p, _ in chosen]).float() / 255
        out.append((x, torch.tensor([label for _, label in chosen])))
    return out


def sides(root: Path) -> tuple[str, str]:
    "The folders of real and of fake pictures in a world of two sources."
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    fake = next(n for n in names if "fake" in n)
    return next(n for n in names if n != fake), fake


def batches(sets: list[tuple], size: int):
    "DataLoaders that hand out ready batches, as fastai's would be typed; two loaders, nothing opened or resized."
    import torch
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.torch_core import TensorCategory, TensorImage
    def ready(x, y): return [(TensorImage(a), TensorCategory(b)) for a, b in zip(x.split(size), y.split(size))]
    train, valid = (DataLoader(ready(*pair), bs=None, shuffle=i == 0) for i, pair in enumerate(sets))
    return DataLoaders(train, valid, device=torch.device("cpu"))


def plain(settings: dict, dls, frozen: bool = False):
    "What a user of fastai writes."
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.metrics import accuracy
    from fastai.vision.learner import vision_learner
    from fakeface.train.models import small_net
    from torchvision.models import resnet18
    if settings["model"] == "small": return Learner(dls, small_net(), loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    learn = vision_learner(dls, resnet18, n_out=2, pretrained=False, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    if frozen: learn.freeze()
    return learn


def ours(settings: dict, dls):
    "What a recipe's settings make."
    from fakeface.train.learners import make_learner
    return make_learner(dls, settings)


def fit(learn, epochs: int, lr: float = 2e-3) -> None:
    "One cycle, nothing shown."
    with warnings.catch_warnings(), learn.no_bar(), learn.no_logging():
        warnings.simplefilter("ignore")
        learn.fit_one_cycle(epochs, lr)


def auc_of(learn, x, y) -> float:
    "On validation pictures, from 32-bit answers."
    import torch
    from sklearn.metrics import roc_auc_score
    net = learn.model.eval()
    with torch.no_grad(): p = torch.cat([net(part).softmax(1)[:, 1] for part in x.split(32)])
    return float(roc_auc_score(y.numpy(), p.numpy()))


def aucs(make: dict, sets: list[tuple], seeds: int, epochs: int) -> dict[str, list[float]]:
    "AUC of each way for each seed; a seed gives all ways the same network to start from."
    import torch
    found: dict[str, list[float]] = {name: [] for name in make}
    for seed in range(seeds):
        for name, build in make.items():
            random.seed(seed)
            torch.manual_seed(seed)
            learn = build()
            fit(learn, epochs)
            found[name].append(auc_of(learn, *sets[1]))
    return found


def words_of(found: dict[str, list[float]]) -> tuple[float, str]:
    "The mean difference, and a note with both means, the spread over seeds and the spread of the differences."
    a, b = found["ours"], found["theirs"]
    gaps = [x - y for x, y in zip(a, b)]
    spread = f"; sd over {len(a)} seeds {stdev(a):.3f} and {stdev(b):.3f}, of their difference {stdev(gaps):.3f}" if len(a) > 1 else ""
    return mean(gaps), f"AUC {mean(a):.3f} against {mean(b):.3f}{spread}"


def step_row(name: str, quick: bool) -> Row:
    "A network's training step, without its loader."
    settings, size, batch, n, epochs, least = NETS[name]
    n, seeds, repeats, epochs = (2 * batch, 1, 1, 1) if quick else (n, SEEDS, 5, epochs)
    sets = images_of(size, n, n // 2 if quick else 512)
    few = n if size <= 64 else 4 * batch  # a second or two of steps, and next to no validation
    brief = [(sets[0][0][:few], sets[0][1][:few]), (sets[1][0][:2], sets[1][1][:2])]
    steps, dls = -(-len(brief[0][0]) // batch), batches(brief, batch)
    learners = {"ours": ours(settings, dls), "theirs": plain(settings, dls)}
    t = in_turns({k: lambda learn=learn: fit(learn, 1) for k, learn in learners.items()}, repeats)
    whole = batches(sets, batch)
    ways = {"ours": lambda: ours(settings, whole), "theirs": lambda: plain(settings, whole)}
    difference, note = words_of(aucs(ways, sets, seeds, epochs))
    ran = learners["ours"].at_precision.precision.words
    return Row(f"training step, {name}, batches of {batch} in memory", "plain fastai", steps * batch,
               *(t[k][i] for i in (0, 1) for k in ("ours", "theirs")), repeats, least=least, auc=difference, note=f"{ran}; {note}")


def items(sets: list[tuple], batch: int):
    "DataLoaders over single pictures in memory, normalised batch by batch, as a pretrained body wants it."
    import torch
    from fastai.data.core import DataLoaders, TfmdDL
    from fastai.data.transforms import Normalize
    from fastai.torch_core import TensorCategory, TensorImage
    from fastai.vision.core import imagenet_stats
    def one(i, pair):
        rows = [(TensorImage(a), TensorCategory(b)) for a, b in zip(*pair)]
        return TfmdDL(rows, bs=batch, shuffle=i == 0, drop_last=i == 0, after_batch=[Normalize.from_stats(*imagenet_stats, cuda=False)])
    return DataLoaders(*(one(i, pair) for i, pair in enumerate(sets)), device=torch.device("cpu"))


def body_file(folder: str, quick: bool) -> Path:
    "Weights of a resnet18 that has learnt a strong trace: a body worth freezing."
    import torch
    sets = images_of(128, 64 if quick else 384, 32, trace=16, seed=1)
    torch.manual_seed(0)
    learn = ours(dict(NETS["resnet18 at 128"][0]), items(sets, 32))
    fit(learn, 1 if quick else 3)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    state = {".".join([names[int(k.split(".")[0])], *k.split(".")[1:]]): v for k, v in learn.model[0].state_dict().items()}
    torch.save(state, f"{folder}/body.pth")
    return Path(folder) / "body.pth"


def frozen_row(quick: bool) -> Row:
    "Five epochs of the head on a frozen resnet18 at 128 pixels."
    import torch
    with tempfile.TemporaryDirectory() as folder:
        file = body_file(folder, quick)
        n = 64 if quick else 640
        sets = images_of(128, n, n // 4)
        dls = items(sets, 32)
        head = dict(model="transfer_head", arch="resnet18", pretrained=False, weights=str(file), precision="32")
        start = ours(head, dls).model[0].state_dict()
        def theirs():
            learn = plain(dict(model="transfer"), dls, frozen=True)
            learn.model[0].load_state_dict(start)
            return learn
        ways = {"ours": lambda: ours(head, dls), "theirs": theirs}
        made = {k: way() for k, way in ways.items()}
        t = in_turns({k: lambda learn=learn: fit(learn, 2 if quick else 5) for k, learn in made.items()}, 1 if quick else 3)
        torch.manual_seed(0)
        difference, note = words_of(frozen_aucs(ways, sets, 1 if quick else SEEDS))
        return Row("5 epochs of the head, frozen resnet18 at 128, 32-bit floats", "plain fastai (batch norms train)", n,
                   *(t[k][i] for i in (0, 1) for k in ("ours", "theirs")), 1 if quick else 3, least=9.0, auc=difference,
                   note=f"body in evaluation mode, {made['ours'].frozen_body.told[-1]}; {note}")


def frozen_aucs(ways: dict, sets: list[tuple], seeds: int) -> dict[str, list[float]]:
    "The same as `aucs`, on pictures that are normalised as the loaders do it."
    import torch
    from fastai.vision.core import imagenet_stats
    m, s = (torch.tensor(v)[:, None, None] for v in imagenet_stats)
    return aucs(ways, [sets[0], ((sets[1][0] - m) / s, sets[1][1])], seeds, 5)


EPOCH = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import pandas as pd
import fakeface
assert os.path.samefile(os.path.dirname(os.path.dirname(fakeface.__file__)), sys.argv[3]), "the other tree was imported"
try:
    from fakeface.train.blocks import face_dataloaders
    from fakeface.train.fitting import train
except ImportError:  # as the rooms were called at the earlier commit
    from fakeface.data.blocks import face_dataloaders
    from fakeface.train.experiments import train
from fakeface.train.learners import make_learner, seeded
rows = pd.read_csv(sys.argv[1])
with seeded(0):
    dls = face_dataloaders(rows, sys.argv[2], batch_size=64, size=64)
    learn = make_learner(dls, dict(model="small"))
    train(learn, 1, progress=False)
    before, start = os.times(), time.perf_counter()
    train(learn, 1, progress=False)
    after = os.times()
print(json.dumps([sum(after[:4]) - sum(before[:4]), time.perf_counter() - start]))
"""


def epoch_row(older: str, quick: bool) -> Row:
    "A whole epoch of the small net at 64 pixels, the second of a training, in processes that take turns."
    import pandas as pd
    from fakeface.synthetic.world import cached_world
    n, repeats = (200, 1) if quick else (2000, 3)
    root = cached_world(images=2 * n, trace=TRACE, seed=0, sources=["ffhq", "1m_fake_faces"])
    files = [(str(p.relative_to(root)), label) for label, name in zip(("real", "fake"), sides(root))
             for p in sorted((root / name).rglob("*")) if p.suffix in (".png", ".jpg")]
    rows = pd.DataFrame(files, columns=["path", "label"]).sample(frac=1, random_state=0)
    rows["split"] = ["valid" if i % 5 == 0 else "train" for i in range(len(rows))]
    here, spent = str(Path(__file__).resolve().parents[2]), {}
    with tempfile.TemporaryDirectory() as folder:
        table = f"{folder}/rows.csv"
        rows.to_csv(table, index=False)
        for _ in range(repeats):
            for tree in (here, older):
                env = os.environ | {"PYTHONPATH": tree}
                command = [sys.executable, "-c", EPOCH, table, str(root), tree]
                told = subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True, text=True)
                spent.setdefault(tree, []).append(json.loads(told.stdout.splitlines()[-1]))
    t = {tree: [median(v) for v in zip(*some)] for tree, some in spent.items()}
    return Row("a whole epoch, small net at 64 pixels, files and validation included", "21d2a6e", int((rows["split"] == "train").sum()),
               t[here][0], t[older][0], t[here][1], t[older][1], repeats, least=4.0, note="the second epoch of a training")


def measure(older: str | None, quick: bool) -> list[Row]:
    "All rows of this file."
    import torch
    import fastai.callback.all  # noqa: F401 (fit_one_cycle)
    torch.set_num_threads(1)
    names = ["small"] if quick else list(NETS)
    return [*(step_row(name, quick) for name in names), frozen_row(quick), *([epoch_row(older, quick)] if older else [])]
