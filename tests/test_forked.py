"A forked process of the tests is what `subprocess` would have started: `tests/forked.py`."
import os
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere Python is started anew")
SAYS = """
import atexit, json, os, sys, tempfile
def told(): print("at the end", file=sys.stderr)
atexit.register(told)
where = [os.getcwd(), tempfile.gettempdir(), os.environ.get("ASKED")]
print(json.dumps([sys.argv, sys.path[:2], where, sorted(vars()), __name__, sys.stdin.read()]))
"""
ENDS = ["pass", "import sys; sys.exit(3)", "import sys; sys.exit('no')", "raise ValueError('nobody thought of this')",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "raise KeyboardInterrupt", "import os; os._exit(7)", "print('x' * 300_000)"]


@pytest.mark.parametrize("args", [["-c", SAYS, "a", "b c"], ["says.py", "a"], ["-m", "says", "a"]], ids=lambda a: a[0])
def test_it_sees_what_a_started_python_sees(args, tmp_path):
    (tmp_path / "says.py").write_text(SAYS)
    (tmp_path / "tmp").mkdir()
    asked = dict(cwd=tmp_path, env={**os.environ, "ASKED": "yes", "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": "/first"})
    asked |= dict(capture_output=True, text=True)
    here = forked.run(args, **asked)
    real = subprocess.run([sys.executable, *args], stdin=subprocess.DEVNULL, **asked)
    assert "at the end" in here.stderr and str(tmp_path / "tmp") in here.stdout
    assert [here.returncode, here.stderr, *hidden(here.stdout)] == [real.returncode, real.stderr, *hidden(real.stdout)]


def hidden(said: str) -> list[str]:
    "The words, but for names that only one way of starting `__main__` gives it."
    return [w for w in said.replace('"__annotations__", ', "").split()]


@pytest.mark.parametrize("code", ENDS)
def test_it_ends_as_a_started_python_ends(code):
    here = forked.run(["-c", code], capture_output=True, text=True)
    real = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (here.returncode, here.stdout, here.stderr.splitlines()[-1:]) == (real.returncode, real.stdout, real.stderr.splitlines()[-1:])


def test_it_is_a_process_of_its_own_and_a_kill_ends_it_alone(tmp_path):
    code = "import os, sys, time; open(sys.argv[1], 'w').close(); print(os.getpid(), flush=True); time.sleep(600)"
    one, two = (forked.Popen(["-c", code, tmp_path / k], stdout=forked.PIPE, text=True) for k in "ab")
    assert [int(p.stdout.readline()) for p in (one, two)] == [one.pid, two.pid] and one.pid != two.pid
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"} and one.poll() is None
    with pytest.raises(subprocess.TimeoutExpired): one.wait(0.01)
    one.send_signal(signal.SIGKILL)
    assert one.wait(10) == -signal.SIGKILL and one.stdout.read() == "" and two.poll() is None
    two.terminate()
    assert two.wait(10) == -signal.SIGTERM


def test_the_command_is_the_command(tmp_path):
    for args in (["-m", "fakeface.cli.main", "sources", "--root", "."], ["-m", "fakeface.cli.main", "run", "man-7", "--root", "."]):
        asked = dict(capture_output=True, text=True, cwd=tmp_path)
        here, real = forked.run(args, **asked), subprocess.run([sys.executable, *args], **asked)
        assert (here.returncode, here.stdout, here.stderr) == (real.returncode, real.stdout, real.stderr)


def test_what_it_imports_is_this_checkout():
    code = "import fakeface, torch; print(fakeface.__file__, torch.get_num_threads())"
    done = forked.run(["-c", code], capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == [str(Path(__file__).resolve().parents[1] / "fakeface" / "__init__.py"), "1"]
