"""What a quiz loses when its server is killed: `python benchmarks/quiz_kills.py`.

People (threads that fetch pages and send forms over HTTP) answer a quiz of all three arms, as fast as they can. At a random moment the
server gets SIGKILL. What the browser was told is kept has to be in the file: every answer that came back as taken, with its value. Pages of
several pictures have to be there whole or not at all, and the file has to pass SQLite's integrity check. Then the server is started on
the same file, and everybody goes on with their code where they stood; who is done makes room for somebody new. One parent imports what
the server needs and forks it, so that a kill costs no import.

Faults are counted by kind; any makes the exit code 1. Some 1.5 s a kill. With `--inject` the server says that it has taken an answer a
fifth of a second before it writes it: that fault has to be found.
"""
import argparse
import http.client
import os
import random
import re
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from PIL import Image

import fakeface.serve.quiz
from fakeface.core.basics import progress
from fakeface.serve.quiz import quiz_app
from fakeface.serve.sessions import Plan, Quiz, create_quiz, draw_items, save_answers, with_pictures
from fakeface.serve.web import serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STEP = re.compile(r'name="step" value="((?:first|final):[^"]+)"')


def make(folder: Path, seed: int) -> Path:
    "A quiz of noise, with advice for every other person."
    pool = pd.DataFrame(dict(path=[f"{k:03d}.png" for k in range(60)], label=["real", "fake"] * 30))
    for path in pool["path"]: Image.effect_noise((48, 48), 60).convert("RGB").save(folder / path)
    plan = Plan(("single", "grid", "trust"), items=24, practice=4, grid=6, seed=seed, advice="half")
    items = with_pictures(draw_items(pool, plan), folder)
    return create_quiz(folder / "quiz.sqlite", items.assign(p_fake=np.where(items["label"] == "fake", 0.9, 0.1), threshold=0.5), plan)


def late(*args: object) -> bool:
    "The injected fault: an answer is taken, and written later."
    threading.Timer(0.2, save_answers, args).start()
    return True


