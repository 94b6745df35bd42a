"The quiz: answers survive kills, nothing tells a label before the reveal, figures are signal detection's, and each arm can be played."
import hashlib
import html
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm

from fakeface.cli.main import main
from fakeface.core.basics import InputError
from fakeface.evaluate.people import by_person, signal_detection
from fakeface.serve.quiz import quiz_app
from fakeface.serve.sessions import Plan, Quiz, answers_table, create_quiz, draw_items, next_step, person, with_pictures
from fakeface.serve.web import client, running

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import browse  # noqa: E402


def made(folder: Path, **plan: object) -> Quiz:
    "A quiz of noise whose file names and metadata tell the label; the machine is right but for two pictures."
    pool = pd.DataFrame(dict(label=["real", "fake"] * 12)).assign(path=lambda t: t["label"] + t.index.astype(str) + ".png")
    for path in pool["path"]: Image.effect_noise((40, 40), 60).convert("RGB").save(folder / path)
    plan = Plan(**dict(items=8, practice=2, grid=4) | plan)
    items = with_pictures(draw_items(pool, plan), folder)
    p = np.where(items["label"] == "fake", 0.9, 0.1)
    p[:2] = 1 - p[:2]
    return Quiz(create_quiz(folder / "quiz.sqlite", items.assign(p_fake=p, threshold=0.4), plan))


def begin(asked: object) -> str:
    "Somebody new, up to the first picture; where they are."
    where = asked.post("/join").headers["location"]
    for form in (dict(dark="4", bright="4"), {}): asked.post(where, data=form)
    return where


@pytest.mark.parametrize("p, threshold, shown, done", [
    (0.496, 0.504, "0.496", "says fake from 0.504 on"), (0.9952, 0.9957, "0.995", "says fake from 0.996 on"),
    (0.7, 0.4, "0.70", "says fake from 0.40 on"), (1.0, np.nextafter(1, 2), "1.00", "never says fake")])
def test_what_the_machine_says_and_its_figures_agree(tmp_path, p, threshold, shown, done):
    with made(tmp_path, advice="after") as quiz:
        quiz._db.execute("UPDATE items SET p_fake = ?, threshold = ?", (p, float(threshold)))
        asked = client(quiz_app(quiz))
        where = begin(asked)
        asked.post(where, data=dict(step=next_step(quiz, person(quiz, where[3:])).name, choice="real-1"))
        page = re.sub("<[^>]+>", "", asked.get(where).text)
    verdict = "fake" if p >= threshold else "real"
    assert f"The machine says {verdict}: {shown} on its scale from 0 (real) to 1 (fake), where it {done}." in " ".join(page.split())


def test_people_judge_the_files_that_the_machine_judged(tmp_path):
    pool = pd.DataFrame(dict(label=["real", "fake"] * 4)).assign(path=lambda t: t["label"] + t.index.astype(str) + ".png")
    for path in pool["path"]: Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / path)
    pool["sha256"] = [hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() for path in pool["path"]]
    items = draw_items(pool, Plan(items=4, practice=2))
    with_pictures(items, tmp_path)
    Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / items["path"].iloc[2])
    with pytest.raises(InputError, match=f"{items['path'].iloc[2]}: .*changed"): with_pictures(items, tmp_path)


# --- figures ----------------------------------------------------------------------------------------------------------

