"""Checks on the tree that no notebook can make about itself: `python tools/check.py all`, or some of them by name.

Each failure is one line: the file, the cell, what is wrong and the mend.
"""
import argparse
import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))  # so that it also works when loaded from elsewhere
import links  # noqa: E402
import readme  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MAX_CELL, MAX_MODULE, MAX_BYTES = 25, 700, 1_000_000  # lines of an exported cell; of a module; of a notebook

EXPORTS = {"export", "exports", "exporti"}
# What nbdev 2 acts on, and the notes for its documentation. Other words it takes in silently and does nothing.
KNOWN = EXPORTS | {"default_exp", "exec_doc", "hide", "hide_line", "filter_stream", "eval:", "echo:", "output:",
                   "code-fold:", "code-summary:"}
# How nbdev itself finds a directive: blanks may stand anywhere, and a colon may follow the name.
DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(?P<name>[\w-]*)(?P<colon>\s*:)?(?P<rest>.*)$")
# A comment that holds nothing but a directive's name and was surely meant as one: `# export`, `##| hide`, `#!export`.
NEAR_MISS = re.compile(r"^\s*#+\s*[^\w\s]?\s*(?P<name>default_exp\s+\S+|exports?|exporti|hide|exec_doc)\s*:?\s*$", re.I)
STAR = re.compile(r"^\s*from\s+\S+\s+import\s+\*", re.M)
# A path of somebody's machine; the lookbehind lets relative paths and addresses pass.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|tmp|work|mnt|Users|var/folders)/[\w.~/-]+|\b[A-Z]:\\Users\\\w+")


class Finding(NamedTuple):
    "One thing to mend."
    file: str
    cell: int | None  # counted from 1, as they stand in the notebook
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.file}{f' cell {self.cell}' if self.cell else ''}: {self.what}; {self.mend}"


# --- directives: what can be seen by reading --------------------------------------------------------------------------

def notebooks(root: Path) -> list[Path]:
    "The notebooks nbdev looks at: all under nbs/ but those whose name, or whose folder's name, starts with `.` or `_`."
    nbs = root / "nbs"
    return sorted(p for p in nbs.rglob("*.ipynb") if not any(s[0] in "._" for s in p.relative_to(nbs).parts))


def tst_flags(root: Path) -> set[str]:
    "The flags of settings.ini's `tst_flags`, which are directives too."
    ini = ConfigParser(interpolation=None)
    ini.read(root / "settings.ini", encoding="utf-8")
    return set(ini["DEFAULT"].get("tst_flags", "notest").split())


def source(cell: dict) -> str:
    "The text of a cell, which is stored as a string or as a list of lines."
    return "".join(cell.get("source", ""))


def comments(src: str) -> list[tuple[int, str]]:
    "Line number from 0 and text of each line that is a comment, and not part of a string."
    lines = src.splitlines()
    # A magic or shell line is no Python: blank it, so that what follows can still be read.
    python = "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in lines) + "\n"
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(python).readline))
    except (tokenize.TokenError, SyntaxError):
        return [(i, line) for i, line in enumerate(lines) if line.lstrip().startswith("#")]
    at = [t.start[0] - 1 for t in tokens if t.type == tokenize.COMMENT and t.line.lstrip().startswith("#")]
    return [(i, lines[i]) for i in at]


def leading(src: str) -> int:
    "How many lines stand before the first line of code; nbdev reads directives only there."
    lines = src.splitlines()
    for i, line in enumerate(lines):
        if line.strip() and not DIRECTIVE.match(line) and not re.match(r"\s*%%\w+", line):
            return i
    return len(lines)


def directives(src: str) -> dict[str, str]:
    "Name to argument of those directives of a cell that nbdev acts on."
    found = (DIRECTIVE.match(line) for line in src.splitlines()[:leading(src)])
    return {m["name"] + (":" if m["colon"] and m["rest"].strip() else ""): m["rest"].strip() for m in found if m}


def lint_directives(src: str, known: set[str]) -> Iterator[tuple[str, str]]:
    "What and mend of each directive of a code cell that would not do what it says."
    start = leading(src)
    for i, line in comments(src):
        text, m = line.strip(), DIRECTIVE.match(line)
        if not m:
            if NEAR_MISS.match(line):
                name = NEAR_MISS.match(line)["name"]
                yield f"nbdev reads `{text}` as a plain comment", f"write `#| {name.lower()}`"
            continue
        name, arg = m["name"], m["rest"].strip()
        if m["colon"] and not arg:
            yield f"`{text}` ends in a colon, and nbdev then comments out the line below", f"write `#| {name}`"
        elif name + (":" if m["colon"] else "") not in known:
            words = sorted(known)
            near = difflib.get_close_matches(name.lower(), words, 1) or [w for w in words if w == f"{name}:"]
            yield (f"nbdev knows no directive `{text}` and does nothing",
                   f"write `#| {near[0]}`" if near else "take one of " + ", ".join(words))
        elif i >= start:
            yield f"`{text}` stands below the first line of code, where nbdev does not look", "move it to the top"


