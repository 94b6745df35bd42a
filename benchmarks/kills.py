"""What is lost or half there when a command is killed, or the disk is full: `python benchmarks/kills.py`.

One parent imports what a command needs and forks a child for every try, so that a kill costs no import. Four parts:

- planted: the windows of four small commands with a fault each, which have to be found.
- random: SIGKILL at a uniformly random moment of a command's own duration, the whole process group or (every other time) its first
  process alone; sometimes once more on top of what is left; then the same command to its end.
- windows: what random moments miss. A child dies before and after the k-th call that changes a folder (open for writing, rename, remove,
  fsync, lock, ...), for every k of a command.
- full: from the k-th such call on the disk is full (no file can be made or written), and, as the system itself says it, no file may grow
  beyond a limit.

After every kill: finished folders are as they were (every file's hash and time of change), every visible file can be read, every visible
folder that looks like a run is whole, a half one is refused in one line, the ledger keeps its entries and has whole lines, the cached
facts are true. After the next same command: it ended well, what was finished is as it was, the folder holds the files and predictions of
a command that nobody killed, and nothing else is left in it, in the cache or in the folder for temporary files.

Faults are counted by kind and rule; any makes the exit code 1. What only computes is left out, so that the moments that write are met more
often: shortcut baselines are not measured, charts are one small picture, the report is an empty page (written as ever).
"""
import argparse
import builtins
import errno
import fcntl
import gc
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from matplotlib.figure import Figure
from PIL import Image
from safetensors.numpy import load_file

import fakeface
import fakeface.audit.shortcuts
import fakeface.report.run
from fakeface.cli.main import main as fakeface_main
from fakeface.core.files import Claim, whole_folder, write_whole
from fakeface.core.files import write_table
from fakeface.evaluate.ledger import FILE as LEDGER
from fakeface.evaluate.ledger import Ledger

KEPT = "begun.json"  # lies in an unfinished run that is gone on with; beside model.json where its network is saved
SOURCES = ["utkface", "celeba", "1m_fake_faces"]
SMALL = dict(model="small", size=16, epochs=2, lr=0.002, augment="none", batch_size=64)
RECIPE = dict(name="tiny", title="A tiny experiment", valid=0.25, duplicates="drop", profiles={"small": SMALL},
              train=[dict(source="utkface", count=60), dict(source="1m_fake_faces", count=60)],
              tests={"celeba": [dict(source="celeba", count=40), dict(source="1m_fake_faces", count=30)]})
GRID = dict(name="tinygrid", title="A tiny grid", recipe="tiny.yaml", profile="small", settings=SMALL, axes={"color": ["rgb", "grey"]})
TRANSFER = dict(name="tinytransfer", title="A tiny matrix", duplicates="drop", profiles={"small": SMALL}, test=0.3, valid=0.25,
                sets={"a": {"real": [dict(source="utkface", count=60)]}, "b": {"real": [dict(source="celeba", count=60)]}},
                fakes=[dict(source="1m_fake_faces", count=80)])
PROBED: set = set()  # sets of files that `report` and `score` were asked about
PICTURE = b""  # one small PNG, made by `prepare`
HEAVY = {"report_values": fakeface.report.run.report_values, "render": fakeface.report.run.render}  # a probe wants them
LIGHT = {"report_values": lambda *args, **kwargs: {}, "render": lambda *args, **kwargs: "<html></html>"}


# --- areas ------------------------------------------------------------------------------------------------------------

@dataclass
class Area:
    "Where one command works: `home` with a finished run and its ledger, a cache, a folder for temporary files."
    folder: Path
    shared: Path  # world, recipes, template

    @property
    def home(self) -> Path: return self.folder / "home"

    def fresh(self) -> None:
        "As before the command."
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "tmp").mkdir(parents=True)
        for name in ("home", "cache"):
            there = self.shared / "template" / name
            shutil.copytree(there, self.folder / name) if there.is_dir() else (self.folder / name).mkdir()

    def log(self) -> str: return (self.folder / "log.txt").read_text(errors="replace")


def start(work: Callable[[Area], int], area: Area, arm: Callable[[Area], None] | None = None) -> int:
    "A child that does the work in a process group of its own, its output in the area's log; its process number."
    sys.stdout.flush()
    pid = os.fork()
    if pid: return pid
    code = 98
    try:  # whatever happens, a child goes no further than this function: what its parent cleans up is not its own
        os.setsid()
        out = os.open(area.folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2): os.dup2(out, stream)
        os.environ.update(FAKEFACE_CACHE=str(area.folder / "cache"), TMPDIR=str(area.folder / "tmp"))
        tempfile.tempdir = None
        os.chdir(area.home)
        if arm: arm(area)
        code = work(area) or 0
    except SystemExit as e: code = e.code if isinstance(e.code, int) else 1
    except BaseException:  # the log is to name it, whatever it is
        code = 99
        with suppress(BaseException): traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException): stream.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    "The exit code of a child, negative for a signal; None where it still runs."
    end = time.time() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        if time.time() >= end: return None
        time.sleep(0.004)


