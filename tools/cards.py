"""Pages about data_manifests/ and benchmarks/: datasets, recipes, grids, transfers, holdouts and the report card, as Markdown."""
import csv
import re
from pathlib import Path
from typing import Any

import yaml

from fakeface.data.recipes import Recipe, read_recipe
from fakeface.data.sources import Card, read_card
from fakeface.synthetic.defects import DEFECTS


def row(*cells: object) -> str:
    "A line of a Markdown table."
    return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"


def table(heads: list[str], rows: list[list[object]]) -> str:
    "A Markdown table."
    return "\n".join([row(*heads), "|" + "---|" * len(heads), *(row(*r) for r in rows)])


def addressed(text: str) -> str:
    "Text whose web addresses are links; what stands between `<` and `>` in it stays text."
    return re.sub(r"https?://[^\s,;)&]+(?<![.])", lambda m: f"<{m[0]}>", text.replace("<", "&lt;"))


def count(n: int | None) -> str:
    "A number of images."
    return "–" if n is None else f"{n:,}"


# --- datasets ---------------------------------------------------------------------------------------------------------

def kinds(card: Card) -> list[str]:
    "Of what kinds the images of a dataset are."
    return list(dict.fromkeys(part["kind"] for parts in card.layouts.values() for part in parts.values()))


def attributes(card: Card) -> list[str]:
    "The columns that a card's readers fill: those of a table, or the named groups of a pattern."
    return list(dict.fromkeys(name for r in card.attributes for name in r.get("columns") or re.findall(r"\(\?P<(\w+)>", r["pattern"])))


def generator(card: Card) -> str:
    "What made the fakes, in words."
    made = card.generator
    if not made:
        return "–"
    of = f", trained on {', '.join(made['trained_on'])}" if made.get("trained_on") else ""
    return f"{made['name']}{of}{f', {year}' if (year := made.get('year')) else ''}"


def dataset(path: Path) -> str:
    "One dataset's section."
    card = read_card(path)
    columns = attributes(card)
    facts = [["name in recipes", f"`{card.name}`"], ["kind", ", ".join(kinds(card))], ["images", count(card.published_count)],
             ["**licence**", addressed(card.licence)], ["**citation**", addressed(card.citation)], ["homepage", f"<{card.homepage}>"],
             ["generator", generator(card)], ["how to get it", addressed(card.get)],
             ["folder below the data root", ", ".join(f"`{f}`" for f in card.folders)],
             ["attributes", ", ".join(f"`{c}`" for c in columns) or "none"],
             ["subject", f"`{card.subject['name']}`" if card.subject else "each image its own"],
             ["used by", ", ".join(f"{k} ({n:,} images)" for k, n in card.counts_used.items()) or "–"]]
    layouts = [[f"`{name}`", part, f"`{spec['glob']}`", spec["kind"]]
               for name, parts in card.layouts.items() for part, spec in parts.items()]
    return "\n\n".join([f"## {card.title} {{ #{card.name} }}", addressed(" ".join(card.what.split())), table(["", ""], facts),
                        "Layouts in which it arrives; the first one found is read:",
                        table(["layout", "part", "files below the folder", "kind"], layouts)])


def datasets(root: Path) -> str:
    "All cards: a table of them, and a section each."
    paths = sorted((root / "data_manifests/sources").glob("*.yaml"), key=lambda p: read_card(p).title.lower())
    rows = [[f"[{c.title}](#{c.name})", ", ".join(kinds(c)), count(c.published_count), addressed(c.licence)] for c in map(read_card, paths)]
    return "\n\n".join([table(["dataset", "kind", "images", "licence"], rows), *map(dataset, paths)])


# --- experiments ------------------------------------------------------------------------------------------------------

def parts_text(parts: list[Any]) -> str:
    "Parts of a recipe on one line."
    told = []
    for p in parts:
        p = p if isinstance(p, dict) else vars(p)
        more = ", ".join(filter(None, [p.get("part"), p.get("label") and f"as {p['label']}", p.get("where") and f"where {p['where']}"]))
        told.append(f"[{p['source']}](datasets.md#{p['source']}) {p['count']:,}{f' ({more})' if more else ''}")
    return "; ".join(told)


