"The store of what was read of files: by content, never stale, never fatal, whole after a kill."
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fakeface.audit.shortcuts as shortcuts
import fakeface.data.faces as faces
import fakeface.data.manifest as manifest
from fakeface.core.basics import DataNote
from fakeface.data.duplicates import read_thumbnails
from fakeface.data.images import RejectedImage
from fakeface.data.manifest import read_facts
from fakeface.data.store import store_file

ROOT = Path(__file__).resolve().parents[1]
N = 60
NAMES = [f"{i}.jpg" for i in range(N)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in NAMES: Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def forbidden(*args, **kwargs):
    raise AssertionError("opened again")


def notes(call):
    "What a call returns, and its notes."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call()
    return value, [str(w.message) for w in caught if issubclass(w.category, DataNote)]


def child(code, *args, **env):
    "A Python of its own."
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], env=os.environ | {"PYTHONPATH": str(ROOT)} | env)


# --- by content -------------------------------------------------------------------------------------------------------

def test_the_second_time_no_file_is_opened(folder, monkeypatch):
    first = read_facts(folder, NAMES, thumbnails=True), read_thumbnails(NAMES, folder), shortcuts.read_features(NAMES, folder)
    for module, name in ((manifest, "image_facts"), (shortcuts, "read_file")): monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr("builtins.open", forbidden)
    again = read_facts(folder, NAMES, thumbnails=True), read_thumbnails(NAMES, folder), shortcuts.read_features(NAMES, folder)
    pd.testing.assert_frame_equal(again[0], first[0])
    assert (again[1] == first[1]).all() and (again[2].thumbnails == first[1]).all()
    for name, x in first[2].values.items(): np.testing.assert_array_equal(again[2].values[name], x)


def test_thumbnails_of_a_scan_are_those_of_the_pixels(folder):
    read_facts(folder, NAMES, thumbnails=True)
    kept = read_thumbnails(NAMES, folder)
    os.environ["FAKEFACE_CACHE"] += "-none"
    assert (read_thumbnails(NAMES, folder) == kept).all() and kept.std() > 5


def test_what_was_measured_holds_for_the_same_bytes_under_another_path(folder, tmp_path, monkeypatch):
    before = shortcuts.read_features(NAMES, folder).values["spectrum"]
    shutil.move(folder, tmp_path / "moved")
    monkeypatch.setattr(shortcuts, "_features_of", forbidden)
    np.testing.assert_array_equal(shortcuts.read_features(NAMES, tmp_path / "moved").values["spectrum"], before)


def test_a_changed_file_is_measured_anew(folder):
    before = shortcuts.read_features(NAMES, folder)
    kept = os.stat(folder / "3.jpg")
    shutil.copy(folder / "4.jpg", folder / "3.jpg")
    os.utime(folder / "3.jpg", ns=(kept.st_atime_ns, kept.st_mtime_ns)) # as old as before by its date
    after = shortcuts.read_features(NAMES, folder)
    changed = (after.thumbnails != before.thumbnails).any((1, 2))
    assert np.flatnonzero(changed).tolist() == [3]
    np.testing.assert_array_equal(after.values["colour"][3], before.values["colour"][4])


def test_an_error_of_the_system_is_not_kept_as_a_face_that_is_not_there(folder, monkeypatch):
    table, asked = pd.DataFrame({"path": NAMES[:3]}), []
    def lost(path): asked.append(path); raise RejectedImage("cannot be read (Input/output error)")
    monkeypatch.setitem(faces.DETECTORS, "blazeface", faces.DETECTORS["blazeface"]._replace(there=lambda: True))
    monkeypatch.setattr(faces, "open_rgb", lost)
    for _ in range(2): assert faces.face_points(table, folder, "blazeface", workers=1).isna().all(axis=None)
    assert len(asked) == 6


# --- never fatal ------------------------------------------------------------------------------------------------------

