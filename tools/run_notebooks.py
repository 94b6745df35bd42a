"""Run notebooks in place and store what they show: `python tools/run_notebooks.py nbs/studies/*.ipynb`.

Cells that nbdev_test would skip keep the outputs they have. What goes to stderr is printed and not stored.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbdev.clean import nbdev_clean

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402

os.environ["IN_TEST"] = "1"  # as under nbdev_test: an `nbdev_export()` at the end of a notebook then does nothing


def skipped(cell: dict, flags: set[str]) -> bool:
    "Whether nbdev_test would not run this cell."
    told = check.directives(check.source(cell))
    return cell["cell_type"] != "code" or told.get("eval:", "").lower() == "false" or bool(flags & told.keys())


def run(path: Path, flags: set[str]) -> None:
    "Run one notebook in its own folder, and write it back, clean, if all its cells went through."
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(nb, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    with client.setup_kernel():
        for i, cell in enumerate(nb.cells):
            if skipped(cell, flags):
                continue
            client.execute_cell(cell, i)
            for output in cell.outputs:
                if output.get("name") == "stderr":
                    print(f"{path} cell {i + 1} wrote to stderr:\n{output.text}", file=sys.stderr)
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    nbformat.write(nb, path)
    nbdev_clean.__wrapped__(str(path))


def main() -> int:
    "Run the notebooks named on the command line, one after the other, and say which failed."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    flags, failed = check.tst_flags(check.ROOT), []
    for path in parser.parse_args().notebooks:
        began = time.time()
        try:
            run(path, flags)
        except CellExecutionError as error:
            failed.append(str(path))
            print(f"{path}: left as it was, a cell failed:\n{error}", file=sys.stderr)
        else:
            print(f"{path}: {time.time() - began:.0f} s")
    if failed:
        print("Failed: " + ", ".join(failed), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
