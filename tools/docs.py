"""Make the site: `python tools/docs.py` writes _site from README, notebooks, docs/, cards, recipes and docstrings; nothing is executed.

`python tools/docs.py --check` looks for dead links and for what a page would load from elsewhere, in a site that is there.
"""
import argparse
import ast
import base64
import html
import json
import logging
import os
import posixpath
import re
import shutil
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import api  # noqa: E402
import cards  # noqa: E402
import readme  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_site"
TOP = {"README.md": "index.md", "nbs/index.ipynb": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
       "benchmarks/README.md": "benchmarks.md", "nbs": "api.md", "nbs/studies": "studies.md", "LICENSE": "LICENSE.txt",
       "data_manifests/sources": "datasets.md", "data_manifests/recipes": "experiments.md", "data_manifests/grids": "experiments.md",
       "data_manifests/transfers": "experiments.md", "data_manifests/holdouts": "experiments.md"}
MADE = re.compile(r"^<!-- made: ([\w-]+) -->$", re.M)
QUIET = {"hide", "default_exp"}  # cells of a module's notebook that a reader need not see


class Plan(NamedTuple):
    "What all pages need to know."
    root: Path  # the checkout
    places: dict[str, str]  # file in the checkout to page of the site
    url: str  # of the repository
    modules: dict[str, api.Module]  # by name
    notebooks: dict[str, str]  # module to the page of its notebook, in the order of the notebooks' numbers


# --- where things lie -------------------------------------------------------------------------------------------------

def git_url(root: Path) -> str:
    "Where the repository lives, for links to files that are no pages."
    ini = ConfigParser()
    ini.read(root / "settings.ini", encoding="utf-8")
    return ini["DEFAULT"]["git_url"]


def notebook_module(name: str) -> str | None:
    "The module that `nbs/NN_a.b.ipynb` makes, by its name."
    m = re.fullmatch(r"nbs/\d\d_([\w.]+)\.ipynb", name)
    return m[1] if m else None


def places(root: Path) -> dict[str, str]:
    "File in the checkout to page of the site."
    found = dict(TOP)
    for path in sorted([*(root / "docs").rglob("*.md"), *(root / "nbs").rglob("*.ipynb")]):
        name = path.relative_to(root).as_posix()
        if module := notebook_module(name):
            found[name] = found[f"fakeface/{module.replace('.', '/')}.py"] = f"modules/{module.replace('.', '/')}.md"
        elif name.startswith("nbs/studies/"):
            found[name] = f"studies/{path.stem}.md"
        elif name.startswith("docs/"):
            found[name] = name.removeprefix("docs/")
    return found


def plan(root: Path) -> Plan:
    "Which pages there are."
    to = places(root)
    modules = api.modules(root / "fakeface")
    made = {notebook_module(name): to[name] for name in sorted(to) if notebook_module(name) in modules}
    for at in ("readme", "images"):
        to |= {p.relative_to(root).as_posix(): f"{at}/{p.name}" for p in sorted((root / "docs" / at).glob("*.png"))}
    return Plan(root, to, git_url(root), modules, made)


def relative(target: str, page: str) -> str:
    "The path from one page of the site to another."
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def relinked(text: str, source: str, page: str, site: Plan) -> str:
    "Markdown whose links lead to the site's pages, or, where a file is no page, to the repository."
    def moved(m: re.Match) -> str:
        name, sharp, anchor = m[2].partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), urllib.parse.unquote(name)))
        at = relative(site.places[file], page) if file in site.places else f"{site.url}/blob/main/{file}"
        return f"{m[1]}{at}{sharp}{anchor}"
    parts, at = [], 0
    for fence in readme.FENCE.finditer(text):
        parts += [readme.LINK.sub(moved, text[at:fence.start()]), fence[0]]
        at = fence.end()
    return "".join(parts) + readme.LINK.sub(moved, text[at:])


def described(text: str) -> str:
    "Markdown whose pictures without a description take the words in italics below them."
    caption = re.compile(r"!\[\]\(([^)]+)\)(?=\s+\*(?!\*)(.+?)\*\s*(?:\n\n|\Z))", re.S)
    return caption.sub(lambda m: f"![{' '.join(m[2].replace('[', '').replace(']', '').split())}]({m[1]})", text)


# --- notebooks --------------------------------------------------------------------------------------------------------

def defined(code: str) -> list[str]:
    "Names that an exported cell defines at its top level."
    return list(dict.fromkeys(name for name, _ in api.definitions(ast.parse(code))))


def only_imports(code: str) -> bool:
    "Whether a cell does nothing but import."
    bare = re.sub(r"\([^)]*\)", "", code)
    return all(line.startswith(("from ", "import ", "#")) or not line.strip() for line in bare.splitlines())


