"Faces found, cropped and mirrored: the alignment is exact, licences are said, a killed job loses nothing."
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from io import BytesIO
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from fakeface.cli.main import main
from fakeface.core.basics import DataNote, InputError, data_manifests
from fakeface.data.faces import CROPS, DETECTORS, POINTS, Face, crop_face, face_points, find_faces
from fakeface.data.images import LostImage, open_rgb
from fakeface.data.manifest import scan
from fakeface.data.mirror import Cut, mirror_faces
from fakeface.synthetic.objects import nonface_picture
from fakeface.synthetic.world import build_world, world_points

ROOT = Path(__file__).resolve().parents[1]
MODELS = data_manifests()/"models"
FFHQ = np.array([(0.38, 0.47), (0.62, 0.47), (0.50, 0.75)]) # where FFHQ's mean face has its eyes and mouth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    return build_world(folder/"world", images=120, workers=1, sources=["utkface", "lfw", "celeba", "ffhq", "1m_fake_faces"])


def dotted(points: np.ndarray, size: tuple[int, int]) -> Image.Image:
    "Grey, with a red, a green and a blue dot."
    fine = Image.new("RGB", (size[0] * 3, size[1] * 3), (128, 128, 128))
    brush = ImageDraw.Draw(fine)
    for (x, y), colour in zip(points * 3, ("red", "lime", "blue")): brush.ellipse([x - 12, y - 12, x + 12, y + 12], fill=colour)
    return fine.resize(size, Image.Resampling.BOX)


def dots(image: Image.Image) -> np.ndarray:
    "The middles of the three dots in shares of the picture."
    a = np.asarray(image, float)
    y, x = (np.indices(a.shape[:2]) + 0.5) / np.array(a.shape[:2])[:, None, None]
    weights = [np.clip(2 * a[..., k] - a.sum(2), 0, None)**2 for k in range(3)]
    return np.array([[(w * x).sum() / w.sum(), (w * y).sum() / w.sum()] for w in weights])


@pytest.mark.parametrize("degrees", [-170, -60, -12, 0, 33, 90])
@pytest.mark.parametrize("side, middle, size", [(90, (160, 120), (320, 240)), (230, (160, 150), (320, 300)), (800, (430, 450), (900, 900))])
def test_the_alignment_puts_eyes_and_mouth_where_ffhq_has_them(degrees, side, middle, size):
    a = np.radians(degrees)
    turned = (FFHQ - 0.5 - [0, 0.002]) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    placed = np.array(middle) + side * turned
    face = Face((0, 0, 1, 1), 1.0, placed / size, size)
    assert face.roll == pytest.approx(degrees, abs=0.01)
    assert dots(crop_face(dotted(placed, size), face, "ffhq", 256)) == pytest.approx(FFHQ, abs=0.006)


def test_a_crop_of_the_whole_picture_at_its_size_is_that_picture():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
    whole = Face((0, 0, 1, 1), 1.0, np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.7)]), picture.size)
    assert np.abs(np.asarray(crop_face(picture, whole, "tight", 256), int) - np.asarray(picture, int)).max() <= 6


@pytest.mark.parametrize("how", list(CROPS))
@pytest.mark.parametrize("at", [(-0.3, -0.3), (0.9, 0.9), (0.0, 0.6)])
def test_a_crop_over_the_rim_is_mirrored_and_not_black(how, at):
    points = np.array([(0.1, 0.1), (0.3, 0.1), (0.2, 0.3)]) + at
    face = Face((at[0], at[1], at[0] + 0.5, at[1] + 0.5), 1.0, points, (120, 80))
    picture = Image.new("RGB", (120, 80), (200, 180, 160))
    try: crop = np.asarray(crop_face(picture, face, how, 64), int)
    except InputError as e: assert "outside of its picture" in str(e); return
    assert crop.shape == (64, 64, 3) and np.abs(crop - (200, 180, 160)).max() <= 1


def test_the_networks_are_those_that_the_readme_and_the_notice_name():
    told = dict(re.findall(r"\| `(\w+\.tflite)` \|.*`([0-9a-f]{64})`", (MODELS/"README.md").read_text(encoding="utf-8")))
    there = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in MODELS.glob("*.tflite")}
    assert told == there and len(there) == 3
    assert all(name in (MODELS/"NOTICE").read_text(encoding="utf-8") for name in there)


def test_a_licence_is_said_wherever_a_face_detector_is_chosen(world, capsys):
    assert "Apache 2.0" in DETECTORS["blazeface"].licence and "commercial" in DETECTORS["mtcnn"].licence + DETECTORS["dlib"].licence
    for command in ("audit", "ladder", "faces"):
        assert main([command, "--help"]) == 0
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        assert "Apache 2.0" in text and "commercial use" in text
        for name in DETECTORS: assert name in text.replace(" ", "")
    rows = scan(world).images.head(2)
    for name, d in DETECTORS.items():
        if d.there(): assert face_points(rows, world, name, workers=1).attrs == {"face_detector": name, "licence": d.licence}