def settings_text(chosen: dict[str, Any]) -> str:
    "Settings of a training on one line."
    return ", ".join(f"`{k}: {v}`" for k, v in chosen.items())


def recipe_text(recipe: Recipe) -> str:
    "One recipe's section."
    rows = [["trained on", parts_text(recipe.train)], *([f"test `{k}`", parts_text(v)] for k, v in recipe.tests.items()),
            *([f"profile `{k}`", settings_text(v)] for k, v in recipe.profiles.items()),
            ["duplicates", recipe.duplicates if isinstance(recipe.duplicates, str) else settings_text(recipe.duplicates)],
            *([["after", addressed(recipe.citation)]] if recipe.citation else [])]
    notes = [addressed(" ".join(recipe.notes.split()))] if recipe.notes else []
    return "\n\n".join([f"### {recipe.name} {{ #recipe-{recipe.name} }}", recipe.title + ".", table(["", ""], rows), *notes,
                        f"`fakeface run {recipe.name} --root FOLDER`"])


def listed(value: Any) -> str:
    "A list of values, or one, on one line."
    return ", ".join(f"`{v}`" for v in (value if isinstance(value, list) else [value]))


def grid_text(spec: dict[str, Any]) -> str:
    "One grid's section."
    rows = [["recipe", f"[{spec['recipe']}](#recipe-{spec['recipe']})"], *([f"axis `{k}`", listed(v)] for k, v in spec["axes"].items()),
            *([["further trials", "; ".join(map(settings_text, spec["trials"]))]] if spec.get("trials") else []),
            *([["left out", "; ".join(map(settings_text, spec["skip"]))]] if spec.get("skip") else []),
            *([["after", addressed(spec["citation"])]] if spec.get("citation") else [])]
    return "\n\n".join([f"### {spec['name']} {{ #grid-{spec['name']} }}", spec["title"] + ".", table(["", ""], rows),
                        addressed(" ".join(spec.get("notes", "").split())), f"`fakeface grid {spec['name']} --root FOLDER`"])


def transfer_text(spec: dict[str, Any]) -> str:
    "One transfer matrix's section."
    rows = [[f"set `{name}`", "; ".join(f"{label}: {parts_text(parts)}" for label, parts in sides.items())]
            for name, sides in spec["sets"].items()]
    rows += [["fakes of all sets", parts_text(spec["fakes"])]] if spec.get("fakes") else []
    rows += [["all together", f"`{spec['all']}`"]] if spec.get("all") else []
    rows += [["after", addressed(spec["citation"])]] if spec.get("citation") else []
    return "\n\n".join([f"### {spec['name']} {{ #transfer-{spec['name']} }}", spec["title"] + ".", table(["", ""], rows),
                        addressed(" ".join(spec.get("notes", "").split())), f"`fakeface transfer {spec['name']} --root FOLDER`"])


def holdout_text(spec: dict[str, Any]) -> str:
    "One holdout's section."
    rows = [[f"{label} `{name}`", parts_text(parts)] for label in ("real", "fake") for name, parts in spec[label].items()]
    rows += [[f"detector `{name}`", settings_text(own) or "the profile's"] for name, own in spec.get("detectors", {}).items()]
    rows += [["after", addressed(spec["citation"])]] if spec.get("citation") else []
    return "\n\n".join([f"### {spec['name']} {{ #holdout-{spec['name']} }}", spec["title"] + ".", table(["", ""], rows),
                        addressed(" ".join(spec.get("notes", "").split())), f"`fakeface holdout {spec['name']} --root FOLDER`"])


