"""Ten thousand images, tables, specs and run folders as they should not be: `python benchmarks/hostile_inputs.py`.

Everything is made from nothing and from one seed: images (flipped bytes, lying headers, odd EXIF, XMP and ICC, other formats behind a
.jpg, bombs), tables (encodings, separators, missing, doubled and odd cells, parquet of odd types), YAML and JSON of every kind (changed in
their structure, cut, nested, aliased, tagged), and folders of a finished run with files removed, cut, flipped or exchanged. Each goes
through the functions and commands that open such a thing, in worker processes that are ended after ten seconds of work (or twenty
asleep). An input is taken, or refused in one line that names it. An offence is a traceback, a hang, more than 1 GB on top of what the
packages themselves take, an answer that is wrong by a known property (a row that no note counts, two decoders that see different pixels,
an accepted image that fails in training, text that was run as code), or a refusal that is no line. Exit code 1 where there is an offence.
"""
import argparse
import collections
import importlib
import multiprocessing
import os
import pkgutil
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import fakeface
import numpy as np

from hostile import images, runs, specs, tables
from hostile.verdicts import FINE, LIMIT, OFFENCES, REFUSED, Verdict, Watch

ASLEEP, BOUND, MOST = 20.0, 1.0, 4.0 # seconds without work; GB on top of the imported packages that are too many; that end a worker
KINDS = ("image", "table", *specs.KINDS, "run")
TASK = {"image": 50, "table": 20, "run": 5} # inputs that are handed out at once; else 20


class Case(NamedTuple):
    "One input and what became of it."
    kind: str
    index: int
    name: str # of the file, or what was damaged
    verdicts: list[Verdict]
    peak: float # GB that the worker held on top of what it had held before


def import_all() -> None:
    "Imports the whole package, which takes seconds and is no door's work."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.walk_packages(fakeface.__path__, "fakeface."): importlib.import_module(module.name)


def generator(seed: int, kind: str, index: int) -> np.random.Generator:
    "Every input's own random numbers: the same whichever worker makes it, and however many are made."
    return np.random.default_rng([seed, KINDS.index(kind), index])


# --- what a worker does ------------------------------------------------------------------------------------------------

def try_one(kind: str, index: int, seed: int, folder: Path, store: runs.Store, kept: dict[str, Any]) -> tuple[str, list[Verdict]]:
    "Makes one input and tries it; its name and the verdicts. `kept` gathers the accepted images of a task."
    rng = generator(seed, kind, index)
    if kind == "image":
        suffix, data = images.hostile_image(rng)
        path = folder/"hostile"/f"{index:06}{suffix}"
        path.write_bytes(data)
        verdicts, taken = images.try_image(path)
        if taken: kept.setdefault("taken", set()).add(path.name)
        return path.name, verdicts
    if kind == "table":
        name, data, table = tables.hostile_table(rng)
        return name, tables.try_table(name, data, table, folder, index, store.good)
    if kind == "run": return runs.try_run(rng, index, folder/"run", store)
    return specs.try_spec(kind, rng, index, folder/"spec", store)


def try_task(kind: str, indices: range, seed: int, folder: Path, store: runs.Store) -> Iterator[Case]:
    "The inputs of a task one by one; after images, the folder of them."
    kept: dict[str, Any] = {}
    shutil.rmtree(folder, ignore_errors=True)
    (folder/"hostile").mkdir(parents=True)
    os.chdir(folder) # what a command writes beside itself stays here
    for index in indices:
        before = _forget_peak()
        name, verdicts = try_one(kind, index, seed, folder, store, kept)
        yield _weighed(Case(kind, index, name, verdicts, _held("VmHWM") - before))
    if kind == "image":
        before = _forget_peak()
        verdicts = images.try_folder(folder, kept.get("taken", set()))
        yield _weighed(Case(kind, indices[-1], f"folder of {len(indices)}", verdicts, _held("VmHWM") - before))


