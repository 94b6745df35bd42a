"""Python processes for tests, without paying for the import of torch and fastai in each: `Popen` and `run` as in `subprocess`.

What Python is to do is given as to the command `python`: `["-m", MODULE, ...]`, `["-c", CODE, ...]` or `[FILE, ...]`. One server a test
session imports everything once and forks a child for each, so each is a true process: a number of its own that can be killed, its own
environment, working directory, streams and exit status, and `__main__` is run from its start. What it does not show is what importing
costs and prints: who asks about that starts `sys.executable` through `subprocess`, as do at least one test of `fakeface run`, of the
wheel, and of every command's help. `FAKEFACE_REAL_COMMANDS=1 pytest` starts Python anew for each, as do systems other than Linux.
"""
import array
import atexit
import contextlib
import gc
import importlib
import os
import pickle
import pkgutil
import runpy
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "FAKEFACE_TEST_FORKS"  # the variable that tells test processes where the server listens
LONGEST = 150_000  # bytes of arguments and environment in one message
# Imported by functions of the package, so that walking its modules does not bring them.
UNTHREADED = ("OMP_NUM_THREADS=1", "JE_ARROW_MALLOC_CONF=background_thread:false")  # a process with threads is not to be forked
LATER = ("captum.attr", "timm", "sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection", "pyarrow.parquet", "scipy.stats",
         "matplotlib.pyplot", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "rich.table", "rich.traceback",
         "IPython.display", "fastai.callback.all", "nbdev.test")


# --- the side of the tests --------------------------------------------------------------------------------------------

class Popen:
    "A process as of `subprocess.Popen`: `stdout` and `stderr` are None (as here), PIPE, DEVNULL or a file."

    def __new__(cls, args: Sequence[str | Path], **kwargs: Any) -> Any:
        if os.environ.get(ADDRESS) and not os.environ.get("FAKEFACE_REAL_COMMANDS"): return super().__new__(cls)
        return subprocess.Popen([sys.executable, *map(str, args)], **kwargs)

    def __init__(self, args: Sequence[str | Path], stdout: int | IO | None = None, stderr: int | IO | None = None, text: bool = False,
                 cwd: str | Path | None = None, env: Mapping[str, str] | None = None):
        self.args, self.returncode, self.stdout, self.stderr = list(map(str, args)), None, None, None
        asked = pickle.dumps((self.args, str(cwd or Path.cwd()), dict(os.environ if env is None else env)))
        assert len(asked) <= LONGEST, "too much for one message"
        with contextlib.ExitStack() as given:
            handles = [given.enter_context(open(os.devnull)).fileno()]
            for number, name, to in ((1, "stdout", stdout), (2, "stderr", stderr)):
                if to == PIPE:
                    ours, to = os.pipe()
                    given.callback(os.close, to)
                    setattr(self, name, open(ours, "r" if text else "rb"))
                elif to == DEVNULL: to = given.enter_context(open(os.devnull, "w"))
                handles.append(number if to is None else to if isinstance(to, int) else to.fileno())
            self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._line.connect(os.environ[ADDRESS])
            socket.send_fds(self._line, [asked], handles)
            self.pid, = struct.unpack("i", self._line.recv(4))

    def __enter__(self) -> "Popen": return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr):
            if stream: stream.close()
        self.wait()

    def poll(self) -> int | None: return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._status(timeout) is None: raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _status(self, timeout: float | None) -> int | None:
        "The exit status, negative for a signal; None while it runs."
        if self.returncode is None and select.select([self._line], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(struct.unpack("i", self._line.recv(4))[0])
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None: os.kill(self.pid, number)

    def kill(self) -> None: self.send_signal(signal.SIGKILL)

    def terminate(self) -> None: self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        "All it writes, read to the end; a TimeoutExpired leaves it running."
        streams = [s for s in (self.stdout, self.stderr) if s]
        read: dict[IO, Any] = {}
        readers = [threading.Thread(target=lambda s=s: read.update({s: s.read()}), daemon=True) for s in streams]
        for reader in readers: reader.start()
        self.wait(timeout)
        for reader in readers: reader.join()
        for stream in streams: stream.close()
        return read.get(self.stdout), read.get(self.stderr)


def run(args: Sequence[str | Path], capture_output: bool = False, check: bool = False, timeout: float | None = None,
        **kwargs: Any) -> subprocess.CompletedProcess:
    "As `subprocess.run`."
    if capture_output: kwargs |= dict(stdout=PIPE, stderr=PIPE)
    process = Popen(args, **kwargs)
    try: out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check: done.check_returncode()
    return done


def offer(at_once: bool) -> Callable[[], None]:
    "Listens for the session's test processes; the server starts at once, or when the first one asks. Gives the function that ends it."
    if not sys.platform.startswith("linux"): return lambda: None
    folder = tempfile.mkdtemp(prefix="forks-")
    listening, (held, lifeline) = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), os.pipe()
    listening.bind(f"{folder}/socket")
    listening.listen(64)
    os.environ[ADDRESS] = f"{folder}/socket"

    def start() -> None:
        if not at_once and held in select.select([listening, held], [], [])[0]: return
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": path, **{name: value for name, _, value in (asked.partition("=") for asked in UNTHREADED)}}
        subprocess.Popen([sys.executable, __file__, str(listening.fileno()), str(held)], pass_fds=(listening.fileno(), held), env=env)
    threading.Thread(target=start, daemon=True).start()

    def end() -> None:
        os.environ.pop(ADDRESS, None)
        os.close(lifeline)  # the server, or the thread that waits for a reason to start it, reads the end of file
        shutil.rmtree(folder, ignore_errors=True)
    return end


