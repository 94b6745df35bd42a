"The words of the field: an old word of the house, in its old sense, stands nowhere in code, help texts, README and notebooks."
import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORDS = {  # the word that is used -> the old one, in its old sense
    "split": r"\bdeal(?:t|s|ing)\b|\bdeal_seed\b|\b(?:another|same|each|first) deal\b|\bthe deal\b",
    "test-set use": r"\blooks? (?:at|of) (?:a|the|this|its|any|one) tests?\b|\bfakeface looks\b|\bnew looks? at\b",
    "false positive, called fake": r"\bflagged\b|_flagged|flagged_|\bfalse[ _]alarms?\b",
    "positive predictive value": r"\bvalue of a flag\b|\bflags? (?:is|are|that are) (?:right|wrong|worth)\b|\bflag_worth\b",
    "accuracy, correct": r"\bcalled (?:right|wrong|what (?:it is|they are))\b",
    "check, warning": r"\balarms?\b|\btraps?\b|_traps?\b|\btraps_",
    "effective sample size": r"\b(?:images?|trials?|these|they) (?:is|are) worth\b|\bworth of (?:n|the|these) images\b",
    "step": r"\brungs?\b|_rungs?\b|\brungs?_",
    "shortcut baseline": r"\bfloors? (?:of|under|for) (?:a|the|its) (?:score|test)|\b(?:score|shortcut|AUC)'?s? floors?\b|\ba \*floor\*",
    "face detector": r"\bfinders?\b|(?<!lr)_finder\b|\bfinder_",
    "injected defect, strength": r"\bplant(?:s|ed|ing)?\b|\bdos(?:e|es)\b",
    "perturbation": r"\bdeliver(?:y|ies)\b",
    "out-of-distribution": r"\bknows? such things\b",
    "faithfulness": r"\bhonesty\b|\bbeliefs?\b|_beliefs?\b|\bbeliefs?_|\b(?:maps?|pictures) (?:may|can|could) be believed\b|"
                    r"\b(?:may|can|could) (?:the|its|such) (?:maps?|pictures) be believed\b",
    "format-matched": r"\btwin evaluation\b",
    "generator bias": r"\btastes?\b|_taste\b|\btaste_",
}


def without_outputs(path: Path) -> str:
    "The cells of a notebook, prose and code."
    return "\n".join("".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"])


def texts() -> dict[str, str]:
    "Everything that is read by people: the notebooks, from which package, README and site are made, and the guides beside them."
    notebooks = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    guides = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "settings.ini", "benchmarks/README.md")),
              *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "data_manifests").rglob("*.yaml"))]
    read = {p: without_outputs(p) for p in notebooks} | {p: p.read_text(encoding="utf-8") for p in guides}
    return {str(p.relative_to(ROOT)): text for p, text in read.items()}


@pytest.mark.parametrize("word", WORDS)
def test_no_old_word_stands_for(word):
    found = {f"{name}: {line.strip()[:110]}" for name, text in texts().items() for line in text.splitlines()
             if re.search(WORDS[word], line, re.IGNORECASE)}
    assert not found, f"write {word}:\n" + "\n".join(sorted(found))


def test_the_patterns_find_what_they_are_for_and_let_pass_what_is_plain():
    old = {"split": "dealt by subject", "test-set use": "a look at a test", "step": "run_rungs", "check, warning": "_copies_traps",
           "faithfulness": "belief_table", "false positive, called fake": "flagged_softmax", "generator bias": "the generator's taste"}
    assert all(re.search(WORDS[word], text, re.IGNORECASE) for word, text in old.items())
    plain = "a great deal; look at the picture; worth a note; the floors of the house; believe the interval; strung; planet; tasteless"
    assert not [word for word, pattern in WORDS.items() if re.search(pattern, plain, re.IGNORECASE)]


def test_no_name_in_the_package_is_an_old_word():
    old = re.compile(r"(?:^|_)(?:dealt?|alarms?|traps?|rungs?|finders?|beliefs?|flags?|worth|plants?|dose|taste|delivery)(?:_|$)", re.I)
    for path in sorted((ROOT / "fakeface").rglob("*.py")):
        if path.name == "_modidx.py" or path.parent.name == "cli": continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))} | {
                 n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)} | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not (found := sorted(n for n in names if old.search(n))), f"{path.relative_to(ROOT)}: {found}"
