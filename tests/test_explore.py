"A run in the browser: labels survive a kill, no address breaks a page, no file outside the data root is sent, the keys and the slider."
import html
import io
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fakeface.cli.main import main
from fakeface.core.basics import DataNote
from fakeface.data.labels import apply_labels, read_labels, write_label
from fakeface.data.manifest import scan
from fakeface.evaluate.ledger import Ledger
from fakeface.evaluate.scores import score_predictions
from fakeface.evaluate.thresholds import fit_operating_point
from fakeface.serve.explore import add_explore, labels_file
from fakeface.serve.wall import Wall, Wanted, chosen
from fakeface.serve.web import client, make_app, running
from fakeface.synthetic.world import build_world

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from browse import browser, why_not  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_cache")


# --- a run, from made-up answers --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("data") / "world", images=160, workers=1, sources=["utkface", "1m_fake_faces"])


def answers(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    "Predictions of a made-up detector."
    z = np.random.default_rng(seed).normal(np.where(rows["label"] == "fake", 1.5, -1.5), 1.5)
    p = rows.assign(p_fake=1 / (1 + np.exp(-z)), run="made-up")
    return p.assign(loss=-np.log(np.where(p["label"] == "fake", p["p_fake"], 1 - p["p_fake"])))


def run_folder(folder: Path, predictions: pd.DataFrame) -> Path:
    "What a run leaves, as far as the pages need it."
    folder.mkdir(parents=True)
    point = fit_operating_point(predictions[predictions["split"] == "valid"], "eer")
    counts = {s: dict(asked=n, found=n, used=n) for s, n in predictions["source"].value_counts().items()}
    metrics = score_predictions(predictions) | dict(sources=counts, rejected=0)
    info = dict(recipe="made-up", title="Made-up answers", started="2026-11-29T00:00:00+00:00", data="world", settings={}, seed=0,
                world=dict(seed=0, images=160, trace=7.0, psi=0.7, size=64))
    predictions.to_parquet(folder / "predictions.parquet")
    for name, values in (("operating.json", point.__dict__), ("metrics.json", metrics), ("run.json", info)):
        (folder / name).write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def images(root: Path) -> pd.DataFrame:
    rows = scan(root).images
    return rows.assign(split=np.where(np.arange(len(rows)) % 2, "test", "valid")).reset_index(drop=True)


@pytest.fixture
def runs(images: pd.DataFrame, tmp_path: Path) -> tuple[Path, Path]:
    return tuple(run_folder(tmp_path / "runs" / name, answers(images, seed)) for seed, name in enumerate(("first", "second")))


# --- labels -----------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from fakeface.data.labels import write_label
for i in range(int(sys.argv[2]), int(sys.argv[3])):
    write_label(sys.argv[1], f"{i:05d}.jpg", "glasses", "yes", f"{i:064x}")
    print(i, flush=True)
"""


def writer(file: Path, first: int, last: int) -> forked.Popen:
    return forked.Popen(["-c", WRITER, str(file), str(first), str(last)], stdout=forked.PIPE, text=True, cwd=ROOT,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_a_kill_at_any_moment_loses_no_label_that_was_answered_for(tmp_path):
    file, answered, rng = tmp_path / "a.labels.csv", set(), random.Random(7)
    for turn in range(4):
        writing = writer(file, 1000 * turn, 1000 * turn + 999)
        answered.add(int(writing.stdout.readline()))
        time.sleep(rng.uniform(0.05, 0.4))
        writing.send_signal(signal.SIGKILL)
        answered |= {int(line) for line in writing.stdout.read().split()}
        writing.wait()
        kept = read_labels(file)
        assert {f"{i:05d}.jpg" for i in answered} <= set(kept["path"])
        assert not kept.duplicated(["path", "attribute"]).any()
    write_label(file, "last.jpg", "glasses", "no")
    assert [p.name for p in tmp_path.iterdir()] == [file.name]  # nothing half-written is left


def test_two_who_label_at_once_lose_nothing(tmp_path):
    file = tmp_path / "a.labels.csv"
    both = [writer(file, start, start + 20) for start in (0, 500)]
    for writing in both: writing.communicate(timeout=120)
    assert len(read_labels(file)) == 40


def test_labels_by_hand_reach_a_manifest_through_the_command(root, images, tmp_path, capsys):
    file, out = tmp_path / "hand.csv", tmp_path / "m.csv"
    recipe = tmp_path / "r.yaml"
    part = "  - {source: utkface, count: 60}\n  - {source: 1m_fake_faces, count: 60}\n"
    recipe.write_text(f"name: r\ntitle: r\ntrain:\n{part}tests:\n  test:\n{part.replace('  -', '    -')}"
                      "profiles:\n  small: {model: small, size: 64, epochs: 1}\n")
    code = main(["manifest", str(recipe), "--root", str(root), "--out", str(out), "-q"])
    assert code == 0, capsys.readouterr().err
    plain = pd.read_csv(out)
    a, b, c = plain["path"][:3]
    write_label(file, a, "label", "fake" if plain["label"][0] == "real" else "real")
    write_label(file, b, "left_out", "yes")
    write_label(file, c, "glasses", "round")
    capsys.readouterr()
    assert main(["manifest", str(recipe), "--root", str(root), "--out", str(out), "-q", "--labels", str(file)]) == 0
    assert "hand.csv: by hand: glasses of 1 image; 1 label corrected; 1 image left out" in capsys.readouterr().err
    by_hand = pd.read_csv(out).set_index("path")
    assert by_hand.loc[a, "label"] != plain["label"][0] and b not in by_hand.index and by_hand.loc[c, "glasses"] == "round"
    assert main(["manifest", str(recipe), "--root", str(root), "--labels", str(tmp_path / "none.csv")]) == 2


@pytest.mark.parametrize("text, words", [
    ("path,attribute\na,b\n", "no column `value`"), ("path,attribute,value\na,split,train\n", "line 2"),
    ("path,attribute,value\n,label,real\n", "has gaps"), ("\x00\x01", "is damaged"), ("", "is damaged")])
def test_a_damaged_table_of_labels_is_named(tmp_path, text, words):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(ValueError, match="l.csv") as e: read_labels(tmp_path / "l.csv")
    assert words in str(e.value)


def test_labels_keep_the_number_of_rows_but_for_those_left_out(images):
    labels = pd.DataFrame(dict(path=images["path"][:9], sha256=images["sha256"][:9], attribute="note", value="odd", when=None))
    with pytest.warns(DataNote, match="note of 9 images"): out = apply_labels(images, labels)
    assert len(out) == len(images) and out["note"].notna().sum() == 9


# --- addresses --------------------------------------------------------------------------------------------------------

def test_no_address_breaks_a_page(root, runs):
    add_explore(app := make_app("a run"), runs[0], root, runs[1])
    ask, rng = client(app), random.Random(3)
    names = ["split", "source", "label", "result", "low", "high", "side", "where", "sort", "page", "threshold", "prevalence", "is.part",
             "is.x"]
    values = ["", "test", "valid", "fp", "first", "loss", "nan", "inf", "-1", "1e999", "0.5", "2", "change", "near", "\x00", "é<b>",
              "a" * 300, "((", "age >= 1", "p_fake > 0.5", "maps", "'", "99999999999999999999", "１"]
    pages = [f"/explore{path}" for path in ("", "/figures", "/two", "/table.csv", "/picture/3", "/picture/3.jpg", "/thumb/x")]
    seen = set()
    for _ in range(250):
        asked = [(rng.choice(names), rng.choice(values)) for _ in range(rng.randrange(4))]
        r = ask.get(rng.choice(pages), params=asked)
        assert r.status_code in (200, 400, 404), (r.status_code, asked)
        assert "Traceback" not in r.text and "é<b>" not in r.text
        seen.add(r.status_code)
    assert seen == {200, 400, 404}


def test_a_picture_outside_the_data_root_is_never_sent(images, root, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), (1, 2, 3)).save(secret)
    (root / "out.png").symlink_to(secret)
    (root / "odd.html").write_text("<script>alert(1)</script>")
    paths = ["out.png", f"../{tmp_path.name}/secret.png", str(secret), "/etc/passwd", "odd.html", "gone.png", "utkface", "a\x00b"]
    rows = answers(images, 0)
    rows.loc[rows.index[: len(paths)], ["path", "split", "sha256"]] = [(p, "test", None) for p in paths]
    add_explore(app := make_app("a run"), run_folder(tmp_path / "runs" / "odd", rows), root)
    ask = client(app)
    for row in range(len(paths)):
        for address in (f"/explore/thumb/{row}", f"/explore/picture/{row}.jpg"):
            r = ask.get(address)
            assert (r.status_code, r.headers["content-type"]) == (404, "image/png"), paths[row]  # a tile that says why
            assert Image.open(io.BytesIO(r.content)).getpixel((0, 0)) == 224
        assert ask.get(f"/explore/picture/{row}").status_code == 200
    (root / "out.png").unlink()
    assert ask.get(f"/explore/thumb/{len(paths) + 1}").status_code == 200


def test_what_is_sent_is_drawn_anew(images, root, runs):
    "Not a byte of the file's own metadata gets out."
    add_explore(app := make_app("a run"), runs[0], root)
    file = root / images["path"][0]
    before, changed = file.read_bytes(), io.BytesIO()
    Image.open(file).save(changed, "JPEG", quality=95, comment=b"a secret")
    try:
        file.write_bytes(changed.getvalue())
        assert client(app).get("/explore/thumb/0").status_code == 404  # it has other bytes than the manifest says
        rows = pd.read_parquet(runs[0] / "predictions.parquet").drop(columns="sha256")
        rows.to_parquet(runs[0] / "predictions.parquet")
        add_explore(fresh := make_app("a run"), runs[0], root)
        sent = client(fresh).get("/explore/thumb/0")
        assert sent.status_code == 200 and b"a secret" not in sent.content and b"a secret" in changed.getvalue()
    finally: file.write_bytes(before)


def test_pages_without_pictures_say_so_and_work(runs):
    add_explore(app := make_app("a run"), runs[0])
    text = client(app).get("/explore").text
    assert "start with --root FOLDER" in text and "/explore/thumb/" not in text


def test_a_form_of_another_site_labels_nothing(root, runs):
    add_explore(app := make_app("a run"), runs[0], root)
    ask = client(app)
    assert ask.post("/explore/picture/0/label", data=dict(quick="wrong"), headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert ask.post("/explore/picture/99999/label", data=dict(quick="wrong")).status_code == 404
    assert ask.get("/explore/picture/0/label").status_code == 405
    assert not labels_file(runs[0]).exists()


def test_a_damaged_table_of_labels_is_said_and_not_written_over(root, runs):
    add_explore(app := make_app("a run"), runs[0], root)
    labels_file(runs[0]).write_text("path,attribute\nx,y\n")
    r = client(app).post("/explore/picture/0/label", data=dict(quick="wrong"))
    assert r.status_code == 400 and "no column" in r.text
    assert labels_file(runs[0]).read_text() == "path,attribute\nx,y\n"


# --- the ledger -------------------------------------------------------------------------------------------------------

def test_a_session_enters_each_test_set_once_before_it_is_shown(root, runs):
    add_explore(app := make_app("a run"), runs[0], root)
    ask, ledger = client(app), Ledger(runs[0].parent)
    assert ledger.entries() == []
    assert ask.get("/explore?source=nobody").status_code == 400 and ledger.entries() == []  # nothing was shown
    ask.get("/explore?split=valid")
    assert ledger.entries() == []  # seeing validation uses no test set
    for address in ("/explore", "/explore?threshold=0.9", "/explore/picture/1", "/explore/table.csv"): ask.get(address)
    assert [(e["test"], e["model"], e["what"]) for e in ledger.entries()] == [("test", "first", "explore")]


def test_the_same_address_gives_the_same_faces_as_the_table(root, runs):
    add_explore(app := make_app("a run"), runs[0], root, runs[1])
    wall = Wall(pd.read_parquet(runs[0] / "predictions.parquet"), json.loads((runs[0] / "operating.json").read_text())["threshold"])
    for query in ("result=wrong&sort=near", "label=fake&low=0.2&high=0.9&sort=p-up", "where=p_fake+>+0.9"):
        table = pd.read_csv(io.StringIO(client(app).get(f"/explore/table.csv?{query}").text))
        w = Wanted.read([tuple(pair.replace("+", " ").split("=", 1)) for pair in query.split("&")])
        assert table["row"].tolist() == chosen(wall, w).tolist() and len(table)


def test_a_number_of_the_two_runs_opens_as_many_faces_as_it_counts(root, runs):
    add_explore(app := make_app("a run"), runs[0], root, runs[1])
    text = client(app).get("/explore/two?result=fp&low=0.9").text
    found = re.findall(r'href="(/explore\?[^"]*side=[^"]*)"[^>]*><b>([\d,]+)</b>', text)
    assert len(found) == 4
    for address, n in found:
        rows = client(app).get(html.unescape(address).replace("/explore?", "/explore/table.csv?")).text.splitlines()
        assert len(rows) - 1 == int(n.replace(",", ""))


def test_a_filter_at_the_score_that_a_page_shows_finds_its_picture_and_a_second_send_asks_the_same(root, runs):
    explorer = add_explore(app := make_app("a run"), runs[0], root, runs[1])
    row = int(chosen(explorer.wall, Wanted())[0])
    shown = re.search(r"p_fake</th><td>([^<]*)</td>", client(app).get(f"/explore/picture/{row}").text)[1]
    assert chosen(explorer.wall, Wanted.read([("low", shown), ("high", shown)])).tolist() == [row]
    asked = dict(low=shown, high=shown, threshold=shown, prevalence="0.1234567")
    page = client(app).get("/explore", params=asked).text
    sent = {n: re.search(rf'name="{n}"[^>]* value="([^"]*)"', page)[1] for n in ("low", "high", "threshold")}
    assert sent | dict(prevalence=re.search(r'<option value="([^"]*)" selected[^>]*>0.123', page)[1]) == asked


@pytest.mark.parametrize("threshold, words", [(1 - 1.2e-5, "0.999988"), (np.nextafter(1, 2), "above 1")])
def test_a_threshold_that_is_not_one_is_not_called_one(root, runs, threshold, words):
    point = json.loads((runs[0] / "operating.json").read_text()) | dict(threshold=threshold)
    (runs[0] / "operating.json").write_text(json.dumps(point))
    add_explore(app := make_app("a run"), runs[0], root, runs[1])
    pages = [client(app).get(address).text for address in ("/explore", "/explore/two")]
    assert f"Threshold: {words}<" in pages[0] and f"its own threshold, {words} and 0." in pages[1]


# --- in a browser -----------------------------------------------------------------------------------------------------

@pytest.fixture
def address(root: Path, runs: tuple[Path, Path]) -> Iterator[str]:
    add_explore(app := make_app("a run"), runs[0], root, runs[1])
    with running(app) as url: yield url


@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
def test_the_pages_in_a_browser(address, runs):
    from playwright.sync_api import expect, sync_playwright
    said: list[str] = []
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport=dict(width=1200, height=900))
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: said.append(r.url) if not r.url.startswith((address, "data:")) else None)
        page.goto(f"{address}/explore?result=fn")
        before = page.locator("#figures .fn b").text_content()
        page.locator("#slider").focus()
        page.keyboard.press("End")  # nothing is called fake: every fake is a false negative
        expect(page.locator("#figures .fn b")).not_to_have_text(before)
        fakes = page.locator("#figures .rates .under").first.text_content().split()[1]
        expect(page.locator("#figures .fn b")).to_have_text(fakes)
        expect(page.locator("#faces h2")).to_contain_text(f"{fakes} picture")
        page.goto(f"{address}/explore")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        row = page.evaluate("document.activeElement.pathname")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{row}*")
        page.wait_for_load_state("networkidle")
        page.keyboard.press("w")
        expect(page.locator("main")).to_contain_text("label: ")
        page.wait_for_load_state("networkidle")
        page.keyboard.press("a")
        page.keyboard.type("glasses")
        page.keyboard.press("Tab")
        page.keyboard.type("round")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("glasses: round")
        page.wait_for_load_state("networkidle")
        page.keyboard.press("ArrowRight")
        page.wait_for_url(lambda url: "/picture/" in url and row not in url)
        page.wait_for_load_state("networkidle")
        page.keyboard.press("u")
        page.wait_for_url("**/explore*")
        page.set_viewport_size(dict(width=390, height=800))
        for path in ("/explore", "/explore?threshold=0.4", "/explore/two", "/explore/picture/1"):
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        chromium.close()
    assert said == []
    assert read_labels(labels_file(runs[0]))["attribute"].tolist() == ["label", "glasses"]


@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
def test_the_pages_without_javascript(address):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_context(java_script_enabled=False).new_page()
        page.goto(f"{address}/explore")
        page.locator("#threshold > summary").click()
        page.locator("#f-threshold").fill("1.5")
        page.locator("#threshold button").click()
        assert "threshold=1.5" in page.url and page.locator("#figures .fp b").text_content() == "0"
        page.locator(".shot").first.click()
        page.locator("#out").click()
        assert "left_out: yes" in page.locator("main").text_content()
        chromium.close()
