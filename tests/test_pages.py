"The pages: each is one file that needs nothing but itself, is linked inside and out, has words for its pictures, and fits a phone."
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from fakeface.audit.audit import audit
from fakeface.core.page import page_links
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.evaluate.compare import compare
from fakeface.evaluate.fairness import fairness_reports
from fakeface.evaluate.scores import score_predictions
from fakeface.evaluate.thresholds import fit_operating_point
from fakeface.experiments.ladder import ladder_rows
from fakeface.experiments.pages import curve_page, grid_page, holdout_page, ladder_page, seeds_page, transfer_page
from fakeface.experiments.seeds import summarise
from fakeface.report.audit import write_audit
from fakeface.report.compare import compare_page
from fakeface.report.fairness import fairness_page
from fakeface.report.index import entries, write_runs_index
from fakeface.report.origins import banner_of
from fakeface.report.robustness import robustness_page, robustness_report
from fakeface.report.run import write_report
from fakeface.synthetic.world import build_world

NAMES = ["index", "man/report", "man/audit", "man/fairness", "man/robustness", "compare", "grid/grid", "transfer/transfer",
         "holdout/holdout", "ladder/ladder", "curve/curve", "mix/curve", "seeds/seeds", "seeds/seed-0/report"]
DRAWN = dict(seed=0, images=160, trace=8.0, psi=0.7, size=64)


# --- a folder of runs with all pages, from made-up answers ------------------------------------------------------------

def answers(rows: pd.DataFrame, skill: float, seed: int = 0) -> pd.DataFrame:
    "Predictions of a made-up detector."
    z = np.random.default_rng(seed).normal(np.where(rows["label"] == "fake", skill, -skill), 1.5)
    p = rows.assign(p_fake=1 / (1 + np.exp(-z)), run="made-up")
    return p.assign(loss=-np.log(np.where(p["label"] == "fake", p["p_fake"], 1 - p["p_fake"])))


def run_folder(folder: Path, predictions: pd.DataFrame) -> Path:
    "What a run leaves, as far as its readers need it."
    folder.mkdir(parents=True)
    counts = {s: dict(asked=n, found=n, used=n) for s, n in predictions["source"].value_counts().items()}
    point = fit_operating_point(predictions[predictions["split"] == "valid"])
    metrics = score_predictions(predictions) | dict(sources=counts, rejected=0, operating=dict(point=point.__dict__))
    info = dict(recipe="man-2-test", title="FFHQ as test", started="2026-11-28T00:00:00+00:00", world=DRAWN, data="w",
                settings=dict(epochs=2), profile="small", seed=0)
    predictions.to_parquet(folder/"predictions.parquet")
    for name, values in (("metrics.json", metrics), ("run.json", info)): (folder/name).write_text(json.dumps(values))
    (folder/"recipe.yaml").write_text("name: man-2-test\n")
    pd.DataFrame(dict(epoch=[1, 2], train_loss=[.7, .5], valid_loss=[.6, .4], accuracy=[.7, .9])).to_csv(folder/"history.csv", index=False)
    pd.DataFrame(columns=["path", "source", "reason"]).to_csv(folder/"rejects.csv", index=False)
    return folder


def series(folder: Path, kind: str, trials: dict[str, dict], asked: dict | None = None) -> Path:
    "The note of a series."
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(epochs=2, weights="", model="small", lr=None)
    asked = dict(recipe="man-2-test", profile="small", images="0a" * 16, settings=settings) | (asked or {})
    (folder/f"{kind}.json").write_text(json.dumps(dict(asked=asked, trials=trials)))
    return folder