def finish(work: Callable[[Area], int], area: Area, arm: Callable[[Area], None] | None = None) -> int:
    "The work to its end; a hang counts as -9."
    pid = start(work, area, arm)
    code = wait(pid, 1800)  # of a busy machine
    if code is None:
        os.killpg(pid, signal.SIGKILL)
        code = wait(pid, 10)
    return -9 if code is None else code


def alive(group: int) -> int:
    "How many processes of a group live."
    n = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: words = stat.read_text().rpartition(")")[2].split()
        except OSError: continue
        n += words[0] != "Z" and int(words[2]) == group
    return n


# --- kinds ------------------------------------------------------------------------------------------------------------

class Kind(NamedTuple):
    "A command that is killed."
    name: str
    work: Callable[[Area], int]
    trainings: int = 0  # folders it makes one after the other
    ready: Callable[[Area], None] | None = None  # what it finds there


def command(*words: str) -> Callable[[Area], int]:
    "A command of the command line; {home} and {shared} are the area's."
    def work(area: Area) -> int: return fakeface_main([w.format(home=area.home, shared=area.shared) for w in words])
    return work


def old_run(area: Area) -> None:
    "A finished run that the command is to replace."
    shutil.copytree(area.home / "before", area.home / "new")


def old_facts(area: Area) -> None:
    "A cache of which a third is out of date and a third absent."
    found = list((area.folder / "cache").glob("files-*.sqlite"))
    assert found, "the template has no cached facts"
    for file in found:
        with closing(sqlite3.connect(file)) as c, c:
            paths = [p for p, in c.execute("SELECT path FROM files ORDER BY path")]
            third = len(paths) // 3
            c.executemany("UPDATE files SET mtime = mtime - 1 WHERE path=?", [(p,) for p in paths[:third]])
            c.executemany("DELETE FROM files WHERE path=?", [(p,) for p in paths[2 * third:]])


ROWS = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["real", "fake"], "split": "celeba"})


def enter(area: Area, times: int = 150) -> int:
    "Entries into the ledger of the finished run."
    for i in range(times): Ledger(area.home).enter("celeba", ROWS, f"model-{i}", "scored", "2020-01-01")
    return 0


def tables(area: Area) -> int:
    "Tables written over older ones."
    for n in (3, 30):
        for name in ("t.csv", "t.parquet"): write_table(pd.DataFrame({"n": range(n)}), area.home / name)
    return 0


def old_small_run(area: Area) -> None:
    "A finished run of few files that the command is to replace."
    for file in (area.home / "before").iterdir():
        if file.name not in ("metrics.json", "run.json", "predictions.parquet", "model.safetensors"): file.unlink()
    old_run(area)


def replace_run(area: Area) -> int:
    "What `run --overwrite` writes, without its training: the old run's files with turned predictions."
    old, out = area.home / "before", area.home / "new"
    with Claim(out, keep=KEPT) as claim, whole_folder(claim) as folder:
        Ledger(area.home).enter("celeba", ROWS, "new", "run", "2020-01-01")
        for file in sorted(old.iterdir(), key=lambda p: p.name == "metrics.json"):
            write_whole(folder / file.name, partial(turned if file.suffix == ".parquet" else shutil.copyfile, file))
            if file.name == "model.json": write_whole(folder / KEPT, lambda p: p.write_text("{}"))
    return 0


def turned(old: Path, new: Path) -> None:
    "A table with p_fake turned."
    table = pd.read_parquet(old)
    (table.assign(p_fake=1 - table["p_fake"]) if "p_fake" in table else table).to_parquet(new, index=False)


def in_place(area: Area) -> int:
    "Planted: a table that is written where it lies."
    for _ in range(2): pd.DataFrame({"n": range(9)}).to_csv(area.home / "t.csv", index=False)
    return 0


def by_number(area: Area) -> int:
    "Planted: a table written beside its place, under a name that nobody cleans up."
    pd.DataFrame({"n": range(9)}).to_csv(partial := area.home / f".t.csv.{os.getpid()}", index=False)
    partial.replace(area.home / "t.csv")
    return 0


def with_gap(area: Area) -> int:
    "Planted: the old run goes before the new one comes."
    os.system("rm -rf .made; cp -r before .made")  # unseen
    if (area.home / "new").is_dir(): shutil.rmtree(area.home / "new")
    (area.home / ".made").rename(area.home / "new")
    return 0


def torn(area: Area) -> int:
    "Planted: an entry of the ledger that comes in two pieces."
    handle = os.open(area.home / LEDGER, os.O_WRONLY | os.O_APPEND)
    for piece in (b'{"when": "2020-01-01", "test": "celeba", ', b'"images": "0", "n": 1, "model": "m"}\n'): os.write(handle, piece)
    os.close(handle)
    return 0


