"The head on a frozen body, five epochs, beside plain fastai's; the same pictures, in memory, for both."
import random
import tempfile

from timing.common import Row, in_turns
from timing.training import SEEDS, auc_of, body_file, fit, images_of, items, ours, plain, words_of

TRACE = 8  # grey levels, chosen with plain fastai and another seed: not at the ceiling


def frozen_row(quick: bool) -> Row:
    "Five epochs of the head on a frozen resnet18 at 128 pixels; the trainings that are timed are those whose AUCs are compared."
    import torch
    from fastai.vision.core import imagenet_stats
    n, seeds, epochs = (64, 1, 2) if quick else (128, SEEDS, 5)
    sets = images_of(128, n, n // 4 if quick else 256, TRACE)
    few = items([sets[0], (sets[1][0][:n // 4], sets[1][1][:n // 4])], 32)
    m, s = (torch.tensor(v)[:, None, None] for v in imagenet_stats)
    valid = (sets[1][0] - m) / s, sets[1][1]
    with tempfile.TemporaryDirectory() as folder:
        head = dict(model="transfer_head", arch="resnet18", pretrained=False, weights=str(body_file(folder, quick)), precision="32")
        made = {"ours": [], "theirs": []}
        for seed in range(seeds + 1): # one more, since the first round is not counted
            for name, build in (("ours", lambda: ours(head, few)), ("theirs", lambda: plain(dict(model="transfer"), few, frozen=True))):
                random.seed(seed)
                torch.manual_seed(seed)
                made[name].append(build())
            made["theirs"][-1].model[0].load_state_dict(made["ours"][-1].model[0].state_dict())
            made["theirs"][-1].model[1].load_state_dict(made["ours"][-1].model[1].state_dict())
    left = {name: iter(some) for name, some in made.items()}
    t = in_turns({name: lambda name=name: fit(next(left[name]), epochs) for name in made}, seeds)
    difference, note = words_of({name: [auc_of(learn, *valid) for learn in some[1:]] for name, some in made.items()})
    return Row(f"{epochs} epochs of the head, frozen resnet18 at 128, 32-bit floats", "plain fastai (batch norms train)", n,
               *(t[k][i] for i in (0, 1) for k in ("ours", "theirs")), seeds, least=9.0, auc=difference,
               note=f"body in evaluation mode, {made['ours'][0].frozen_body.told[-1]}; {note}")


def measure(older: str | None, quick: bool) -> list[Row]:
    "One row."
    import torch
    import fastai.callback.all  # noqa: F401 (fit_one_cycle)
    torch.set_num_threads(1)
    return [frozen_row(quick)]
