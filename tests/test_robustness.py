"Known answers: what goes with the file and what stays, how still an answer stands; and what a foreign detector may do to us."
import os
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fakeface.core.basics import InputError, percent
from fakeface.data.images import jpeg_quality
from fakeface.evaluate.detectors import detect, load_detector, read_answers
from fakeface.evaluate.perturbations import CLEAN, HARMLESS, Perturbation, reencode
from fakeface.evaluate.robustness import (ask, balanced_change, change_words, format_match, robustness_table, source_rates, stability,
                                          stability_words, twins)
from fakeface.report.robustness import robustness_report

pytestmark = pytest.mark.usefixtures("own_cache")
N = 40 # of each class


def checkerboard(images: list[Image.Image]) -> list[float]:
    "Sees the trace in the middle."
    def strength(image: Image.Image) -> float:
        x = np.asarray(image.convert("L")).astype(float)[16:48, 16:48]
        return abs((x * (np.indices(x.shape).sum(0) % 2 * 2 - 1)).mean())
    return [1 / (1 + np.exp(-2 * (strength(image) - 3))) for image in images]


def tables(images: list[Image.Image]) -> list[float]:
    "Sees the JPEG quality and nothing else."
    return [0.5 if not hasattr(x, "quantization") else float(jpeg_quality(x.quantization) < 80) for x in images]


def faces(root: Path, seed: int) -> pd.DataFrame:
    "Smooth pictures; the fakes have a checkerboard in the middle and were saved at another quality."
    rng, rows = np.random.default_rng(seed), []
    for i in range(2 * N):
        fake = i >= N
        small = Image.fromarray(rng.integers(60, 190, (8, 8, 3), dtype=np.uint8))
        x = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
        if fake: x[16:48, 16:48] += 8 * (np.indices((32, 32)).sum(0) % 2 * 2 - 1)[..., None]
        picture = reencode(Image.fromarray(x.clip(0, 255).astype(np.uint8)), 72 if fake else 90, "4:4:4")
        rows.append(dict(path=f"{i:03d}.jpg", label="fake" if fake else "real", source="fake" if fake else "real", split="test"))
        (root / rows[-1]["path"]).write_bytes(picture.encoded)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(3))
def test_what_goes_with_the_file_is_named_bias_and_what_lies_in_the_pixels_stays(seed, tmp_path):
    rows = faces(tmp_path, seed)
    way = format_match(ask(lambda images: [0.5] * len(images), rows, tmp_path, []))
    by_file, by_trace = (twins(ask(scorer, rows, tmp_path, [way]), way.what) for scorer in (tables, checkerboard))
    assert by_file.raw == 1 and by_file.after == 0.5 and by_file.change[2] < -0.4
    assert "50.0 points" in by_file.words and "JPEG quality, AUC 1.00" in by_file.words
    assert by_trace.raw == 1 and by_trace.change[0] == 0 and not by_trace.found
    assert "No loss beyond chance" in by_trace.words


def test_a_constant_detector_is_perfectly_still_and_useless(tmp_path):
    found = robustness_report(lambda images: [0.7] * len(images), faces(tmp_path, 0), tmp_path, sweeps=["jpeg:50"])
    assert found.images["moved"].max() == 0 and (found.table["auc"] == 0.5).all()
    assert "as still as it is useless" in found.answer[-1]


def test_the_least_stable_image_comes_first(tmp_path):
    rows = faces(tmp_path, 0).head(6)
    shaky = Image.open(tmp_path / "003.jpg").getpixel((0, 0))

    def scorer(images: list[Image.Image]) -> list[float]: # one picture's answer hangs on the size of its file
        return [0.1 + 0.8 * (image.size != (64, 64)) * (np.abs(np.subtract(image.getpixel((0, 0)), shaky)).max() < 12) for image in images]
    found = stability(ask(scorer, rows, tmp_path, HARMLESS))
    assert found["path"][0] == "003.jpg" and found["flips"][0] >= 3 and found["moved"][1:].max() < 1e-9