TINY, ROOT = "{shared}/tiny.yaml", ("--root", "{shared}/world")
WORLD = ("world", "{home}/world", "--images", "100", "--size", "16", "--sources", *SOURCES)
OVERWRITE = Kind("overwrite", command("run", TINY, *ROOT, "--out", "{home}/new", "--overwrite", "--seed", "1"), 1, old_run)
KINDS = {k.name: k for k in (
    Kind("run", command("run", TINY, *ROOT, "--out", "{home}/new", "--seed", "1"), 1),
    OVERWRITE,
    Kind("seeds", command("run", TINY, *ROOT, "--out", "{home}/new", "--seeds", "2"), 2),
    Kind("curve", command("curve", TINY, *ROOT, "--out", "{home}/new", "--sizes", "12", "24", "--seeds", "1"), 2),
    Kind("mix", command("curve", TINY, *ROOT, "--out", "{home}/new", "--mix", "--shares", "0.4", "0.6", "--seeds", "1"), 2),
    Kind("grid", command("grid", "{shared}/tinygrid.yaml", *ROOT, "--out", "{home}/new"), 2),
    Kind("transfer", command("transfer", "{shared}/tinytransfer.yaml", *ROOT, "--out", "{home}/new"), 3),
    Kind("ladder", command("ladder", TINY, *ROOT, "--out", "{home}/new", "--seeds", "1", "--steps", "nothing", "encoding",
                           "--no-shortcuts"), 2),
    Kind("world", command(*WORLD)),
    Kind("ledger", enter),
    Kind("cache", command("manifest", TINY, *ROOT, "--out", "{home}/manifest.csv"), 0, old_facts),
)}


SHARES = {k: 6 if kind.trainings == 0 else 5 if kind.trainings == 1 else 2.5 for k, kind in KINDS.items()}  # of the random kills


# --- what is there ----------------------------------------------------------------------------------------------------

def hidden(path: Path) -> bool: return any(part.startswith(".") for part in path.parts)


def files(folder: Path) -> Iterator[Path]:
    "Paths of all files below, relative."
    for at, _, names in os.walk(folder):
        yield from (Path(at, name).relative_to(folder) for name in names)


def digest(file: Path) -> str: return hashlib.sha256(file.read_bytes()).hexdigest()


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    "Hash and time of change of every file."
    return {str(p): (digest(folder / p), (folder / p).stat().st_mtime_ns) for p in files(folder)}


def runs(home: Path) -> list[Path]:
    "Visible folders that look like a run, relative."
    marks = {"metrics.json", "predictions.parquet", "model.safetensors", "history.csv"}
    return sorted({p.parent for p in files(home) if p.name in marks and not hidden(p)})


def is_whole(run: Path, names: frozenset[str]) -> bool:
    "Whether a folder has all the files of a run; the cells of a curve have their epochs instead of a report."
    here = {p.name for p in run.iterdir()}
    return names - ({"report.html"} if "epochs.csv" in here else set()) <= here


def unreadable(file: Path) -> str:
    "Why a file cannot be read as what its name says; nothing for a good one."
    kind, data = file.suffix, file.read_bytes()
    try:
        if kind == ".json": json.loads(data)
        elif kind == ".parquet": pd.read_parquet(file, use_threads=False)
        elif kind in (".png", ".jpg"): Image.open(file).load()
        elif kind == ".safetensors": load_file(file)
        elif kind == ".yaml": assert yaml.safe_load(data), "empty"
        elif kind == ".html": assert data.rstrip().endswith(b"</html>"), "no end"
        elif kind in (".csv", ".jsonl"): assert data.endswith(b"\n"), "no end of line"
        if kind == ".csv": pd.read_csv(file)
        if kind == ".jsonl": [json.loads(line) for line in data.splitlines()]
    except Exception as e: return f"{type(e).__name__}: {' '.join(str(e).split())[:80]}"
    return ""


def answers(run: Path) -> list[float] | None:
    "The predictions of a run, in the order of the images."
    file = run / "predictions.parquet"
    return pd.read_parquet(file, use_threads=False).sort_values(["split", "path"])["p_fake"].round(5).tolist() if file.is_file() else None


def untrue_facts(area: Area) -> list[str]:
    "Cached facts that are not so, of files as they are now."
    wrong, roots = [], [area.shared / "world", *area.home.glob("new/images/*")]  # those of a ladder
    for file in (area.folder / "cache").glob("files-*.sqlite"):
        with closing(sqlite3.connect(file)) as c:
            rows = c.execute("SELECT path, mtime, hex(sha256), bytes FROM files JOIN contents ON id = content").fetchall()
        for path, mtime, sha256, size in rows:
            for image in (root / path for root in roots):
                if not image.is_file() or image.stat().st_mtime_ns != mtime: continue
                if digest(image) != sha256.lower() or size != image.stat().st_size: wrong.append(path)
    return wrong


def shape(area: Area) -> frozenset[str]:
    "The names that are there, random parts and drawn images masked, and which are empty: it tells two states after a kill apart."
    found = set()
    for folder in (area.home, area.folder / "cache"):
        for at, folders, names in os.walk(folder):
            for name in (*names, *folders):
                path = Path(at, name)
                if path.suffix in (".jpg", ".png") and hidden(path.relative_to(folder)): continue
                with suppress(OSError):
                    size = path.stat().st_size
                    told = "" if path.is_dir() else size if path.suffix == ".jsonl" else "" if size else "empty"
                    found.add(re.sub(r"(?<=-)(x[0-9a-f]{10}|\d+)(?=/|$)|(?<=\.)\d+(?=/|$)", "N", str(path)) + f" {told}".rstrip())
    return frozenset(found)


# --- rules ------------------------------------------------------------------------------------------------------------

