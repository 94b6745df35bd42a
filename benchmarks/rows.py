"""How long `fakeface score`, `compare` and `fairness` take on a table of predictions, and how much memory, as the rows grow.

    python benchmarks/rows.py
    python benchmarks/rows.py --rows 1000000 --against ../older-checkout

Each command runs in a process of its own, import included, one thread; told are CPU seconds (user and system), seconds on the clock and the
peak memory, medians over `--repeats`, and the exponent: by what power of the rows the CPU seconds grow between the fewest and the most. The
tables are drawn: two test sets, people with `--each` images, gender, race and age the person's own, errors partly the person's own. With
`--against`, the same commands of another checkout run in between, and their whole JSON output is compared. About 2 minutes on one core.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

RACES, HERE = ["Black", "East Asian", "Indian", "Latino", "White"], Path(__file__).resolve().parent.parent


def tables(rows: int, each: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Predictions of two detectors for the same images; the second is a little worse."
    rng, people = np.random.default_rng(seed), max(20, rows // each)
    facts = dict(gender=rng.choice(["female", "male"], people), race=rng.choice(RACES, people), age=rng.choice([12, 25, 45, 65], people))
    skill, who, fake = rng.normal(0, 0.7, people), rng.integers(0, people, rows), rng.integers(0, 2, rows) == 1
    z = rng.normal(0, 1, rows) + skill[who] + np.where(fake, 1.8, -1.8) + 0.3 * (facts["gender"][who] == "female")
    first = pd.DataFrame(dict(path=[f"img/{i}.jpg" for i in range(rows)], split=rng.choice(["test/home", "test/away"], rows),
                              source=np.where(fake, "drawn", "photos"), label=np.where(fake, "fake", "real"),
                              p_fake=np.round(1 / (1 + np.exp(-z)), 6), subject=[f"p{i:06d}" for i in who],
                              **{name: values[who] for name, values in facts.items()}))
    worse = 0.8 * z + rng.normal(0, 0.7, rows)
    return first, first.assign(p_fake=np.round(1 / (1 + np.exp(-worse)), 6))


def asked(command: str, files: list[Path], tree: Path) -> tuple[float, float, float, bytes]:
    "CPU seconds, seconds, peak GB and the output of one command in a process of its own."
    there = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    args = [sys.executable, "-m", "fakeface.cli.main", command, "--json", *map(str, files[:1 + (command == "compare")])]
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(args, stdout=out, stderr=subprocess.DEVNULL, env=there, cwd=tree)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode: sys.exit(f"{command} in {tree} ended with {process.returncode}")
        out.seek(0)
        return used.ru_utime + used.ru_stime, took, used.ru_maxrss / 1e6, out.read()


def measured(command: str, files: list[Path], trees: list[Path], repeats: int) -> tuple[list[np.ndarray], bool]:
    "Of each checkout the medians of CPU seconds, seconds and GB; and whether all said the same."
    found, said = [[] for _ in trees], set()
    for _ in range(repeats):
        for tree, some in zip(trees, found):
            *figures, out = asked(command, files, tree)
            some.append(figures)
            said.add(out)
    return [np.array([median(f) for f in zip(*some)]) for some in found], len(said) == 1


def main() -> None:
    "Times every command at every size."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes of the tables (%(default)s)")
    p.add_argument("--each", type=int, default=10, help="images a person (%(default)s)")
    p.add_argument("--repeats", type=int, default=1, help="runs of each command, whose median is told (%(default)s)")
    p.add_argument("--commands", nargs="+", default=["score", "compare", "fairness"], help="which (%(default)s)")
    p.add_argument("--against", type=Path, help="another checkout of this project, asked in between")
    p.add_argument("--seed", type=int, default=0, help="of the tables (%(default)s)")
    a = p.parse_args()
    trees, spent = [HERE, *([a.against.resolve()] if a.against else [])], {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in a.rows:
            files = [Path(folder, f"{name}.parquet") for name in ("first", "second")]
            for table, file in zip(tables(rows, a.each, a.seed), files): table.to_parquet(file)
            for command in a.commands:
                each, same = measured(command, files, trees, a.repeats)
                spent.setdefault(command, []).append(each[0][0])
                told = f"{command:9} {rows:9,} rows: " + "; against ".join("{:.1f} CPU s, {:.1f} s, {:.2f} GB".format(*f) for f in each)
                if a.against: told += f" ({each[1][0] / each[0][0]:.1f} times the CPU s; output {'the same' if same else 'NOT the same'})"
                print(told, flush=True)
    if len(a.rows) > 1:
        for command, cpu in spent.items():
            print(f"{command:9} grows by the power {np.log(cpu[-1] / cpu[0]) / np.log(a.rows[-1] / a.rows[0]):.2f} of the rows")


if __name__ == "__main__": main()