def answers(hits: int, fakes: int, false: int, reals: int) -> pd.DataFrame:
    "One person's answers, by their counts."
    said, label = np.repeat(["fake", "real"] * 2, [hits, fakes - hits, false, reals - false]), np.repeat(["fake", "real"], [fakes, reals])
    return pd.DataFrame(dict(person="a", path=[str(k) for k in range(len(said))], label=label, answer=said))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_d_prime_and_criterion_are_scipys(data):
    fakes, reals = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 60))
    hits, false = data.draw(st.integers(1, fakes - 1)), data.draw(st.integers(1, reals - 1))
    found, zh, zf = signal_detection(answers(hits, fakes, false, reals)), norm.ppf(hits / fakes), norm.ppf(false / reals)
    assert found["d'"].value == pytest.approx(zh - zf) and found["criterion"].value == pytest.approx(-(zh + zf) / 2)
    one = by_person(answers(hits, fakes, false, reals)).loc["a"]
    zh, zf = norm.ppf((hits + 0.5) / (fakes + 1)), norm.ppf((false + 0.5) / (reals + 1))  # the log-linear rule
    assert one.d_prime == pytest.approx(zh - zf) and one.criterion == pytest.approx(-(zh + zf) / 2)
    assert one.d_prime_lo < one.d_prime < one.d_prime_hi


# --- sealed -----------------------------------------------------------------------------------------------------------

def test_nothing_tells_a_label_before_the_last_answer_and_the_seal_can_be_checked_after_it(tmp_path):
    with made(tmp_path) as quiz:
        asked, sent = client(quiz_app(quiz)), []
        seal = re.search(r'class="seal">([0-9a-f]{64})<', asked.get("/").text)[1]
        where = begin(asked)
        while (step := next_step(quiz, person(quiz, where[3:]))).kind == "ask":
            sent += [asked.get(where), *(asked.get(f"/p/{t}.png") for t in step.tokens)]
            sent.append(asked.post(where, data=dict(step=step.name, choice="real-2")))
        paths = json.loads(quiz.sealed)["items"]
        for reply in sent:
            assert not any(p["path"].encode() in reply.content or p["path"].encode() in str(reply.headers).encode() for p in paths)
            assert quiz.sealed.encode()[:40] not in reply.content and "set-cookie" not in reply.headers
        listed = html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", asked.get(where).text, re.S)[1])
    assert hashlib.sha256(listed.encode()).hexdigest() == seal
    labels = {p["token"]: p["label"] for p in json.loads(listed)["items"] if p["part"] == "test"}
    assert sorted(labels.values()) == ["fake"] * 4 + ["real"] * 4


def test_who_comes_back_with_the_code_goes_on_after_the_last_answer(tmp_path):
    with made(tmp_path) as quiz:
        asked = client(quiz_app(quiz))
        where = begin(asked)
        step = next_step(quiz, person(quiz, where[3:]))
        asked.post(where, data=dict(step=step.name, choice="fake-1"))
    with Quiz(tmp_path / "quiz.sqlite") as again:
        other = client(quiz_app(again))
        assert other.post("/back", data=dict(code=where[3:].lower())).headers["location"] == where
        assert f'value="first:{step.tokens[0]}"' not in (page := other.get(where).text) and "face 2 of 2" in page
        other.post(where, data=dict(step=step.name, choice="real-3"))  # the back button: the first answer stays
        assert answers_table(again, "practice")[["answer", "confidence"]].to_numpy().tolist() == [["fake", 1]]