@dataclass
class Expected:
    "What a command that nobody kills leaves, and how long it takes."
    names: frozenset[str]  # of all files in home
    answers: dict[str, list[float]]  # of each run
    seconds: float
    run_files: frozenset[str]  # what a whole run has
    modules: list[str] = field(default_factory=list)  # what it imported


@dataclass
class Before:
    "What a kill may not change."
    finished: dict[str, dict[str, tuple[str, int]]]  # runs, and tables of finished cells
    ledger: bytes


def look_before(area: Area, expected: Expected) -> Before:
    "What is finished now: whole runs, and cells that are a table each."
    kept = {str(r): snapshot(area.home / r) for r in runs(area.home) if is_whole(area.home / r, expected.run_files)}
    kept |= {str(p): {"": (digest(area.home / p), (area.home / p).stat().st_mtime_ns)}
             for p in files(area.home) if p.parent.name == "cells" and not hidden(p)}
    ledger = area.home / LEDGER
    return Before(kept, ledger.read_bytes() if ledger.is_file() else b"")


def changed(area: Area, before: Before, replaced: str | None) -> list[str]:
    "What was finished and is not as it was; of a run that is to be replaced see `replacing`."
    found = []
    for name, was in before.finished.items():
        if name == replaced: continue
        path = area.home / name
        now = snapshot(path) if path.is_dir() else {"": (digest(path), path.stat().st_mtime_ns)} if path.is_file() else {}
        found += [f"{name}/{f}" for f in was if was[f] != now.get(f)] + [f"{name}/{f} is new" for f in now.keys() - was.keys()]
    return found


def replacing(area: Area, before: Before, expected: Expected, name: str) -> str:
    "What is wrong while a run is replaced: the old one whole and unchanged, or the new one, in its place or beside it."
    was, place = before.finished[name], area.home / name
    if place.is_dir():
        if snapshot(place) == was: return ""
        if is_whole(place, expected.run_files) and answers(place) == expected.answers[name]: return ""
        return f"{name} is neither the old run nor the new one"
    aside = [p for p in area.home.iterdir() if p.name.startswith(".") and p.is_dir() and snapshot(p) == was]
    return "" if aside else f"neither run is in {name}, and the old one lies nowhere"


def check_ledger(area: Area, before: Before) -> list[str]:
    "Entries lost, and lines that are none."
    file = area.home / LEDGER
    data = file.read_bytes() if file.is_file() else b""
    found = [] if data.startswith(before.ledger) else ["earlier entries are not as they were"]
    return found + ([f"{LEDGER}: {why}"] if data and (why := unreadable(file)) else [])


def probe(area: Area, folder: Path, whole: bool, read: bool) -> list[str]:
    "What `report` and `score` make of a folder: a half run is refused in one line, a whole one is to be read."
    found, copy = [], Area(area.folder / "probe", area.shared)
    for words in (["report"], ["score"]):
        shutil.rmtree(copy.folder, ignore_errors=True)
        (copy.folder / "tmp").mkdir(parents=True)
        shutil.copytree(area.home / folder, copy.home / "x")
        def work(a: Area, words: list[str] = words) -> int:
            vars(fakeface.report.run).update(HEAVY)
            return fakeface_main([*words, str(a.home / "x")])
        code, log = finish(work, copy), copy.log()
        said = [line for line in log.splitlines() if line.startswith("fakeface: ")]
        if "Traceback" in log or code not in (0, 1, 2): found.append(f"`{words[0]} {folder}`: exit {code}, {log[-150:]!r}")
        elif code and (whole and read or len(said) != 1): found.append(f"`{words[0]} {folder}`: exit {code}, {said}")
        elif not code and words == ["report"] and not whole and not (log.rstrip().endswith("index.html") and runs(copy.home / "x")):
            found.append(f"`report {folder}` takes half a run for whole")  # of a folder that holds runs it writes the index
    shutil.rmtree(copy.folder)
    return found


def after_kill(area: Area, before: Before, expected: Expected, replaced: str | None) -> tuple[dict[str, list[str]], Before]:
    "Faults by rule, right after a kill; what is finished now."
    found = {"finished changed": changed(area, before, replaced), "ledger": check_ledger(area, before), "cache": [], "half": []}
    if replaced and (said := replacing(area, before, expected, replaced)): found["finished changed"].append(said)
    for p in files(area.home):
        if not hidden(p) and p.name != LEDGER and (why := unreadable(area.home / p)): found["half"].append(f"{p}: {why}")
    for run in runs(area.home):
        if not is_whole(area.home / run, expected.run_files): found["half"].append(f"{run} lacks some of a run's files")
    try: found["cache"] = untrue_facts(area)
    except Exception as e: found["cache"] = [f"{type(e).__name__}: {e}"]
    for run in sorted({p.parent for p in files(area.home) if p.suffix in (".parquet", ".safetensors")}):
        state = (hidden(run), frozenset(p.name for p in (area.home / run).iterdir()))
        if state in PROBED: continue
        PROBED.add(state)
        found["half"] += probe(area, run, is_whole(area.home / run, expected.run_files - {"report.html"}), "manifest.parquet" in state[1])
    return found, before if replaced else look_before(area, expected)


