"A real tiny run and series of runs, what may become of their folders, and the doors that open them."
import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .images import _maybe, _pick
from .verdicts import Silent, Verdict, command, knock

Rng = np.random.Generator
RECIPE = """name: tiny
title: a tiny run
train: [{source: utkface, count: 40}, {source: 1m_fake_faces, count: 40}]
tests:
  mixed: [{source: celeba, count: 30}, {source: 1m_fake_faces, count: 30}]
  ffhq: [{source: ffhq, count: 20}]
duplicates: drop
profiles:
  small: {model: small, size: 16, epochs: 1, batch_size: 16}
"""
GRID = "name: tiny\ntitle: two trials\nrecipe: recipe.yaml\nprofile: small\nscale: 0.5\naxes: {color: [rgb, grey]}\n"
TRANSFER = """name: tiny
title: two sets
sets:
  one: {real: [{source: utkface, count: 60}]}
  two: {real: [{source: celeba, count: 60}]}
fakes: [{source: 1m_fake_faces, count: 60}]
duplicates: drop
profiles:
  small: {model: small, size: 16, epochs: 1, batch_size: 16}
"""


class Store:
    "A folder with a world, a series of one or two runs and, where wanted, a grid and a transfer matrix; made once."
    def __init__(self, home: Path): self.home = home

    def build(self, all_series: bool = True) -> None: # two runs instead of one, a grid and a transfer matrix
        "Draws and trains."
        from fakeface.synthetic.world import build_world
        from fakeface.experiments.grid import run_grid
        from fakeface.experiments.seeds import run_seeds
        from fakeface.experiments.transfer import run_transfer
        self.home.mkdir(parents=True, exist_ok=True)
        build_world(self.root, images=200, size=16, sources=["utkface", "celeba", "ffhq", "1m_fake_faces"])
        for name, text in (("recipe", RECIPE), ("grid", GRID), ("transfer", TRANSFER)): (self.home/f"{name}.yaml").write_text(text)
        run_seeds(self.home/"recipe.yaml", self.root, self.home/"seeds", 1 + all_series, profile="small")
        if all_series:
            run_grid(self.home/"grid.yaml", self.root, self.home/"grid")
            run_transfer(self.home/"transfer.yaml", self.root, self.home/"transfer", profile="small")
        self._draw_small_root()
        rows = self.rows
        rows.to_csv(self.good, index=False)

    def _draw_small_root(self) -> None:
        "Some images where a `fakeface.yaml` may point, and some beside the root, where it must not."
        from PIL import Image
        for i, place in enumerate(("root/mine", "root/ffhq/images1024x1024", "root/utkface", "beside")):
            folder = self.home/"small"/place
            folder.mkdir(parents=True)
            for j in range(3): Image.effect_noise((20, 20), 40 + 10 * i + j).convert("RGB").save(folder/f"{j:05}.jpg")

    @property
    def root(self) -> Path: return self.home/"world"
    @property
    def small_root(self) -> Path: return self.home/"small"/"root"
    @property
    def run(self) -> Path: return self.home/"seeds"/"seed-0"
    @property
    def other(self) -> Path: return last if (last := self.home/"seeds"/"seed-1").is_dir() else self.run
    @property
    def trainings(self) -> int: return len(list((self.home/"seeds").glob("seed-*")))
    @property
    def good(self) -> Path: return self.home/"good.csv"
    @property
    def rows(self) -> pd.DataFrame: return pd.read_parquet(self.run/"predictions.parquet")

    @cached_property
    def scanned(self) -> Any:
        "What a data root with forty images of every part of every known source would hold; there are no files."
        from fakeface.data.manifest import Scan
        from fakeface.data.sources import KINDS, read_cards
        parts = [(c.name, part, s["kind"]) for c in read_cards().values() for part, s in next(iter(c.layouts.values())).items()]
        rows = [
            dict(
                path=f"{source}/{part}/{i}.jpg",
                source=source,
                part=part,
                kind=kind,
                label=KINDS[kind],
                split=None,
                subject=f"{source}/{i // 2}",
                width=64,
                height=64,
                format="JPEG",
                quality=90.0,
                bytes=900,
                sha256=f"{source}{part}{i}",
                marks=None,
                layout="a",
                age=float(i),
                gender="male",
                smile=0.5,
            )
            for source, part, kind in parts
            for i in range(40)
        ]
        return Scan(pd.DataFrame(rows), pd.DataFrame(columns=["path", "source", "reason"]))

    @cached_property
    def cards(self) -> set[str]:
        "The sources that the package knows."
        from fakeface.data.sources import read_cards
        return set(read_cards())

    @cached_property
    def series(self) -> list[tuple[Path, Callable[[Path], list]]]:
        "Note of a series, and the doors that open its folder."
        from fakeface.experiments.grid import grid_table, run_grid
        from fakeface.experiments.seeds import run_seeds
        from fakeface.experiments.transfer import run_transfer, transfer_table

        doors = {
            "seeds": lambda out: [
                ("compare", lambda: command("compare", out, self.run)),
                ("ledger", lambda: command("ledger", out.parent)),
                ("run_seeds", lambda: run_seeds(self.home / "recipe.yaml", self.root, out, self.trainings, profile="small")),
            ],
            "grid": lambda out: [
                ("grid_table", lambda: grid_table(out)),
                ("run_grid", lambda: run_grid(self.home / "grid.yaml", self.root, out)),
            ],
            "transfer": lambda out: [
                ("transfer_table", lambda: transfer_table(out)),
                ("run_transfer", lambda: run_transfer(self.home / "transfer.yaml", self.root, out, profile="small")),
            ],
        }
        return [(note, doors[k]) for k in doors if (note := self.home/k/f"{k}.json").is_file()]

    def copy_run(self, folder: Path) -> Path:
        "A copy of the run in a fresh folder, with the ledger beside it."
        shutil.rmtree(folder, ignore_errors=True)
        made = Path(shutil.copytree(self.run, folder/"damaged"))
        shutil.copy(self.run.parent/LEDGER, folder)
        return made

    def copy_series(self, note: Path, folder: Path) -> Path:
        "A copy of a whole series in a fresh folder."
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(note.parent, folder/"damaged"))