# --- killed -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("more", "code"), [([], 0), (["--inject"], 1)], ids=["as it is", "a server that writes late is found out"])
def test_a_killed_server_loses_no_answer(more, code):
    line = [sys.executable, str(ROOT / "benchmarks" / "quiz_kills.py"), "--kills", "4", *more]
    done = subprocess.run(line, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == code and ("faults: none" in done.stdout) == (code == 0), done.stdout + done.stderr


# --- results ----------------------------------------------------------------------------------------------------------

def test_the_tables_of_the_results_are_compared_as_detectors(tmp_path, capsys):
    with made(tmp_path) as quiz:
        asked, rng = client(quiz_app(quiz)), np.random.default_rng(0)
        for _ in range(5):
            where = begin(asked)
            while (step := next_step(quiz, person(quiz, where[3:]))).kind == "ask":
                asked.post(where, data=dict(step=step.name, choice=rng.choice(["real-1", "fake-3"])))
    assert main(["quiz", "--results", str(tmp_path / "quiz.sqlite"), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert "McNemar" in " ".join(results["answers"]["People and machine"])
    assert main(["compare", *(str(tmp_path / f"quiz-{name}.csv") for name in ("people", "machine")), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert "paired" in json.dumps(row) and 'alt="fake, ' in (tmp_path / "quiz.html").read_text(encoding="utf-8")


def test_somebody_who_has_just_begun_hides_no_results(tmp_path, capsys):
    with made(tmp_path, tips="half", practice=0) as quiz:
        asked, rng = client(quiz_app(quiz)), np.random.default_rng(0)
        for most in (8, 1):  # of the second condition one picture, so of one class
            where = begin(asked)
            for _ in range(most):
                step = next_step(quiz, person(quiz, where[3:]))
                asked.post(where, data=dict(step=step.name, choice=rng.choice(["real-1", "fake-3"])))
        begun = answers_table(quiz)["tips"].iloc[-1]
    assert main(["quiz", "--results", str(tmp_path / "quiz.sqlite"), "--json"]) == 0
    figures = {row["condition (positive: fake)"]: row for row in json.loads(capsys.readouterr().out)["figures"]}
    assert {name: row["accuracy"] == "–" for name, row in figures.items()} == {w: w == begun for w in ("tips", "no tips")}


def test_pictures_without_a_majority_are_counted_and_named(tmp_path, capsys):
    with made(tmp_path) as quiz:
        asked = client(quiz_app(quiz))
        for choice in ("real-1", "fake-3"):
            where = begin(asked)
            while (step := next_step(quiz, person(quiz, where[3:]))).kind == "ask":
                asked.post(where, data=dict(step=step.name, choice=choice))
    assert main(["quiz", "--results", str(tmp_path / "quiz.sqlite")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "right on 50.0 % of the pictures (8 pictures without a majority counted as called fake)." in text


# --- in a browser -----------------------------------------------------------------------------------------------------

@pytest.mark.skipif(bool(browse.why_not()), reason=str(browse.why_not()))
@pytest.mark.parametrize("arm", ["single", "grid", "trust"])
def test_a_session_can_be_played_by_keyboard_on_a_phone_in_the_dark(arm, tmp_path):
    from playwright.sync_api import sync_playwright
    said = {"single": dict(answer="fake", confidence=2), "grid": dict(answer="fake"), "trust": dict(trust=2)}[arm]
    with made(tmp_path, arms=(arm,), advice="after" if arm == "single" else "no") as quiz, running(quiz_app(quiz)) as url, \
            sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browse.browser(), args=["--no-sandbox", "--disable-gpu"])
        page, faults = chromium.new_page(viewport=dict(width=390, height=844), color_scheme="dark"), []
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: None if r.url.startswith((url, "data:")) else faults.append(r.url))
        page.goto(url)
        with page.expect_navigation(): page.keyboard.press("Enter")  # Start has the focus
        for name in ("dark", "bright"): page.check(f"input[name={name}][value='4']")
        for _ in range(2):  # the screen, the explanation
            with page.expect_navigation(): page.click("form button")
        while (step := next_step(quiz, person(quiz, page.url[-8:]))).kind == "ask":
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
            page.wait_for_function("[...document.querySelectorAll('img.face')].every(i => i.complete && i.naturalWidth)")
            page.wait_for_timeout(40)
            if arm == "grid" and step.phase == "first":
                for k in range(len(step.tokens)): page.keyboard.press(str(k + 1))
            with page.expect_navigation(): page.keyboard.press("Enter" if arm == "grid" else "2")
        assert page.title() == "Thank you" and page.locator("figure img").count() == 8 and not faults
        chromium.close()
        table = answers_table(quiz)
    assert len(table) == 8 * (2 if arm == "single" else 1) and table["seconds"].between(0, 60).all()
    assert all((table[column] == value).all() for column, value in said.items())
