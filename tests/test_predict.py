"One score everywhere: run, bundle, Python, command line and app agree to the bit on images of every kind."
import contextlib
import io
import json
import shutil
import struct
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fakeface.cli.main import main
from fakeface.core.basics import VERDICTS, DataNote, count_words
from fakeface.evaluate.detectors import images_to_score
from fakeface.experiments.run import run_recipe
from fakeface.report.robustness import robustness_report
from fakeface.serve.export import export_bundle
from fakeface.serve.many import Question
from fakeface.serve.predict import Detector
from fakeface.synthetic.world import build_world
from fakeface.train.inference import predict
from fakeface.train.runs import load_run_model, load_scorer

ROOT = Path(__file__).resolve().parents[1]
SAVED = { # name -> how a picture becomes a file of that kind
    "plain.jpg": lambda im, out: im.save(out, "JPEG", quality=88),
    "progressive.jpg": lambda im, out: im.save(out, "JPEG", quality=70, progressive=True),
    "grey.jpg": lambda im, out: im.convert("L").save(out, "JPEG"),
    "cmyk.jpg": lambda im, out: im.convert("CMYK").save(out, "JPEG"),
    "turned3.jpg": lambda im, out: turned(im, out, 3),
    "turned6.jpg": lambda im, out: turned(im, out, 6),
    "turned7.jpg": lambda im, out: turned(im, out, 7),
    "444.jpg": lambda im, out: im.save(out, "JPEG", subsampling=0),
    "thumbnails.jpg": lambda im, out: im.save(out, "MPO", save_all=True, append_images=[im.resize((16, 16))]),
    "plain.png": lambda im, out: im.save(out, "PNG"),
    "alpha.png": lambda im, out: with_alpha(im).save(out, "PNG"),
    "grey-alpha.png": lambda im, out: with_alpha(im).convert("LA").save(out, "PNG"),
    "palette.png": lambda im, out: im.quantize(32).save(out, "PNG"),
    "palette-clear.png": lambda im, out: im.quantize(32).save(out, "PNG", transparency=3),
    "16-bit.png": lambda im, out: sixteen(im).save(out, "PNG"),
    "one-bit.png": lambda im, out: im.convert("1").save(out, "PNG"),
    "plain.webp": lambda im, out: im.save(out, "WEBP", quality=80),
    "lossless.webp": lambda im, out: with_alpha(im).save(out, "WEBP", lossless=True),
    "plain.bmp": lambda im, out: im.save(out, "BMP"),
    "plain.gif": lambda im, out: im.quantize(64).save(out, "GIF"),
    "plain.tif": lambda im, out: im.save(out, "TIFF", compression="tiff_lzw"),
    "cmyk.tif": lambda im, out: im.convert("CMYK").save(out, "TIFF"),
    "large.jpg": lambda im, out: im.resize((301, 257)).save(out, "JPEG"),
    "small.png": lambda im, out: im.resize((23, 31)).save(out, "PNG"),
    "wide.png": lambda im, out: im.resize((160, 40)).save(out, "PNG")}


def turned(im: Image.Image, out: Path, how: int) -> None:
    "A JPEG whose EXIF says that it lies on its side."
    exif = Image.Exif()
    exif[0x0112] = how
    im.save(out, "JPEG", exif=exif)


def with_alpha(im: Image.Image) -> Image.Image:
    "The picture with a transparent corner."
    rgba = im.convert("RGBA")
    alpha = np.full(im.size[::-1], 255, np.uint8)
    alpha[:20, :20] = np.arange(20) * 12
    rgba.putalpha(Image.fromarray(alpha))
    return rgba


def sixteen(im: Image.Image) -> Image.Image: return Image.fromarray(np.asarray(im.convert("L")).astype(np.uint16) * 257)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A world, a run on it, and its bundle."
    home = tmp_path_factory.mktemp("predict")
    build_world(home/"world", images=400, seed=5)
    run = run_recipe("man-2-test", home/"world", home/"run", epochs=10, progress=False)
    return home, run, export_bundle(run.folder, home/"a.fakeface", home/"world", sample=20)