def left_over(area: Area, expected: Expected) -> list[str]:
    "What should not be there at the end."
    names = {str(p) for p in files(area.home)}
    names |= {str(Path(at, d).relative_to(area.home)) + "/" for at, folders, _ in os.walk(area.home) for d in folders if d.startswith(".")}
    found = [f"{n} in home" for n in names - expected.names]
    kept = (".parquet", ".json", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".pixels") # SQLite settles its log when the store is opened next
    found += [f"{p} in the cache" for p in files(area.folder / "cache") if hidden(p) or p.suffix not in kept]
    return found + [f"{p} in the folder for temporary files" for p in os.listdir(area.folder / "tmp")]


def after_end(area: Area, code: int, before: Before, expected: Expected, replaced: str | None, trained: bool = False,
              ) -> dict[str, list[str]]:
    "Faults by rule, after the same command to its end; `trained`: the weights had been saved."
    found = {"going on": [], "left over": left_over(area, expected), "finished changed": changed(area, before, replaced),
             "ledger": check_ledger(area, before), "cache": []}
    # killed when the new run was whole, in its place or on the way to it: a second run of that name is refused
    done = replaced is None and "new" in expected.answers and ("new" in before.finished or code == 2 and "is not empty" in area.log())
    if code != (2 if done else 0) or "Traceback" in area.log(): found["going on"].append(f"exit {code}: {area.log().strip()[-250:]!r}")
    found["going on"] += [f"{n} is missing" for n in expected.names - {str(p) for p in files(area.home)}]
    if trained and "epoch 1 of" in area.log(): found["going on"].append("a network that was trained and saved is trained again")
    for run, wanted in expected.answers.items():
        if answers(area.home / run) != wanted: found["going on"].append(f"{run} has other predictions than a run that nobody killed")
    try: found["cache"] = untrue_facts(area)
    except Exception as e: found["cache"] = [f"{type(e).__name__}: {e}"]
    return found


def cpu_seconds() -> float:
    "Of this process and its children that have ended."
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


# --- counting ---------------------------------------------------------------------------------------------------------

@dataclass
class Count:
    "What was done to one kind, and what was found."
    part: str
    kind: str
    tries: int = 0
    killed: int = 0  # before it had ended
    ends: int = 0  # commands that were let go to their end afterwards
    calls: int = 0  # moments that windows were sought at
    seconds: float = 0.0
    cpu: float = 0.0
    faults: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, found: dict[str, list[str]], where: str) -> None:
        "Counts one look; of each rule the first fault is kept."
        for rule, faults in found.items():
            if faults:
                self.faults[rule] += 1
                if rule not in self.examples: print(f"  fault, {self.kind}, {rule}, {where}: {'; '.join(faults[:3])}", flush=True)
                self.examples.setdefault(rule, f"{where}: {'; '.join(faults[:3])}")

    def line(self) -> str:
        told = ", ".join(f"{rule} {n}" for rule, n in self.faults.items()) or "none"
        return f"{self.part:8} {self.kind:20} {self.tries:5} {self.killed:6} {self.ends:5} {self.seconds:7.0f} {self.cpu:7.0f}   {told}"


def expect(kind: Kind, area: Area) -> Expected:
    "Runs a command that nobody kills, and notes what it leaves; after the first time what it imports is imported here as well."
    begin(kind, area)
    run_files = frozenset(os.listdir(area.home / "before"))
    known, began = set(sys.modules), time.time()
    def work(a: Area) -> int:
        code = kind.work(a)
        (a.folder / "modules.json").write_text(json.dumps(sorted(set(sys.modules) - known)))
        return code
    code = finish(work, area)
    if code: raise SystemExit(f"{kind.name} does not run, exit {code}: {area.log()[-1500:]}")
    seconds = time.time() - began
    names = frozenset(str(p) for p in files(area.home))
    found = {str(r): a for r in runs(area.home) if (a := answers(area.home / r))}
    return Expected(names, found, seconds, run_files, json.loads((area.folder / "modules.json").read_text()))


def begin(kind: Kind, area: Area) -> None:
    "A fresh area with what the command finds there."
    area.fresh()
    if kind.ready: kind.ready(area)


def random_kills(kind: Kind, area: Area, wanted: int, expected: Expected, rng: random.Random) -> Count:
    "So many kills at random moments, some on top of each other, each chain ended by the command itself."
    count, began = Count("random", kind.name), time.time()
    replaced = "new" if kind.ready in (old_run, old_small_run) else None
    while count.killed < wanted and count.tries < 3 * wanted + 10:
        begin(kind, area)
        before = look_before(area, expected)
        code, where = None, ""
        while code is None:
            share = 1 - 0.8 * (len(before.finished) - 1) / (kind.trainings or 1) if kind.trainings > 1 else 1.0
            moment, alone = rng.uniform(0, expected.seconds * max(0.1, share)), rng.random() < 0.5
            count.tries += 1
            code = strike(kind, area, moment, alone, count)
            if code is not None: break
            where = f"killed after {moment:.2f} of {expected.seconds:.2f} s"
            found, before = after_kill(area, before, expected, replaced)
            count.add(found, where)
            if rng.random() < 0.4 or count.killed >= wanted: code = finish(kind.work, area)
        count.ends += 1
        count.add(after_end(area, code, before, expected, replaced), f"at the end of the chain that {where}" if where else "unkilled")
        if count.tries % 5 == 0: print(f"  {kind.name}: {count.killed} of {wanted} kills, {time.time() - began:.0f} s", flush=True)
    count.seconds = time.time() - began
    return count