def folded(code: str, summary: str) -> str:
    "Code behind a line that opens it."
    return f'<details class="code" markdown="1"><summary>{html.escape(summary)}</summary>\n\n{readme.block(code, "python")}\n\n</details>'


def code_text(code: str, told: dict[str, str], module: api.Module | None) -> str:
    "A code cell as Markdown: imports and private helpers folded, an anchor for each public name."
    if not code or told.get("echo") == "false":
        return ""
    names = defined(code) if "export" in told else []
    public = [n for n in names if module and n in {i.name for i in module.items}]
    if only_imports(code):
        return folded(code, "Imports")
    if "export" in told and names and not public:
        return folded(code, f"Helper: {', '.join(names)}")
    marks = "".join(f'<a id="fakeface.{module.name}.{n}"></a>' for n in public)
    return (f"{marks}\n\n" if marks else "") + readme.block(code, "python")


def alt_text(code: str, heading: str) -> str:
    "What a picture shows, as far as its cell says: the call that drew it, and the heading it stands under."
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith((" ", "#", ")")) and line.strip() != "plt.show()"]
    call = re.match(r"(?:[\w, ]+= *)?([\w.]+)\(", lines[-1]) if lines else None
    drawn = f"Picture drawn by {call[1]}" if call else "Picture drawn by the code above"
    return f"{drawn}, in the section {heading}" if heading else drawn


def output_text(output: dict, name: str, alt: str) -> tuple[str, dict[str, bytes]]:
    "One output as Markdown, and its picture file, if any."
    data = {k: "".join(v) if isinstance(v, list) else v for k, v in output.get("data", {}).items()}
    if "image/png" in data:
        picture = {f"{name}.png": base64.b64decode(data["image/png"])}
        return f'<p class="figure"><img src="{name}.png" alt="{html.escape(alt)}" loading="lazy"></p>', picture
    if "text/markdown" in data:
        return data["text/markdown"], {}
    if "text/html" in data:
        table = re.sub(r"<style scoped>.*?</style>|\s(?:border|style)=\"[^\"]*\"", "", data["text/html"], flags=re.S)
        return '<div class="output">' + re.sub(r"\s*\n\s*", "\n", table) + "</div>", {}
    text = readme.ANSI.sub("", "".join(output.get("text", "")) or data.get("text/plain", "")).strip("\n")
    return (f'<div class="printed" markdown="1">\n\n{readme.block(text, "text")}\n\n</div>' if text.strip() else ""), {}


def notebook_text(cells: list[dict], name: str, site: Plan) -> tuple[str, dict[str, bytes]]:
    "A notebook's cells with their stored outputs as Markdown, and its pictures by their place on the site."
    parts, files, heading = [], {}, ""
    target, module = site.places[name], site.modules.get(notebook_module(name))
    for i, cell in enumerate(cells):
        src = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", src, re.M) or [heading])[-1]
            parts.append(relinked(src.strip("\n"), name, target, site))
        told, code = readme.split_directives(src)
        if cell["cell_type"] != "code" or QUIET & told.keys():
            continue
        parts.append(code_text(code, told, module))
        for j, output in enumerate(cell["outputs"] if told.get("output") != "false" else []):
            text, pictures = output_text(output, f"{Path(target).stem}-{cell.get('id', i)}-{j}", alt_text(code, heading))
            parts.append(text)
            files |= {posixpath.join(posixpath.dirname(target), k): v for k, v in pictures.items()}
    return "\n\n".join(p for p in parts if p) + "\n", files


def notebook_page(name: str, site: Plan) -> tuple[str, dict[str, bytes]]:
    "A notebook as a page, with links to its source and its signatures under the title."
    target, module = site.places[name], site.modules.get(notebook_module(name))
    cells = json.loads((site.root / name).read_text(encoding="utf-8"))["cells"]
    text, files = notebook_text(cells, name, site)
    links = f"[Source]({site.url}/blob/main/{name})"
    if module and module.items:
        links = f"Module `fakeface.{module.name}` · [signatures]({relative(f'api/{module.name}.md', target)}) · {links}"
    head = re.match(r"# .+\n+(?:> .+(?:\n> .+)*\n+)?", text)
    at = head.end() if head else 0
    return f"{text[:at]}\n{links}\n\n{text[at:]}", files


# --- API --------------------------------------------------------------------------------------------------------------

def words(text: str) -> str:
    "A docstring's line as HTML, with its `code`."
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def first_line(doc: str) -> str:
    "The first sentence or line of a docstring."
    line = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z])", line)[0]


def by_floor(site: Plan) -> dict[str, list[str]]:
    "Folder to its modules, both in the order of the notebooks' numbers."
    floors = {}
    for name in site.notebooks:
        floors.setdefault(name.partition(".")[0], []).append(name)
    return floors