def test_the_same_images_give_the_same_table_again(tmp_path):
    rows = faces(tmp_path, 1)
    a, b = (robustness_report(checkerboard, rows, tmp_path, n=10, sweeps=["noise", "screenshot"]) for _ in range(2))
    pd.testing.assert_frame_equal(a.answers, b.answers)
    assert a.answer == b.answer


def test_the_interval_of_a_change_holds_the_truth(rounds=1000):
    "Balanced accuracy falls by 4 points: 8 % of each class are lost and 4 % won. 150 images a class."
    rng, is_fake, held = np.random.default_rng(0), np.arange(300) < 150, 0
    for _ in range(rounds):
        u = rng.random((2, 300))
        wrong = np.array([u[0] < 0.2, (u[0] < 0.2) & (u[1] < 0.8) | (u[0] >= 0.2) & (u[1] < 0.1)]) # 20 % before, 24 % after
        before, after = (np.where(w != is_fake, 0.9, 0.1) for w in wrong)
        _, lo, hi = balanced_change(is_fake, before, after)
        held += lo <= -0.04 <= hi
    assert 0.93 <= held / rounds <= 0.97


def test_a_second_photograph_of_a_person_with_the_same_answers_narrows_nothing():
    rng, n = np.random.default_rng(1), 120
    once = pd.DataFrame(dict(path=[f"{k}.jpg" for k in range(n)], label=np.where(np.arange(n) < 60, "real", "fake"), source="s", split="t",
                             subject=[f"p{k}" for k in range(n)], width=64, height=64))
    names = ["clean", "jpeg"]
    p = rng.random((n, 2)) * 0.6 + np.where(once["label"] == "fake", 0.35, 0.05)[:, None]
    def answers(rows, p): return rows.loc[rows.index.repeat(2)].assign(perturbation=names * len(rows), p_fake=p.ravel())
    twice = pd.concat([once, once.assign(path="again/" + once["path"])], ignore_index=True)
    both = [answers(once, p), answers(twice, np.tile(p, (2, 1)))]
    one, two = map(robustness_table, both)
    ends = [c for c in one if c.endswith(("_lo", "_hi"))]
    np.testing.assert_allclose(one[ends], two[ends], atol=0.02)
    np.testing.assert_allclose(*(source_rates(some)[["correct_lo", "correct_hi"]] for some in both), atol=0.02)
    flips = [stability_words(stability(some, [Perturbation("jpeg", "")])) for some in both]
    assert flips[0].partition("once for ")[2] == flips[1].partition("once for ")[2]


# --- somebody else's detector -----------------------------------------------------------------------------------------

def script(folder: Path, code: str) -> str:
    "A detector's command."
    (folder / "theirs.py").write_text(code)
    return f"{sys.executable} {folder / 'theirs.py'}"


def test_nothing_is_started_before_images_are_asked_about(tmp_path):
    mark = tmp_path / "started"
    detector = load_detector(script(tmp_path, f"import sys; open({str(mark)!r}, 'w'); [print(0.5) for _ in sys.stdin]"))
    assert not mark.exists()
    assert detector([Image.new("RGB", (8, 8))]).tolist() == [0.5] and mark.exists()


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_detector_that_hangs_is_ended_with_all_it_started(tmp_path):
    code = ("import subprocess, sys, pathlib\nchild = subprocess.Popen(['sleep', '60'])\n"
            f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\nchild.wait()")
    with pytest.raises(InputError, match="had not answered"):
        load_detector(script(tmp_path, code), timeout=3)([Image.new("RGB", (8, 8))])
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50): # an ended child may wait for somebody to notice
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z": return
        time.sleep(0.1)
    raise AssertionError("the child still runs")


def test_a_file_name_does_not_tell_a_detector_the_label(tmp_path):
    rows = faces(tmp_path, 0).head(4)
    code = "import sys\nfor p in sys.stdin: print(float('fake' in p.rsplit('/', 1)[-1]))"
    for i, path in enumerate(rows["path"]): (tmp_path / path).rename(tmp_path / f"fake{i}.jpg")
    asked = detect(load_detector(script(tmp_path, code)), rows.assign(path=[f"fake{i}.jpg" for i in range(4)]), tmp_path)
    assert (asked["p_fake"] == 0).all()


