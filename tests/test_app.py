"The app: a hundred at once, what nobody should send, nothing left behind, its pages in a browser; the long forms are benchmarks/app_*.py."
import collections
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
pytest.importorskip("fasthtml", reason="the extra app is not installed")
httpx = pytest.importorskip("httpx")
import app_hostile  # noqa: E402
import app_load  # noqa: E402
import served  # noqa: E402
from standin import COLOURS  # noqa: E402

from fakeface.cli.main import main  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are read off /proc")
LINES = {"accept": "application/x-ndjson"}


def picture(said: str, size: tuple[int, int] = (120, 160), **save: object) -> bytes:
    "A PNG that the stand-in answers so."
    out = io.BytesIO()
    Image.new("RGB", size, COLOURS[said]).save(out, "PNG", **save)
    return out.getvalue()


@pytest.fixture(scope="module")
def app() -> Iterator[served.Served]:
    "One app for all tests of this file: what it leaves is looked at in the last one."
    with served.served() as running: yield running


def answer(app: served.Served, data: bytes) -> dict:
    "The last line that it sends."
    r = httpx.post(f"{app.url}/look", files={"picture": ("a.png", data)}, headers=LINES, timeout=60, trust_env=False)
    return json.loads(r.text.splitlines()[-1])


# --- answers ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("said, kind, verdict", [(said, "one face", said) for said in ("fake", "real", "unsure")] + [
                         ("none", "one face", "no verdict"), ("nobody", "no face", "no verdict")])
def test_every_verdict_has_an_answer_of_its_own(app, said, kind, verdict):
    told = answer(app, picture(said))
    assert (told["answer"]["kind"], told["answer"]["verdict"]) == (kind, verdict)
    assert f">{verdict}</span>" in told["html"] and told["said"] == f"a.png: {kind}, {verdict}."


def test_two_faces_have_two_answers_and_numbers(app):
    told = answer(app, picture("fake", (320, 160)))
    assert len(told["answer"]["answers"]) == 2 and told["html"].count("<rect") == 4 and "Face 2: " in told["html"]


@pytest.mark.parametrize("data, words", [(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML"), (b"<!doctype html><p>", "a web page"),
                                         (b"", "empty"), (b"\0" * 50, "no known image header"), (picture("fake")[:90], "truncated")])
def test_what_is_no_picture_is_refused_in_words(app, data, words):
    assert words in answer(app, data)["refused"]


def test_a_bomb_is_refused_before_it_is_opened(app):
    data = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(data, "PNG")
    began = time.monotonic()
    assert "oversized" in answer(app, data.getvalue())["refused"] and time.monotonic() - began < 2


@pytest.mark.parametrize("size", [(16_001, 1), (1, 65_535)])
def test_a_picture_that_is_a_line_is_refused(app, size):
    assert "oversized" in answer(app, picture("fake", size))["refused"]


def test_a_picture_that_is_too_large_is_refused_and_the_next_one_answered(app):
    files = [("picture", ("large.png", b"x" * 25_000_001)), ("picture", ("a.png", picture("real")))]
    lines = httpx.post(f"{app.url}/look", files=files, headers=LINES, timeout=60, trust_env=False).text.splitlines()
    told = [json.loads(line) for line in lines if "said" in line]
    assert ["more than 25 MB" in (t["refused"] or "") for t in told] == [True, False]


def test_more_pictures_than_are_taken_are_refused_in_words_and_the_browser_hears_them(app):
    r = httpx.post(f"{app.url}/look", files=[("picture", ("a.png", b"x" * 100))] * 21, timeout=60, trust_env=False)
    assert r.status_code == 413 and "More than 20 pictures" in r.text
    try: r = httpx.post(f"{app.url}/look", files={"picture": b"x" * 101_000_000}, timeout=60, trust_env=False)
    except httpx.WriteError: return # closed while it was still sent
    assert r.status_code == 413 and "100 MB" in r.text


# --- many, and hostile ---------------------------------------------------------------------------------------------------

def test_a_hundred_uploads_at_once_are_answered(app):
    found = app_load.load(app.url, [picture("fake", (600, 800))], 100)
    assert collections.Counter(f["status"] for f in found) == {200: 100}
    assert all(f["answered"] and f["places"] for f in found) and max(f["places"] for f in found) > 1


def test_hostile_uploads_and_requests_find_no_offence(app):
    found, kinds = collections.Counter(), collections.Counter()
    app_hostile.send(app, 5, 120, found, kinds)
    assert not found and sum(kinds.values()) == 120 and answer(app, picture("fake"))["answer"]["answers"][0]["p_fake"] == 0.9871


def test_the_offences_are_seen():
    told = httpx.Response(500, html="<b>Traceback</b> <img src=x onerror=1> <script>1</script>")
    seen = {o.partition(":")[0] for o in app_hostile.offences(told)}
    assert seen == {"status 500", "a traceback", "no security headers", "an element of theirs"}


def test_a_visitor_who_leaves_gives_the_place_back():
    with served.served(load="load_slow") as slow:
        host, port = slow.url.removeprefix("http://").split(":")
        body = app_hostile.PART + b"--x--\r\n"
        head = (f"POST /look HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        gone = [socket.create_connection((host, int(port))) for _ in range(20)]
        for s in gone: s.sendall(head.encode() + body)
        for s in gone: s.recv(100) # it is in the queue
        for s in gone: s.close()
        began = time.monotonic()
        assert answer(slow, picture("fake"))["answer"]["verdict"] == "fake"
        assert time.monotonic() - began < 5 # not 20 x 0.5 s


# --- the command ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, words", [("app", "nothing to show"), ("app --model none", "none does not exist"),
                                         ("app --run none", "give a run folder"), ("app --model . --host 0.0.0.0", "say --public")])
