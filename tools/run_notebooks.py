"""Run notebooks in place and store what they show: `python tools/run_notebooks.py nbs/studies/*.ipynb`.

Cells that nbdev_test would skip keep the outputs they have. What goes to stderr is printed and not stored. Pictures are stored with at
most 256 colours, so that no notebook is larger than it need be; `--shrink` does that alone and runs nothing. With `--into FOLDER` the
notebook stays as it is, and a copy that was run, with a page to read, is written there.
"""
import argparse
import base64
import io
import json
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbdev.clean import nbdev_clean
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402

SMALL = 4_000  # bytes: smaller pictures stay as they are


def with_palette(data: bytes) -> bytes:
    "A PNG of the same pixels in at most 256 colours, or the one that came where that is no smaller."
    image = Image.open(io.BytesIO(data))
    if image.mode == "P" or len(data) < SMALL:
        return data
    image = image.convert("RGBA")
    if opaque := image.getextrema()[3][0] == 255:
        image = image.convert("RGB")
    # of Pillow's ways the one that leaves no small patch of a rare colour grey; it cannot do transparency
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4) if opaque else image.quantize(256, Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return min(data, buffer.getvalue(), key=len)


def shrink(cells: list[dict]) -> None:
    "Stores the pictures of code cells small: one PNG with a palette, and no JPEG beside it."
    for output in (o for c in cells if c["cell_type"] == "code" for o in c["outputs"]):
        data = output.get("data", {})
        if "image/png" in data:
            png = base64.b64decode("".join(data["image/png"]))
            data["image/png"] = base64.b64encode(with_palette(png)).decode()
            data.pop("image/jpeg", None)


def shrink_file(path: Path) -> None:
    "Makes the pictures of a notebook small, in place, in the form in which nbdev_clean leaves it; nothing is run."
    nb, before = json.loads(path.read_text(encoding="utf-8")), path.stat().st_size
    shrink(nb["cells"])
    path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {before / 1e6:.2f} MB -> {path.stat().st_size / 1e6:.2f} MB")


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
    shrink(nb.cells)
    if into:
        into.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, into / path.name)
        page = into / f"{path.stem}.html"
        page.write_text(HTMLExporter().from_notebook_node(nb)[0], encoding="utf-8")
        print(page)
    else:
        nbformat.write(nb, path)
        nbdev_clean.__wrapped__(str(path))


def run_all(paths: list[Path], into: Path | None) -> list[str]:
    "Run notebooks one after the other, say how long each took, and return the names of those that failed."
    flags, failed = check.tst_flags(check.ROOT), []
    for path in paths:
        began = time.time()
        try:
            run(path, flags, into)
        except CellExecutionError as error:
            failed.append(str(path))
            print(f"{path}: left as it was, a cell failed:\n{error}", file=sys.stderr)
        else:
            print(f"{path}: {time.time() - began:.0f} s", flush=True)
    return failed


def main() -> int:
    "Run the notebooks named on the command line, one after the other, and say which failed."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="leave the notebooks as they are; write run copies and pages there")
    parser.add_argument("--shrink", action="store_true", help="run nothing; store the pictures that are there with fewer colours")
    args = parser.parse_args()
    if args.shrink:
        for path in args.notebooks:
            shrink_file(path)
        return 0
    os.environ["IN_TEST"] = "1"  # as under nbdev_test: an `nbdev_export()` at the end of a notebook then does nothing
    failed = run_all(args.notebooks, args.into)
    if failed:
        print("Failed: " + ", ".join(failed), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