@pytest.fixture(scope="module")
def odd(made):
    "250 files: ten faces of the world in every kind of file; labels of a table for the run."
    home, run, _ = made
    folder, rows = home/"odd", []
    folder.mkdir()
    for k, path in enumerate(run.predictions["path"].iloc[::max(1, len(run.predictions) // 10)][:10]):
        with Image.open(home/"world"/path) as im: face = im.convert("RGB")
        for name, save in SAVED.items():
            save(face, folder/f"{k}-{name}")
            rows.append(dict(path=f"{k}-{name}", label="real"))
    return folder, pd.DataFrame(rows)


def test_the_score_is_the_same_to_the_bit_in_run_bundle_python_command_and_app(made, odd):
    home, run, bundle = made
    folder, rows = odd
    assert len(rows) >= 200
    by_run = predict(load_run_model(run.folder, home/"world", "cpu"), rows, root=folder)["p_fake"].to_numpy()
    files = [folder/p for p in rows["path"]]
    detectors = {"bundle": Detector.load(bundle, device="cpu"), "run folder": Detector.load(run.folder, device="cpu")}
    scores = {name: [whole(a) for a in d.predict_many(files, band=False)] for name, d in detectors.items()}
    scores["bytes"] = [whole(detectors["bundle"].predict(f.read_bytes(), band=k < 20)) for k, f in enumerate(files)]
    scores["command"] = by_command(bundle, folder, rows, home)
    scores["app"] = by_app(bundle, files[:2 * len(SAVED)]) # two faces in every kind of file: of each it also asks ten perturbations
    assert np.std(by_run) > 0.01 # the faces are told apart at all
    for name, p in scores.items():
        known = [(a, b) for a, b in zip(p, by_run) if a is not None] # a picture with several faces is asked by its crops
        assert len(p) == (2 * len(SAVED) if name == "app" else len(rows)) and len(known) >= 0.8 * len(p), name
        assert [a for a, _ in known] == [b for _, b in known], name


def whole(answer) -> float | None:
    "The score of the whole picture; None where it was asked by crops."
    assert not answer.refused, answer
    return answer.answers[0].p_fake if len(answer.answers) == 1 else None


def by_command(bundle: Path, folder: Path, rows: pd.DataFrame, home: Path) -> list[float | None]:
    "What `fakeface predict --out` writes."
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from fakeface.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = forked.run(["-c", code, "predict", str(folder), "--model", str(bundle), "--fast", "-q",
                           "--out", str(home/"odd.parquet")], capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), done.stderr
    table = pd.read_parquet(home/"odd.parquet")
    one = table[~table.duplicated("path", keep=False)].set_index("path")["p_fake"].rename(lambda p: Path(p).name)
    return [float(one[p]) if p in one.index else None for p in rows["path"]]


def by_app(bundle: Path, files: list[Path]) -> list[float | None]:
    "What the pages of the app answer."
    pytest.importorskip("fasthtml", reason="the app's extra is not installed")
    from fakeface.serve.app import detector_app
    from fakeface.serve.web import client
    out = []
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(client(detector_app(bundle)))
        for k in range(0, len(files), 5):
            sent = [("picture", (f.name, f.read_bytes(), "application/octet-stream")) for f in files[k:k + 5]]
            lines = page.post("/look", files=sent, headers={"accept": "application/x-ndjson", "sec-fetch-site": "same-origin"}).text
            answers = [json.loads(line) for line in lines.splitlines()]
            out += [a["answer"]["answers"][0]["p_fake"] if len(a["answer"]["answers"]) == 1 else None for a in answers if "answer" in a]
    return out


def test_a_network_has_one_fingerprint_wherever_it_is_shown(made, tmp_path, capsys, monkeypatch):
    home, run, bundle = made
    monkeypatch.chdir(tmp_path)
    shown, face = {run.fingerprint}, str(home/"world"/run.predictions["path"].iloc[0])
    for model, more in ((run.folder, []), (run.folder, ["--root", str(home/"world")]), (bundle, [])):
        main(["predict", face, "--model", str(model), "--fast", "--json", *more])
        shown.add(json.loads(capsys.readouterr().out)["network"]["fingerprint"])
        main(["predict", face, "--model", str(model), "--fast", *more])
        assert run.fingerprint in capsys.readouterr().out
        shown |= {Question(kind, model=str(model)).asked()["fingerprint"] for kind in ("score", "predict")}
    assert main(["export", str(run.folder), "--out", "hub", "--json"]) == 0
    shown.add(json.loads(capsys.readouterr().out)["fingerprint"])
    assert shown == {run.fingerprint}
    assert f"Fingerprint {run.fingerprint}." in Path("hub/README.md").read_text() and run.fingerprint in run.file("report").read_text()


def test_table_json_terminal_and_merged_parts_count_the_same_verdicts(made, odd, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [str(f) for f in sorted(odd[0].iterdir())[:5]] + [str(tmp_path/"text.jpg")]
    Path("text.jpg").write_text("no picture")
    ask = ["predict", *files, "--model", str(made[2])]
    main([*ask, "--out", "a.csv", "--json"])
    told = json.loads(capsys.readouterr().out)
    counts, table = told["verdicts"], pd.read_csv("a.csv").drop_duplicates("path")
    assert list(counts) == list(VERDICTS) and sum(counts.values()) == len(files) and counts["no verdict"] >= 1
    assert {v: int((table["picture"] == v).sum()) for v in VERDICTS} == counts
    assert {v: sum(a["verdict"] == v for a in told["answers"]) for v in VERDICTS} == counts
    main(ask)
    shown = capsys.readouterr().out
    assert f"6 files: {count_words(counts)}" in shown
    assert {v: sum(f"{Path(f).name}: {v}" in shown.splitlines() for f in files) for v in VERDICTS} == counts
    assert main([*ask, "--parts", "parts"]) == 0 and main(["merge", "parts", "--out", "all.parquet"]) == 0
    assert f"6 files: {count_words(counts)}" in capsys.readouterr().out


def test_an_export_says_what_it_is_at_where_nobody_watches_a_terminal(made, tmp_path, capsys, monkeypatch):
    home, run, _ = made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fakeface.core.basics.time", SimpleNamespace(monotonic=partial(next, count(0, 31)))) # half a minute a step
    assert main(["export", str(run.folder), "--root", str(home/"world"), "--sample", "20"]) == 0
    out, told = capsys.readouterr()
    assert "Before the bundle is written: " in out
    for step in ("validation images: 4 of 4", "finding faces", "perturbations", "randomising layer by layer",
                 "images in random order", "removing what the maps point at"): assert step in told


def test_a_bundle_scores_images_as_its_run_does(made, tmp_path, monkeypatch):
    home, run, bundle = made
    monkeypatch.chdir(tmp_path)
    for name, model in (("run", run.folder), ("bundle", bundle)):
        asked = ["--root", str(home/"world"), "--sample", "6", "--model", str(model), "--save", f"{name}.csv"]
        assert main(["score", str(run.folder), *asked]) == 0
    assert pd.read_csv("run.csv")["p_fake"].tolist() == pd.read_csv("bundle.csv")["p_fake"].tolist()


def test_the_tests_images_have_the_scores_that_the_run_stored(made):
    home, run, bundle = made
    rows = run.predictions.iloc[:40]
    answers = list(Detector.load(bundle, device="cpu").predict_many([home/"world"/p for p in rows["path"]], band=False))
    assert [whole(a) for a in answers] == rows["p_fake"].tolist()


@pytest.mark.parametrize("kind", ["no face", "noise", "two faces", "training", "photograph", "text", "svg", "empty", "bomb", "gone"])
def test_each_kind_of_picture_gets_the_right_kind_of_answer(made, kind, tmp_path):
    home, run, bundle = made
    answer = Detector.load(bundle, device="cpu").predict(picture(kind, home, run, tmp_path))
    if kind in ("text", "svg", "empty", "bomb", "gone"): assert answer.refused and answer.verdict == "no verdict"
    elif kind == "training": assert answer.kind == "one face" and answer.verdict in ("real", "fake", "unsure")
    elif kind == "two faces": assert answer.kind == "several faces" and len(answer.answers) == 2
    else: assert answer.verdict == "no verdict" and answer.answers[0].reasons


def picture(kind: str, home: Path, run, folder: Path) -> Path | bytes:
    "A picture, or something else, of that kind."
    from matplotlib.cbook import get_sample_data
    from sklearn.datasets import load_sample_image
    out, rng = io.BytesIO(), np.random.default_rng(1)
    valid = run.predictions[run.predictions["split"] == "valid"]["path"].tolist()
    if kind == "photograph": return Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
    if kind == "training": # the one that lies in the middle of what the network knows
        known = [(a.answers[0].ood["value"], p) for p, a in zip(valid, Detector.load(home/"a.fakeface").predict_many(
            [home/"world"/p for p in valid[:30]], band=False)) if len(a.answers) == 1]
        return home/"world"/sorted(known)[len(known) // 2][1]
    if kind == "text": return b"not a picture"
    if kind == "svg": return b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    if kind == "empty": return b""
    if kind == "gone": return folder/"gone.jpg"
    if kind == "bomb": return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 50_000, 50_000, 8, 2, 0, 0, 0) + b"\0" * 40
    if kind == "noise": image = Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    elif kind == "no face": image = Image.fromarray(load_sample_image("flower.jpg"))
    else:
        image = Image.new("RGB", (320, 160), "white")
        for k, path in enumerate(valid[:2]):
            with Image.open(home/"world"/path) as im: image.paste(im.convert("RGB").resize((150, 150)), (5 + 160 * k, 5))
    image.save(out, "PNG")
    return out.getvalue()


def test_many_files_are_answered_in_order_and_broken_ones_among_them_are_named(made, odd):
    _, _, bundle = made
    files = [*list(odd[0].iterdir())[:17], Path("gone.jpg"), b"x", *list(odd[0].iterdir())[17:20]]
    answers = list(Detector.load(bundle, device="cpu").predict_many(files, band=False))
    assert [a.name for a in answers] == [f.name if isinstance(f, Path) else "picture" for f in files]
    assert [bool(a.refused) for a in answers] == [f == b"x" or f == Path("gone.jpg") for f in files]


def test_a_networks_answer_does_not_hang_on_threads(made, odd):
    _, _, bundle = made
    files, before, out = list(odd[0].iterdir())[:12], torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            out.append([a.p_fake for a in Detector.load(bundle, device="cpu").predict_many(files, band=False)])
    finally: torch.set_num_threads(before)
    assert out[0] == out[1]


def test_a_network_that_has_learnt_nothing_gives_no_verdict_and_its_card_says_so(made, tmp_path):
    home, run, _ = made
    useless = run_recipe("man-2-test", home/"world", tmp_path/"run", epochs=1, lr=1e-9, scale=0.5, progress=False)
    detector = Detector.load(export_bundle(useless.folder, tmp_path/"useless"))
    answers = list(detector.predict_many([home/"world"/p for p in run.predictions["path"].iloc[:12]], band=False))
    assert {a.verdict for a in answers} == {"no verdict"} and all("cannot tell" in a.answers[0].reasons[0] for a in answers)
    assert "gives no verdict on any picture" in (tmp_path/"useless"/"README.md").read_text()


def test_what_is_recorded_of_the_data_names_no_path_of_this_machine(made):
    home, _, bundle = made
    assert str(home).encode() not in bundle.read_bytes() and b"/tmp/" not in bundle.read_bytes()


@pytest.mark.parametrize("verdicts, code", [(["real"], 0), (["real", "fake"], 1), (["no verdict"], 3)])
def test_exit_codes_are_zero_for_real_one_for_fake_three_for_no_verdict(verdicts, code):
    from fakeface.cli.predict import exit_code
    assert exit_code(verdicts) == code


@pytest.mark.parametrize("split, word", [("train", "training"), ("valid", "validation")])
def test_an_answer_about_an_image_of_the_run_is_called_no_test(made, tmp_path, capsys, split, word):
    home, run, bundle = made
    file = home/"world"/run.manifest.loc[run.manifest["split"] == split, "path"].iloc[0]
    sentence = f"It is byte for byte one of the run's {word} images: this answer does not test the network."
    asked = Detector.load(run.folder, device="cpu")
    answer = asked.predict(file.read_bytes(), band=False)
    assert (answer.own, answer.to_dict()["own_words"]) == (word, sentence) and sentence in repr(answer)
    with Image.open(file) as im: im.convert("RGB").save(tmp_path/"again.png")
    assert asked.predict(tmp_path/"again.png", band=False).own == "" # the same picture in another file
    assert Detector.load(bundle, device="cpu").predict(file, band=False).own == "" # a bundle has no hashes
    main(["predict", str(file), "--model", str(run.folder), "--fast", "--out", str(tmp_path/"answers.csv")])
    out = capsys.readouterr().out
    assert sentence in out and "1 of 1 files are byte for byte images that the network was " in out
    assert pd.read_csv(tmp_path/"answers.csv")["own"].tolist() == [word]


def test_a_score_on_images_that_the_run_was_made_with_says_how_many_wherever_the_answers_go(made, tmp_path, capsys, monkeypatch):
    home, run, bundle = made
    rows = run.manifest.groupby(["label", "split"]).head(6)
    for i, r in enumerate(rows.itertuples()):
        (tmp_path/"faces"/r.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(home/"world"/r.path, tmp_path/"faces"/r.label/f"{i}{Path(r.path).suffix}")
    n = rows["split"].value_counts()
    known = (f"{n['train'] + n['valid']} of {len(rows)} images are byte for byte images that the network was trained ({n['train']}) or "
             f"validated ({n['valid']}) on")
    monkeypatch.chdir(tmp_path)
    def asked(*words: str) -> str:
        assert main(list(words)) == 0
        shown = capsys.readouterr()
        return shown.out + shown.err
    model = ("--model", str(run.folder))
    assert known in asked("score", "faces", *model)
    assert known in asked("score", "predictions.csv")
    assert known in asked("compare", "predictions.csv", "predictions.csv")
    asked("score", "faces", *model, "--parts", "parts")
    assert known in asked("score", "parts") # a folder of Parquet files
    assert known.replace(" images are", " files are") in asked("merge", "parts", "--out", "all.parquet")
    assert known in asked("score", "all.parquet")
    pd.read_csv("predictions.csv").assign(gender=["Female", "Male"] * (len(rows) // 2)).to_csv("people.csv", index=False)
    assert known in asked("fairness", "people.csv", "--min-n", "2")
    asked("predict", "faces", *model, "--fast", "--parts", "verdicts")
    assert known.replace(" images are", " files are") in asked("merge", "verdicts", "--out", "verdicts.csv")
    assert "byte for byte" not in asked("score", "faces", "--model", str(bundle)) # it lists no files
    parts = sorted(Path("parts").glob("*/part-*")) + sorted(Path("verdicts").glob("*/part-*"))
    for part in parts: pd.read_parquet(part).drop(columns="own").to_parquet(part, index=False)
    for folder in ("parts", "verdicts"): # none of their parts says it, as those of an earlier version
        assert not [word for word in ("byte for byte", "come from parts") if word in asked("merge", folder, "--out", "old.csv")]
    report = robustness_report(load_scorer(run.folder), images_to_score("faces")[0], tmp_path/"faces", sweeps=[])
    assert any("byte for byte images that the network" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["score", "predict"])
def test_parts_that_do_not_say_what_the_network_was_made_with_are_counted_as_such(made, tmp_path, capsys, monkeypatch, kind):
    home, run, _ = made
    rows = run.manifest[run.manifest["split"] == "train"].groupby("label").head(4)
    for i, r in enumerate(rows.itertuples()):
        (tmp_path/"faces"/r.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(home/"world"/r.path, tmp_path/"faces"/r.label/f"{i}{Path(r.path).suffix}")
    monkeypatch.chdir(tmp_path)
    def asked(*words: str) -> str:
        assert main(list(words)) == 0
        shown = capsys.readouterr()
        return shown.out + shown.err
    asked(kind, "faces", "--model", str(run.folder), "--parts", "parts", "--part", "3", *(["--fast"] if kind == "predict" else []))
    first = next(Path("parts").glob("*/part-000000.parquet"))
    pd.read_parquet(first).drop(columns="own").to_parquet(first, index=False) # begun by an earlier version
    said = ["5 of 8 {} are byte for byte images that the network was trained (5) on",
            "3 of 8 {} come from parts that do not say whether the network was made with them"]
    found = asked("merge", "parts", "--out", "all.csv") # where an empty cell may be either
    assert all(words.format("files") in found for words in said)
    if kind == "predict": return
    asked("merge", "parts", "--out", "all.parquet")
    for table in ("parts", "all.csv", "all.parquet"):
        assert all(words.format("images") in asked("score", table) for words in said), table


def test_a_card_names_what_falls_under_perturbations_on_the_runs_robustness_page(made, tmp_path):
    _, run, _ = made
    folder, lost = tmp_path/"run", "sensitivity falls from 91.0 % [85.0, 95.0] to 12.0 % [8.0, 18.0]"
    shutil.copytree(run.folder, folder)
    row = dict(perturbation="web", what="768 pixels, JPEG 60", sensitivity=0.12, specificity=1.0, change=0.01, beyond="", lost=lost)
    worse = row | dict(perturbation="hard", lost="", change=-0.2, beyond="worse")
    pd.DataFrame([row | dict(perturbation="clean", lost=""), row, worse]).to_csv(folder/"robustness.csv", index=False)
    card = (export_bundle(folder, tmp_path/"card")/"README.md").read_text()
    assert f"On test images, after the perturbation web (768 pixels, JPEG 60): {lost}." in card
    assert "after the perturbation hard (768 pixels, JPEG 60): balanced accuracy falls by 20.0 points, to sensitivity 12.0 %" in card
    assert card.count("On test images, after the perturbation") == 2


def test_a_card_says_how_many_epochs_there_were_where_a_training_stopped_early(made, tmp_path):
    home, run, bundle = made
    folder = tmp_path/"run"
    shutil.copytree(run.folder, folder)
    assert ", 10 epochs, " in (export_bundle(folder, tmp_path/"whole")/"README.md").read_text()
    run.history.head(7).to_csv(folder/"history.csv", index=False)
    card = (export_bundle(folder, tmp_path/"card")/"README.md").read_text()
    assert ", 7 epochs (stopped early; at most 10 were asked for), " in card


def test_a_score_near_one_is_not_called_one(made):
    home, run, bundle = made
    answer = Detector.load(bundle, device="cpu").predict(home/"world"/run.predictions["path"].iloc[0], band=False)
    near = replace(answer, answers=[replace(a, p_fake=1 - 2**-20) for a in answer.answers])
    assert "p_fake 0.99999905, " in repr(near)


@pytest.mark.parametrize("line", ["score {images} --model {model}", "score {images} --model {model} --parts {parts}",
                                  "predict {images} --model {model} --fast"])
def test_that_a_bundle_does_not_list_its_images_is_said_and_of_a_run_it_is_not(made, tmp_path, capsys, monkeypatch, line):
    home, run, bundle = made
    for r in run.manifest.groupby("label").head(2).itertuples():
        (tmp_path/"faces"/r.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(home/"world"/r.path, tmp_path/"faces"/r.label)
    monkeypatch.chdir(tmp_path)
    said = []
    for k, model in enumerate((bundle, run.folder)):
        assert main(line.format(images="faces", model=model, parts=f"parts{k}").split()) in (0, 1, 3)
        shown = capsys.readouterr()
        said.append("does not list the images that its network was trained and validated on" in " ".join((shown.out + shown.err).split()))
    assert said == [True, False]


def test_predict_repeats_that_a_shortcut_does_as_well(made, tmp_path, capsys):
    home, run, _ = made
    folder, name = tmp_path/"run", next(name for name, s in run.metrics["tests"].items() if s["auc"] is not None)
    shutil.copytree(run.folder, folder)
    metrics = json.loads((folder/"metrics.json").read_text())
    metrics["baselines"] = {name: {"size": dict(n=100, auc=1.0, ci95=[0.999, 1.0], called_fake=dict(real=0.0, fake=1.0))}}
    (folder/"metrics.json").write_text(json.dumps(metrics))
    file = home/"world"/run.predictions["path"].iloc[0]
    for model in (folder, export_bundle(folder, tmp_path/"b.fakeface")):
        main(["predict", str(file), "--model", str(model), "--fast"])
        assert "it may know no more than this shortcut." in capsys.readouterr().out.partition("Network: ")[2], model


def test_what_a_folder_holds_and_is_not_asked_about_is_said_and_is_not_called_real(made, tmp_path, capsys):
    from fakeface.cli.predict import picture_files
    file = made[0]/"world"/made[1].predictions["path"].iloc[0]
    for name in ("a", "b"):
        (tmp_path/"some"/name).mkdir(parents=True)
        shutil.copy(file, tmp_path/"some"/name/"x.jpg")
    (tmp_path/"some"/"a"/"phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path/"some"/"notes.txt").write_text("no picture")
    with pytest.warns(DataNote, match=r"1 of 4 are left out: 1 not read \(.txt\)"): files = picture_files([tmp_path/"some"])
    assert [f.relative_to(tmp_path/"some").as_posix() for f in files] == ["a/phone.heic", "a/x.jpg", "b/x.jpg"]
    main(["predict", str(tmp_path/"some"), "--model", str(made[2]), "--fast", "--json"])
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [a["name"] for a in answers] == ["phone.heic", str(tmp_path/"some/a/x.jpg"), str(tmp_path/"some/b/x.jpg")] # told apart
    assert answers[0]["verdict"] == "no verdict" and answers[0]["refused"].startswith("HEIC: not read here")
