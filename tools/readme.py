"""Make README.md from nbs/index.ipynb, as it stands: `python tools/readme.py`. Nothing is executed.

Hidden and exported cells are left out, text outputs become code blocks, and PNG outputs become files in docs/readme/.
"""
import base64
import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK, TARGET, PICTURES = "nbs/index.ipynb", "README.md", "docs/readme"
NOTE = "<!-- Made from nbs/index.ipynb by `make readme`. Change the notebook, not this file. -->"

DIRECTIVE = re.compile(r"^\s*#\s*\|\s*([\w-]+)\s*(?::\s*(\S+))?.*$")
HIDE_LINE = re.compile(r"#\|\s*hide_line\s*$")
DROPPED = {"hide", "export", "exports", "exporti", "default_exp"}
LINK = re.compile(r"""(\]\(|\b(?:src|href)=["'])(?![a-z][a-z0-9+.-]*:|[#/])([^)\s"']+)""")
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.M | re.S)
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def split_directives(src: str) -> tuple[dict[str, str], str]:
    "The directives above a cell's code, name to value, and the code below them."
    lines, found = src.splitlines(), {}
    while lines and (not lines[0].strip() or DIRECTIVE.match(lines[0])):
        if m := DIRECTIVE.match(lines.pop(0)):
            found[m[1]] = (m[2] or "").lower()
    return found, "\n".join(line for line in lines if not HIDE_LINE.search(line)).strip("\n")


def relink(text: str) -> str:
    "Markdown whose relative links start at the root of the repository and not in nbs/; code blocks stay as they are."
    def moved(m: re.Match) -> str:
        return m[1] + posixpath.normpath(posixpath.join("nbs", m[2]))
    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(moved, text[at:fence.start()]), fence[0]]
        at = fence.end()
    return "".join(parts) + LINK.sub(moved, text[at:])


def block(text: str, language: str = "") -> str:
    "A code block, fenced with more backticks than the text has in a row."
    ticks = "`" * max(3, *(len(t) + 1 for t in re.findall("`+", text)), 3)
    return f"{ticks}{language}\n{text}\n{ticks}"


def show(output: dict, name: str) -> tuple[str, dict[str, bytes]]:
    "One output as Markdown, and the picture file that it needs, if any; stderr is not shown."
    data = {k: "".join(v) if isinstance(v, list) else v for k, v in output.get("data", {}).items()}
    if "image/png" in data:
        path = f"{PICTURES}/{name}.png"
        return f"![]({path})", {path: base64.b64decode(data["image/png"])}
    if "text/markdown" in data:
        return relink(data["text/markdown"]), {}
    text = "".join(output.get("text", "")) if output.get("name") == "stdout" else data.get("text/plain", "")
    text = ANSI.sub("", text).strip("\n")
    return (block(text, "text") if text.strip() else ""), {}


def render(root: Path = ROOT) -> dict[str, bytes]:
    "Path to content of README.md and of each of its pictures."
    parts, files = [NOTE], {}
    for i, cell in enumerate(json.loads((root / NOTEBOOK).read_text(encoding="utf-8"))["cells"]):
        src = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(relink(src.strip("\n")))
        if cell["cell_type"] != "code":
            continue
        told, code = split_directives(src)
        if DROPPED & told.keys():
            continue
        if code and told.get("echo") != "false":
            parts.append(block(code, "python"))
        for j, output in enumerate(cell["outputs"] if told.get("output") != "false" else []):
            text, pictures = show(output, f"{cell.get('id', i)}-{j}")
            parts.append(text)
            files |= pictures
    return {TARGET: ("\n\n".join(p for p in parts if p) + "\n").encode(), **files}


def leftovers(root: Path = ROOT) -> list[str]:
    "Pictures in docs/readme/ that README.md no longer shows."
    have = {p.relative_to(root).as_posix() for p in (root / PICTURES).glob("*.png")}
    return sorted(have - render(root).keys())


def main() -> None:
    "Write README.md and its pictures."
    for name in leftovers():
        (ROOT / name).unlink()
    for name, content in render().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(content)
        print(name)


if __name__ == "__main__":
    main()
