"""Our ways of doing the work beside plain fastai's (or an earlier commit's), on the same files: one table, and its CSV.

    python benchmarks/speed.py                     # all rows
    python benchmarks/speed.py --only loader,maps  # some files of benchmarks/timing
    python benchmarks/speed.py --older ../older    # with a checkout of an earlier commit, for the rows that compare with one
    python benchmarks/speed.py --gpu               # training and scoring at 224 on the GPU, and how long it waits for data

Each file of `benchmarks/timing` runs in a process of its own, on one thread; the two ways take turns in one run. A ratio is the other
way's CPU seconds over ours, medians; seconds on the clock, the largest difference of pixels and of answers, and AUCs stand beside.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from timing.common import machine, one_thread  # noqa: E402

SUBJECTS = [p.stem for p in sorted((HERE / "timing").glob("*.py")) if p.stem not in ("__init__", "common", "gpu")]
CSV = HERE.parent / "data_manifests/reference/speed.csv"


def measured(subject: str, args: argparse.Namespace) -> list[dict]:
    "The rows of one file, measured in a process of its own."
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        code = (f"import sys, json; sys.path.insert(0, {str(HERE)!r}); from timing.common import one_thread, machine; one_thread()\n"
                f"from timing.{subject} import measure; rows = measure({args.older!r}, {args.quick!r})\n"
                f"open({str(out)!r}, 'w').write(json.dumps([r.as_dict() | dict(machine=machine()) for r in rows]))")
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        if subprocess.run([sys.executable, "-c", code], env=env).returncode: sys.exit(f"timing/{subject}.py failed")
        return [dict(subject=subject) | row for row in json.loads(out.read_text())]


def shown(rows: list[dict]) -> str:
    "The table, for a terminal."
    heads = ("work", "against", "n", "CPU s", "theirs", "ratio", "aim", "on the clock", "|pixel|", "|p|", "AUC", "note")
    def cell(v, form="{}"): return "" if v in (None, "") else form.format(v)
    lines = [(r["work"], r["against"], f"{r['n']:,}", f"{r['cpu']:.3f}", f"{r['cpu_against']:.3f}", f"{r['ratio']:.2f}x",
              cell(r["least"], "{}x"), f"{r['ratio_wall']:.2f}x", cell(r["pixels"]), cell(r["p"], "{:.1e}"), cell(r["auc"], "{:+.4f}"),
              cell(r["note"])) for r in rows]
    wide = [max(len(str(line[i])) for line in [heads, *lines]) for i in range(len(heads))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(line, wide)).rstrip() for line in [heads, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--older", help="a checkout of an earlier commit")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: to see that every row runs")
    parser.add_argument("--gpu", action="store_true", help="the rows of timing/gpu.py alone")
    parser.add_argument("--csv", type=Path, help=f"where the table goes, such as {CSV.relative_to(HERE.parent)}; other rows stay")
    args = parser.parse_args()
    one_thread()
    asked = ["gpu"] if args.gpu else [s for s in args.only.split(",") if s] or SUBJECTS
    if strange := [s for s in asked if s not in (*SUBJECTS, "gpu")]:
        parser.error(f"no timing/{strange[0]}.py; there is {', '.join(SUBJECTS)}")
    rows = [row for subject in asked for row in measured(subject, args)]
    print(machine(), shown(rows), sep="\n")
    if args.csv and rows: write(rows, args.csv)


def write(rows: list[dict], file: Path) -> None:
    "The CSV anew; rows of subjects that were not asked stay as they are."
    kept = [r for r in csv.DictReader(file.open(encoding="utf-8"))] if file.exists() else []
    both = sorted([*(r for r in kept if r["subject"] not in {r["subject"] for r in rows}), *rows], key=lambda r: r["subject"])
    with file.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, list(both[0]), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(both)


if __name__ == "__main__": main()
