"""What the modules offer, read from their source alone: public names, signatures, docstrings and docments (nothing is imported)."""
import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Param(NamedTuple):
    "A parameter, a field, or what is returned."
    name: str
    type: str  # as annotated, "" where it is not
    default: str | None  # as written
    meaning: str  # the comment behind it


class Item(NamedTuple):
    "A public name."
    name: str
    kind: str  # function, class, method or constant
    signature: str  # Python
    doc: str  # the docstring, or the comment behind a constant
    params: list[Param]
    returns: Param | None
    members: list["Item"]


class Module(NamedTuple):
    "A module."
    name: str  # without `fakeface.`
    doc: str  # its one-line summary
    items: list[Item]  # defined here, in the order of `__all__`
    borrowed: dict[str, str]  # name -> module that defines it


def trailing_comments(source: str) -> dict[int, str]:
    "Line number to the comment that stands behind code on that line."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT and t.line.split("#")[0].strip()}
    return {line: text for line, text in found.items() if not text.startswith(("noqa", "type:"))}


def arguments(f: ast.FunctionDef, method: bool) -> list[tuple[str, ast.arg, ast.expr | None]]:
    "Name with its stars, node and default of every parameter, in order; `self` is left out."
    a = f.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    found = [(x.arg, x, d) for x, d in zip(plain, defaults)]
    found += [(f"*{a.vararg.arg}", a.vararg, None)] if a.vararg else []
    found += [(x.arg, x, d) for x, d in zip(a.kwonlyargs, a.kw_defaults)]
    found += [(f"**{a.kwarg.arg}", a.kwarg, None)] if a.kwarg else []
    static = any(getattr(d, "id", "") == "staticmethod" for d in f.decorator_list)
    return found[1:] if method and not static else found


def written(node: ast.AST | None) -> str:
    "An annotation or a default as Python."
    return "" if node is None else node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def docments(f: ast.FunctionDef, notes: dict[int, str], method: bool = False) -> tuple[list[Param], Param]:
    "Parameters and return of a function; a comment belongs to what ends last on its line, the return before a parameter."
    ends = {}
    for name, node, default in arguments(f, method):
        ends[max(node.end_lineno, default.end_lineno if default else 0)] = name
    ends[f.returns.end_lineno if f.returns else f.lineno] = "return"
    meaning = {name: notes.get(line, "") for line, name in ends.items()}
    params = [Param(name, written(node.annotation), None if d is None else ast.unparse(d), meaning.get(name, ""))
              for name, node, d in arguments(f, method)]
    return params, Param("return", written(f.returns), None, meaning.get("return", ""))


def signature(name: str, params: list[Param], returns: str, word: str = "def ") -> str:
    "A signature on one line, or one parameter a line where that is longer than 88 characters."
    parts = [p.name + (f": {p.type}" if p.type else "") + ("" if p.default is None else f" = {p.default}" if p.type else f"={p.default}")
             for p in params]
    end = f" -> {returns}" if returns else ""
    line = f"{word}{name}({', '.join(parts)}){end}"
    if len(line) <= 88:
        return line
    between = ",\n" + " " * len(f"{word}{name}(")
    return f"{word}{name}({between.join(parts)}){end}"


def function_item(f: ast.FunctionDef, notes: dict[int, str], method: bool = False) -> Item:
    "A function or a method."
    params, returns = docments(f, notes, method)
    kind = "method" if method else "function"
    return Item(f.name, kind, signature(f.name, params, returns.type), ast.get_docstring(f) or "", params,
                returns if returns.type or returns.meaning else None, [])


def class_item(c: ast.ClassDef, notes: dict[int, str]) -> Item:
    "A class with its fields, or the parameters of its `__init__`, and its public methods."
    functions = [n for n in c.body if isinstance(n, ast.FunctionDef)]
    fields = [Param(n.target.id, written(n.annotation), None if n.value is None else ast.unparse(n.value), notes.get(n.end_lineno, ""))
              for n in c.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.target.id[0] != "_"]
    init = next((f for f in functions if f.name == "__init__"), None)
    params = docments(init, notes, True)[0] if init else fields
    members = [function_item(f, notes, True) for f in functions if f.name[0] != "_"]
    bases = f"({', '.join(map(ast.unparse, c.bases))})" if c.bases else ""
    return Item(c.name, "class", f"class {c.name}{bases}", ast.get_docstring(c) or "", params, None, members)


def constant_item(name: str, node: ast.Assign | ast.AnnAssign, notes: dict[int, str]) -> Item:
    "A constant; the comment behind its first or last line says what it is."
    value = ast.unparse(node.value) if node.value else ""
    shown = value if len(value) <= 120 else value[:117] + "..."
    return Item(name, "constant", f"{name} = {shown}", notes.get(node.end_lineno) or notes.get(node.lineno, ""), [], None, [])


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    "Name and node of what a module defines at its top level, in order."
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign):
            yield from ((n.id, node) for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name))


def item(name: str, node: ast.AST, notes: dict[int, str]) -> Item:
    "What a name stands for."
    if isinstance(node, ast.FunctionDef):
        return function_item(node, notes)
    return class_item(node, notes) if isinstance(node, ast.ClassDef) else constant_item(name, node, notes)


def imports(tree: ast.Module, package: str) -> dict[str, str]:
    "Name to module, without `fakeface.`, of what is imported from this package."
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("fakeface.")):
            base = package.split(".")[:-node.level or None] if node.level else []
            module = ".".join([*base, *filter(None, [(node.module or "").removeprefix("fakeface.")])])
            found |= {a.asname or a.name: module for a in node.names}
    return found


@cache
def module(path: Path, name: str) -> Module:
    "The public names of one file."
    source = path.read_text(encoding="utf-8")
    tree, notes = ast.parse(source), trailing_comments(source)
    found = list(definitions(tree))
    public = next((ast.literal_eval(n.value) for k, n in found if k == "__all__"), [])
    first = {k: n for k, n in reversed(found)}
    borrowed = {k: m for k, m in imports(tree, name).items() if k in public and k not in first}
    items = [item(k, first[k], notes) for k in public if k in first]
    return Module(name, (ast.get_docstring(tree) or "").split("\n")[0], items, borrowed)


def modules(package: Path) -> dict[str, Module]:
    "All modules of the package that notebooks make, by name."
    paths = [p for p in sorted(package.rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py", "__main__.py")]
    names = [".".join(p.relative_to(package).with_suffix("").parts) for p in paths]
    return {name: module(path, name) for name, path in zip(names, paths)}
