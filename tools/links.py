"""Dead links in README.md, CONTRIBUTING.md, CHANGELOG.md, docs/ and the notebooks' Markdown: `python tools/links.py`.

A link inside the repository must lead to a file that is there, and to a heading or an id in it. Nothing is fetched from outside.
"""
import json
import re
import sys
import urllib.parse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

FENCE = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,}|~{3,}).*?(?:^ {0,3}(?P=ticks)[`~]*[ \t]*$|\Z)", re.M | re.S)
SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)", re.S)
COMMENT = re.compile(r"<!--.*?-->", re.S)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$", re.M)
ID = re.compile(r"""<[a-z][^>]*?\s(?:id|name)=["']([^"']+)["']""", re.I)
LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)>?(?:\s+["'][^)]*)?\)  # [words](target "title"), and a picture's
    |^[ ]{0,3}\[[^\]]+\]:\s*<?([^\s>]+)                         # [words]: target
    |<[^>]*?\s(?:href|src)=["']([^"']*)["']""", re.M | re.X)
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)


class DeadLink(NamedTuple):
    "A link that leads nowhere."
    file: str # from the top of the checkout
    cell: int | None # of a notebook, counted from 1
    target: str # as it is written
    why: str


def blanked(text: str) -> str:
    "Markdown with its code and comments blanked out; line numbers stay."
    for what in (FENCE, COMMENT, SPAN):
        text = what.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    return text


def slug(heading: str) -> str:
    "A heading's anchor, as GitHub makes it."
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading) # a link's words alone
    text = re.sub(r"<[^>]+>|[*`]|(?<!\w)_|_(?!\w)", "", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    "All anchors of a Markdown text: its headings', a repeated one with -1, -2, and the ids in its HTML."
    plain, found = COMMENT.sub("", FENCE.sub("", text)), {}
    for heading in HEADING.findall(plain):
        found[slug(heading)] = found.get(slug(heading), -1) + 1
    return {f"{name}-{i}" if i else name for name, n in found.items() for i in range(n + 1)} | set(ID.findall(plain))


def targets(text: str) -> list[str]:
    "What a Markdown text links to, pictures included, in order; code is no text."
    return [next(filter(None, groups)) for groups in LINK.findall(blanked(text)) if any(groups)]


def cells(path: Path) -> list[tuple[int | None, str]]:
    "A file's Markdown: of a notebook each Markdown cell with its number, else the whole text."
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [(None, text)]
    return [(i, "".join(c["source"])) for i, c in enumerate(json.loads(text)["cells"], 1) if c["cell_type"] == "markdown"]


def pages(root: Path) -> list[Path]:
    "The files whose links are checked."
    found = [root / name for name in TOP] + [*(root / "docs").rglob("*.md"), *(root / "nbs").rglob("*.ipynb")]
    return sorted(p for p in found if p.is_file() and not any(s[0] in "._" for s in p.relative_to(root).parts))


@cache
def anchors_of(path: Path) -> frozenset[str]:
    "The anchors of a Markdown file or a notebook."
    return frozenset(anchors("\n\n".join(text for _, text in cells(path))))


def why_dead(page: Path, target: str, root: Path) -> str | None: # None: it is alive, or leads outside
    "Why a link on `page` leads nowhere."
    if OUTSIDE.match(target):
        return None
    name, _, anchor = target.partition("#")
    file = (page.parent / urllib.parse.unquote(name)).resolve() if name else page
    if not file.is_relative_to(root.resolve()):
        return "leads out of the repository"
    if not file.exists():
        return "no such file"
    if anchor and file.suffix in (".md", ".ipynb") and urllib.parse.unquote(anchor) not in anchors_of(file):
        return f"{file.relative_to(root.resolve()).as_posix()} has no heading or id `{anchor}`"
    return None


def dead_links(root: Path = ROOT) -> Iterator[DeadLink]:
    "Every link that leads nowhere."
    anchors_of.cache_clear()
    for page in pages(root.resolve()):
        for cell, text in cells(page):
            for target in targets(text):
                if why := why_dead(page, target, root):
                    yield DeadLink(page.relative_to(root.resolve()).as_posix(), cell, target, why)


def main() -> int:
    "Print the dead links; the exit code says whether there are any."
    found = list(dead_links())
    for d in found:
        print(f"{d.file}{f' cell {d.cell}' if d.cell else ''}: {d.target}: {d.why}")
    print(f"{len(found)} dead links on {len(pages(ROOT))} pages")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