def grid_rows() -> pd.DataFrame:
    "Four settings of two axes on validation and a test."
    scores = ("accuracy", "balanced_accuracy", "auc")
    def row(color: str, width: int, rank: int, accuracy: float, test: str) -> dict:
        name = f"color-{color}_width-{width}"
        ends = {f"{k}{e}": accuracy + d for k in scores for e, d in (("", 0), ("_lo", -.06), ("_hi", .05))}
        return dict(trial=name, setting=name, status="done", seed=0, color=color, test=test, n=200, n_fake=100, majority=0.5, rank=rank,
                    seconds=3.0, p_best=1.0, as_good=rank < 3, error="", **{"model.width": width}, **ends)
    settings = [("rgb", 16, 0.9), ("rgb", 8, 0.88), ("grey", 16, 0.75), ("grey", 8, 0.6)]
    rows = [row(c, w, k, a - (0.3 if test == "ffhq" else 0), test) for test in ("valid", "celeba", "ffhq")
            for k, (c, w, a) in enumerate(settings, 1)]
    failed = dict(trial="color-edges", setting="color-edges", status="failed", seed=0, test="", color="edges", as_good=False,
                  error="ValueError: /" + "home/somebody/x.jpg cannot be read")
    return pd.DataFrame([*rows, failed])


def transfer_rows() -> pd.DataFrame:
    "Two sets, both together, and the pool's fakes."
    def row(train: str, test: str) -> dict:
        learnt = train in (test, "all")
        rates = dict(specificity=None if test == "fakes" else 0.95 if learnt else 0.3, sensitivity=0.92)
        rates |= dict(balanced_accuracy=None if test == "fakes" else (rates["specificity"] + 0.92) / 2)
        ends = {f"{k}_{e}": v and v + d for k, v in rates.items() for e, d in (("lo", -.05), ("hi", .04))}
        return dict(train=train, test=test, status="done", images=60, learnt=learnt and test != "fakes",
                    n_real=0 if test == "fakes" else 80, n_fake=70, auc=None, p_own=None if train == test else .001, seconds=2.0,
                    **rates, **ends)
    return pd.DataFrame([row(a, b) for a in ("celeba", "ffhq", "all") for b in ("celeba", "ffhq", "fakes")])


def holdout_cells() -> pd.DataFrame:
    "Two detectors, two kinds of photographs, two of fakes; one cell without fakes."
    def cell(d: str, r: str, f: str, auc: float) -> dict:
        return dict(detector=d, real=r, fake=f, trainings=2, n_real=60, n_fake=40, auc=auc, auc_lo=auc - .1, auc_hi=min(1, auc + .1),
                    auc_lowest=auc - .02, auc_highest=auc + .02, fpr=.4, fpr_lo=.3, fpr_hi=.5, tpr=.8, tpr_lo=.7, tpr_hi=.9,
                    frozen_balanced_accuracy=.7, shortcut="size", shortcut_auc=.61)
    aucs = dict(fastai=(.9, .8, .4, .7), probe=(.8, .7, .6, .5))
    pairs = [(r, f) for r in ("celeba", "ffhq") for f in ("stylegan_1m", "stylegan2")]
    return pd.DataFrame([cell(d, r, f, a) for d, some in aucs.items() for (r, f), a in zip(pairs, some)])


def made_up(ffhq: float, n: int = 60, seed: int = 0) -> pd.DataFrame:
    "Predictions with this share of FFHQ called real."
    rng, tables = np.random.default_rng(seed), []
    for split, source, label, right in (("ffhq", "ffhq", "real", ffhq), ("celeba", "celeba", "real", .98),
                                        ("valid", "utkface", "real", .98), ("celeba", "stylegan", "fake", .96),
                                        ("valid", "stylegan", "fake", .97)):
        p = np.where(rng.random(n) < right, *((.9, .2) if label == "fake" else (.1, .8)))
        path = [f"{split}/{source}/{i}" for i in range(n)]
        tables.append(pd.DataFrame(dict(path=path, split=split, source=source, label=label, p_fake=p)))
    return pd.concat(tables, ignore_index=True)