def test_a_missing_runtime_is_one_line(monkeypatch, world, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert main(["faces", str(world), "--out", str(tmp_path/"out"), "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install ai-edge-litert" in said


@pytest.mark.skipif(not DETECTORS["mtcnn"].there(), reason="mtcnn is not installed")
def test_mtcnn_runs_without_tensorflow_and_only_with_its_own_bytes(monkeypatch, tmp_path):
    import matplotlib

    from fakeface.data import mtcnn
    photo = open_rgb(Path(matplotlib.get_data_path())/"sample_data/grace_hopper.jpg")
    [face], [other] = find_faces(photo, "mtcnn"), find_faces(photo)
    eyes = np.linalg.norm(other.pixels[1] - other.pixels[0])
    assert np.abs(face.pixels - other.pixels).max() < 0.15 * eyes and "tensorflow" not in sys.modules
    for name in ("pnet", "rnet", "onet"): (tmp_path/f"{name}.lz4").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    monkeypatch.setattr(mtcnn, "_folder", lambda: tmp_path)
    mtcnn._weights.cache_clear()
    try:
        with pytest.raises(InputError, match="pip install mtcnn==1.0.0"): find_faces(photo, "mtcnn")
    finally: mtcnn._weights.cache_clear()


def test_drawn_faces_are_found_where_they_were_drawn(world):
    rows = scan(world).images.groupby("source").head(12)
    found, true = (t.to_numpy().reshape(-1, 3, 2) for t in (face_points(rows, world, workers=1), world_points(rows, world)))
    wrong = np.linalg.norm(found - true, axis=2).max(1) / np.linalg.norm(true[:, 1] - true[:, 0], axis=1)
    assert np.isfinite(wrong).all() and np.median(wrong) < 0.1 and (wrong < 0.25).mean() > 0.95


@pytest.mark.parametrize("kind", ["noise", "textures", "shapes"])
def test_what_is_no_face_is_none(kind):
    pictures = [Image.open(BytesIO(nonface_picture(kind, 0, i))).convert("RGB") for i in range(12)]
    assert sum(bool(find_faces(picture)) for picture in pictures) == 0


def faces(*args: str | Path, **options) -> forked.Popen:
    env = {k: v for k, v in os.environ.items() if k != "FAKEFACE_DATA"} | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return forked.Popen(["-m", "fakeface.cli.main", "faces", *map(str, args), "--size", "64", *options.get("more", ())],
                            env=env, stdout=forked.PIPE, stderr=forked.PIPE, text=True)


def contents(folder: Path) -> dict[str, str]:
    "Every file with its digest; the lines of finished pictures, whose order is the job's, left out."
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name != ".faces.jsonl"}


def test_a_killed_job_goes_on_and_ends_as_one_that_was_not(world, tmp_path):
    whole = faces(world, "--out", tmp_path/"whole", more=["--workers", "1"])
    assert whole.wait(600) == 0
    out, rng = tmp_path/"killed", np.random.default_rng(int(time.time()))
    lines, pictures = out/".faces.jsonl", len(scan(world).images)
    for share in sorted(rng.uniform(0.02, 0.9, 3)):
        job = faces(world, "--out", out, more=["--workers", "2"])
        while job.poll() is None and (lines.read_bytes().count(b"\n") if lines.exists() else 0) < share * pictures: time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
        job.wait()
        for line in (lines.read_bytes().split(b"\n")[:-1] if lines.exists() else []): # what is said to be done is done
            if line and not (row := json.loads(line))["reason"]: Image.open(out/row["path"]).load()
    last = faces(world, "--out", out, more=["--workers", "2"])
    assert last.wait(600) == 0
    assert contents(out) == contents(tmp_path/"whole")
    assert not list(out.rglob(".*.part"))


def test_the_mirror_is_a_data_root(world, tmp_path, capsys):
    assert main(["faces", str(world), "--out", str(tmp_path/"out"), "--size", "48", "--workers", "1", "--format", "jpeg", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["face_detector"] == "blazeface" and "Apache 2.0" in told["licence"] and told["found"] == told["pictures"]
    assert main(["sources", "--root", str(tmp_path/"out"), "-q"]) == 0
    assert set(capsys.readouterr().out.split()) == {"utkface", "lfw", "celeba", "ffhq", "1m_fake_faces"}
    before, after = scan(world).images, scan(tmp_path/"out").images
    columns = ["path", "label", "subject", "age", "gender"]
    pd.testing.assert_frame_equal(before[columns], after[columns])
    assert set(after["format"]) == {"JPEG"} and set(after["width"]) == {48} # neither follows the label
    points = pd.read_csv(tmp_path/"out"/"faces.csv")
    assert set(POINTS) <= set(points) and len(points) == told["found"]
    kept = json.loads((tmp_path/"out"/"faces.json").read_text())
    assert kept["licence"] == told["licence"] and kept["finished"] is True


def test_a_picture_that_was_replaced_by_one_without_a_face_leaves_no_crop_behind(world, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path/"mine").mkdir(exist_ok=True)
        shutil.copy(world/next(p for p in scan(world, ["ffhq"]).images.path), tmp_path/"mine"/name)
    assert mirror_faces(tmp_path/"mine", tmp_path/"out", Cut(size=48), workers=1).told["found"] == 2
    Image.new("RGB", (64, 64), "tan").save(tmp_path/"mine"/"a.png")
    again = mirror_faces(tmp_path/"mine", tmp_path/"out", Cut(size=48), workers=1)
    assert again.rejects.path.tolist() == ["a.png"] and [p.name for p in (tmp_path/"out").rglob("*.png")] == ["b.png"]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_the_label_files_of_a_linked_dataset_come_along(world, tmp_path):
    (tmp_path/"root").mkdir()
    (tmp_path/"root"/"celeba").symlink_to(world/"celeba")
    with pytest.warns(DataNote, match="is a link to"): # it is followed
        mirror_faces(tmp_path/"root", tmp_path/"out", Cut(size=48), workers=1)
        before, after = scan(tmp_path/"root").images, scan(tmp_path/"out").images
    pd.testing.assert_frame_equal(before[["path", "subject", "gender"]], after[["path", "subject", "gender"]])


def test_a_picture_that_could_not_be_read_once_is_tried_again(world, tmp_path, monkeypatch):
    (tmp_path/"mine").mkdir()
    shutil.copy(world/scan(world, ["ffhq"]).images.path.iloc[0], tmp_path/"mine"/"a.png")
    def lost(path): raise LostImage("cannot be read (Input/output error)")
    with monkeypatch.context() as patched:
        patched.setattr("fakeface.data.mirror.open_rgb", lost)
        assert mirror_faces(tmp_path/"mine", tmp_path/"out", Cut(size=48), workers=1).told["found"] == 0
    assert mirror_faces(tmp_path/"mine", tmp_path/"out", Cut(size=48), workers=1).told["found"] == 1


# --- what a network was trained on is what it is given ------------------------------------------------------------------

def test_a_network_of_crops_is_given_crops_wherever_it_goes(world, tmp_path):
    from fakeface.experiments.run import run_recipe
    from fakeface.serve.export import export_bundle, measure_faces
    from fakeface.serve.bundle import read_bundle
    crops = tmp_path/"crops"
    assert main(["faces", str(world), "--out", str(crops), "--framing", "tight", "--size", "64", "-q"]) == 0
    run = run_recipe("man-2-test", crops, tmp_path/"run", profile="small", epochs=1, size=32, progress=False)
    kept = measure_faces(run.manifest.head(4), crops)
    assert (kept.crop, kept.size) == ("tight", 64)  # as faces.json says
    alone = read_bundle(export_bundle(run.folder, tmp_path/"alone.fakeface")).info.faces
    assert (alone.crop, alone.size, alone.margin) == ("tight", 64, 0.3)  # without the data root, as the run knows
    whole = read_bundle(export_bundle(run.folder, tmp_path/"whole.fakeface", crop="whole")).info.faces
    assert (whole.crop, whole.size) == ("whole", None)


def test_a_bundle_looks_for_faces_by_the_detector_that_cropped_its_training(world, tmp_path, monkeypatch):
    from fakeface.experiments.run import run_recipe
    from fakeface.serve.bundle import read_bundle
    from fakeface.serve.export import export_bundle, measure_faces
    from fakeface.serve.predict import Detector
    crops, called = tmp_path/"crops", []
    assert main(["faces", str(world), "--out", str(crops), "--framing", "tight", "--size", "64", "-q"]) == 0
    note = json.loads((crops/"faces.json").read_text())
    (crops/"faces.json").write_text(json.dumps(note | {"face_detector": "mtcnn"}))
    run = run_recipe("man-2-test", crops, tmp_path/"run", profile="small", epochs=1, size=32, progress=False)
    bundle = export_bundle(run.folder, tmp_path/"a.fakeface")  # nothing is looked for, so it need not be installed
    assert read_bundle(bundle).info.faces.detector == run.info["faces"]["face_detector"] == "mtcnn"
    assert "mtcnn" in read_bundle(bundle).parts["README.md"].decode()
    gone, there = (DETECTORS["mtcnn"]._replace(there=lambda x=x: x, find=lambda im: called.append(im) or DETECTORS["blazeface"].find(im))
                   for x in (False, True))
    monkeypatch.setitem(DETECTORS, "mtcnn", gone)
    with pytest.raises(InputError, match="a.fakeface.*mtcnn.*is not installed: pip install mtcnn"): Detector.load(bundle)
    with pytest.raises(InputError, match="mtcnn is not installed"): measure_faces(run.manifest.head(4), crops)
    monkeypatch.setitem(DETECTORS, "mtcnn", there)
    Detector.load(bundle).predict(world/scan(world).images["path"].iloc[0], band=False)
    assert len(called) == 1 and measure_faces(run.manifest.head(4), crops).detector == "mtcnn"