def lint_cell(cell: dict, known: set[str], study: bool) -> Iterator[tuple[str, str]]:
    "What and mend of each thing wrong with one cell."
    src = source(cell)
    if hit := MACHINE_PATH.search(src):
        yield f"names a path of one machine, `{hit[0]}`", "use a relative path or a temporary folder"
    if cell["cell_type"] != "code":
        first = src.lstrip().partition("\n")[0]
        if (m := DIRECTIVE.match(first)) and m["name"]:
            yield f"`{first.strip()}` in a {cell['cell_type']} cell does nothing", "make it a code cell"
        return
    if re.search(r"\bexpect_fail\(\s*lambda", src):
        yield "`expect_fail(lambda: ...)` tests nothing (it is a context manager)", "write `test_fail(lambda: ..., contains=...)`"
    yield from lint_directives(src, known)
    if EXPORTS & directives(src).keys():
        if (n := len([line for line in src.splitlines() if not DIRECTIVE.match(line)])) > MAX_CELL:
            yield f"{n} lines in one exported cell, {MAX_CELL} are allowed", "split it into smaller functions"
        if STAR.search(src):
            yield "`import *` in an exported cell", "name what is imported"
        if re.search(r"^\s*[%!]", src, re.M):
            yield "a magic or shell line in an exported cell would stand in the module", "give it a cell of its own"
        if study:
            yield "exports from a study", "move the helper into a module's notebook"
    for output in cell.get("outputs", []):
        yield from lint_output(output)


def lint_output(output: dict) -> Iterator[tuple[str, str]]:
    "What and mend of each thing that must not stand in a stored output."
    if output.get("name") == "stderr":
        yield "the outputs hold stderr", "silence the warning at its root and run the cell again"
    if output.get("output_type") == "error":
        yield f"the outputs hold a traceback ({output.get('ename')})", "mend the cell and run it again"
    texts = [output.get("text", ""), output.get("traceback", "")]
    texts += [v for k, v in output.get("data", {}).items() if not k.startswith("image/") or "svg" in k]
    for text in texts:
        text = text if isinstance(text, str) else "".join(text) if isinstance(text, list) else json.dumps(text)
        if hit := MACHINE_PATH.search(text):
            yield f"an output shows a path of one machine, `{hit[0]}`", "print a relative path and run the cell again"


def lint_notebook(path: Path, root: Path, known: set[str]) -> tuple[list[Finding], str | None]:
    "The findings of one notebook, and the module that it makes."
    name, parts = path.relative_to(root).as_posix(), path.relative_to(root / "nbs").parts
    study, index = parts[0] == "studies", parts == ("index.ipynb",)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError):
        return [Finding(name, None, "cannot be read as a notebook", "see whether a merge broke it")], None
    found = [Finding(name, i, *f) for i, c in enumerate(cells, 1) for f in lint_cell(c, known, study)]
    if (size := path.stat().st_size) > MAX_BYTES:
        found.append(Finding(name, None, f"{size / 1e6:.1f} MB, {MAX_BYTES / 1e6:.0f} are allowed",
                             "show fewer or smaller pictures"))
    code = [directives(source(c)) for c in cells if c["cell_type"] == "code"]
    module = next((d["default_exp"].split()[0] for d in code if d.get("default_exp")), None)
    if module is None and not study and not index:
        found.append(Finding(name, None, "no `#| default_exp`, so it makes no module",
                             "add it, or move it to nbs/studies"))
    elif module and not re.fullmatch(rf"\d\d_{re.escape(module)}", path.stem):
        found.append(Finding(name, None, f"makes `{module}` under another name", f"call it NN_{module}.ipynb"))
    return found, module


def check_directives(root: Path) -> list[Finding]:
    "Everything about notebooks and modules that can be seen by reading them."
    known, found, makers = KNOWN | tst_flags(root), [], {}
    for path in notebooks(root):
        more, module = lint_notebook(path, root, known)
        found += more
        name = path.relative_to(root).as_posix()
        if module in makers:
            found.append(Finding(name, None, f"makes `{module}`, which {makers[module]} makes too", "merge or rename"))
        elif module:
            makers[module] = name
    for path in sorted((root / "fakeface").rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_MODULE and path.name != "_modidx.py":
            found.append(Finding(path.relative_to(root).as_posix(), None,
                                 f"{lines} lines, {MAX_MODULE} are allowed", "give a part of it its own notebook"))
    return found


# --- export, clean, README: what is seen by making it again -----------------------------------------------------------

def remake(root: Path, work: Path, command: str) -> list[Finding]:
    "Copy what nbdev works on into the folder `work` and run nbdev's `module:function` there; a finding if it fails."
    shutil.copy(root / "settings.ini", work)
    for name in ("nbs", "fakeface"):
        shutil.copytree(root / name, work / name,
                        ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"))
    for path in (work / "fakeface").rglob("*.py"):
        if path.name != "__init__.py":  # so that a module whose notebook is gone does not survive
            path.unlink()
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}  # with IN_TEST set nbdev_export does nothing
    module, function = command.split(":")
    code = f"from {module} import {function}; {function}.__wrapped__()"
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=env, capture_output=True, text=True)
    why = (done.stderr.strip() or "no message").splitlines()[-1]
    return [Finding("nbs", None, f"{function} failed: {why}", f"run `{function}` to see where")] * bool(done.returncode)