def sweeps() -> tuple[pd.DataFrame, pd.DataFrame]:
    "A sweep over sizes and one over shares."
    rng = np.random.default_rng(0)
    def accuracy(s: int, e: int) -> float: return round(500 * (.95 - 2 * s**-.6 - .3 / e**2 + .01 * rng.normal())) / 500
    sizes = [dict(size=s, seed=k, epoch=e, test=t, n=500, fnr=.1, fpr=.1, auc=.9, loss=.3, accuracy=accuracy(s, e))
             for t in ("valid", "celeba", "ffhq") for s in (100, 200, 400) for k in (0, 1) for e in (1, 2, 3, 4)]
    shares = [dict(share_real=s, seed=k, epoch=1, test="celeba", n=400, n_real=200, n_fake=200, accuracy=.9, fnr=.05 + .2 * s,
                   fpr=.3 - .2 * s, fnr_moved=.1, fpr_moved=.1 + .01 * k) for s in (.1, .5, .9) for k in (0, 1)]
    return pd.DataFrame(sizes), pd.DataFrame(shares)


def own_pages(runs: Path, root: Path) -> None:
    "Audit, fairness, robustness, the report of one run, and its comparison with another."
    parts = [Part("utkface", 900), Part("celeba", 900), Part("ffhq", 900), Part("1m_fake_faces", 900)]
    recipe = Recipe("man-2-test", "FFHQ as test", parts[:2] + parts[3:], {"celeba": [parts[1], parts[3]], "ffhq": [parts[2]]},
                    {"small": dict(model="small", size=32, epochs=1)})
    manifest = compose(recipe, scan(root)).manifest
    rows = manifest[manifest["split"] != "train"].reset_index(drop=True)
    predictions, other = answers(rows, 2.0), answers(rows, 1.2, 1)
    run = run_folder(runs/"man", predictions)
    write_audit(audit(manifest, root, faces=30, workers=1), run)
    found = fairness_reports(predictions, min_n=3, min_subjects=3)
    (run/"fairness.html").write_text(fairness_page(found, "man", banner_of(run), page_links(run/"fairness.html")))
    def bright(images: list) -> list[float]: return [float(np.asarray(x).mean() / 255) for x in images]
    robust = robustness_report(bright, rows, root, n=8, sweeps=["jpeg:80,50", "blur:1,3"])
    (run/"robustness.html").write_text(robustness_page(robust, "man", banner_of(root), page_links(run/"robustness.html")))
    write_report(run, root)
    run_folder(runs/"boulahia", other)
    page = compare_page(compare(predictions, other), [run], [runs/"boulahia"], runs/"compare.html")
    (runs/"compare.html").write_text(page)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A folder of runs with every page there is."
    runs, monkeypatch = tmp_path_factory.mktemp("pages")/"runs", pytest.MonkeyPatch()
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
    own_pages(runs, build_world(runs.parent/"world", images=160, workers=1))
    by_seed = [answers(made_up(.5), skill, k) for k, skill in enumerate((1.5, 2.0, 2.5))]
    series(runs/"seeds", "seeds", {f"seed-{i}": dict(seed=i) for i in range(3)})
    for k, table in enumerate(by_seed): write_report(run_folder(runs/"seeds"/f"seed-{k}", table))
    write_series(runs, by_seed)
    write_runs_index(runs)
    write_report(runs/"man", runs.parent/"world") # again, now that the others are there to be linked
    yield runs
    monkeypatch.undo()


