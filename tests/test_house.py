"The house rules that no single notebook can check: floors, import cost and side effects, annotations, and the linter."
import ast
import graphlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import check  # noqa: E402
import readme  # noqa: E402

PACKAGE = ROOT / "fakeface"

# A folder is a floor: a module imports from its own folder and from those before it in this list.
FOLDERS = ["core", "data", "synthetic", "audit", "evaluate", "train", "interpret", "report", "experiments", "serve", "cli"]
DOOR = "all"  # the front door, outside of them
MAIN = "__main__"  # the command line by the name of the package, above the others as well
LIGHT = {"core", "data", "synthetic"}  # import nothing heavy, but for these two, which are about it
PICTURES_AND_STATISTICS = {"core.style", "core.stats"}
WALL = FOLDERS.index("train")  # torch and fastai begin here
HEAVY = {"torch", "torchvision", "fastai", "timm", "matplotlib", "scipy", "sklearn", "IPython"}

PATHS = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p
         for p in sorted(PACKAGE.rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py")}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}
modules = pytest.mark.parametrize("name", PATHS)


def floor(name: str) -> int:
    "The floor of a module, which is its folder's; the front door is above them all."
    return len(FOLDERS) if name in (DOOR, MAIN) else FOLDERS.index(name.partition(".")[0])


def imported(name: str) -> set[str]:
    "The modules of this package that `name` imports anywhere, inside functions too."
    package, found = f"fakeface.{name}".rpartition(".")[0], set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {f.removeprefix("fakeface.") for f in found} & (PATHS.keys() - {name})


def python(code: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess:
    "Run `code` in a Python of its own that takes the package from this checkout."
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, *flags, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


# --- floors -----------------------------------------------------------------------------------------------------------

def test_every_module_lies_in_a_folder_of_the_list_and_every_folder_has_modules():
    assert {name.partition(".")[0] for name in PATHS} == {*FOLDERS, DOOR, MAIN}


@modules
def test_a_module_imports_nothing_from_a_folder_above(name):
    above = {m for m in imported(name) if floor(m) > floor(name)}
    assert not above, f"fakeface.{name} imports from above: {', '.join(sorted(above))}"


@modules
def test_no_module_imports_anothers_private_name(name):
    froms = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.ImportFrom) and (n.level or (n.module or "").startswith("fakeface"))]
    private = [a.name for n in froms for a in n.names if a.name.startswith("_") and a.name != "__version__"]
    assert not private, f"fakeface.{name} imports {', '.join(private)}: make it public, or keep it at home"


