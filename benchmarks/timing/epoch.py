"A whole epoch of the small net at 64 pixels beside an earlier commit's, files and validation included; in processes that take turns."
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from timing.common import EARLIER, Row
from timing.training import TRACE, sides

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
    return Row("a whole epoch, small net at 64 pixels, files and validation included", EARLIER, int((rows["split"] == "train").sum()),
               t[here][0], t[older][0], t[here][1], t[older][1], repeats, least=4.0, note="the second epoch of a training")


def measure(older: str | None, quick: bool) -> list[Row]:
    "One row, where there is an earlier commit."
    return [epoch_row(older, quick)] if older else []
