"""Predictions that are larger than memory: how long, and in how much memory, `fakeface.evaluate.big_tables` scores them.

    python benchmarks/big_tables.py                    # 5 million rows
    python benchmarks/big_tables.py --rows 100000000   # some 20 minutes and 15 GB of disk

The parts are drawn by DuckDB itself (people with ten images each, whose errors are partly the person's own) and written as Parquet files.
Each question is asked in a process of its own; told are seconds on the clock, CPU seconds and the peak memory of the whole process,
Python and libraries included, which has to stay below --most. The truth is known: the area under the curve of the normal scores that were
drawn, and whether it lies in the interval.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PART = 5_000_000  # rows a file
ASKED = {
    "scores, areas from bins": "print(told(score_big(t)))",
    "scores, areas exact": "print(told(score_big(t, exact=True)))",
    "groups by gender": "print(group_rates(t, ['gender']).drop(columns=['attribute']).round(5).to_string(index=False))",
    "the ledger's fingerprint": "print(*big_fingerprint(t, 'test'))",
}
CODE = """
import sys
from fakeface.evaluate.big_tables import BigTable, big_fingerprint, group_rates, score_big
def told(found):
    s = found['tests']['test']
    return {k: s[k] for k in ('n', 'accuracy', 'accuracy_ci95', 'auc', 'auc_ci95', 'auc_error', 'average_precision') if k in s}
with BigTable(sys.argv[1], sys.argv[2], int(sys.argv[3])) as t: ASKED
"""


def draw(folder: Path, rows: int, each: int) -> None:
    "Parts of predictions; a person's images share a part of their error."
    import duckdb
    con = duckdb.connect(config=dict(memory_limit="600MB", threads=1, temp_directory=str(folder/"spill")))
    for k, start in enumerate(range(0, rows, PART)):
        n = min(PART, rows - start)
        normal = "sqrt(-2 * ln(greatest({0}, 1e-12))) * cos(2 * pi() * {1})"  # Box and Muller
        uniform = lambda what: f"(hash({what}) / 18446744073709551616.0)"
        own, person = normal.format(uniform("i, 1"), uniform("i, 2")), normal.format(uniform("who, 3"), uniform("who, 4"))
        con.execute(f"""COPY (SELECT 'img/' || i || '.jpg' AS path, CASE WHEN fake THEN 'fake' ELSE 'real' END AS label,
            1 / (1 + exp(-(0.8 * {own} + 0.6 * {person} + CASE WHEN fake THEN 1.5 ELSE -1.5 END))) AS p_fake,
            CASE WHEN fake THEN 'drawn' ELSE 'photos' END AS source, 'p' || who AS subject,
            CASE WHEN who % 2 = 0 THEN 'female' ELSE 'male' END AS gender
            FROM (SELECT i, i % {max(1, rows // each)} AS who, hash(i, 5) % 2 = 0 AS fake FROM range({start}, {start + n}) r(i)))
            TO '{folder}/part-{k:05d}.parquet' (FORMAT parquet, COMPRESSION zstd)""")


def measured(folder: Path, asked: str, memory: str, threads: int) -> tuple[float, float, float, str]:
    "Seconds, CPU seconds, peak GB and what was said."
    code = CODE.replace("ASKED", ASKED[asked])
    env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), memory, str(threads)], stdout=out, env=env)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode: sys.exit(f"{asked}: ended with {process.returncode}")
        out.seek(0)
        return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, out.read().decode().strip()


def main() -> None:
    "Draws, asks, and says what was above the limit."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=5_000_000, help="%(default)s")
    p.add_argument("--each", type=int, default=10, help="images a person (%(default)s)")
    p.add_argument("--memory", default="500MB", help="for DuckDB (%(default)s)")
    p.add_argument("--most", type=float, default=1.0, help="GB that the whole process may take (%(default)s)")
    p.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    p.add_argument("--only", nargs="+", choices=list(ASKED), default=list(ASKED), metavar="QUESTION", help=", ".join(ASKED))
    p.add_argument("--folder", type=Path, help="where the parts lie or shall lie; default a temporary folder")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        if not list(folder.glob("*.parquet")): draw(folder, a.rows, a.each)
        size = sum(f.stat().st_size for f in folder.glob("*.parquet")) / 1e9
        print(f"{a.rows:,} rows in {size:.2f} GB, drawn in {time.perf_counter() - start:.0f} s", flush=True)
        peaks = []
        for asked in a.only:
            took, cpu, peak, said = measured(folder, asked, a.memory, a.threads)
            peaks.append(peak)
            print(f"{asked}: {took:.1f} s, {cpu:.1f} CPU s, {peak:.2f} GB\n{said}", flush=True)
    if max(peaks) > a.most: sys.exit(f"{max(peaks):.2f} GB is above the {a.most} GB that were allowed")


if __name__ == "__main__": main()
