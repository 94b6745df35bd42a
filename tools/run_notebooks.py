"""Run notebooks in place and store what they show: `python tools/run_notebooks.py nbs/studies/*.ipynb`.

Cells that nbdev_test would skip keep the outputs they have. What goes to stderr is printed and not stored. With `--into FOLDER`
the notebook stays as it is, and a copy that was run, with a page to read, is written there.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbdev.clean import nbdev_clean

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402

os.environ["IN_TEST"] = "1"  # as under nbdev_test: an `nbdev_export()` at the end of a notebook then does nothing


def skipped(cell: dict, flags: set[str]) -> bool:
    "Whether nbdev_test would not run this cell."
    told = check.directives(check.source(cell))
    return cell["cell_type"] != "code" or told.get("eval:", "").lower() == "false" or bool(flags & told.keys())


def run(path: Path, flags: set[str], into: Path | None) -> None:
    "Run one notebook in its own folder, and write it back, clean, or to `into`, if all its cells went through."
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
    if into:
        into.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, into / path.name)
        page = into / f"{path.stem}.html"
        page.write_text(HTMLExporter().from_notebook_node(nb)[0], encoding="utf-8")
        print(page)
    else:
        nbformat.write(nb, path)
        nbdev_clean.__wrapped__(str(path))


def main() -> int:
    "Run the notebooks named on the command line, one after the other, and say which failed."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="leave the notebooks as they are; write run copies and pages there")
    args = parser.parse_args()
    flags, failed = check.tst_flags(check.ROOT), []
    for path in args.notebooks:
        began = time.time()
        try:
            run(path, flags, args.into)
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