def test_what_is_missing_is_said_at_once(line, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    assert words in capsys.readouterr().err


def test_a_taken_port_is_said_before_a_network_is_loaded(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["app", "--model", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "is taken; give another" in capsys.readouterr().err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_process_and_without_a_traceback(sign, tmp_path):
    code = served.STANDIN.format(root=str(ROOT), tests=str(ROOT/"tests"), load="load")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    time.sleep(0.5)
    others = served.children(process.pid)
    process.send_signal(sign)
    _, err = process.communicate(timeout=20)
    until = time.monotonic() + 10
    while (alive := [p for p in others if served.memory(p)]) and time.monotonic() < until: time.sleep(0.05)
    assert others and not alive and not list(tmp_path.iterdir())
    assert "Traceback" not in err or sign == signal.SIGINT and err.rstrip().endswith("KeyboardInterrupt") # `main` says it in a line


# --- in a browser --------------------------------------------------------------------------------------------------------

WHY_NOT = None if app_hostile.browser() else "no Chromium was found: install the package chromium, or set CHROMIUM"
try: import playwright.sync_api as playwright
except ImportError: WHY_NOT = "playwright is not installed"
in_browser = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "")
FILES = [dict(name=f"{said}.png", mimeType="image/png", buffer=picture(said)) for said in COLOURS]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    "A browser that reaches this machine and nothing else."
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=app_hostile.browser(), args=app_hostile.BROWSER)
        yield browser
        browser.close()


def opened(chromium: object, app: served.Served, **context: object) -> tuple[object, list[str]]:
    "The start page, and what the browser complains of."
    page, wrong = chromium.new_context(**context).new_page(), []
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda r: None if r.url.startswith((app.url, "data:", "blob:")) else wrong.append(r.url))
    page.goto(app.url)
    return page, wrong


@in_browser
@pytest.mark.parametrize("width, dark", [(1200, False), (390, True)])
def test_pictures_are_asked_about_and_the_page_fits(chromium, app, width, dark):
    page, wrong = opened(chromium, app, viewport=dict(width=width, height=850), color_scheme="dark" if dark else "light")
    page.set_input_files("#picture", FILES)
    page.click("text=Ask the network")
    page.locator("#status", has_text="5 of 5 answered. 1 real, 1 fake, 1 unsure, 2 no verdict.").wait_for()
    assert [b.inner_text() for b in page.locator(".say .verdict").all()] == ["fake", "real", "unsure", "no verdict", "no verdict"]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width and wrong == []
    assert page.locator("#answers svg[aria-label]").count() == 5 and page.locator("img:not([alt])").count() == 0
    page.goto(f"{app.url}/network")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


