"""Every notebook as a test of its own: `pytest tests/notebooks.py`. For `make test`, which shares all work out among its processes.

It is `nbdev_test` that runs, with the notebooks it takes and the flags of settings.ini: once a notebook, each in a fresh process. The plain
command `nbdev_test` does the same, several notebooks a process. A plain `pytest` leaves them out.
"""
import os
from pathlib import Path

import forked
import pytest
from nbdev.doclinks import nbglob

ROOT = Path(__file__).resolve().parents[1]
TEST = "import sys; from nbdev.test import nbdev_test; nbdev_test.__wrapped__(path=sys.argv[1], n_workers=0)"
SHORT = dict(FAKEFACE_IMAGES="1000", FAKEFACE_SEEDS="1", FAKEFACE_STEPS="nothing,alignment,all")  # what nobody set
STUDY = dict(FAKEFACE_IMAGES="400", FAKEFACE_EPOCHS="1")  # of a study, whose figures come of `make studies`: here every cell has to run
NOTEBOOKS = sorted((p.relative_to(ROOT).as_posix() for p in nbglob(ROOT / "nbs", as_path=True)),
                   key=lambda name: ("/studies/" not in name, name))  # the longest first, so that no process is left with one at the end


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name):
    short = {**SHORT, **(STUDY if "/studies/" in name else {})}
    done = forked.run(["-c", TEST, ROOT / name], cwd=ROOT, capture_output=True, text=True, env={**short, **os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] == ["Success."]
