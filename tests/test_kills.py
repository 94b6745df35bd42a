"Commands are killed at random moments and at every call that changes a folder: the short form of `benchmarks/kills.py`."
import os
import re
import sys
from pathlib import Path

import forked
import pytest

HARNESS = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"
TASKS = ("planted", "windows:replace", "windows:table", "random:world", "random:ledger", "random:run")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the harness reads /proc")
def test_a_kill_loses_nothing_and_the_next_command_goes_on_and_cleans_up():
    here = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    done = forked.run([HARNESS, "--kills", "17", "--only", *TASKS], capture_output=True, text=True, env=here)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "planted: 4 of 4 faults found" in done.stdout  # it does see such faults
    assert re.search(r"^random: \d+ tries, 17 of them ended by it", done.stdout, re.MULTILINE)
    assert int(re.search(r"^windows: (\d+) tries", done.stdout, re.MULTILINE)[1]) > 20