def test_the_tens_of_a_notebooks_number_are_its_floor_and_imports_point_to_smaller_numbers():
    "The last two floors, where people touch the house, share the nineties."
    numbers = {p.stem.partition("_")[2]: int(p.name[:2]) for p in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")}
    assert {name: n // 10 for name, n in numbers.items() if name != DOOR} == {name: min(floor(name), 9) for name in PATHS if name != DOOR}
    assert numbers[DOOR] == max(numbers.values())
    later = {f"{name} -> {m}" for name in PATHS for m in imported(name) if numbers[m] > numbers[name]}
    assert not later


def test_modules_do_not_import_each_other_in_a_circle():
    graphlib.TopologicalSorter({name: imported(name) for name in PATHS}).prepare()


@modules
def test_who_imports_fastai_first_hides_what_pytorch_warns_of(name):
    "`train.blocks` and `train.models` hide it themselves; others let a room of `train` that has fastai come first."
    lines = [n for n in TREES[name].body if isinstance(n, (ast.Import, ast.ImportFrom))]
    asked = [[a.name for a in n.names] if isinstance(n, ast.Import) else [f"{'.' * n.level}{n.module or ''}"] for n in lines]
    fastai = [k for k, names in enumerate(asked) if any(m.partition(".")[0] == "fastai" for m in names)]
    hidden = any(isinstance(n, ast.With) and "FutureWarning" in ast.unparse(n) for n in TREES[name].body)
    if not fastai or hidden: return
    rooms = {name.rpartition(".")[2] for name, tree in TREES.items() if name.startswith("train.") and "fastai" in ast.unparse(tree)}
    near = "." if name.startswith("train.") else "train." # how a room of `train` is named here
    before = {m.rpartition(".")[2] for names in asked[:fastai[0]] for m in names if near in m}
    assert before & rooms, f"fakeface.{name}: `import fakeface.train.blocks` before fastai, or a warning of PyTorch is everybody's"


@modules
def test_the_names_of_a_run_folders_files_stand_in_one_module(name):
    from fakeface.core.files import FILES
    texts = [n.value for n in ast.walk(TREES[name]) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    spelt = sorted({t for t in texts if Path(t).name in FILES.values()})
    assert not spelt or name == "core.files", f"fakeface.{name} spells {spelt}: write run_file(folder, PART)"


@modules
def test_a_module_says_in_one_line_what_it_holds_and_stands_on_the_maps(name):
    says, (folder, _, room) = ast.get_docstring(TREES[name]), name.rpartition(".")
    assert says and says.endswith(".") and len(says.splitlines()) == 1, f"fakeface.{name}: {says}"
    assert sum(ast.get_docstring(tree) == says for tree in TREES.values()) == 1, f"fakeface.{name} says what another module says"
    if not folder: return # the front door and the command line by the package's name
    assert f"| `{name}` | {says} |" in (ROOT/"README.md").read_text(encoding="utf-8"), "run nbs/index.ipynb, then make readme"
    picture = (ROOT/"CONTRIBUTING.md").read_text(encoding="utf-8").partition("```\n 9  cli/")[2].partition("```")[0]
    floors = dict(part.split("/", 1) for part in re.split(r"^ \d  ", f"cli/{picture}", flags=re.M))
    assert re.search(rf"\b{room}\b", floors[folder]), f"CONTRIBUTING's picture of {folder} lacks {room}"


def test_packages_import_nothing_by_themselves():
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(tree)), path


def loaded_by(names: list[str], cwd: Path) -> dict[str, set[str]]:
    """Module -> the top-level packages that importing it loads and that none before it in the list has loaded. One process imports them
    all, one after the other, so whatever one of them loads by itself is seen, at the first that does."""
    each = "print('import time: 0 | 0 | == {0}', file=sys.stderr, flush=True); import fakeface.{0}"
    imports = "\n".join(map(each.format, names))
    loaded: dict[str, set[str]] = {}
    for line in python(imports, "-X", "importtime", cwd=cwd).stderr.splitlines():
        if not line.startswith("import time:"): continue
        package = line.rpartition("|")[2].strip()
        if package.startswith("== "): loaded[package[3:]] = set()
        elif loaded: loaded[list(loaded)[-1]].add(package.partition(".")[0])
    assert list(loaded) == names and all("fakeface" in loaded[name] for name in names[:1])  # the listing was read
    return loaded


GROUND = [n for n in PATHS if n.partition(".")[0] in LIGHT and n not in PICTURES_AND_STATISTICS]
BELOW = [n for n in PATHS if FOLDERS.index("audit") <= floor(n) < WALL]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]: return loaded_by(GROUND, tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]: return loaded_by(BELOW, tmp_path_factory.mktemp("below"))


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_does_not_import_heavy_packages(name, ground):
    assert not ground[name] & HEAVY


@pytest.mark.parametrize("name", BELOW)
def test_no_torch_below_the_wall(name, below):
    assert not below[name] & {"torch", "torchvision", "fastai", "timm"}


def test_a_run_of_a_small_network_waits_for_neither_torchvision_nor_timm(tmp_path):
    seen = "import sys, fakeface.experiments.run; print(*sorted({'torchvision', 'timm', 'torch._dynamo'} & {*sys.modules}))"
    assert python(seen, cwd=tmp_path).stdout.strip() == ""
    assert python(seen.replace("experiments.run", "train.history"), cwd=tmp_path).stdout.strip() # what is looked for can be found


def test_the_listing_of_imports_names_the_module_that_loads_something_first(tmp_path):
    loaded = loaded_by(["core.basics", "core.style", "core.page"], tmp_path)
    assert [name for name, packages in loaded.items() if "matplotlib" in packages] == ["core.style"]


# --- side effects -----------------------------------------------------------------------------------------------------

SNAPSHOT = """
import os, pathlib, random
import fastai.vision.all as fastai, matplotlib, numpy, pandas, torch
from PIL import Image

PATCHABLE = (fastai.Learner, fastai.DataLoaders, fastai.DataBlock, fastai.Callback, fastai.Recorder, torch.Tensor,
             torch.nn.Module, pandas.DataFrame, pandas.Series, Image.Image, pathlib.Path)

def attributes(c):
    "What a class is made of; the two left out are filled in by Python itself, when they are first asked for."
    return {k: id(v) for k, v in vars(c).items() if k not in ("__doc__", "__abstractmethods__")}

def look():
    "Everything that an import must leave as it is."
    return {"files": sorted(map(str, pathlib.Path(".").rglob("*"))), "cwd": os.getcwd(), "environ": dict(os.environ),
            "random": random.getstate(), "numpy": str(numpy.random.get_state()), "torch": str(torch.get_rng_state()),
            "threads": torch.get_num_threads(), "matplotlib": (matplotlib.get_backend(), str(matplotlib.rcParams)),
            **{f"class {c.__name__}": attributes(c) for c in PATCHABLE}}
"""


CHANGES = f"{SNAPSHOT}\nbefore = look()\n%s\nafter = look(); print([k for k in before if before[k] != after[k]])"


def test_importing_every_module_changes_nothing_outside(tmp_path):
    done = python(CHANGES % "\n".join(f"import fakeface.{name}" for name in PATHS), cwd=tmp_path)
    assert ast.literal_eval(done.stdout) == []


def test_the_snapshot_sees_a_patched_learner_and_a_new_file(tmp_path):
    planted = "fastai.Learner.planted = lambda self: None\nopen('planted', 'w').close()"
    done = forked.run(["-c", CHANGES % planted], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == ["files", "class Learner"]


# --- how modules are written ------------------------------------------------------------------------------------------

def public(name: str) -> list[tuple[str, ast.FunctionDef]]:
    "The functions in a module's `__all__`, and the public methods and `__init__` of the classes in it."
    tree, found = TREES[name], []
    names = next((ast.literal_eval(n.value) for n in tree.body
                  if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"), [])
    for node in tree.body:
        if getattr(node, "name", None) not in names:
            continue
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        functions = [f for f in members if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))]
        found += [(f.name if f is node else f"{node.name}.{f.name}", f) for f in functions
                  if f.name[0] != "_" or f.name == "__init__"]
    return found


def unannotated(label: str, f: ast.FunctionDef) -> list[str]:
    "The parameters of a function without annotation, and `return`."
    a = f.args
    args = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    if "." in label and not any(getattr(d, "id", "") == "staticmethod" for d in f.decorator_list):
        args = args[1:]
    missing = [x.arg for x in args if x.annotation is None]
    return missing + ["return"] * (f.returns is None and f.name != "__init__")


@modules
def test_public_functions_are_annotated_and_have_a_docstring(name):
    bare = {label: unannotated(label, f) for label, f in public(name)}
    assert {label: missing for label, missing in bare.items() if missing} == {}
    mute = [label for label, f in public(name) if "." not in label and not ast.get_docstring(f)]
    assert mute == []


@modules
def test_a_module_has_no_star_import(name):
    stars = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    assert not stars, f"line {stars[0].lineno}"


# --- the linter, each of its rules on a planted notebook --------------------------------------------------------------

EXP = "#| export\n"
HOME = "/" + "home/somebody/data"  # in two pieces, so that this file itself names no machine's path
SETTINGS = """[DEFAULT]
lib_name = fakeface
lib_path = fakeface
nbs_path = nbs
repo = fakeface
user = fakeface
author = nobody
branch = main
version = 0.0.1
update_pyproject = False
tst_flags = slow
"""


def code(src: str, *outputs: dict) -> dict:
    "A code cell."
    return {"cell_type": "code", "metadata": {}, "source": src, "execution_count": None, "outputs": list(outputs)}


def markdown(src: str) -> dict:
    "A Markdown cell."
    return {"cell_type": "markdown", "metadata": {}, "source": src}


def stream(text: str, name: str = "stdout") -> dict:
    "What a cell printed."
    return {"output_type": "stream", "name": name, "text": text.splitlines(keepends=True)}


def shown(mime: str, content: str) -> dict:
    "What a cell displayed."
    return {"output_type": "display_data", "metadata": {}, "data": {mime: content}}


def write(root: Path, cells: list[dict], name: str = "02_data.planted.ipynb") -> Path:
    "Store cells as a notebook in the form in which nbdev_clean leaves one."
    cells = [{**c, "id": f"cell{i}", "source": c["source"].splitlines(keepends=True)} for i, c in enumerate(cells)]
    nb = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = root / "nbs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    "A small checkout with one good notebook."
    (tmp_path / "settings.ini").write_text(SETTINGS)
    (tmp_path / "fakeface").mkdir()
    (tmp_path / "fakeface" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    in_a_string = 'y = """\n#| not a directive\n"""\n# a word on why we export it\nz = 2 #| hide_line'
    write(tmp_path, [code("#| default_exp data.good"), markdown("# data.good\n> A good one."), code(EXP + "x: int = 1"),
                     code("#| hide\n#| slow\nx"), code("#| echo: false\nx", shown("text/plain", "1")),
                     code(in_a_string)], "00_data.good.ipynb")
    return tmp_path


def test_the_linter_finds_nothing_in_a_good_notebook(checkout):
    assert check.check_directives(checkout) == []


LONG = EXP + "\n".join(f"x{i} = {i}" for i in range(check.MAX_CELL + 1))
ERROR = {"output_type": "error", "ename": "NameError", "evalue": "x", "traceback": []}
CELLS = {  # the cell, what is found, the mend
    "a misspelt directive": (code("#| exprot\nx = 1"), "no directive `#| exprot`", "`#| export`"),
    "a capital letter": (code("#|Export\nx = 1"), "no directive `#|Export`", "`#| export`"),
    "an unknown directive": (code("#| zzz\nx = 1"), "no directive `#| zzz`", "take one of"),
    "a missing colon": (code("#| eval false\nx = 1"), "no directive `#| eval false`", "`#| eval:`"),
    "a colon too many": (code("#| default_exp: data.x\nx = 1"), "no directive `#| default_exp: data.x`", "default_exp"),
    "a directive of nbdev 1": (code("# export\nx = 1"), "reads `# export` as a plain comment", "`#| export`"),
    "another mark": (code("#! exporti\nx = 1"), "reads `#! exporti` as a plain comment", "`#| exporti`"),
    "a doubled hash": (code("##| hide\nx = 1"), "reads `##| hide` as a plain comment", "`#| hide`"),
    "a trailing colon": (code("#| export:\nx = 1"), "ends in a colon", "`#| export`"),
    "a directive below code": (code("import os\n#| export\nos.sep"), "below the first line of code", "to the top"),
    "a directive in markdown": (markdown("#| export\nx = 1"), "in a markdown cell does nothing", "code cell"),
    "a long exported cell": (code(LONG), "26 lines in one exported cell, 25 are allowed", "smaller functions"),
    "a star import": (code(EXP + "from os.path import *"), "`import *` in an exported cell", "name what is imported"),
    "an exported magic": (code("%%time\n" + EXP + "x = 1"), "a magic or shell line", "a cell of its own"),
    "a test that cannot fail": (code("expect_fail(lambda: 1)"), "tests nothing", "`test_fail(lambda"),
    "stderr": (code("x", stream("UserWarning: x", "stderr")), "the outputs hold stderr", "silence the warning"),
    "a traceback": (code("x", ERROR), "a traceback (NameError)", "run it again"),
    "a machine path in code": (code(f"root = '{HOME}'"), f"a path of one machine, `{HOME}`", "relative path"),
    "a machine path in prose": (markdown(f"It lies in {HOME}."), "a path of one machine", "relative path"),
    "a machine path printed": (code("x", stream(f"saved {HOME}/a")), "an output shows a path", "relative path"),
    "a machine path displayed": (code("x", shown("text/html", f"<b>{HOME}</b>")), "an output shows a path", "relative"),
}


@pytest.mark.parametrize("cell, what, mend", CELLS.values(), ids=CELLS)
def test_the_linter_names_file_cell_and_mend_of(cell, what, mend, checkout):
    path = write(checkout, [code("#| default_exp data.planted"), cell])
    (found,) = check.check_directives(checkout)
    assert str(found).startswith(f"nbs/{path.name} cell 2: ")
    assert what in found.what and mend in found.mend


def test_the_linter_lets_pass_every_spelling_that_nbdev_reads(checkout):
    spellings = ["#|export", "# | export", "#  |  export", "  #| export", "#|\texport"]
    cells = [code(f"{s}\nx{i} = 1") for i, s in enumerate(spellings)]
    write(checkout, [code("#| default_exp data.planted"), *cells])
    assert check.check_directives(checkout) == []
    with_nbdev(checkout, "nbdev.doclinks:nbdev_export")
    module = (checkout / "fakeface" / "data" / "planted.py").read_text()
    assert all(f"\nx{i} = 1\n" in module for i in range(len(spellings)))


def test_the_linter_lets_pass_addresses_relative_paths_and_pictures(checkout):
    prose = markdown("See https://example.org/home/page, ../t" + "mp/x, a/r" + "oot/b.")
    write(checkout, [code("#| default_exp data.planted"), prose, code("x", shown("image/png", f"iVBOR {HOME}"))])
    assert check.check_directives(checkout) == []


DEFAULT = code("#| default_exp data.planted")
NOTEBOOKS = {
    "no default_exp": ("02_data.planted.ipynb", [code("x = 1")], "no `#| default_exp`"),
    "another name": ("02_planted.ipynb", [DEFAULT], "makes `data.planted` under another name"),
    "no number": ("data.planted.ipynb", [DEFAULT], "makes `data.planted` under another name"),
    "a module made twice": ("04_data.good.ipynb", [code("#| default_exp data.good")], "makes `data.good`, which"),
    "exports from a study": ("studies/a.ipynb", [code(EXP + "x = 1")], "exports from a study"),
    "too many bytes": ("02_data.planted.ipynb", [DEFAULT, markdown("x" * check.MAX_BYTES)], "1.0 MB, 1 are allowed"),
}


@pytest.mark.parametrize("name, cells, what", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_the_linter_finds_a_notebook_with(name, cells, what, checkout):
    write(checkout, cells, name)
    (found,) = check.check_directives(checkout)
    assert found.file == f"nbs/{name}" and what in found.what


def test_a_notebook_that_is_no_json_is_named(checkout):
    (checkout / "nbs" / "02_data.planted.ipynb").write_text("<<<<<<< HEAD\n{}")
    (found,) = check.check_directives(checkout)
    assert found.file == "nbs/02_data.planted.ipynb" and "cannot be read" in found.what


def test_index_and_studies_need_no_default_exp(checkout):
    write(checkout, [code("1")], "index.ipynb")
    write(checkout, [code("1")], "studies/any_name.ipynb")
    assert check.check_directives(checkout) == []


def test_a_long_module_is_named(checkout):
    (checkout / "fakeface" / "long.py").write_text("x = 1\n" * (check.MAX_MODULE + 1))
    (found,) = check.check_directives(checkout)
    assert found.file == "fakeface/long.py" and f"{check.MAX_MODULE + 1} lines" in found.what


# --- what is seen by making it again ----------------------------------------------------------------------------------

def with_nbdev(root: Path, command: str) -> None:
    "Run one of nbdev's commands in the checkout `root`."
    module, function = command.split(":")
    python(f"from {module} import {function}; {function}.__wrapped__()", cwd=root)


def test_an_export_in_sync_passes_and_each_kind_of_drift_is_named(checkout):
    with_nbdev(checkout, "nbdev.doclinks:nbdev_export")
    assert check.check_export(checkout) == []

    module = checkout / "fakeface" / "data" / "good.py"
    module.write_text(module.read_text().replace("= 1", "= 2"))
    (checkout / "fakeface" / "orphan.py").write_text("x = 1\n")
    drift, orphan = check.check_export(checkout)
    assert drift.file == "fakeface/data/good.py" and "(made by nbs/00_data.good.ipynb, cell id cell2)" in drift.what
    assert orphan.file == "fakeface/orphan.py" and "no notebook makes it" in orphan.what

    module.unlink()
    assert "it is missing" in check.check_export(checkout)[0].what


def test_an_export_that_fails_is_a_finding(checkout):
    write(checkout, [code("#| default_exp data.planted"), code(EXP + "def broken(:")])
    (found,) = check.check_export(checkout)
    assert "nbdev_export failed: SyntaxError" in found.what


def test_a_notebook_that_is_not_clean_is_named_and_cleaning_twice_changes_nothing(checkout):
    with_nbdev(checkout, "nbdev.clean:nbdev_clean")
    assert check.check_clean(checkout) == []
    path = write(checkout, [code("#| default_exp data.planted"), {**code("1"), "execution_count": 3}])
    (found,) = check.check_clean(checkout)
    assert str(found).startswith(f"nbs/{path.name} cell 2: not clean")
    with_nbdev(checkout, "nbdev.clean:nbdev_clean")
    assert check.check_clean(checkout) == []


# --- README -----------------------------------------------------------------------------------------------------------

def make_readme(root: Path, *cells: dict) -> str:
    "Write an index notebook and the README that it makes."
    write(root, list(cells), "index.ipynb")
    for name, content in readme.render(root).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_code_and_text_outputs_and_leaves_out_what_is_hidden(checkout):
    text = make_readme(checkout, markdown("# fakeface"), code("#| hide\nsecret = 1"),
                       code("#| echo: false\nnot_this", stream("but this")),
                       code("#| output: false\nthis()", stream("not this")),
                       code("print(1)\nx = 1 #| hide_line", stream("\x1b[31m1\x1b[0m\n"),
                            stream("a warning", "stderr")))
    assert text.partition("\n\n")[2] == ("# fakeface\n\n```text\nbut this\n```\n\n```python\nthis()\n```\n\n"
                                         "```python\nprint(1)\n```\n\n```text\n1\n```\n")


def test_the_readme_shows_pictures_from_files(checkout):
    text = make_readme(checkout, markdown("# fakeface"), code("plot()", shown("image/png", "AAEC")))
    assert "![](docs/readme/cell1-0.png)" in text
    assert (checkout / "docs/readme/cell1-0.png").read_bytes() == b"\x00\x01\x02"


def test_the_links_of_the_readme_start_at_the_root(checkout):
    links = "[a](../CHANGELOG.md) [b](studies/x.ipynb#top) [c](https://example.org/x) [d](#e)"
    text = make_readme(checkout, markdown(f'{links} <img src="f.png">\n\n```\n[g](h.md)\n```'))
    assert "[a](CHANGELOG.md) [b](nbs/studies/x.ipynb#top) [c](https://example.org/x) [d](#e)" in text
    assert '<img src="nbs/f.png">' in text and "[g](h.md)" in text


def test_a_readme_out_of_sync_is_named(checkout):
    assert "missing" in check.check_readme(checkout)[0].what
    make_readme(checkout, code("plot()", shown("image/png", "AAEC")))
    assert check.check_readme(checkout) == []
    (checkout / "README.md").write_text("edited by hand")
    (checkout / "docs/readme/old.png").write_bytes(b"")
    assert [f.file for f in check.check_readme(checkout)] == ["README.md", "docs/readme/old.png"]
    assert {f.mend for f in check.check_readme(checkout)} == {"run `make readme`"}


@pytest.mark.parametrize("more, ran, code", [((), ["test_a.py"], 0), (("--notebooks",), ["notebooks.py", "test_a.py"], 0),
                                             (("--notebooks", "-k", "test_other"), ["test_a.py"], 5)])
def test_notebooks_are_tests_where_they_are_asked_for_and_it_is_no_success_where_none_ran(more, ran, code, tmp_path):
    for name in ("conftest.py", "forked.py"): (tmp_path/name).write_text((ROOT/"tests"/name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path/"notebooks.py").write_text("def test_notebook(): pass\n")
    (tmp_path/"test_a.py").write_text("def test_other(): pass\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *more, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    assert [line.partition("::")[0] for line in done.stdout.splitlines() if "PASSED" in line] == ran
    assert ("not one notebook was run" in done.stdout) == (code == 5)


def test_make_test_asks_for_the_notebooks():
    make = (ROOT/"Makefile").read_text(encoding="utf-8")
    line, = (line for line in make.splitlines() if "-m pytest" in line and "-n 2" in line)
    assert "--notebooks tests" in line and "tests/notebooks.py" not in line
