"The command line's manners: light help, one name for one thing, nothing slow before what is wrong is said."
import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from rich.text import Text
from typer import TyperException

from fakeface.cli.main import command_line, main

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = command_line().commands


def options(command: str) -> dict[str, object]:
    "Option -> parameter of one command."
    return {name: p for p in COMMANDS[command].params for name in p.opts if name.startswith("-")}


def written() -> list[tuple[str, str]]:
    "Every command that a reader is shown, with where it stands."
    texts = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in
             [ROOT/"README.md", ROOT/"CONTRIBUTING.md", *(ROOT/"docs").rglob("*.md"), *(ROOT/".github").rglob("*.yml")]}
    for p in (ROOT/"nbs").rglob("*.ipynb"):
        cells = json.loads(p.read_text(encoding="utf-8"))["cells"]
        texts[p.relative_to(ROOT).as_posix()] = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    found = [(where, line) for where, text in texts.items()
             for line in re.findall(r"^\s*(fakeface [a-z][^#\n]*)|`(fakeface [a-z][^`\n]*)`", text.replace("\\\n", " "), re.M)]
    return [(where, (a or b).strip()) for where, (a, b) in found]


ASK = """
import json, os, pathlib, sys
from fakeface.cli.main import main
for k, argv in enumerate(json.loads(sys.argv[1])):
    pathlib.Path(str(k)).mkdir()
    os.chdir(str(k))
    code = main(argv)
    os.chdir("..")
    print("\\n@", json.dumps([code, sorted({"torch", "fastai", "pandas", "matplotlib"} & sys.modules.keys())]))
"""


def modules_after(commands: list[list[str]], cwd: Path) -> list[tuple[int, set[str]]]:
    """The exit code of each command, and which heavy packages are imported after it. All run in one Python of their own, each in an empty
    folder, so that what one of them imports is seen at it and at all that follow: no command is quieter than the list."""
    env = {k: v for k, v in os.environ.items() if k != "FAKEFACE_DATA"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ASK, json.dumps(commands)], cwd=cwd, capture_output=True, text=True, check=True, env=env)
    told = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("@ ")]
    assert len(told) == len(commands)
    return [(code, set(loaded)) for code, loaded in told]


HELPS = [["--help"], ["--version"], [], *([name, "--help"] for name in COMMANDS)]


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    return dict(zip(map(" ".join, HELPS), modules_after(HELPS, tmp_path_factory.mktemp("helped"))))


@pytest.mark.parametrize("argv", HELPS, ids=" ".join)
def test_help_imports_nothing_heavy(argv, helped):
    assert helped[" ".join(argv)] == (0, set())


MISSING = ["explain none nofile.jpg", "explain none {here}", "ood none nowhere", "report none", "run nowhere.yaml --root .",
           "run man-1 --root nowhere", "run man-1", "score none.csv", "compare a.csv b.csv", "operating none.csv", "fairness none.csv",
           "robustness none --root .", "curve man-1 --root nowhere", "grid small --root nowhere", "transfer faces --root nowhere",
           "holdout faces --root nowhere",
           "ladder man-1 --root nowhere", "audit none.csv", "score a.csv --detector 'no such program' --save p.txt", "ledger nowhere",
           "clean nowhere", "quiz nowhere", "quiz", "quiz --results none.sqlite"]


@pytest.fixture(scope="module")
def missed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    asked = [shlex.split(line.format(here=__file__)) for line in MISSING]
    return dict(zip(MISSING, modules_after(asked, tmp_path_factory.mktemp("missed"))))


@pytest.mark.parametrize("line", MISSING)
def test_what_is_missing_is_found_before_torch_is_imported(line, missed):
    code, loaded = missed[line]
    assert code == 2 and not loaded & {"torch", "fastai"}


def test_a_command_that_imports_too_much_is_seen(tmp_path):
    (_, before), (_, after), (_, later) = modules_after([["--help"], ["sources", "--root", "."], ["--help"]], tmp_path)
    assert (before, after & {"pandas"}, later & {"pandas"}) == (set(), {"pandas"}, {"pandas"})