def strike(kind: Kind, area: Area, moment: float, alone: bool, count: Count) -> int | None:
    "Kills the command at a moment; its exit code where it had ended before."
    pid = start(kind.work, area)
    code = wait(pid, moment)
    if code is not None: return code
    (os.kill if alone else os.killpg)(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    count.killed += 1
    end = time.time() + 5
    while (left := alive(pid)) and time.time() < end: time.sleep(0.01)
    if left:
        count.add({"processes left": [f"{left} processes live on"]}, "its first process was killed" if alone else "all were killed")
        os.killpg(pid, signal.SIGKILL)
    return None


# --- windows ----------------------------------------------------------------------------------------------------------

CHANGES = [(os, name) for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync", "link", "symlink", "open", "write",
                                   "ftruncate", "truncate", "utime")] + [(fcntl, "flock"), (io, "open"), (builtins, "open")]
GROW = {"open", "mkdir", "write", "fsync", "link", "symlink"}  # what a full disk refuses


class Trap:
    "Counts the calls that change the area's folders, and notes what is there, dies or fails at one of them."
    def __init__(self, at: int = 0, after: bool = False, full: bool = False, exchange: bool = True, note: bool = False):
        self.at, self.after, self.full, self.exchange, self.note = at, after, full, exchange, note
        self.n, self.busy, self.states = 0, False, []

    def arm(self, area: Area) -> None:
        "Replaces the functions, in this process for good."
        self.area, self.pid = area, os.getpid()
        os.cpu_count = lambda: 1  # one process writes, so that every call is seen
        for module, name in CHANGES: setattr(module, name, self.watched(name, getattr(module, name)))
        try: writing = importlib.import_module("fakeface.core.files")
        except ModuleNotFoundError: return
        exchange = self.watched("exchange", writing._exchange)
        writing._exchange = exchange if self.exchange else lambda a, b: False

    def concerns(self, name: str, args: tuple, kwargs: dict) -> bool:
        "Whether a call changes something in the area."
        if self.busy or os.getpid() != self.pid or not args or self.full and name not in GROW: return False
        if name == "open":
            how = args[1] if len(args) > 1 else kwargs.get("mode", kwargs.get("flags", "r"))
            if not (how & (os.O_CREAT | os.O_TRUNC) if isinstance(how, int) else set(how) & set("wax+")): return False
        if isinstance(args[0], int): return args[0] > 2
        inside = str(args[0]).startswith((str(self.area.home), str(self.area.folder / "cache")))
        return inside or kwargs.get("dir_fd") is not None

    def moment(self, after: bool) -> None:
        "Before or after a call."
        if self.note:
            self.busy = True
            self.states.append((self.n, after, shape(self.area)))
            self.busy = False
        elif self.n == self.at and self.after == after and not self.full: os.killpg(self.pid, signal.SIGKILL)

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        "The function with its trap."
        def f(*args: Any, **kwargs: Any) -> Any:
            if not self.concerns(name, args, kwargs): return call(*args, **kwargs)
            self.n += 1
            if self.full and self.n >= self.at > 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[0] if isinstance(args[0], str | Path) else None)
            self.moment(False)
            answer = call(*args, **kwargs)
            self.moment(True)
            return answer
        return f


def watch(kind: Kind, area: Area, **how: Any) -> tuple[int, list[tuple[int, bool, frozenset[str]]]]:
    "How many calls a command makes that change the area, and with `note` what is there before and after each."
    begin(kind, area)
    trap = Trap(**how)
    def work(a: Area) -> int:
        code = kind.work(a)
        trap.busy = True
        (a.folder / "watched").write_bytes(pickle.dumps((trap.n, trap.states)))
        return code
    if code := finish(work, area, trap.arm): raise SystemExit(f"{kind.name} does not run under watch, exit {code}: {area.log()[-1500:]}")
    return pickle.loads((area.folder / "watched").read_bytes())


def windows(kind: Kind, area: Area, expected: Expected, exchange: bool = True) -> Count:
    "A kill before and after every call that changes something; of moments that leave the same names the first."
    count, began = Count("windows", kind.name + ("" if exchange else " by renames")), time.time()
    replaced = "new" if kind.ready in (old_run, old_small_run) else None
    total, moments = watch(kind, area, exchange=exchange, note=True)
    first = {state: (at, after) for at, after, state in reversed(moments)}
    for state, (at, after) in sorted(first.items(), key=lambda f: f[1]):
        begin(kind, area)
        before = look_before(area, expected)
        code = finish(kind.work, area, Trap(at, after, exchange=exchange).arm)
        count.tries += 1
        count.killed += code == -9
        where = f"{'after' if after else 'before'} call {at} of {total}"
        found, before = after_kill(area, before, expected, replaced)
        count.add(found, where)
        count.ends += 1
        saved = {str(Path(name).parent) for name in state if name.endswith("/model.json")}
        trained = kind.trainings == 1 and any(name.endswith(f"/{KEPT}") and str(Path(name).parent) in saved for name in state)
        count.add(after_end(area, finish(kind.work, area), before, expected, replaced, trained), where)
        if count.tries % 10 == 0: print(f"  {count.kind}: call {at} of {total}, {time.time() - began:.0f} s", flush=True)
    count.calls, count.seconds = len(moments), time.time() - began
    return count


