"The site and the links: what is checked about them finds what is wrong, and the pages are complete."
import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import api  # noqa: E402
import browse  # noqa: E402
import check  # noqa: E402
import docs  # noqa: E402
import links  # noqa: E402
import run_notebooks  # noqa: E402

# --- links ------------------------------------------------------------------------------------------------------------

README = """# Top
## What it is: `p_fake`, in short
[a](docs/a.md) [b](docs/a.md#there) [c](#what-it-is-p_fake-in-short) [d](https://example.org/none) ![p](p.png) <a href="docs">docs</a>
`[e](none.md)` <!-- [f](none.md) -->
```
[g](none.md)
```
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    "A small checkout whose links are all alive."
    (tmp_path / "docs").mkdir()
    (tmp_path / "nbs").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "docs/a.md").write_text('# A\n## There\n## There\n<a id="here"></a>\n[up](../README.md#top) [two](#there-1) [h](#here)\n')
    notebook(tmp_path, "See [a](../docs/a.md#here).")
    return tmp_path


def notebook(root: Path, text: str) -> None:
    "A notebook of two cells."
    cells = [{"cell_type": "markdown", "source": ["# one\n"]}, {"cell_type": "markdown", "source": [text]}]
    (root / "nbs/01_x.ipynb").write_text(json.dumps({"cells": cells}))


def test_links_that_are_alive_or_lead_outside_pass(checkout):
    assert list(links.dead_links(checkout)) == []


@pytest.mark.parametrize("planted, why", [
    ("[x](none.md)", "no such file"), ("![x](none.png)", "no such file"), ('<img src="none.png">', "no such file"),
    ("[x](docs/a.md#nowhere)", "docs/a.md has no heading or id `nowhere`"), ("[x](#nowhere)", "README.md has no heading or id `nowhere`"),
    ("[x](../outside.md)", "leads out of the repository"), ("[x]: none.md", "no such file"),
    ("[x](nbs/01_x.ipynb#two)", "nbs/01_x.ipynb has no heading or id `two`")])
def test_a_planted_dead_link_is_found(planted, why, checkout):
    (checkout / "README.md").write_text(README + "\n" + planted + "\n")
    (found,) = links.dead_links(checkout)
    assert (found.file, found.cell, found.why) == ("README.md", None, why)


def test_a_dead_link_in_a_notebook_is_named_with_its_cell_by_make_test(checkout):
    notebook(checkout, "See [a](../docs/b.md).")
    (found,) = check.CHECKS["links"](checkout)
    assert str(found).startswith("nbs/01_x.ipynb cell 2: the link ../docs/b.md: no such file; mend")


# --- what is read from the source -------------------------------------------------------------------------------------

SOURCE = '''"""A module."""
__all__ = ["LIMIT", "f", "C"]
LIMIT = 3 # the most
def f(a: int, # what comes in
      *rest: str, b: float | None = None, # both of them
     ) -> list[int]: # one an image
    "What comes out."
class C:
    "A class."
    x: int = 0 # a field
    def m(self, k: str) -> None: # nothing
        "A method."
'''


def test_names_signatures_and_docments_are_read_without_importing(tmp_path):
    (tmp_path / "m.py").write_text(SOURCE)
    m = api.module(tmp_path / "m.py", "m")
    limit, f, c = m.items
    assert (m.doc, limit.doc, f.signature) == ("A module.", "the most", "def f(a: int, *rest: str, b: float | None = None) -> list[int]")
    assert [(p.name, p.meaning) for p in f.params] == [("a", "what comes in"), ("*rest", ""), ("b", "both of them")]
    assert (f.returns.type, f.returns.meaning) == ("list[int]", "one an image")
    assert c.params[0] == ("x", "int", "0", "a field") and c.members[0].signature == "def m(k: str) -> None"


@pytest.fixture(scope="module")
def pages() -> dict[str, bytes]:
    "The site's sources."
    return docs.sources(ROOT)


def test_every_public_name_has_an_anchor_on_its_notebooks_page_and_a_place_in_the_index(pages):
    site = docs.plan(ROOT)
    index = pages["api.md"].decode()
    for name, m in site.modules.items():
        text, ids = pages[site.notebooks[name]].decode(), [f"fakeface.{name}.{i.name}" for i in m.items]
        assert [i for i in ids if f'<a id="{i}"></a>' not in text or f"#{i}\"" not in index] == []


def test_every_card_is_shown_with_licence_and_citation(pages):
    page = pages["datasets.md"].decode()
    for card in map(docs.cards.read_card, (ROOT / "data_manifests/sources").glob("*.yaml")):
        for text in (card.licence, card.citation, card.get):
            assert docs.cards.addressed(" ".join(text.split())) in page, card.name


# --- the written pages ------------------------------------------------------------------------------------------------

PAGE = '<html><body id="top"><a href="b.html#there">b</a><img src="p.png" alt="a picture"><a href="https://example.org">out</a></body></html>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    "Two pages in order."
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.html").write_text('<p id="there">')
    Image.new("RGB", (1, 1)).save(tmp_path / "p.png")
    return tmp_path


def test_pages_in_order_pass(site):
    assert list(docs.dead(site)) == []


@pytest.mark.parametrize("planted, told", [
    ('<a href="c.html">', "a.html: c.html: no such file"), ('<a href="b.html#gone">', "a.html: b.html#gone: no such id"),
    ('<script src="https://cdn.example.org/x.js">', "a.html: loads https://cdn.example.org/x.js from outside"),
    ('<link rel="stylesheet" href="https://fonts.example.org/x">', "a.html: loads https://fonts.example.org/x from outside"),
    ('<img src="p.png">', "a.html: the picture p.png has no description")])
def test_a_planted_fault_in_a_page_is_found(planted, told, site):
    (site / "a.html").write_text(PAGE + planted)
    assert list(docs.dead(site)) == [told]


FAULTS = {"script": ("<script>nothing()</script>", "error: nothing is not defined"),
          "console": ("<script>console.error('oh')</script>", "console error: oh"),
          "gone": ('<img src="gone.png">', "request failed"),
          "outside": ('<script src="https://example.org/x.js"></script>', "request leaves the site"),
          "wide": ('<div style="width:800px">wide</div>', "px wide on a screen of 390 px")}


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    "What the browser says of two pages in order and of one page a fault; skipped where there is no browser."
    if reason := browse.why_not():
        pytest.skip(reason)
    at = tmp_path_factory.mktemp("site")
    for name, (planted, _) in {"a": (PAGE, ""), "b": ('<p id="there">', ""), **FAULTS}.items():
        (at / f"{name}.html").write_text(planted)
    Image.new("RGB", (1, 1)).save(at / "p.png")
    return browse.browse(at)


def test_pages_in_order_pass_in_a_browser(browsed):
    assert browsed["a.html"] == browsed["b.html"] == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen_in_a_browser(name, browsed):
    assert FAULTS[name][1] in " ".join(browsed[f"{name}.html"])


# --- small pictures ---------------------------------------------------------------------------------------------------

def png(image: Image.Image) -> str:
    "A picture as a notebook stores it."
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_pictures_are_stored_small_in_the_same_size_and_once(tmp_path):
    ramp = np.linspace(0, 255, 128 * 128 * 3).reshape(128, 128, 3).astype(np.uint8)
    noisy = Image.fromarray(ramp + np.random.default_rng(0).integers(0, 4, ramp.shape, np.uint8))
    path = tmp_path / "x.ipynb"
    output = {"output_type": "display_data", "metadata": {}, "data": {"image/png": png(noisy), "image/jpeg": "AAAA", "text/plain": "x"}}
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": "x", "outputs": [output]}]}))
    run_notebooks.shrink_file(path)
    once = path.read_text()
    (data,) = (o["data"] for o in json.loads(once)["cells"][0]["outputs"])
    small = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert set(data) == {"image/png", "text/plain"} and small.size == noisy.size and len(data["image/png"]) < len(png(noisy)) / 1.5
    assert np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(noisy, int)).mean() < 4
    run_notebooks.shrink_file(path)
    assert path.read_text() == once


def test_the_start_page_shows_its_own_picture_and_no_badge():
    pages = docs.sources()
    start = pages["index.md"].decode()
    assert "(images/report.png)" in start and "images/report.png" in pages
    assert "badge" not in start and "shields.io" not in start