LEDGER = "test_use.jsonl" # beside the run folders
WHAT = ("remove", "cut", "cut", "flip", "flip", "empty", "text", "text", "swap", "folder", "link", "other run's")
TEXTS = (b"{}", b"null", b"5", b'"x"', b"\0" * 40, b"a,b\n1,2\n", b"name: x\n", b"PAR1PAR1", b"<html>", b'{"a": [', b"version https://git-lfs",
         b"[]", b"[1]", b"[{}]", b'{"tests": {}}', b'{"tests": 5}', b'{"settings": 5}', b'{"model": "small"}')


def damage(rng: Rng, run: Path, store: Store) -> list[str]:
    "Does something to one to three files of a run, or to the ledger beside it; says what."
    done = []
    for _ in range(int(_pick(rng, (1, 1, 1, 2, 3)))):
        files = sorted(p for p in run.parent.rglob("*") if p.is_file())
        if not files: break
        file = _pick(rng, files)
        what, data = _pick(rng, WHAT), file.read_bytes()
        if what == "remove": file.unlink()
        elif what == "cut": file.write_bytes(data[:int(rng.integers(len(data) + 1))])
        elif what == "flip":
            out = bytearray(data)
            for at in rng.integers(0, max(1, len(data)), int(rng.integers(1, 20))):
                if len(out): out[int(at)] = int(rng.integers(256))
            file.write_bytes(bytes(out))
        elif what == "empty": file.write_bytes(b"")
        elif what == "text": file.write_bytes(_pick(rng, (*TEXTS, rng.bytes(300))))
        elif what == "swap": file.write_bytes(_pick(rng, files).read_bytes())
        elif what == "folder":
            file.unlink()
            file.mkdir()
        elif what == "link":
            file.unlink()
            elsewhere = ("/dev/null", "/etc/hostname", str(store.other/file.name)) * (file.name != LEDGER) # which is written through
            os.symlink(_pick(rng, ("nowhere", file.name, *elsewhere)), file)
        elif (there := store.other/os.path.relpath(file, run)).is_file(): file.write_bytes(there.read_bytes())
        done.append(f"{what} {file.name}")
    if _maybe(rng, 0.15): done.append(_columns(rng, run))
    return done


def _columns(rng: Rng, run: Path) -> str:
    "A table of the run without one of its columns, with odd cells, or with fewer rows."
    file = _pick(rng, ("predictions.parquet", "manifest.parquet"))
    try: table = pd.read_parquet(run/file)
    except Exception: return f"no {file}"
    column, what = _pick(rng, list(table.columns)), _pick(rng, ("column", "blank", "rows", "twice", "text"))
    if what == "column": table = table.drop(columns=column)
    elif what == "blank": table[column] = None
    elif what == "rows": table = table.head(int(_pick(rng, (0, 1, 5))))
    elif what == "twice": table = pd.concat([table, table])
    else: table[column] = "x"
    table.to_parquet(run/file, index=False)
    return f"{what} {column} of {file}"


def try_run(rng: Rng, index: int, folder: Path, store: Store) -> tuple[str, list[Verdict]]:
    "Damages a copy of the run and tries it at three doors, at times at a slow one too; what was damaged and the verdicts."
    from .specs import SLOW, canary, run_doors
    run = store.copy_run(folder)
    done = damage(rng, run, store)
    doors = run_doors(run, store)
    quick, slow = [[d for d in doors if (d[0] in SLOW) == wanted] for wanted in (False, True)]
    some = [quick[(index + k) % len(quick)] for k in (0, 4, 8)] + [slow[index // 6 % len(slow)]] * (index % 6 == 0)
    names = ["damaged", *(d.rsplit(" ", 1)[-1] for d in done)]
    verdicts = [knock(name, call, names) for name, call in some]
    if not (store.run/"metrics.json").is_file(): raise Silent("the sound run was touched")
    return "; ".join(done), [*verdicts, *canary(folder)]