def write_series(runs: Path, by_seed: list[pd.DataFrame]) -> None:
    "The pages of many trainings."
    steps = dict(nothing=.05, encoding=.93, resolution=.95, alignment=.06, colour=.1, all=.94)
    sizes, shares = sweeps()
    seeds, both = (0, 1), (0.1, 0.5, 0.9)
    rungs = ladder_rows({s: [made_up(x, seed=k) for k in seeds] for s, x in steps.items()})
    grid = {t: dict(setting=t, seed=0) for t in grid_rows()["trial"].unique()}
    rows = {t: dict(train=t, sets=[t], images=60) for t in ("celeba", "ffhq", "all")}
    cells = {f"{c.detector}_{c.real}-{c.fake}_seed-{k}": dict(detector=c.detector, real=c.real, fake=c.fake, seed=k)
             for c in holdout_cells().itertuples() for k in seeds}
    tries = pd.DataFrame([dict(c, status="done" if k else "waiting") for k, c in enumerate(cells.values())])
    sized = {f"size-{s}-seed-{k}": dict(size=s, seed=k, images=s) for s in (100, 200, 400) for k in seeds}
    mixed = {f"real-{s}-seed-{k}": dict(share_real=s, seed=k, images=50) for s in both for k in seeds}
    pages = {"grid/grid": (grid_page, grid_rows(), grid, dict(trace="quick", axes=dict(color=["rgb", "grey"]))),
             "transfer/transfer": (transfer_page, transfer_rows(), rows, {}),
             "holdout/holdout": (lambda t, out: holdout_page(t, holdout_cells(), out), tries, cells, {}),
             "ladder/ladder": (ladder_page, rungs, {f"{s}-seed{k}": dict(step=s, seed=k) for s in steps for k in seeds}, {}),
             "curve/curve": (curve_page, sizes, sized, {}),
             "mix/curve": (curve_page, shares, mixed, {})}
    for name, (page, table, trials, asked) in pages.items():
        out = series(runs/name.partition("/")[0], name.partition("/")[0], trials, asked)
        (runs/f"{name}.html").write_text(page(table, out))
    (runs/"seeds"/"seeds.html").write_text(seeds_page(summarise(by_seed), runs/"seeds"))


