"""Run the studies once on real faces: `FAKEFACE_DATA=/path/to/faces python tools/real_studies.py`, or some of them by number.

The notebooks stay as they are; run copies and pages, which show images, are written to runs/real. Figures alone, one file a part of a
study, go to data_manifests/reference/real, where the studies read them (`fakeface.experiments.study_tables`); why a part could not be run
goes to data_manifests/reference/real_left_out.csv.
What is set is fixed below: 96 pixels, three trainings and a share of every dataset with which a study takes minutes on a CPU; four epochs,
as two left the validation accuracy of a first trial of study 1 below the share of its larger class. No setting was chosen by a test's
score; those of that trial were seen. Worlds that a study draws have 1,000 images: what comes out of them stands in the study's own outputs.
"""
import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd

from fakeface import __version__
from fakeface.experiments.study_tables import package_commit

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402
import run_notebooks  # noqa: E402

TABLES = check.ROOT / "data_manifests" / "reference" / "real"
LEFT_OUT = TABLES.parent / "real_left_out.csv"
PAGES = check.ROOT / "runs" / "real"
COMMON = dict(PROFILE="published", WEIGHTS="package:efficientnet-lite0", EPOCHS=4, SIZE=96, SEEDS=3, SCALE=0.3, IMAGES=1000)
# What a study sets otherwise; None leaves its own. Two convolutions learn for 30 epochs, networks from scratch for more than others. Where
# there are dozens of trainings, they are smaller; study 3 has its own number of them, three, and two where it compares settings, study 8
# has two of each of its six steps. Study 7 divides its fakes in three. Study 11 shows a small holdout beside the figures of a long one.
DOZENS = dict(EPOCHS=3, SIZE=64, SCALE=0.2)
OWN = {"03": DOZENS | dict(SEEDS=None), "04": dict(EPOCHS=None, SCALE=None, SIZE=64), "05": dict(EPOCHS=6, SIZE=64), "07": dict(SCALE=0.5),
       "08": DOZENS | dict(SEEDS=2), "11": DOZENS | dict(SEEDS=None)}


def settings(number: str) -> dict[str, str]:
    "The environment variables of a study."
    asked = COMMON | OWN.get(number, {})
    return {f"FAKEFACE_{k}": str(v) for k, v in asked.items() if v is not None}


def left_out(page: Path) -> Iterator[tuple[str, str]]:
    "The parts that a study could not run, and why, as the copy that was run says."
    for cell in nbformat.read(page, as_version=4).cells:
        said = "".join(o.get("text", "") for o in cell.get("outputs", [])).strip()
        if said.startswith("Left out: "):
            for part in re.findall(r'beside_real\(settings, "([^"]+)"', cell.source): yield part, said.removeprefix("Left out: ")


def note_left_out(number: str, found: dict[str, str]) -> None:
    "The reasons of one study, in place of those that were noted before."
    have = pd.read_csv(LEFT_OUT, dtype=str) if LEFT_OUT.is_file() else pd.DataFrame(columns=["part", "why", "version", "commit"])
    rows = [dict(part=part, why=why, version=__version__, commit=package_commit()) for part, why in found.items()]
    table = pd.concat([have[~have["part"].str.startswith(number)], pd.DataFrame(rows, columns=have.columns)]).sort_values("part")
    if len(table): table.to_csv(LEFT_OUT, index=False)
    else: LEFT_OUT.unlink(missing_ok=True)


def main() -> int:
    "Run the studies one after the other; say how long each took, and which failed."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("numbers", nargs="*", help="such as 03; default all")
    asked = parser.parse_args().numbers
    data = os.environ.get("FAKEFACE_DATA")
    if not data or not Path(data).is_dir():
        print("FAKEFACE_DATA names no folder: make real-studies FAKEFACE_DATA=/path/to/faces", file=sys.stderr)
        return 1
    os.environ |= {"FAKEFACE_DATA": os.path.abspath(data), "FAKEFACE_TABLES": str(TABLES), "IN_TEST": "1"}
    began, failed = time.time(), []
    for path in sorted((check.ROOT / "nbs" / "studies").glob("[0-9]*.ipynb")):
        if asked and path.name[:2] not in asked:
            continue
        for name in [k for k in os.environ if k in {f"FAKEFACE_{c}" for c in COMMON}]:
            del os.environ[name]
        os.environ |= settings(path.name[:2])
        failed += (fails := run_notebooks.run_all([path], PAGES))
        if not fails: note_left_out(path.name[:2], dict(left_out(PAGES / path.name)))
    print(f"All: {time.time() - began:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
