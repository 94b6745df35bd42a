"A whole audit of a built-in world, the first time and the second, beside an earlier commit's."
from pathlib import Path

from .common import EARLIER, Row
from .files import beside

AUDIT = """
import json, os, sys, time
try: from fakeface.audit.audit import audit
except ImportError: from fakeface.data.audit import audit
for _ in range(2):
    start, clock = sum(os.times()[:4]), time.perf_counter()
    found = audit(sys.argv[1], workers=1)
    print(sum(os.times()[:4]) - start, time.perf_counter() - clock, len(found.manifest))
"""


def measure(older: str | None, quick: bool) -> list[Row]:
    "Rows: an audit that opens every file, and one that finds all measurements kept."
    from fakeface.synthetic.world import cached_world
    here, repeats = str(Path(__file__).resolve().parents[2]), 1
    root = str(cached_world(images=300 if quick else 4000))
    told = beside(here, older or here, AUDIT, repeats, root)
    if not older: # the second audit beside the first
        (first, _), (second, _) = told
        return [Row("a second audit of the same images", "the first", 300 if quick else 4000, second[0], first[0], second[1], first[1],
                    repeats)]
    n = len(list(Path(root).rglob("*.*g")))
    return [Row(f"an audit of the built-in world, {when} time", EARLIER, n, ours[0], theirs[0], ours[1], theirs[1], repeats,
                least=2.3 if when == "first" else None, note=f"{ours[0]:.1f} CPU s, before {theirs[0]:.1f}")
            for when, (ours, theirs) in zip(("first", "second"), told)]


