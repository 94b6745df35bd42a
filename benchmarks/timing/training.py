"Training steps beside plain fastai's; the same batches, in memory, for both."
import random
import warnings
from functools import cache
from pathlib import Path
from statistics import mean, stdev

from timing.common import Row, in_turns

# Grey levels of the generator's trace, chosen with plain fastai and other seeds: weak enough that no network is at its ceiling, strong
# enough for the images it has. A resnet18 has few, so its body knows a still stronger trace already.
TRACE, TRACE_128, TRACE_224, TRACE_KNOWN = 4, 24, 32, 64
WORLD = 7_168  # images of a drawn world, one for each trace
SEEDS = 5
LEARNT = 0.6  # mean AUC below which a network has learnt nothing
RESNET = dict(model="transfer", arch="resnet18", pretrained=False, weights=None)
NETS = {  # name -> settings, pixels a side, images a step; for the AUC images of training and validation, epochs, trace; the aim
    "small": (dict(model="small"), 64, 64, 1280, 512, 4, TRACE, 2.0),
    "resnet18 at 128": (RESNET, 128, 32, 384, 256, 4, TRACE_128, 2.0),
    "resnet18 at 224": (RESNET, 224, 32, 256, 192, 3, TRACE_224, 2.2),
}


def images_of(size: int, train: int, valid: int, trace: float = TRACE, seed: int = 0) -> list[tuple]:
    "Pictures of a drawn world (x, shape (n, 3, size, size), floats, and y) for training and validation, real and fake in equal numbers."
    import torch
    from fakeface.synthetic.world import cached_world
    from fakeface.train.blocks import open_image, resize
    images = WORLD if train >= 64 and not seed else 4 * (train + valid)
    root = cached_world(images=images, trace=trace, seed=seed, sources=["ffhq", "1m_fake_faces"], equal=True)
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


def aucs(make: dict, dls, sets: list[tuple], seeds: int, epochs: int) -> dict[str, list[float]]:
    "AUC of each way for each seed; a seed gives all ways the same network to start from, and the same batches in the same order."
    import torch
    found: dict[str, list[float]] = {name: [] for name in make}
    for seed in range(seeds):
        for name, build in make.items():
            random.seed(seed)
            torch.manual_seed(seed)
            learn = build()
            dls.train.rng = random.Random(seed)  # else it goes on where the training before left it
            fit(learn, epochs)
            found[name].append(auc_of(learn, *sets[1]))
    return found


def words_of(found: dict[str, list[float]]) -> tuple[float | None, str]:
    "The mean difference, None where neither has learnt; and a note with both means, the spread over seeds and that of the differences."
    a, b = found["ours"], found["theirs"]
    gaps = [x - y for x, y in zip(a, b)]
    spread = f"; sd over {len(a)} seeds {stdev(a):.3f} and {stdev(b):.3f}, of their difference {stdev(gaps):.3f}" if len(a) > 1 else ""
    told = f"AUC {mean(a):.3f} against {mean(b):.3f}{spread}"
    if max(mean(a), mean(b)) < LEARNT: return None, f"{told}, both at chance: no difference can be read off"
    return mean(gaps), told


def step_row(name: str, quick: bool) -> Row:
    "A network's training step, without its loader. A resnet18's AUC is that of a body which knows a strong trace, tuned to a weak one."
    settings, size, batch, n, valid, epochs, trace, least = NETS[name]
    seeds, repeats = (1, 1) if quick else (SEEDS, 5)
    if quick: n, valid, epochs = 2 * batch, batch, 1
    sets = images_of(size, n, valid, trace)
    few = n if size <= 64 else min(n, 4 * batch)  # a second or two of steps, and next to no validation
    brief = [(sets[0][0][:few], sets[0][1][:few]), (sets[1][0][:2], sets[1][1][:2])]
    steps, dls = -(-len(brief[0][0]) // batch), batches(brief, batch)
    learners = {"ours": ours(settings, dls), "theirs": plain(settings, dls)}
    t = in_turns({k: lambda learn=learn: fit(learn, 1) for k, learn in learners.items()}, repeats)
    whole, body = batches(sets, batch), learnt_body(quick, batches) if settings is RESNET else None
    ways = {k: lambda make=make: tuned(make(settings, whole), body) for k, make in (("ours", ours), ("theirs", plain))}
    difference, note = words_of(aucs(ways, whole, sets, seeds, epochs))
    ran = learners["ours"].at_precision.precision.words
    return Row(f"training step, {name}, batches of {batch} in memory", "plain fastai", steps * batch,
               *(t[k][i] for i in (0, 1) for k in ("ours", "theirs")), repeats, least=least, auc=difference,
               note=f"{ran}; {note} ({n} images, {epochs} epochs)")


def tuned(learn, body: dict | None):
    "A learner whose body starts from known weights, where there are some."
    if body: learn.model[0].load_state_dict(body)
    return learn


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


@cache
def learnt_body(quick: bool, loaders) -> dict:
    "The body of a resnet18 that has learnt a strong trace at 128 pixels, for loaders that `loaders(sets, 32)` makes."
    import torch
    sets = images_of(128, 64 if quick else 512, 32, TRACE_KNOWN, seed=1)
    torch.manual_seed(0)
    learn = ours(RESNET, loaders(sets, 32))
    fit(learn, 1 if quick else 4)  # validation AUC 1.0 on the strong trace
    return {k: v.detach().clone() for k, v in learn.model[0].state_dict().items()}


def body_file(folder: str, quick: bool) -> Path:
    "Its weights in a file, named as torchvision names them: a body to freeze."
    import torch
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    named = {".".join([names[int(k.split(".")[0])], *k.split(".")[1:]]): v for k, v in learnt_body(quick, items).items()}
    torch.save(named, f"{folder}/body.pth")
    return Path(folder) / "body.pth"


def measure(older: str | None, quick: bool) -> list[Row]:
    "All rows of this file."
    import torch
    import fastai.callback.all  # noqa: F401 (fit_one_cycle)
    torch.set_num_threads(1)
    names = ["small"] if quick else list(NETS)
    return [step_row(name, quick) for name in names]
