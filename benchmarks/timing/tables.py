"Scores, comparison and fairness of a table of a million rows, as the command line asks for them, against an earlier commit."
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing.common import EARLIER, Row, row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from rows import tables  # noqa: E402

HERE = Path(__file__).resolve().parent.parent.parent
LEAST = {"score": None, "compare": 1.9, "fairness": 9.8}  # 5 and 10 s against the 9.4 and 98 s of commit 21d2a6e


def measure(older: str | None, quick: bool) -> list[Row]:
    "A row a command. Without an earlier checkout there is nobody to compare with."
    if not older: return []
    n = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder)/f"{name}.parquet" for name in ("first", "second")]
        for table, file in zip(tables(n, 10, 0), files): table.to_parquet(file)
        return [_row(command, files[:1 + (command == "compare")], older, n, 1 if quick else 3) for command in LEAST]


def _row(command: str, files: list[Path], older: str, n: int, repeats: int) -> Row:
    "One command in both checkouts, in turns."
    ours, theirs = (lambda tree=tree: _asked(command, files, tree) for tree in (HERE, Path(older).resolve()))
    return row(f"fakeface {command}", EARLIER, n, ours, theirs, repeats, least=LEAST[command],
               note="each in a process of its own, import included")


def _asked(command: str, files: list[Path], tree: Path) -> None:
    "Asks; what is said goes nowhere."
    module = "fakeface.cli.main" if (tree/"fakeface/cli/main.py").is_file() else "fakeface.cli"
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", module, command, *map(str, files)], check=True, env=env, cwd=tree, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
