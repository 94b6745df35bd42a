"What is read of files, the first time and the second, and the search for near duplicates, beside an earlier commit's ways."
import os
import sys
import tempfile
from pathlib import Path

from .common import EARLIER, Row, in_turns

READ = """
import os, sys, time
from fakeface.data.manifest import read_facts
root, names = sys.argv[1], open(sys.argv[2], encoding="utf-8").read().split("\\n")
def cpu(): return sum(os.times()[:4])
for _ in range(2):
    start, clock = cpu(), time.perf_counter()
    found = read_facts(root, names, 1)
    print(cpu() - start, time.perf_counter() - clock, found["reason"].isna().sum())
"""
SEARCH = """
import os, sys, time
import numpy as np
try: from fakeface.core.hamming import near_pairs
except ImportError: from fakeface.data.hashes import near_pairs  # as the room was called at the earlier commit
h = np.load(sys.argv[1])
start, clock = sum(os.times()[:4]), time.perf_counter()
found = near_pairs(h, 6)
print(sum(os.times()[:4]) - start, time.perf_counter() - clock, len(found))
"""


def said(code: str, checkout: str, *args: str) -> list[list[float]]:
    "What a program prints, run by the code of a checkout with a cache of its own: numbers, a list a line."
    import subprocess
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"PYTHONPATH": checkout, "FAKEFACE_CACHE": cache}
        done = subprocess.run([sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, check=True, cwd=cache)
    return [[float(v) for v in line.split()] for line in done.stdout.splitlines()]


def beside(ours: str, older: str, code: str, repeats: int, *args: str) -> list[list[tuple[float, float]]]:
    "For each line that the program prints: CPU and wall seconds, medians, of our code and of the older; both print the same third number."
    import numpy as np
    runs: dict[str, list] = {ours: [], older: []}
    for turn in range(repeats):
        for who in ((ours, older) if turn % 2 else (older, ours)): runs[who].append(said(code, who, *args))
    mid = {who: np.median(np.array(r), axis=0) for who, r in runs.items()}
    assert (mid[ours][:, 2] == mid[older][:, 2]).all(), "the two found different things"
    return [[tuple(mid[who][k, :2]) for who in (ours, older)] for k in range(len(mid[ours]))]


def measure(older: str | None, quick: bool) -> list[Row]:
    "Rows: first time, second time, hash search; without an earlier checkout, the second time against the first."
    import numpy as np

    from fakeface.data.duplicates import read_thumbnails
    from fakeface.data.manifest import read_facts, scan
    from fakeface.synthetic.world import cached_world
    here, repeats = str(Path(__file__).resolve().parents[2]), 1 if quick else 3
    root = cached_world(images=300 if quick else 4000)
    names = scan(root, layout="all").images["path"].tolist()
    with tempfile.TemporaryDirectory() as d:
        (listing := Path(d) / "names").write_text("\n".join(names), encoding="utf-8")
        if not older:
            cache = os.environ.get("FAKEFACE_CACHE")
            def first():
                os.environ["FAKEFACE_CACHE"] = tempfile.mkdtemp(dir=d)
                read_facts(root, names, 1, thumbnails=True)
            t = in_turns({"first": first, "second": lambda: (read_facts(root, names, 1), read_thumbnails(names, root))}, repeats)
            os.environ.pop("FAKEFACE_CACHE") if cache is None else os.environ.update(FAKEFACE_CACHE=cache)
            return [Row("facts and thumbnails of files, second time", "the first time", len(names), t["second"][0], t["first"][0],
                        t["second"][1], t["first"][1], repeats)]
        rows = []
        for when, ((cpu, wall), (cpu2, wall2)) in zip(("first", "second"), beside(here, older, READ, repeats, str(root), str(listing))):
            rows.append(Row(f"header facts and hashes of 64-px files, {when} time", EARLIER, len(names), cpu, cpu2, wall, wall2, repeats,
                            note=f"{cpu / len(names) * 1e6:.0f} µs a file, before {cpu2 / len(names) * 1e6:.0f}"))
        sys.path.insert(0, str(Path(here) / "benchmarks"))
        from near_duplicates import chances, hashes
        n = 20_000 if quick else 1_000_000
        np.save(file := f"{d}/hashes.npy", hashes(n, chances("world", 0), n // 1000, 0)[0])
        [((cpu, wall), (cpu2, wall2))] = beside(here, older, SEARCH, 1, file)
        rows.append(Row("near pairs among 64-bit hashes, bits as frequent as the built-in world's", EARLIER, n, cpu, cpu2, wall, wall2, 1,
                        least=1.78))
    return rows