def first_difference(old: str, new: str) -> int:
    "Number, from 1, of the first line in which two texts differ."
    a, b = old.splitlines(), new.splitlines()
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False), 1) if x != y), min(len(a), len(b)) + 1)


def maker(text: str, line: int) -> str:
    "Which cell made `line` of a module: nbdev writes its notebook and id above each."
    marks = re.findall(r"^# %% (?:\.\./)*(\S+\.ipynb) #(\S+)", "\n".join(text.splitlines()[:line]), re.M)
    return f" (made by {marks[-1][0]}, cell id {marks[-1][1]})" if marks else ""


def check_export(root: Path) -> list[Finding]:
    "Whether fakeface/ is what the notebooks export."
    found = []
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        if failed := remake(root, work, "nbdev.doclinks:nbdev_export"):
            return failed
        have, want = ({p.relative_to(base / "fakeface").as_posix(): p.read_text(encoding="utf-8")
                       for p in (base / "fakeface").rglob("*.py")} for base in (root, work))
    for name in sorted(have.keys() | want.keys()):
        file = f"fakeface/{name}"
        if name not in want:
            found.append(Finding(file, None, "no notebook makes it", "delete it, or bring its notebook back"))
        elif name not in have:
            found.append(Finding(file, None, "the notebooks make it, but it is missing", "run `nbdev_export`"))
        elif have[name] != want[name]:
            line = first_difference(have[name], want[name])
            found.append(Finding(file, None, f"line {line} is not what the notebooks export{maker(want[name], line)}",
                                 "change the notebook, never the module, and run `nbdev_export`"))
    return found


def check_clean(root: Path) -> list[Finding]:
    "Whether the notebooks are as `nbdev_clean` leaves them."
    found = []
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        if failed := remake(root, work, "nbdev.clean:nbdev_clean"):
            return failed
        for path in notebooks(root):
            file = path.relative_to(root)
            old, new = path.read_text(encoding="utf-8"), (work / file).read_text(encoding="utf-8")
            if old == new:
                continue
            pairs = zip(json.loads(old)["cells"], json.loads(new)["cells"], strict=False)
            cell = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), None)
            found.append(Finding(file.as_posix(), cell, f"not clean from line {first_difference(old, new)}",
                                 "run `nbdev_clean`"))
    return found


def check_readme(root: Path) -> list[Finding]:
    "Whether README.md and its pictures are what nbs/index.ipynb makes."
    if not (root / readme.NOTEBOOK).exists():
        return [Finding(readme.NOTEBOOK, None, "missing, and README.md is made from it", "write it")]
    found = []
    for name, want in readme.render(root).items():
        if not (root / name).exists():
            found.append(Finding(name, None, f"{readme.NOTEBOOK} makes it, but it is missing", "run `make readme`"))
        elif (root / name).read_bytes() != want:
            found.append(Finding(name, None, f"not what {readme.NOTEBOOK} makes", "run `make readme`"))
    found += [Finding(name, None, f"{readme.NOTEBOOK} does not make it", "run `make readme`")
              for name in readme.leftovers(root)]
    return found


def check_links(root: Path) -> list[Finding]:
    "Links inside the repository that lead nowhere: README.md, CONTRIBUTING.md, CHANGELOG.md, docs/ and the notebooks."
    return [Finding(d.file, d.cell, f"the link {d.target}: {d.why}", "mend the link, or bring back what it led to")
            for d in links.dead_links(root)]


CHECKS = {"directives": check_directives, "export": check_export, "clean": check_clean, "readme": check_readme, "links": check_links}


def main() -> int:
    "Run the named checks, print what they find, and say with the exit code whether they found anything."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("check", nargs="+", choices=[*CHECKS, "all"])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: the one this file is in)")
    args = parser.parse_args()
    names = list(CHECKS) if "all" in args.check else args.check
    failed = 0
    for name in names:
        found = CHECKS[name](args.root)
        failed += len(found)
        print(f"{name}: {f'{len(found)} to mend' if found else 'ok'}", *found, sep="\n  ")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