def specs(folder: Path) -> list[dict[str, Any]]:
    "The YAML files of a folder."
    return [yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.yaml"))]


def experiments(root: Path) -> str:
    "All recipes, grids, transfer matrices and holdouts."
    at = root / "data_manifests"
    recipes = [read_recipe(p) for p in sorted((at / "recipes").glob("*.yaml"))]
    top = table(["recipe", "what it asks"], [[f"[{r.name}](#recipe-{r.name})", r.title] for r in recipes])
    return "\n\n".join([
        "## Recipes", top, *map(recipe_text, recipes),
        "## Grids", "Settings against each other, ranked by validation.", *map(grid_text, specs(at / "grids")),
        "## Transfers", "Trained on each set, tested on each.", *map(transfer_text, specs(at / "transfers")),
        "## Holdouts", "One kind of photographs and one of fakes left out of training, tested on that pair.",
        *map(holdout_text, specs(at / "holdouts"))])


# --- report card ------------------------------------------------------------------------------------------------------

def share(r: dict[str, str]) -> str:
    "How often a check warned, with its interval."
    return f"{r['rang']} of {r['seeds']} [{100 * float(r['low']):.0f} %, {100 * float(r['high']):.0f} %]"


def general_tools(root: Path) -> list[str]:
    "What cleanvision, cleanlab and fairlearn say of clean worlds, and how they were asked."
    with open(root / "benchmarks/general_tools.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    clean = {(r["issue"], r["world"]): r for r in rows if not r["defect"]}
    worlds = list(dict.fromkeys(w for _, w in clean))
    def told(issue: str, world: str) -> str:
        r = clean.get((issue, world))
        if r is None:
            return "–"
        named = f"; {100 * float(r['named']):.1f} % of the images" if r["named"] and float(r["named"]) else ""
        return f"{r['found']} of {r['seeds']}{named}"
    rang = [i for i in dict.fromkeys(i for i, _ in clean) if any(int(clean[i, w]["found"]) for w in worlds if (i, w) in clean)]
    silent = [i for i in dict.fromkeys(i for i, _ in clean) if i not in rang]
    return ["cleanvision 0.3.7, cleanlab 2.9.0 (its Datalab on the audit's own features, and on those of an ImageNet body) and fairlearn "
            "0.15 (MetricFrame with its bootstrap) were asked about the same worlds, and about worlds with nothing injected. An issue "
            "finds a defect where it flags a changed image and no more of the others; one that rings in half of the clean worlds or more "
            "is left out of *found by*, as its ringing says nothing. Of splits these tools know nothing. What they look for and no "
            "check of ours does: single pictures that are blurred, dark, of an odd size or unlike all others. "
            "`benchmarks/general_tools.py` says how they were asked.",
            table(["issue", *(f"rings, {w}" for w in worlds)], [[f"`{i}`", *(told(i, w) for w in worlds)] for i in rang]),
            f"In none of these worlds: {', '.join(f'`{i}`' for i in silent)}."]


def report_card(root: Path) -> str:
    "What was found of what was injected; what warned where nothing was."
    with open(root / "benchmarks/report_card.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    injected = [r for r in rows if r["defect"]]
    clean = {(r["warning"], r["world"]): r for r in rows if not r["defect"]}
    found = [[DEFECTS[r["defect"]].what, f"`{r['defect']}:{float(r['strength']):g}`", f"`{r['warning']}`", share(r),
              share(clean[r["warning"], r["world"]]), r["found_by"] or "–"] for r in injected if r["default"] == "True"]
    order = list(dict.fromkeys(r["defect"] for r in injected))
    by_strength = [[f"`{r['defect']}`", DEFECTS[r["defect"]].strength, f"{float(r['strength']):g}", f"{float(r['injected']):g}", share(r)]
                   for r in sorted(injected, key=lambda r: (order.index(r["defect"]), float(r["strength"])))]
    worlds = list(dict.fromkeys(w for _, w in clean))
    quiet = [[f"`{name}`", *(share(clean[name, w]) if (name, w) in clean else "–" for w in worlds)]
             for name in dict.fromkeys(n for n, _ in clean)]
    return "\n\n".join([
        "## Found at the default strength", table(["injected", "defect", "check", "found", "false positives", "found by"], found),
        "*Found by*: what general tools, at their own thresholds, found of the same worlds ([how they were asked](#general-tools)).",
        "## By strength", table(["defect", "strength is", "strength", "images changed (median)", "found"], by_strength),
        "## Where nothing is injected", "In *equal* worlds only the generator's trace tells fakes, which `spectrum` may see; in the "
        "default world the sources differ as real datasets do, and warnings are right.", table(["check", *worlds], quiet),
        "## General tools { #general-tools }", *general_tools(root)])