def _held(what: str) -> float:
    "What this process holds (VmRSS), or has held at most (VmHWM), in GB."
    return int(re.search(rf"{what}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20


def _forget_peak() -> float:
    "Begins a new peak; what is held now."
    Path("/proc/self/clear_refs").write_text("5")
    return _held("VmRSS")


def _weighed(case: Case) -> Case:
    "The case with an offence for too much memory."
    if case.peak <= BOUND: return case
    return case._replace(verdicts=[*case.verdicts, Verdict("all doors", "MEMORY", f"{case.peak:.2f} GB")])


def serve(pipe: Connection, seed: int, folder: Path, store: runs.Store) -> None:
    "A worker: takes tasks until there is none."
    parent = os.getppid()
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder/"log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2): os.dup2(log, stream) # libraries in C write there
    os.environ.update(FAKEFACE_CACHE=str(folder/"cache"), FAKEFACE_DEBUG="1")
    tempfile.tempdir = str(folder) # where a fault's log goes
    os.environ.pop("FAKEFACE_DATA", None)
    Watch.tell = pipe.send
    while (task := pipe.recv()) is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for case in try_task(*task, seed, folder/"task", store):
                if os.getppid() != parent: os._exit(1) # nobody listens any more
                pipe.send(case)
        pipe.send(None)


# --- what the parent does ----------------------------------------------------------------------------------------------

class Worker:
    "A process, its task, and since when it has been at the present door."
    def __init__(self, number: int, seed: int, home: Path, store: runs.Store):
        self.arguments = (seed, home/f"worker-{number}", store)
        self.task: tuple[str, range] | None = None
        self.start()

    def start(self) -> None:
        "Begins the process."
        context = multiprocessing.get_context("fork") # of a parent that has imported everything and trained nothing
        self.over, (self.pipe, other) = False, context.Pipe()
        self.process = context.Process(target=serve, args=(other, *self.arguments), daemon=True)
        self.process.start()
        other.close()

    def give(self, task: tuple[str, range] | None) -> None:
        "Hands out a task; None ends the worker."
        self.task, self.next = task, task[1].start if task else 0
        self.mark("the making of the input")
        self.pipe.send(task)

    def mark(self, door: str) -> None:
        "The worker is at another door."
        self.door, self.awake, self.spent, self.begin = door, time.time(), 0.0, self._work()

    def _stat(self) -> list[str]:
        try: return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError: return []

    def _work(self) -> float: return sum(map(int, s[11:13])) / os.sysconf("SC_CLK_TCK") if (s := self._stat()) else 0.0

    def trouble(self) -> Verdict | None:
        "Why the worker has to be ended now, or None. Its own seconds count, not the clock's, so that a busy machine is no hang."
        if not self.process.is_alive(): return Verdict(self.door, "TRACEBACK", f"the process died (exit code {self.process.exitcode})")
        stat, spent = self._stat(), self._work() - self.begin
        if stat and int(stat[21]) * os.sysconf("SC_PAGE_SIZE") / 2**30 > MOST: return Verdict(self.door, "MEMORY", f"more than {MOST:g} GB")
        if spent > LIMIT + 1: return Verdict(self.door, "HANG", f"still at work after {spent:.0f} s")
        if spent > self.spent: self.spent, self.awake = spent, time.time()
        return Verdict(self.door, "HANG", f"asleep for {ASLEEP:g} s") if time.time() - self.awake > ASLEEP else None

    def replace(self) -> None:
        "Ends the process and begins another."
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.start()


def tasks(counts: dict[str, int]) -> list[tuple[str, range]]:
    "All inputs in handfuls, the kinds in turn."
    each = {kind: [(kind, range(i, min(n, i + TASK.get(kind, 20)))) for i in range(0, n, TASK.get(kind, 20))] for kind, n in counts.items()}
    return [t for _, t in sorted(((i / len(ts), t) for ts in each.values() for i, t in enumerate(ts)), key=lambda x: x[0])]


def try_all(counts: dict[str, int], seed: int, home: Path, store: runs.Store, workers: int) -> Iterator[Case]:
    "Every input's verdicts, as they come."
    todo, crew = collections.deque(tasks(counts)), [Worker(i, seed, home, store) for i in range(workers)]
    for w in crew: w.give(todo.popleft() if todo else None)
    while any(w.task for w in crew):
        ready = wait([w.pipe for w in crew if w.task], timeout=0.5)
        for w in crew:
            if w.task is None: continue
            if w.pipe in ready:
                try: told = w.pipe.recv()
                except EOFError: # it died; an ended pipe is ready for ever
                    w.process.join(5)
                    told, w.over = w.door, True
                if isinstance(told, str): w.mark(told)
                elif told is None: w.give(todo.popleft() if todo else None)
                else:
                    w.next, _ = told.index + 1, w.mark("the making of the input")
                    yield told
            if w.task and (why := w.trouble()) and (w.over or not w.pipe.poll()):
                kind, indices = w.task
                yield Case(kind, w.next, "?", [why], 0.0)
                w.replace()
                w.give((kind, range(w.next + 1, indices.stop)) if w.next + 1 < indices.stop else todo.popleft() if todo else None)
    for w in crew: w.process.join(5)


def summary(cases: list[Case]) -> str:
    "A table of counts a kind."
    bad = "".join(f"{o:>11}" for o in OFFENCES)
    lines = [f"{'kind':16}{'inputs':>8}{'doors':>8}{FINE:>8}{REFUSED:>9}{bad}{'slowest, s':>12}{'all, s':>8}{'most, GB':>10}"]
    for kind in dict.fromkeys(c.kind for c in cases):
        some = [c for c in cases if c.kind == kind]
        kinds = collections.Counter(v.kind for c in some for v in c.verdicts)
        n = len({c.index for c in some})
        bad, seconds = "".join(f"{kinds[o]:>11,}" for o in OFFENCES), [v.seconds for c in some for v in c.verdicts]
        lines.append(f"{kind:16}{n:>8,}{sum(kinds.values()):>8,}{kinds[FINE]:>8,}{kinds[REFUSED]:>9,}{bad}"
                     f"{max(seconds):>12.1f}{sum(seconds):>8,.0f}{max(c.peak for c in some):>10.2f}")
    return "\n".join(lines)


def _alike(v: Verdict) -> tuple[str, str, str]:
    "What offences of one cause have in common: door, kind and the first words of what is wrong."
    return v.door, v.kind, re.sub(r"\d+|0x\w+|'[^']*'", "#", v.said)[:60]


def offences(cases: list[Case]) -> dict[tuple[str, str, str], list[tuple[Case, Verdict]]]:
    "The offences by `_alike`, the most frequent first."
    found: dict[tuple[str, str, str], list[tuple[Case, Verdict]]] = {}
    for c in cases:
        for v in c.verdicts:
            if v.kind in OFFENCES: found.setdefault(_alike(v), []).append((c, v))
    return dict(sorted(found.items(), key=lambda x: -len(x[1])))


def build(store: runs.Store, all_series: bool) -> None:
    "Makes the store in a process of its own, so that this one stays one that never trained."
    process = multiprocessing.get_context("fork").Process(target=_build_quietly, args=(store, all_series))
    process.start()
    process.join()
    if process.exitcode: raise SystemExit(f"the runs that are to be damaged could not be made; see {store.home}.log")


def _build_quietly(store: runs.Store, all_series: bool) -> None:
    log = os.open(f"{store.home}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2): os.dup2(log, stream)
    os.environ["FAKEFACE_CACHE"] = f"{store.home}.cache"
    warnings.simplefilter("ignore")
    store.build(all_series)


def main() -> int:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--images", type=int, default=10_000)
    p.add_argument("--tables", type=int, default=3_000)
    p.add_argument("--specs", type=int, default=1_000, help=f"of each kind: {', '.join(specs.KINDS)}")
    p.add_argument("--runs", type=int, default=500)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--only", nargs="+", choices=KINDS, help="these kinds alone")
    p.add_argument("--one", nargs=2, metavar=("KIND", "INDEX"), help="make and try one input again, and leave it in --keep")
    p.add_argument("--keep", metavar="FOLDER", help="work there, and leave it there; default: a folder that is removed")
    args = p.parse_args()
    home = Path(args.keep or tempfile.mkdtemp(prefix="hostile-")).resolve()
    home.mkdir(parents=True, exist_ok=True)
    import_all()
    try: return _one(args, home) if args.one else _all(args, home)
    finally:
        if not args.keep: shutil.rmtree(home, ignore_errors=True)


def _all(args: argparse.Namespace, home: Path) -> int:
    "Tries everything; the exit code."
    began, store = time.time(), runs.Store(home/"store")
    wanted = {"image": args.images, "table": args.tables, **dict.fromkeys(specs.KINDS, args.specs), "run": args.runs}
    counts = {k: n for k, n in wanted.items() if n and k in (args.only or KINDS)}
    if not store.good.is_file(): build(store, all_series="series" in counts)
    n, took = sum(counts.values()), time.time() - began
    print(f"{n:,} inputs, seed {args.seed}, {args.workers} workers; what is damaged was made in {took:.0f} s", flush=True)
    cases, seen, told = [], set(), time.time()
    for case in try_all(counts, args.seed, home, store, args.workers):
        cases.append(case)
        for v in case.verdicts:
            if v.kind in OFFENCES and (key := _alike(v)) not in seen:
                seen.add(key)
                print(f"  {v.kind} at {v.door}, {case.kind} {case.index}, {case.name}: {v.said[:300]}", flush=True)
        if time.time() - told > 30:
            told, bad = time.time(), sum(v.kind in OFFENCES for c in cases for v in c.verdicts)
            print(f"  {len(cases):,} of {n:,} after {told - began:.0f} s, {bad} offences", flush=True)
    print("\n" + summary(cases) + f"\n\n{time.time() - began:.0f} s, of them {sum(os.times()[:4]):.0f} s of work")
    found = offences(cases)
    for (door, kind, _), those in list(found.items())[:60]:
        case, verdict = those[0]
        again = ", ".join(str(c.index) for c, _ in those[:6])
        print(f"\n{kind} at {door}, {len(those)} of {case.kind} ({again}): {case.name}\n  {verdict.said[:600]}")
    if found: print(f"\nAgain: python benchmarks/hostile_inputs.py --seed {args.seed} --keep FOLDER --one KIND INDEX")
    return 1 if found else 0


def _one(args: argparse.Namespace, home: Path) -> int:
    "Makes one input again and says what became of it."
    kind, index, store = args.one[0], int(args.one[1]), runs.Store(home/"store")
    if not store.good.is_file(): build(store, all_series=True)
    os.environ["FAKEFACE_CACHE"] = str(home/"cache")
    warnings.simplefilter("ignore")
    verdicts = []
    for case in try_task(kind, range(index, index + 1), args.seed, home/"task", store):
        for v in case.verdicts: print(f"{v.kind:10} {v.door}: {v.said[:1500]}")
        verdicts += case.verdicts
    print(f"the input: {home/'task'}, {case.name}")
    return int(any(v.kind in OFFENCES for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