@in_browser
def test_the_slider_moves_the_value_of_every_verdict(chromium, app):
    page, wrong = opened(chromium, app)
    page.set_input_files("#picture", FILES[:2])
    page.click("text=Ask the network")
    page.locator("#status", has_text="2 of 2").wait_for()
    before = [v.inner_text() for v in page.locator(".chance .value").all()]
    page.focus("#stop")
    for _ in range(5): page.keyboard.press("ArrowRight")
    after = [v.inner_text() for v in page.locator(".chance .value").all()]
    assert page.inner_text("#share") == "30 in 100" == page.get_attribute("#stop", "aria-valuetext")
    ppv, npv = [(float(a.split()[0]), float(b.split()[0])) for a, b in zip(after, before)]
    assert ppv[0] > ppv[1] and npv[0] < npv[1] and wrong == []


@in_browser
def test_a_picture_can_be_dropped_and_pasted(chromium, app):
    page, wrong = opened(chromium, app)
    for kind, made in (("drop", "new DragEvent('drop', {dataTransfer: t, bubbles: true, cancelable: true})"),
                       ("paste", "new ClipboardEvent('paste', {clipboardData: t, bubbles: true, cancelable: true})")):
        page.evaluate("""async ([made, bytes]) => { const t = new DataTransfer();
            t.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'}));
            window.given = t; }""", [made, list(picture("fake"))])
        page.evaluate(f"() => {{ const t = window.given; document.body.dispatchEvent({made}); }}")
        page.locator("#status", has_text=f"{1 if kind == 'drop' else 2} of ").wait_for()
        page.locator("#status", has_text="answered.").wait_for()
    page.locator("#answers article[data-verdict=fake] >> nth=1").wait_for()
    assert wrong == []


@in_browser
def test_it_works_without_javascript(chromium, app):
    page, _ = opened(chromium, app, java_script_enabled=False)
    page.set_input_files("#picture", FILES[:3])
    page.click("text=Ask the network")
    page.locator("#answers article >> nth=2").wait_for()
    assert [b.inner_text() for b in page.locator(".say .verdict").all()] == ["fake", "real", "unsure"]
    page.locator("#stop").fill("5")
    page.click("text=Set")
    assert page.url.endswith("?stop=5") and page.inner_text("#share") == "1 in 20"


@in_browser
def test_a_keyboard_reaches_everything_in_the_order_of_the_page(chromium, app):
    page, _ = opened(chromium, app)
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(e => e.id || e.textContent.trim().slice(0, 20))(document.activeElement)"))
    assert reached[:7] == ["Skip to the content", "Ask", "The network", "stand-in", "picture", "Ask the network", "stop"]
    page.keyboard.press("Shift+Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none" # it is seen where the keyboard is


@in_browser
def test_every_field_has_a_label_and_every_id_is_there_once(chromium, app):
    for path in ("/", "/network", "/nope"):
        page, _ = opened(chromium, app)
        page.goto(app.url + path)
        assert page.evaluate("[...document.querySelectorAll('input:not([type=hidden])')].every(e => e.labels.length)")
        assert page.evaluate("(ids => ids.length === new Set(ids).size)([...document.querySelectorAll('[id]')].map(e => e.id))")
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:]))


@in_browser
def test_names_and_marks_run_nothing_in_the_page(chromium, app):
    assert app_hostile.use_page(chromium, app, 20) == []


def test_nothing_is_left_of_all_that_was_sent(app):
    "The last one: the app has had everything above."
    time.sleep(0.3)
    assert app.left() == []
    assert not [word for word in ("Traceback", ".png", ".jpg", "<script", "passwd") if word in app.log()]


def test_the_look_for_what_is_left_finds_a_file(tmp_path):
    (tmp_path/"log").write_text("")
    process = subprocess.Popen([shutil.which("sleep") or "sleep", "30"])
    try:
        seen = served.Served(process, "", tmp_path)
        (tmp_path/"upload").write_bytes(os.urandom(10))
        assert seen.left() == ["upload"]
    finally: process.kill()