def index_row(i: api.Item, module: str, site: Plan) -> str:
    "One name of the API index."
    at = site.notebooks[module].replace(".md", ".html")
    return (f'<tr><td><a href="{at}#fakeface.{module}.{i.name}"><code>{i.name}</code></a></td>'
            f"<td>{words(first_line(i.doc)) or f'<code>{html.escape(i.signature)}</code>'}</td></tr>")


def module_rows(m: api.Module, site: Plan) -> str:
    "The names of a module, its own and those that it hands on, as a table."
    rows = [index_row(i, m.name, site) for i in m.items]
    rows += [index_row(i, home, site) for name, home in m.borrowed.items() for i in site.modules[home].items if i.name == name]
    return f'<table class="params"><tbody>{"".join(rows)}</tbody></table>'


def api_index(site: Plan) -> str:
    "Every floor, every module with its summary, every public name with the first line of its docstring."
    parts = []
    for floor, names in by_floor(site).items():
        parts.append(f"## {'The front door: fakeface.all' if floor == 'all' else floor}")
        for m in map(site.modules.get, names):
            links = [f"[notebook]({site.notebooks[m.name]})"] + [f"[signatures](api/{m.name}.md)"] * bool(m.items)
            parts += [f"### {m.name}"] * (floor != m.name) + [f"{m.doc} {' · '.join(links)}", module_rows(m, site)]
    return "\n\n".join(parts)


def params_table(i: api.Item) -> str:
    "Parameters or fields, and what is returned, as a table."
    rows = [(p.name, p.type, "" if p.default is None else f"default <code>{html.escape(p.default)}</code>", p.meaning) for p in i.params]
    rows += [("<i>returns</i>", i.returns.type, "", i.returns.meaning)] if i.returns else []
    if not rows:
        return ""
    lines = "".join(f"<tr><td>{n if n[0] == '<' else f'<code>{n}</code>'}</td><td>{f'<code>{html.escape(t)}</code>' if t else ''}</td>"
                    f"<td>{'; '.join(filter(None, [words(m), d]))}</td></tr>" for n, t, d, m in rows)
    return f'<table class="params"><thead><tr><th>name</th><th>type</th><th>meaning</th></tr></thead><tbody>{lines}</tbody></table>'


def item_text(i: api.Item, module: str, page: str, level: int = 2) -> str:
    "A public name with its signature, docstring and parameters."
    at = "" if i.kind == "method" else f"\n\n[in the notebook]({relative(page, 'api/x.md')}#fakeface.{module}.{i.name})"
    doc = "".join(f"<p>{words(p)}</p>" for p in i.doc.split("\n\n") if p.strip())
    parts = [f"{'#' * level} {i.name} {{ #{i.name if level == 2 else f'{module}-{i.name}'} }}", readme.block(i.signature, "python"),
             doc, params_table(i) + at]
    return "\n\n".join(p for p in parts if p) + "".join("\n\n" + item_text(m, f"{module}.{i.name}", page, 3) for m in i.members)


def api_page(m: api.Module, site: Plan) -> str:
    "The signatures of a module."
    page = site.notebooks[m.name]
    return "\n\n".join([f"# {m.name}: signatures", f"> {m.doc}", f"[notebook]({relative(page, 'api/x.md')}) · [all modules](../api.md)",
                        *(item_text(i, m.name, page) for i in m.items)]) + "\n"


# --- the site ---------------------------------------------------------------------------------------------------------

def studies_list(site: Plan) -> str:
    "The studies by their questions."
    lines = []
    for name, page in sorted(site.places.items()):
        if name.startswith("nbs/studies/"):
            text = "".join(json.loads((site.root / name).read_text(encoding="utf-8"))["cells"][0]["source"])
            title, after = re.search(r"^# (.+)$", text, re.M), re.search(r"^> (.+)$", text, re.M)
            lines.append(f"- [{title[1] if title else Path(name).stem}]({page})  \n  {after[1] if after else ''}")
    return "\n".join(lines)


MADE_BY: dict[str, Callable[[Plan], str]] = {
    "studies": studies_list, "api": api_index, "datasets": lambda site: cards.datasets(site.root),
    "experiments": lambda site: cards.experiments(site.root), "report-card": lambda site: cards.report_card(site.root)}


BADGE = re.compile(r"^\[!\[[^]]*\]\(https?://[^)]*\)\]\([^)]*\)\n", re.M)  # its picture would come from a server


def text_page(name: str, site: Plan) -> str:
    "A Markdown file as a page, with what is made for it, without badges."
    text = BADGE.sub("", (site.root / name).read_text(encoding="utf-8"))
    text = relinked(described(text), name, site.places[name], site)
    return MADE.sub(lambda m: MADE_BY[m[1]](site), text)