# --- a full disk ------------------------------------------------------------------------------------------------------

def small_files(limit: int, log: int, area: Area) -> None:
    "No file may grow beyond the limit; the system answers so to compiled code as well. What is printed goes to a pipe."
    for stream in (1, 2): os.dup2(log, stream)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def full_disk(kind: Kind, area: Area, expected: Expected) -> Count:
    "The disk is full from the k-th call on, or refuses long files; then there is room again."
    count, began, states = Count("full", kind.name), time.time(), set()
    replaced = "new" if kind.ready in (old_run, old_small_run) else None
    total, _ = watch(kind, area, full=True)
    ways = {f"no room from call {at} of {total} on": Trap(at, full=True).arm for at in range(1, total + 1)}
    out, log_end = os.pipe()
    fcntl.fcntl(log_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.set_blocking(out, False)
    ways |= {f"files up to {n:,} bytes": partial(small_files, n, log_end) for n in (0, 100, 1_000, 4_000, 10_000, 20_000, 40_000, 80_000)}
    for where, arm in ways.items():
        begin(kind, area)
        before = look_before(area, expected)
        code, log = finish(kind.work, area, arm), area.log()
        with suppress(BlockingIOError): log += os.read(out, 1 << 20).decode(errors="replace")
        count.tries += 1
        count.killed += bool(code)
        count.add({"one line": one_line(code, log, expected)}, where)
        done = replace(expected, run_files=expected.run_files - SPARED) if "the rest of the run is there" in log else expected
        found, before = after_kill(area, before, done, replaced)
        count.add(found, where)
        if (state := shape(area)) in states: continue
        states.add(state)
        count.ends += 1
        code = finish(kind.work, area)
        if done is not expected:
            lacking = {n for n in expected.names if Path(n).name in SPARED and not (area.home / n).exists()}
            done = replace(done, names=expected.names - lacking)
        count.add(after_end(area, code, before, done, replaced), where)
    for end in (out, log_end): os.close(end)
    count.seconds = time.time() - began
    return count


SPARED = {"report.html", "model.safetensors", "model.json"}  # a run that had no room for these alone is kept, and says what it lacks


def one_line(code: int, log: str, expected: Expected) -> list[str]:
    "What is wrong with how a command ended without room: it may go on without (a cache), else one line names a file."
    said = [line for line in log.splitlines() if line.startswith("fakeface: ")]
    if "Traceback" in log or code not in (0, 1, 2): return [f"exit {code}: {log[-200:]!r}"]
    if code and (len(said) != 1 or "/" not in said[0]): return [f"exit {code}: {said}"]
    return []


# --- all of it --------------------------------------------------------------------------------------------------------

def small_picture(self: Figure, fname: Any, **kwargs: Any) -> None:
    "In the place of `Figure.savefig`: the same file, written as matplotlib does, with one small picture in it."
    if hasattr(fname, "write"): fname.write(PICTURE)
    else:
        with open(fname, "wb") as f: f.write(PICTURE)


def no_floors(*args: Any, **kwargs: Any) -> dict:
    "In the place of `audit.shortcuts.measure_baselines`."
    return {}


def import_all(names: list[str]) -> None:
    "Imports what a command was seen to import."
    for name in names:
        with suppress(Exception): importlib.import_module(name)
    gc.freeze()  # or every child copies what it only looks at


def prepare(shared: Path) -> None:
    "World, recipes, and the template of an area: a finished run, its ledger, a cache."
    global PICTURE
    Image.new("RGB", (4, 4)).save(buffer := io.BytesIO(), "PNG")
    PICTURE, Figure.savefig = buffer.getvalue(), small_picture
    vars(fakeface.report.run).update(LIGHT)
    for spec in (RECIPE, GRID, TRANSFER): (shared / f"{spec['name']}.yaml").write_text(yaml.safe_dump(spec))
    first, template = Area(shared / "first", shared), shared / "template"
    first.fresh()
    steps = (["world", str(shared / "world"), "--images", "180", "--size", "32", "--sources", *SOURCES],
             ["run", str(shared / "tiny.yaml"), "--root", str(shared / "world"), "--out", str(first.home / "before")])
    for words in steps:
        if finish(lambda a, words=words: fakeface_main(words), first): raise SystemExit(f"{words}: {first.log()[-1500:]}")
    template.mkdir()
    for name in ("home", "cache"): (first.folder / name).rename(template / name)


def work_through(tasks: list[tuple[str, str]], args: argparse.Namespace, shared: Path) -> list[Count]:
    "One process's share of the parts and kinds."
    counts, known = [], {}
    area = Area(shared / f"area-{os.getpid()}", shared)
    for part, name in tasks:
        kind, cpu = (PLANTED if part == "planted" else WINDOWS if part == "windows" else KINDS)[name], cpu_seconds()
        expected = known[kind] = known.get(kind) or expect(kind, area)
        if expected.modules:  # imported here, they cost the next ones nothing
            import_all(expected.modules)
            expected = known[kind] = expect(kind, area)
        wanted, rng = round(args.kills * SHARES.get(name, 0)), random.Random(f"{args.seed} {name}")
        if part == "random": count = random_kills(kind, area, wanted, expected, rng)
        elif part == "full": count = full_disk(kind, area, expected)
        else: count = windows(kind, area, expected, not name.endswith("renames"))
        count.part, count.cpu = part, cpu_seconds() - cpu
        counts.append(count)
        print(count.line(), flush=True)
    return counts


WITH_TORCH = ("run", "overwrite", "overwrite by renames", "seeds", "curve", "mix", "grid", "transfer", "ladder")
PARTS = ("planted", "random", "windows", "full")
WINDOWS = {k: KINDS[k] for k in ("run", "overwrite", "seeds", "world", "cache")}
REPLACE = Kind("replace", replace_run, 0, old_small_run)  # the writing of `overwrite` alone
WINDOWS |= {"overwrite by renames": OVERWRITE, "replace": REPLACE, "replace by renames": REPLACE, "table": Kind("table", tables),
            "ledger": Kind("ledger", partial(enter, times=2))}
PLANTED = {k.name: k for k in (Kind("half", in_place), Kind("left over", by_number), Kind("finished changed", with_gap, 0, old_small_run),
                               Kind("ledger", torn))}  # by the rule that is to find them


def all_tasks() -> dict[str, tuple[str, str]]:
    "Part and kind of everything that can be done, by name."
    kinds = dict(planted=PLANTED, random=KINDS, windows=WINDOWS, full=["run", "overwrite", "seeds", "world"])
    tasks = {f"{part}:{kind.replace(' ', '-')}": (part, kind) for part in PARTS for kind in kinds[part]}
    return dict(sorted(tasks.items(), key=lambda t: t[1][1] in WITH_TORCH))  # before it is imported a fork costs less


def main() -> int:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--kills", type=int, default=440, help="random ones, over all kinds")
    p.add_argument("--seed", type=int, default=0, help="of the random moments")
    p.add_argument("--only", nargs="+", default=[""], metavar="TASK", help="parts, kinds or both, such as random run windows:overwrite")
    p.add_argument("--jobs", type=int, default=1, help="processes")
    args = p.parse_args()
    tasks = [t for name, t in all_tasks().items() if any(word in ("", name, *name.split(":")) for word in args.only)]
    if not tasks: p.error(f"--only: nothing of that name; there are {', '.join(all_tasks())}")
    args.kills /= max(1, sum(SHARES[kind] for part, kind in tasks if part == "random"))
    warnings.simplefilter("ignore")
    began = time.time()
    fakeface.audit.shortcuts.measure_baselines = no_floors  # before anybody imports it
    with tempfile.TemporaryDirectory() as d:
        shared = Path(os.path.realpath(d))
        prepare(shared)
        counts = in_jobs(tasks, args, shared)
    return tell(counts, time.time() - began)


def in_jobs(tasks: list[tuple[str, str]], args: argparse.Namespace, shared: Path) -> list[Count]:
    "The tasks in so many processes, each with every n-th."
    if args.jobs == 1: return work_through(tasks, args, shared)
    children = []
    for j in range(args.jobs):
        answer, pid = shared / f"answer-{j}", os.fork()
        if not pid:
            code = 1
            try:
                answer.write_bytes(pickle.dumps(work_through(tasks[j::args.jobs], args, shared)))
                code = 0
            except BaseException: traceback.print_exc()
            os._exit(code)
        children.append((pid, answer))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    if any(codes): raise SystemExit(f"a process ended with {codes}")
    return [c for _, answer in children for c in pickle.loads(answer.read_bytes())]


def tell(counts: list[Count], seconds: float) -> int:
    "Prints the table and the first fault of each kind; 1 where there is any, or a planted one was not found."
    print(f"\n{'part':8} {'kind':20} {'tries':>5} {'killed':>6} {'ends':>5} {'seconds':>7} {'CPU':>7}   faults by rule")
    for c in counts: print(c.line())
    planted, counts = [c for c in counts if c.part == "planted"], [c for c in counts if c.part != "planted"]
    missed = [c.kind for c in planted if not c.faults[c.kind]]
    if planted: print(f"planted: {len(planted) - len(missed)} of {len(planted)} faults found", *missed and ["without", *missed])
    for part in dict.fromkeys(c.part for c in counts):
        mine = [c for c in counts if c.part == part]
        print(f"{part}: {sum(c.tries for c in mine):,} tries, {sum(c.killed for c in mine):,} of them ended by it, "
              f"{sum(c.ends for c in mine):,} commands run to their end afterwards, {sum(sum(c.faults.values()) for c in mine):,} faults")
    for c in counts:
        for rule, example in c.examples.items(): print(f"FAULT {c.part} {c.kind}, {rule}: {example}")
    print(f"{seconds:.0f} s")
    return int(bool(missed) or any(c.faults for c in counts))


if __name__ == "__main__": sys.exit(main())