PATHS = ["/t/000000.jpg", "/t/000001.png"]


GOOD = ["0.5", "path,p_fake", "/t/000001.png,0.9", "/t/000000.jpg,0", "nan"]


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(GOOD)), max_size=5))
@settings(max_examples=200, deadline=None)
def test_whatever_a_command_prints_gives_numbers_or_one_line(lines):
    try: answers = read_answers("\n".join(lines), PATHS, "it")
    except InputError as e: assert "\n" not in str(e)
    else: assert len(answers) == 2 and all(isinstance(a, float) for a in answers)


def test_the_command_line_scores_and_shakes_a_foreign_function_from_its_folder(tmp_path):
    images = tmp_path / "images"
    for label in ("real", "fake"): (images / label).mkdir(parents=True)
    for row in faces(images, 0).to_dict("records"): (images / row["path"]).rename(images / row["label"] / row["path"])
    code = "from PIL import Image\ndef ask(files): return [float(len(Image.open(f).quantization) > 0) for f in files]\n"
    (tmp_path / "mine.py").write_text(code)

    def fakeface(*args: str) -> subprocess.CompletedProcess:
        return forked.run(["-m", "fakeface.cli.main", *args], cwd=tmp_path, capture_output=True, text=True, check=False)
    done = fakeface("score", "images", "--detector", "mine:ask")
    assert done.returncode == 0 and done.stderr == "" and "80 images by `mine:ask`" in done.stdout
    assert (pd.read_csv(tmp_path / "predictions.csv")["p_fake"] == 1).all()
    done = fakeface("robustness", "images", "--detector", "mine:ask", "--sample", "5", "--sweeps", "none")
    assert done.returncode == 2 and "'PngImageFile' object has no attribute 'quantization'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("label, rate", [("fake", "sensitivity"), ("real", "specificity")])
def test_a_rate_that_falls_is_named_where_the_accuracy_hides_it(label, rate):
    rng, n = np.random.default_rng(0), 60
    is_fake = np.repeat([False, True], n)
    wrong = np.zeros(2 * n, bool)
    wrong[rng.choice(np.flatnonzero(is_fake == (label == "real")), 40, False)] = True # the other class: wrong when clean, right after
    lost = rng.choice(np.flatnonzero(is_fake == (label == "fake")), 13, False)
    clean = np.where(is_fake ^ wrong, 0.9, 0.1)
    after = np.where(is_fake, 0.9, 0.1)
    after[lost] = np.where(is_fake[lost], 0.1, 0.9)
    rows = pd.DataFrame({"path": [f"{i}.jpg" for i in range(2 * n)], "label": np.where(is_fake, "fake", "real"), "source": "s",
                         "split": "t", "width": 64, "height": 64, "quality": 90, "format": "JPEG"})
    ways = [CLEAN, Perturbation("jpeg 30", "JPEG 30", sweep="jpeg", value=30)]
    answers = rows.loc[rows.index.repeat(2)].assign(perturbation=[d.name for d in ways] * len(rows), p_fake=np.c_[clean, after].ravel())
    table = robustness_table(answers, ways)
    worst = table.set_index("perturbation").loc["jpeg 30"]
    assert (worst["change"] > 0, worst["beyond"]) == (True, "better")
    both = [percent(table[rate][i], [table[f"{rate}_lo"][i], table[f"{rate}_hi"][i]]) for i in (0, 1)]
    assert both[0].startswith("100.0 %") and both[1].startswith("78.3 %")
    assert f" points; {rate} falls from {both[0]} to {both[1]})" in " ".join(change_words(table))
    still = robustness_table(answers.assign(p_fake=np.c_[clean, clean].ravel()), ways)
    assert "falls" not in " ".join(change_words(still)) and still["lost"].tolist() == ["", ""]