def start(file: Path, port: int, inject: bool = False) -> int:
    "A server in a process of its own; its number."
    pid = os.fork()
    if pid: return pid
    if inject: fakeface.serve.quiz.save_answers = late
    try:
        os.setsid()
        out = os.open(file.with_name("log.txt"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2): os.dup2(out, stream)
        with Quiz(file) as quiz: serve(quiz_app(quiz), port=port)
    finally: os._exit(0)


def free_port() -> int:
    "One that nobody listens on."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Someone:
    "A person who answers, and remembers what was taken."
    def __init__(self, port: int, seed: int):
        self.port, self.rng, self.where = port, random.Random(seed), None
        self.taken: dict[tuple[str, str, str], str] = {}  # code, phase, token -> what was said

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        "Status, address to go to, text; raises `OSError` where the server is gone."
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            link.request(method, path, urlencode(form) if form is not None else None, FORM if form is not None else {})
            reply = link.getresponse()
            return reply.status, reply.getheader("location") or "", reply.read().decode()
        except http.client.HTTPException as e: raise OSError(str(e)) from e
        finally: link.close()

    def step(self) -> None:
        "One page: whatever is asked now."
        if self.where is None:
            status, self.where, _ = self.ask("POST", "/join", {})
            self.where = self.where if status == 303 else None
            return
        status, _, text = self.ask("GET", self.where)
        if "Thank you" in text: self.where = None; return
        if 'name="dark"' in text: self.ask("POST", self.where, dict(dark="4", bright="4")); return
        found = STEP.search(text)
        if not found: self.ask("POST", self.where, {}); return
        self.answer(found[1], text)

    def answer(self, step: str, text: str) -> None:
        "Sends an answer, and remembers it once the server has taken it."
        tokens = step.partition(":")[2].split(",")
        if 'class="wall"' in text: form = {"choice": "marked"} | {f"fake-{t}": "on" for t in tokens if self.rng.random() < 0.5}
        elif "trust-1" in text: form = {"choice": f"trust-{self.rng.randint(1, 7)}"}
        else: form = {"choice": f"{self.rng.choice(['real', 'fake'])}-{self.rng.randint(1, 3)}"}
        status, _, _ = self.ask("POST", self.where, form | {"step": step, "ms": "700"})
        if status != 303: raise RuntimeError(f"an answer was refused: {status}")
        for t in tokens:
            said = ("fake" if f"fake-{t}" in form else "real") if form["choice"] == "marked" else form["choice"]
            self.taken[self.where[3:], step.partition(":")[0], t] = said


def play(someone: Someone, stop: threading.Event, faults: Counter) -> None:
    "Answers until the server is gone."
    while not stop.is_set():
        try: someone.step()
        except OSError: time.sleep(0.02)
        except Exception as e: faults[f"{type(e).__name__}: {e}"] += 1; return


def kept(file: Path) -> tuple[dict[tuple[str, str, str], str], str]:
    "What is in the file, read without this package, and what SQLite's own check says."
    with closing(sqlite3.connect(file)) as db:  # a connection that is open at a fork would take the child's locks from it
        check = db.execute("PRAGMA integrity_check").fetchone()[0]
        rows = db.execute("SELECT p.code, a.phase, a.token, p.arm, a.answer, a.confidence, a.trust FROM answers a JOIN people p "
                          "ON p.number = a.person").fetchall()
    said = {"single": lambda r: f"{r[4]}-{r[5]}", "grid": lambda r: r[4], "trust": lambda r: f"trust-{r[6]}"}
    return {r[:3]: said[r[3]](r) for r in rows}, check


def judge(file: Path, people: list[Someone], faults: Counter) -> tuple[int, int]:
    "Counts faults; how many answers are in the file, and how many of them nobody had been told of."
    there, check = kept(file)
    if check != "ok": faults[f"integrity check: {check[:80]}"] += 1
    told = {key: said for p in people for key, said in p.taken.items()}
    faults["lost"] += sum(key not in there for key in told)
    faults["changed"] += sum(key in there and there[key] != said for key, said in told.items())
    with Quiz(file) as quiz:
        pages = Counter((r["person"], r["phase"], r["at"]) for r in quiz._db.execute(
            "SELECT a.person, a.phase, a.at FROM answers a JOIN people p ON p.number = a.person WHERE p.arm = 'grid'"))
        faults["half a page"] += sum(n not in (4, 6) for n in pages.values())
    return len(there), len(there.keys() - told.keys())


def main() -> None:
    "Runs it."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--kills", type=int, default=120, help="how often the server is killed")
    p.add_argument("--people", type=int, default=3, help="who answer at the same time")
    p.add_argument("--seed", type=int, default=0, help="of the moments and answers")
    p.add_argument("--inject", action="store_true", help="a server that answers before it writes")
    args = p.parse_args()
    begun, rng, faults, resumed, untold, killed = time.time(), random.Random(args.seed), Counter(), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        file, port = make(Path(folder), args.seed), free_port()
        people = [Someone(port, 1000 * args.seed + k) for k in range(args.people)]
        for _ in progress(range(args.kills), args.kills, "kills"):
            killed += 1
            before = {id(q): q.where for q in people}
            pid, stop = start(file, port, args.inject), threading.Event()
            threads = [threading.Thread(target=play, args=(q, stop, faults)) for q in people]
            for t in threads: t.start()
            until, had = time.time() + 30, sum(len(q.taken) for q in people)
            while time.time() < until and sum(len(q.taken) for q in people) == had and not sum(faults.values()): time.sleep(0.005)
            resumed += sum(q.where is not None and q.where == before[id(q)] for q in people)
            time.sleep(rng.uniform(0, 0.5))  # from the first answer on
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            stop.set()
            for t in threads: t.join(30)
            n, untold = judge(file, people, faults)
            if sum(faults.values()): break
        with Quiz(file) as quiz: done = [r["finished"] is not None for r in quiz._db.execute("SELECT finished FROM people")]
    told = {k: v for k, v in faults.items() if v}
    print(f"{killed} kills, {n:,} answers of {len(done)} people ({sum(done)} to the end) in the file, "
          f"{sum(len(q.taken) for q in people):,} told as taken ({untold} more, whose reply the kill cut off); {resumed} times "
          f"somebody went on with the same code; {time.time() - begun:.0f} s")
    print("faults: " + (", ".join(f"{v} {k}" for k, v in told.items()) or "none"))
    sys.exit(bool(told))


if __name__ == "__main__":
    main()