def test_every_command_prints_json_and_is_quiet_or_talkative_on_demand_and_shows_an_example(capsys):
    for name, command in COMMANDS.items():
        assert {"--json", "--quiet", "-q", "--verbose", "-v"} <= options(name).keys()
        assert main([name, "--help"]) == 0 and f"Example: fakeface {name}" in " ".join(capsys.readouterr().out.split())
        assert command.help


def test_help_shows_every_word_that_is_written_in_brackets():
    texts = [(name, text) for name, c in COMMANDS.items() for text in [c.help, *(getattr(p, "help", None) for p in c.params)] if text]
    assert any(r"\[" in text for _, text in texts)
    lost = [(name, text) for name, text in texts if Text.from_markup(text).plain != text.replace(r"\[", "[")]
    assert lost == [] # rich reads [fast] as a style and shows nothing; \\[fast] is shown


def test_the_same_option_is_the_same_thing_everywhere():
    kinds = defaultdict(set)
    for name in COMMANDS:
        for option, p in options(name).items():
            kinds[option].add((p.metavar if option != "--out" else "FILE or FOLDER", p.multiple))
    assert {o: k for o, k in kinds.items() if len(k) > 1} == {}


def test_every_command_that_is_written_down_can_be_given():
    lines = [(where, line) for where, line in written() if shlex.split(line)[1] in COMMANDS and len(shlex.split(line)) > 2]
    assert len(lines) > 40
    wrong = []
    for where, line in lines:
        _, name, *args = shlex.split(line.partition(" | ")[0].rstrip("; "))
        try: COMMANDS[name].make_context(name, args)
        except TyperException as e: wrong.append(f"{where}: {line}: {e.format_message()}")
    assert wrong == []


def test_an_option_of_several_values_takes_them_in_a_row(monkeypatch):
    import fakeface.experiments.learning_curve as curves
    asked = {}

    def curve(*args, **kwargs):
        asked.update(kwargs)
        raise KeyboardInterrupt
    monkeypatch.setattr(curves, "curve", curve)
    for line in (["--sizes", "40", "80", "160"], ["--sizes", "40", "--sizes", "80", "--sizes=160"]):
        assert main(["curve", "man-1", "--root", ".", *line, "--epochs", "1"]) == 130
        assert list(asked.pop("sizes")) == [40, 80, 160]


def test_completion_knows_the_recipes(tmp_path):
    asked = {"_FAKEFACE_COMPLETE": "complete_bash", "COMP_WORDS": "fakeface run man", "COMP_CWORD": "2"}
    env = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "fakeface.cli.main"], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert {"man-1", "man-2-test", "man-2-in"} <= set(done.stdout.split())


def in_a_terminal(code, folder):
    import pty
    parent, child = pty.openpty()
    env = {**os.environ, "COLUMNS": "60", "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", f"import pandas as pd; from fakeface.cli.shared import print_table\n{code}"],
                               stdout=child, env=env, cwd=folder)
    os.close(child)
    text = b""
    while True:
        try: text += (part := os.read(parent, 65536))
        except OSError: break
        if not part: break
    process.wait()
    return re.sub(r"\x1b\[[\d;]*m", "", text.decode()).replace("\r", "")


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_a_table_fits_the_terminal(tmp_path):
    shown = in_a_terminal("print_table(pd.DataFrame([['a long sentence ' * 3] * 9] * 3), 'T')", tmp_path)
    assert shown.count("sentence") >= 81 and max(map(len, shown.splitlines())) <= 60


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_a_terminal_shows_words_from_the_left_and_no_pairs_of_python(tmp_path):
    code = """words = pd.DataFrame({"title": ["short", "a sentence of many words " * 4]}, index=["a", "b"])
print_table(words)
rows = pd.MultiIndex.from_product([["celeba", "ffhq"], ["all", "real"]], names=["test set", "images"])
print_table(pd.DataFrame({f"a figure with a long name, {k}": "1.0 %" for k in range(9)}, rows))"""
    shown = in_a_terminal(code, tmp_path)
    title, short = (next(line for line in shown.splitlines() if word in line) for word in ("title", "short"))
    assert title.index("title") == short.index("short")
    assert "(" not in shown and shown.count("celeba,") == 2
