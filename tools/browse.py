"""Open every page of the site in a browser without a network: `python tools/browse.py`.

Told are errors on the console, requests that fail or leave the site, and pages that are wider than a phone (390 px) or a desk (1200 px).
"""
import argparse
import os
import shutil
import sys
import time
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "_site"
WIDTHS = (390, 1200)
LOCAL = ("file:", "data:", "blob:")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def browser() -> str | None:
    "Where a Chromium is: `$CHROMIUM`, else on the path."
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)


def why_not() -> str | None: # None: it can be done
    "Why pages cannot be opened here."
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install playwright"
    return None if browser() else "no Chromium was found: install the package chromium, or set CHROMIUM to its path"


def watch(page: object, found: list[str]) -> None:
    "Writes down what a page complains of."
    page.on("console", lambda m: found.append(f"console {m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: found.append(f"error: {e}"))
    # what is still on its way when the next page is opened is aborted, and has not failed
    page.on("requestfailed", lambda r: found.append(f"request failed: {r.url}") if r.failure != "net::ERR_ABORTED" else None)
    page.on("request", lambda r: None if r.url.startswith(LOCAL) else found.append(f"request leaves the site: {r.url}"))


def look(page: object, path: Path, found: list[str], shots: Path | None) -> list[str]:
    "Opens one page at each width; returns what is wrong with it."
    found.clear()
    page.goto(path.as_uri(), wait_until="load")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(30)
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        if wide > width:
            found.append(f"{wide} px wide on a screen of {width} px")
        if shots:
            page.screenshot(path=shots / f"{path.stem}-{width}.png")
    return list(dict.fromkeys(found))


def search(page: object, path: Path, found: list[str], word: str = "threshold") -> list[str]:
    "Searches for a word that some page surely has; returns what is wrong."
    found.clear()
    page.goto(path.as_uri(), wait_until="load")
    page.keyboard.press("/")
    page.keyboard.type(word)
    try:
        page.wait_for_selector(".md-search-result__item", timeout=10_000)
    except Exception as error:  # playwright's own TimeoutError
        found.append(f"the search for {word!r} finds nothing ({type(error).__name__})")
    return list(dict.fromkeys(found))


def browse(site: Path = SITE, only: str = "", shots: Path | None = None, dark: bool = False) -> dict[str, list[str]]:
    "Page to what is wrong with it, for every page of the site whose path has `only` in it."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"])
        context = chromium.new_context(color_scheme="dark" if dark else "light", offline=True)
        page, found, told = context.new_page(), [], {}
        watch(page, found)
        for path in sorted(site.rglob("*.html")):
            name = path.relative_to(site).as_posix()
            if only in name:
                told[name] = look(page, path, found, shots)
        if (site / "search").is_dir() and told:
            told[next(iter(told))] += search(page, site / next(iter(told)), found)
        chromium.close()
    return told


def main() -> int:
    "Open the pages and print what is wrong."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--site", type=Path, default=SITE, help="the site's folder (default: _site)")
    parser.add_argument("--only", default="", help="pages whose path holds this")
    parser.add_argument("--shots", type=Path, metavar="FOLDER", help="write pictures of the pages there")
    parser.add_argument("--dark", action="store_true", help="for readers who prefer it dark")
    args = parser.parse_args()
    if reason := why_not():
        print(f"No page was opened in a browser: {reason}")
        return 0
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    began = time.time()
    told = browse(args.site.resolve(), args.only, args.shots, args.dark)
    for name, wrong in told.items():
        print(*(f"{name}: {w}" for w in wrong), sep="\n", end="\n" if wrong else "")
    bad = sum(map(bool, told.values()))
    at = f"at {' and '.join(map(str, WIDTHS))} px, and searched, in {time.time() - began:.0f} s"
    print(f"{len(told)} pages opened without a network {at}: {bad} with something to mend")
    return int(bool(bad) or not told)


if __name__ == "__main__":
    sys.exit(main())
