"The main job end to end, import included, the first time and the second, beside an earlier commit's on the same files."
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from .common import EARLIER, Row

COMMAND = ("import sys\ntry: from fakeface.cli.main import main\nexcept ImportError: from fakeface.cli import main\n"
           "sys.exit(main(sys.argv[1:]) or 0)")


def timed(checkout: str, cache: Path, *args: str) -> tuple[float, float]:
    "CPU seconds (children's too) and seconds of one command in a process of its own."
    env = os.environ | {"PYTHONPATH": checkout, "FAKEFACE_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *args], env=env, cwd=cache, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode: sys.exit(f"{' '.join(args)} in {checkout} ended with {process.returncode}: {said.decode()[-500:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - start


def for_earlier(world: Path, folder: Path) -> Path:
    "The same files, and the world's note with the word of commits that called its trace a grid."
    root = Path(shutil.copytree(world, folder, copy_function=os.link))
    note = json.loads((world/"world.json").read_text())
    (root/"world.json").unlink() # a link: the note itself stays
    (root/"world.json").write_text(json.dumps(note | {"grid": note["trace"]}))
    return root


class Side:
    "A checkout with a cache of its own, on a world that others read as well."
    def __init__(self, folder: Path, checkout: str, root: Path):
        self.checkout, self.cache, self.root, self.spent = checkout, folder/"cache", root, {}
        self.cache.mkdir(parents=True)

    def run(self, out: str, *options: str) -> None:
        "The main job into a folder."
        self.spent[out] = timed(self.checkout, self.cache, "run", "man-2-test", "--root", str(self.root), "--out",
                                str(self.cache.parent/out), *options)

    def answers(self, out: str) -> pd.DataFrame:
        "Its predictions."
        table = pd.read_parquet(self.cache.parent/out/"predictions.parquet")
        return table.set_index("path")[["label", "split", "sha256", "p_fake"]].sort_index()


def differ(ours: Side, theirs: Side) -> float:
    "The largest difference of p_fake in single precision, in which the earlier commit always trains."
    a, b = ours.answers("exact"), theirs.answers("second")
    assert a.index.equals(b.index) and a["sha256"].equals(b["sha256"]), "the two took other images"
    return float((a["p_fake"] - b["p_fake"]).abs().max())


def measure(older: str | None, quick: bool) -> list[Row]:
    "Rows: the first run as asked without options, the second, and one whose numbers are of 32 bits, beside the earlier commit's second."
    here, images = str(Path(__file__).resolve().parents[2]), 400 if quick else 8_000
    if not older: return []
    from fakeface.synthetic.world import cached_world
    root = cached_world(images=images, seed=0)
    with tempfile.TemporaryDirectory() as d:
        ours = Side(Path(d)/"ours", here, root)
        theirs = Side(Path(d)/"theirs", older, for_earlier(root, Path(d)/"world"))
        for out in ("first", "second"):
            for side in (ours, theirs): side.run(out)
        ours.run("exact", "--precision", "32")
        def row(work: str, out: str, aim: float | None, **more: object) -> Row:
            (cpu, wall), (cpu2, wall2) = ours.spent[out], theirs.spent["second" if out == "exact" else out]
            return Row(work, EARLIER, images, cpu, cpu2, wall, wall2, 1, aim, **more)
        return [row("fakeface run man-2-test, first time, caches empty", "first", 2.5),
                row("fakeface run man-2-test, second time", "second", 4.0),
                row("fakeface run man-2-test, second time, --precision 32", "exact", None, p=differ(ours, theirs),
                    note=f"{len(ours.answers('exact')):,} answers")]