# --- the server's side ------------------------------------------------------------------------------------------------

def preload() -> None:
    "Everything a command may import, but the two modules that are run as `__main__`."
    import fakeface
    for module in sorted(m.name for m in pkgutil.walk_packages(fakeface.__path__, "fakeface.")):
        if module in ("fakeface.cli.main", "fakeface.__main__"): continue
        with contextlib.suppress(ImportError): importlib.import_module(module)  # of an extra that is not installed
    for module in LATER:
        with contextlib.suppress(ImportError): importlib.import_module(module)
    assert len(os.listdir("/proc/self/task")) == 1, f"a fork of a process with threads may hang: {threading.enumerate()}"
    gc.collect()
    gc.freeze()  # children share these pages


def serve(listening: socket.socket, lifeline: int) -> None:
    "Forks a child for every connection, and says its process number and in the end its status, until the session ends."
    here = [p for p in sys.path[1:] if p not in os.environ["PYTHONPATH"].split(os.pathsep)]
    preload()
    lines: dict[int, socket.socket] = {}
    woken, bell = socket.socketpair()
    for end in (woken, bell): end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as ready:
        for source in (listening, lifeline, woken): ready.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj == lifeline: return
                if key.fileobj is woken: reap(lines, woken)
                if key.fileobj is not listening: continue
                line, _ = listening.accept()
                asked, handles, *_ = socket.recv_fds(line, LONGEST, 3)
                if pid := os.fork():
                    for handle in handles: os.close(handle)
                    lines[pid] = line
                    line.send(struct.pack("i", pid))
                    continue
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (listening, line, woken, bell, *lines.values()): end.close()
                os.close(lifeline)
                ready.close()
                be(*pickle.loads(asked), handles, here)


def reap(lines: dict[int, socket.socket], woken: socket.socket) -> None:
    "Hands on the status of every child that has ended."
    with contextlib.suppress(BlockingIOError): woken.recv(4096)
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid: return
            with lines.pop(pid) as line, contextlib.suppress(OSError): line.send(struct.pack("i", status))


def be(args: list[str], cwd: str, env: dict[str, str], handles: Sequence[int], path: list[str]) -> None:
    "This child becomes `python ARGS`; it does not return."
    for number, handle in enumerate(array.array("i", handles)):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    import numpy as np
    import torch
    np.random.seed(None)
    if (threads := int(env.get("OMP_NUM_THREADS") or os.cpu_count())) > 1: torch.set_num_threads(threads)
    tempfile.tempdir = None
    first = {"-m": os.getcwd(), "-c": ""}.get(args[0]) if args[0][:1] == "-" else str(Path(args[0]).resolve().parent)
    sys.path[:] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *path]
    code = ended(args)
    with contextlib.suppress(BaseException): threading._shutdown()
    with contextlib.suppress(BaseException): atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try: stream.flush()
        except OSError: code = code or 120  # as Python does
    os._exit(code)


def ended(args: list[str]) -> int:
    "Runs it as `__main__`; its exit code."
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        if args[0] == "-m":
            sys.argv = args[1:]
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        elif args[0] == "-c":
            sys.argv = ["-c", *args[2:]]
            exec(compile(args[1], "<string>", "exec"), main.__dict__)
        else:
            sys.argv = args
            runpy.run_path(args[0], run_name="__main__")
    except SystemExit as e:
        if isinstance(e.code, str): print(e.code, file=sys.stderr)
        return 1 if isinstance(e.code, str) else e.code or 0
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