DAMAGE = {"empty": lambda b: b"", "header": lambda b: b[:100], "half": lambda b: b[:len(b) // 2], "text": lambda b: b"x" * 5000,
          "zeros": lambda b: b"\0" * len(b), "first page": lambda b: b[:4096] + bytes(len(b) - 4096),
          "overwritten": lambda b: b[:200] + b"\xff" * 8000 + b[8200:]}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_store_counts_as_none(damage, folder):
    facts = read_facts(folder, NAMES, thumbnails=True)
    thumbnails = read_thumbnails(NAMES, folder)
    store_file().write_bytes(damage(store_file().read_bytes()))
    again, told = notes(lambda: read_facts(folder, NAMES, thumbnails=True))
    pd.testing.assert_frame_equal(again, facts)
    assert all(f"{store_file().name}: unreadable cache" in t for t in told) and len(told) <= 1
    assert (read_thumbnails(NAMES, folder) == thumbnails).all()
    assert notes(lambda: read_facts(folder, NAMES))[1] == [] # it was begun anew


def test_a_store_of_other_tables_counts_as_none(folder):
    store_file().parent.mkdir(exist_ok=True)
    with sqlite3.connect(store_file()) as c: c.execute("CREATE TABLE files(path TEXT)")
    facts, told = notes(lambda: read_facts(folder, NAMES))
    assert facts["reason"].isna().all() and any("unreadable cache" in t for t in told)
    assert notes(lambda: read_facts(folder, NAMES))[1] == []


def test_where_nothing_can_be_kept_the_work_goes_on_and_a_note_says_so(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path / "file" / "cache"))
    facts, told = notes(lambda: read_facts(folder, NAMES))
    assert facts["reason"].isna().all() and any("not kept" in t and "FAKEFACE_CACHE" in t for t in told)
    assert read_thumbnails(NAMES, folder).shape == (N, 32, 32)


# --- several processes, and kills -------------------------------------------------------------------------------------

READ = """
import sys; from fakeface.data.duplicates import read_thumbnails; from fakeface.audit.shortcuts import read_features
names = [f"{i}.jpg" for i in range(60)]
for k in range(3): read_thumbnails(names[k::3], sys.argv[1], 1), read_features(names[::-1], sys.argv[1], workers=1)
"""
KILLED = """
import os, signal, sys
import fakeface.data.manifest as m
m._lot.__defaults__ = (10, 20)
def dies(path, read=m.image_facts):
    if path.endswith("/35.jpg"): os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
m.image_facts = dies
m.read_facts(sys.argv[1], [f"{i}.jpg" for i in range(60)], workers=1)
"""


def test_processes_that_read_the_same_files_at_once_leave_one_sound_store(folder):
    both = [child(READ, folder) for _ in range(3)]
    assert [p.wait(120) for p in both] == [0, 0, 0]
    with sqlite3.connect(store_file()) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = ("files", "contents", "of_thumbnail_2", "of_shortcuts_3")
        assert [c.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables] == [N] * 4


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_scan_goes_on_where_it_was(folder, monkeypatch):
    assert child(KILLED, folder).wait(120) == -9
    opened, read = [], manifest.image_facts
    monkeypatch.setattr(manifest, "image_facts", lambda path: opened.append(Path(path).name) or read(path))
    facts, told = notes(lambda: read_facts(folder, NAMES, workers=1))
    assert opened == NAMES[30:] and told == []
    monkeypatch.setenv("FAKEFACE_CACHE", os.environ["FAKEFACE_CACHE"] + "-none")
    pd.testing.assert_frame_equal(read_facts(folder, NAMES), facts)


def test_what_a_scan_keeps_costs_each_file_once(folder, monkeypatch):
    "A scan in many lots writes no more than one in a single lot: nothing that was kept is written again."
    written = []
    monkeypatch.setattr(manifest, "keep_files", lambda root, rows: written.append(len(list(rows))))
    monkeypatch.setattr(manifest._lot, "__defaults__", (7, 20))
    read_facts(folder, NAMES)
    assert sum(written) == N and max(written) == 7
