"The app as a process of its own with folders of its own, so that what it leaves can be seen. For app_load.py, app_hostile.py and tests."
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
STANDIN = "import sys; sys.path[:0] = [{root!r}, {tests!r}]\nimport standin\nif __name__ == '__main__': standin.main(standin.{load})"


class Served:
    "A running app: its address, its processes, its folders."
    def __init__(self, process: subprocess.Popen, url: str, folder: Path):
        self.process, self.url, self.folder, self.before, self.peak = process, url, folder, tree(folder), {}
        self._watch = threading.Thread(target=self._measure, daemon=True)
        self._watch.start()

    def pids(self) -> list[int]:
        "The server's process and those that it began."
        return [self.process.pid, *children(self.process.pid)]

    def left(self) -> list[str]:
        "Files that were not there before, or have other contents, and open files in the app's folders."
        now = tree(self.folder)
        new = [name for name in now if self.before.get(name) != now[name]]
        for pid in self.pids():
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                try: target = os.readlink(fd)
                except OSError: continue # closed meanwhile
                ours = target.startswith(str(self.folder)) and target != str(self.folder/"log") # deleted ones too
                if ours: new.append(f"open: {target}")
        return new

    def log(self) -> str:
        "What the app has printed."
        return (self.folder/"log").read_text(encoding="utf-8", errors="replace")

    def _measure(self) -> None:
        "The most memory that each process held, in MB."
        while self.process.poll() is None:
            for pid in self.pids(): self.peak[pid] = max(self.peak.get(pid, 0), memory(pid))
            time.sleep(0.05)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    "Files below a folder, with size and time; the log is the benchmark's own."
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "log"]
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


def children(pid: int) -> list[int]:
    "The processes that a process began, and theirs."
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: fields = stat.read_text().rpartition(")")[2].split()
        except OSError: continue
        if int(fields[1]) == pid: found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def memory(pid: int) -> float:
    "MB that a process holds."
    try: return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError): return 0.0


@contextmanager
def served(model: str | None = None, # a bundle or a run folder; None: the stand-in of tests/standin.py
           load: str = "load", # of the stand-in
           wait: float = 90, # seconds until it has to answer
          ) -> Iterator[Served]:
    "The app on a free port, in an empty home, with an empty cache and temporary folder. Ended with SIGTERM."
    with tempfile.TemporaryDirectory(prefix="fakeface-app-") as tmp:
        folder = Path(tmp)
        for name in ("home", "tmp", "cache", "cwd"): (folder/name).mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FAKEFACE", "XDG"))}
        env |= dict(HOME=f"{tmp}/home", TMPDIR=f"{tmp}/tmp", XDG_CACHE_HOME=f"{tmp}/cache", FAKEFACE_CACHE=f"{tmp}/cache/fakeface",
                    PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
        code = ["-m", "fakeface.cli.main", "app", "--port", "0", "--model", str(Path(model).resolve())] if model else [
            "-c", STANDIN.format(root=str(ROOT), tests=str(ROOT/"tests"), load=load)]
        with open(folder/"log", "wb") as log:
            process = subprocess.Popen([sys.executable, *code], cwd=folder/"cwd", env=env, stdout=log, stderr=log, start_new_session=True)
        try: yield Served(process, _address(process, folder/"log", wait), folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try: process.wait(15)
            except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL)


def _address(process: subprocess.Popen, log: Path, wait: float) -> str:
    "The address that the app prints, once it answers there."
    until = time.monotonic() + wait
    while time.monotonic() < until and process.poll() is None:
        found = [word for word in log.read_text(encoding="utf-8", errors="replace").split() if word.startswith("http://127.0.0.1:")]
        try:
            if found and httpx.get(found[0], timeout=5, trust_env=False).status_code == 200: return found[0]
        except httpx.HTTPError: pass
        time.sleep(0.1)
    raise RuntimeError(f"the app does not answer:\n{log.read_text()[-2000:]}")