class Elements(HTMLParser):
    "What a page consists of."
    def __init__(self, text: str):
        super().__init__()
        self.ids, self.hrefs, self.images, self.tags, self.title, self.lang = [], [], [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.tags.append(tag)
        if "id" in a: self.ids.append(a["id"])
        if tag == "a": self.hrefs.append(a.get("href", ""))
        if tag == "img": self.images.append(a)
        if tag == "html": self.lang = a.get("lang")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "title" and not self.title: self.title = data.strip()


# --- what holds of every page -----------------------------------------------------------------------------------------

pages = pytest.mark.parametrize("name", NAMES)


@pages
def test_a_page_names_its_subject_and_its_language_and_runs_nothing(name, runs):
    text = (runs/f"{name}.html").read_text()
    page = Elements(text)
    assert len(page.title) > 10 and page.lang == "en" and page.tags.count("h1") == 1
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not re.findall(r"url\(|@import|\bon\w+=", re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", text))


@pages
def test_ids_are_unique_links_lead_somewhere_and_a_long_page_has_contents(name, runs):
    file = runs/f"{name}.html"
    page = Elements(file.read_text())
    assert len(set(page.ids)) == len(page.ids) and page.tags.count("h2") >= 1
    inside = [h[1:] for h in page.hrefs if h.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert bool(inside) == (page.tags.count("h2") > 3)
    outside = [h for h in page.hrefs if not h.startswith(("#", "https://", "http://"))]
    assert not [h for h in outside if h.startswith(("/", "file:")) or not (file.parent/unquote(h)).is_file()]


@pages
def test_every_picture_has_words_and_no_page_names_a_folder_of_the_machine(name, runs):
    text = (runs/f"{name}.html").read_text()
    page = Elements(text)
    assert not [i.get("alt") for i in page.images if len((i.get("alt") or "").strip()) < 8]
    assert all(i["src"].startswith("data:image/") for i in page.images)
    charts = [i["alt"] for i in page.images if "chart" in i.get("class", "")]
    assert all(re.search(r"\d", words) for words in charts)  # the figures are in the words
    plain = re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", text)
    assert str(runs.parent) not in plain and "/" + "home/" not in plain and "NaN" not in plain


def test_pages_that_belong_together_are_linked(runs):
    def hrefs(name: str) -> set[str]: return set(Elements((runs/f"{name}.html").read_text()).hrefs)
    assert {"../index.html", "audit.html", "fairness.html", "robustness.html"} <= hrefs("man/report")
    assert {"../../index.html", "../seeds.html"} & hrefs("seeds/seed-0/report") == set()  # written before those were there
    assert {"man/report.html", "man/audit.html", "grid/grid.html", "mix/curve.html", "compare.html"} <= hrefs("index")
    assert {"seed-0/report.html", "seed-2/report.html"} <= hrefs("seeds/seeds")
    write_report(runs/"seeds"/"seed-0")
    assert {"../../index.html", "../seeds.html"} <= hrefs("seeds/seed-0/report")


def test_drawn_faces_are_announced_wherever_a_world_is_known(runs):
    for name in ("man/report", "man/audit", "man/fairness", "man/robustness", "compare", "seeds/seeds"):
        assert "Drawn faces, not people" in (runs/f"{name}.html").read_text(), name


def test_the_index_lists_a_damaged_and_an_unfinished_run_and_is_written_all_the_same(runs, tmp_path):
    shutil.copytree(runs/"man", tmp_path/"runs"/"man")
    for name, file, text in (("broken", "metrics.json", "{"), ("stopped", "manifest.parquet", "x"), ("latin", "metrics.json", "\xe9")):
        (tmp_path/"runs"/name).mkdir()
        (tmp_path/"runs"/name/file).write_text(text, encoding="latin-1")
    (tmp_path/"runs"/"grid").mkdir()
    (tmp_path/"runs"/"grid"/"grid.json").write_text("[]")
    kinds = dict(man="run", broken="unreadable", latin="unreadable", grid="unreadable", stopped="unfinished")
    assert {e.name: e.kind for e in entries(tmp_path/"runs")} == kinds
    page = write_runs_index(tmp_path/"runs").read_text()
    assert "1 run and 0 series; 4 more are not finished or not readable" in page and str(tmp_path) not in page


# --- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FRAME = '<iframe width="390" height="3000" id="{name}" srcdoc="{page}"></iframe>'
MEASURE = """<script>
onload = () => { for (const f of document.querySelectorAll("iframe")) {
  const d = f.contentDocument.documentElement, p = document.createElement("p");
  p.textContent = f.id + ": " + d.scrollWidth + " of " + d.clientWidth;
  document.body.append(p);
} };
</script>"""


@pytest.fixture(scope="module")
def widths(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    "How wide each page is on a screen of 390 pixels, and how much of that is seen."
    folder = tmp_path_factory.mktemp("browser")
    frames = [FRAME.format(name=name, page=html.escape((runs/f"{name}.html").read_text(), quote=True)) for name in NAMES]
    (folder/"m.html").write_text(f"<!doctype html><body>{''.join(frames)}{MEASURE}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom",
               f"--user-data-dir={folder/'u'}", f"file://{folder/'m.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    return {name: (int(wide), int(seen)) for name, wide, seen in re.findall(r"<p>([\w/-]+): (\d+) of (\d+)</p>", shown)}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to lay the pages out")
@pages
def test_no_page_scrolls_sideways_on_a_phone(name, widths):
    wide, seen = widths[name]
    assert seen <= 390 and wide <= seen


LONGEST = "0.99998 [0.98245, 1.00000]" # an average precision
SPILLED = """<script>
onload = () => { const d = document.querySelector("iframe").contentDocument, p = document.createElement("p");
  const right = e => e.getBoundingClientRect().right, tables = [...d.querySelectorAll(".card table.scores")];
  for (const t of tables) t.querySelectorAll("td:nth-child(2)").forEach(n => n.textContent = "LONGEST");
  p.textContent = "spilled " + tables.filter(t => right(t) > right(t.closest(".card"))).length + " of " + tables.length;
  document.body.append(p);
};
</script>""".replace("LONGEST", LONGEST)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to lay the pages out")
@pytest.mark.parametrize("wide", [1020, 900, 390])
def test_scores_with_many_digits_stay_on_their_card(wide, runs, tmp_path):
    frame = FRAME.replace("390", str(wide)).format(name="run", page=html.escape((runs/"man/report.html").read_text(), quote=True))
    (tmp_path/"m.html").write_text(f"<!doctype html><body>{frame}{SPILLED}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom",
               "--window-size=1200,900", f"--user-data-dir={tmp_path/'u'}", f"file://{tmp_path/'m.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    spilled, of = re.search(r"<p>spilled (\d+) of (\d+)</p>", shown).groups()
    assert int(of) > 0 and spilled == "0"