def sources(root: Path = ROOT) -> dict[str, bytes]:
    "The site's sources: path to content."
    site = plan(root)
    files = {f"api/{name}.md": api_page(site.modules[name], site).encode() for name in site.notebooks if site.modules[name].items}
    for name, target in site.places.items():
        if name == readme.NOTEBOOK:  # README.md is made from it
            continue
        if name.endswith(".ipynb"):
            text, pictures = notebook_page(name, site)
            files |= pictures | {target: text.encode()}
        elif name.endswith(".md"):
            files[target] = text_page(name, site).encode()
        elif target.endswith((".png", ".txt")):
            files[target] = (root / name).read_bytes()
    return files


def how_tos(root: Path) -> list[dict[str, str]]:
    "The how-tos' titles and pages, in the order of their index."
    pages = re.findall(r"\(([\w-]+\.md)\)", (root / "docs/how-to/index.md").read_text(encoding="utf-8"))
    return [{(root / "docs/how-to" / p).read_text(encoding="utf-8").partition("\n")[0].lstrip("# "): f"how-to/{p}"} for p in pages]


def navigation(root: Path) -> list[dict]:
    "The menu."
    site = plan(root)
    floors = [{floor: [{name: site.notebooks[name]} for name in names]} for floor, names in by_floor(site).items()]
    studies = sorted(page for name, page in site.places.items() if name.startswith("nbs/studies/"))
    return [{"Start": "index.md"}, {"How-to": ["how-to/index.md", *how_tos(root)]}, {"Studies": ["studies.md", *studies]},
            {"Modules": ["api.md", *floors]}, {"Data": [{"Datasets": "datasets.md"}, {"Recipes and other specs": "experiments.md"}]},
            {"Evidence": [{"Report card": "report-card.md"}, {"Benchmarks": "benchmarks.md"}]},
            {"About": [{"Glossary": "glossary.md"}, {"Contributing": "contributing.md"}, {"Changelog": "changelog.md"}]}]


def build(root: Path = ROOT, site: Path = SITE) -> None:
    "Write the site into an empty folder. Raises where mkdocs warns of anything."
    from mkdocs.commands.build import build as write
    from mkdocs.config import load_config
    logging.getLogger("mkdocs").addHandler(logging.StreamHandler())
    with tempfile.TemporaryDirectory() as tmp:
        for name, content in sources(root).items():
            (Path(tmp) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(tmp) / name).write_bytes(content)
        write(load_config(str(root / "docs/mkdocs.yml"), docs_dir=tmp, site_dir=str(site), nav=navigation(root), strict=True))
    (site / "404.html").unlink(missing_ok=True)  # its links start at a server's root, and there is no server


# --- what is seen in the pages that were written ----------------------------------------------------------------------

class Reader(HTMLParser):
    "Collects ids, links and what a page loads."
    def __init__(self) -> None:
        super().__init__()
        self.ids, self.links, self.loads, self.mute = set(), [], [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {k: v or "" for k, v in attrs}
        self.ids |= {at[k] for k in ("id", "name") if at.get(k)}
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag == "img" and not at.get("alt"):
            self.mute.append(at.get("src", "")[:80])
        if tag in ("img", "script", "iframe", "source", "video", "audio") and at.get("src"):
            self.loads.append(at["src"])
        if tag == "link" and at.get("rel") in ("stylesheet", "icon", "preload", "modulepreload"):
            self.loads.append(at.get("href", ""))


def read_page(path: Path) -> Reader:
    "What a page of the site has and needs."
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def dead(site: Path = SITE) -> Iterator[str]:
    "Links and loads that lead nowhere, what is loaded from outside, and pictures without a description; one line each."
    pages = {p: read_page(p) for p in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        yield from (f"{name}: the picture {src} has no description" for src in page.mute)
        for target in page.links + page.loads:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    yield f"{name}: loads {target} from outside"
                continue
            file = Path(os.path.normpath(path.parent / urllib.parse.unquote(parts.path))) if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                yield f"{name}: {target}: no such file"
            elif parts.fragment and file in pages and urllib.parse.unquote(parts.fragment) not in pages[file].ids | {"__top"}:
                yield f"{name}: {target}: no such id"
    for path in sorted(site.rglob("*.css")):
        outside = re.findall(r"url\(['\"]?(https?:[^)'\"]+)", path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(site).as_posix()}: loads {url} from outside" for url in outside)


def main() -> int:
    "Build the site, unless only its check is asked for, and check it."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only check the site that is there")
    parser.add_argument("--site", type=Path, default=SITE, help="the site's folder (default: _site)")
    args = parser.parse_args()
    if not args.check:
        shutil.rmtree(args.site, ignore_errors=True)
        build(ROOT, args.site)
    found = list(dead(args.site))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{args.site.name}: {len(list(args.site.rglob('*.html')))} pages, {len(found)} to mend")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
