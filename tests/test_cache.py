"Kept pixels change nothing but the time: same batches, changed files noticed, whole after a kill, shared, bounded."
import hashlib
import inspect
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.learner import load_learner
from fasttransform import Transform
from PIL import Image

import fakeface.train.blocks as blocks
import fakeface.train.pixels as pixels
from fakeface.cli.main import main
from fakeface.core.basics import DataNote, InputError
from fakeface.core.files import Claim
from fakeface.data.images import RejectedImage, open_rgb
from fakeface.train.blocks import FaceDL, OpenFace, face_dataloaders, face_test_loader, fed_dataloaders, image_loader, open_image
from fakeface.train.fitting import LostImages, skipping
from fakeface.train.inference import predict
from fakeface.train.learners import make_learner, seeded
from fakeface.train.pixels import PixelStore, clear_pixels, file_sign, kept_pixels, pixel_store, without_pixels

pytestmark = pytest.mark.usefixtures("own_cache")
LONG_AGO = 10**9 * 1_600_000_000 # ns
SETTINGS = dict(model="small", arch=None, pretrained=False, weights=None)


@pytest.fixture(autouse=True)
def _no_bound_of_the_user(monkeypatch):
    monkeypatch.delenv("FAKEFACE_CACHE_GB", raising=False)


def draw(file, seed, side=40):
    "A JPEG of noise; its times are those of a file that lies there for long."
    field = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC).save(file, quality=90)


def settled(monkeypatch):
    "Files count as old enough to be known by their times."
    monkeypatch.setattr(pixels, "_FRESH", -10**12)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    "24 images and their manifest."
    settled(monkeypatch)
    for k in range(24): draw(tmp_path / f"{k:02}.jpg", k)
    names = [f"{k:02}.jpg" for k in range(24)]
    return tmp_path, pd.DataFrame({"path": names, "label": ["real", "fake"] * 12, "split": ["train"] * 15 + ["valid"] * 6 + ["test"] * 3,
                                   "sha256": [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names]})


def loaders(photos, **options):
    return face_dataloaders(photos[1], photos[0], **{"batch_size": 4, "size": 32, "device": "cpu", "workers": 0, **options})


def epochs(photos, n=2, **options):
    "All that two epochs, a validation each and a test see, and the random numbers that come next."
    with seeded(7):
        dls, seen = loaders(photos, **options), []
        for loader in [*[dls.train, dls.valid] * n, face_test_loader(dls, photos[1][photos[1].split == "test"])]:
            seen += [(type(x), type(y), x.dtype, y.dtype, x.as_subclass(torch.Tensor).clone(), y.tolist()) for x, y in loader]
        return seen, (random.random(), float(torch.rand(1)), float(np.random.rand()))


def same(a, b):
    return a[1] == b[1] and len(a[0]) == len(b[0]) and all(
        x[:4] + x[5:] == y[:4] + y[5:] and torch.equal(x[4], y[4]) for x, y in zip(a[0], b[0]))


class Plain(OpenFace):
    "The same images, which `FaceDL` does not know: it goes fastai's way."


@pytest.mark.parametrize("augment", ["none", "flip", "fastai"])
@pytest.mark.parametrize("imagenet", [False, True])
def test_batches_are_those_of_fastai_with_and_without_kept_pixels(photos, augment, imagenet, monkeypatch):
    options = dict(augment=augment, imagenet=imagenet)
    without, first, second = epochs(photos, cache=False, **options), epochs(photos, **options), epochs(photos, **options)
    assert kept_pixels().images.tolist() == [24]
    monkeypatch.setattr(blocks, "OpenFace", Plain)
    slow = epochs(photos, **options)
    assert same(slow, without) and same(slow, first) and same(slow, second)


def test_worker_processes_draw_and_keep_the_same(photos):
    options = dict(augment="flip", workers=2)
    without, first, second = epochs(photos, cache=False, **options), epochs(photos, **options), epochs(photos, **options)
    assert same(without, first) and same(without, second)
    dls = loaders(photos, workers=2)
    list(dls.train)
    assert dls.train.plan().missing == 0 and kept_pixels().images.sum() >= 24


def test_nothing_is_opened_twice_and_rows_without_a_hash_are_not_kept(photos, monkeypatch):
    opened, read = [], blocks.read_file
    monkeypatch.setattr(blocks, "read_file", lambda path: [opened.append(str(path)), read(path)][1])
    def count(dls, *sides, n):
        opened.clear() # what fastai opens of each to see its type
        for _ in range(n): [list(side) for side in sides]
        return len(opened)
    dls = loaders(photos)
    assert count(dls, dls.train, dls.valid, n=3) == 15 + 6
    pixels._STORES.clear() # as another process
    dls = loaders(photos)
    assert count(dls, dls.train, dls.valid, n=2) == 0
    clear_pixels()
    dls = loaders((photos[0], photos[1].drop(columns="sha256")))
    assert count(dls, dls.valid, n=2) == 12 and not len(kept_pixels())


@pytest.mark.parametrize("how", ["other bytes", "same size and time", "gone", "empty"])
def test_a_file_that_changed_is_noticed_though_its_pixels_are_kept(photos, how):
    root, manifest = photos
    dls, file = loaders(photos), root / manifest.path[16]
    list(dls.train), list(dls.valid)
    before, stat = file.read_bytes(), file.stat()
    if how == "other bytes": draw(file, 99)
    if how == "same size and time":
        file.write_bytes(before[:-9] + bytes(7) + before[-2:])
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size
    if how == "gone": file.unlink()
    if how == "empty": file.write_bytes(b"")
    with pytest.raises(RejectedImage, match=f"{file}: (changed since it was listed|cannot be read)"): list(dls.valid)
    lost = LostImages(root / "lost.jsonl")
    with skipping(dls, lost): assert sum(len(y) for _, y in dls.valid) == 5
    assert list(lost.paths()) == [manifest.path[16]]
    file.write_bytes(before) # it is back
    assert sum(len(y) for _, y in dls.valid) == 6


def test_a_batch_is_filled_up_where_an_image_is_lost(photos):
    root, manifest = photos
    dls = loaders(photos, cache=False)
    (root / manifest.path[17]).write_bytes(b"")
    with skipping(dls, LostImages(root / "lost.jsonl")): ours = [y.tolist() for _, y in dls.valid]
    assert ours == [[1, 0, 0, 1], [0]] # of 15 to 20, fake real fake real ...: 17 is left out


def test_a_fresh_file_is_read_again(photos, monkeypatch):
    monkeypatch.setattr(pixels, "_FRESH", 2 * 10**9)
    file = photos[0] / "00.jpg"
    os.utime(file)
    assert file_sign(file) == 0 and file_sign(photos[0] / "none") == 0
    settled(monkeypatch)
    assert file_sign(file) != 0


def test_everything_that_decides_about_pixels_has_a_folder_of_its_own(photos):
    for options in (dict(), dict(size=16), dict(how="crop"), dict(color="grey"), dict(crop=0.5), dict(interpolation="bicubic")):
        assert torch.equal(loaders(photos, **options).valid.one_batch()[0], loaders(photos, cache=False, **options).valid.one_batch()[0])
    dls = fed_dataloaders(loaders(photos), ((0.5,) * 3, (0.5,) * 3), "bicubic")
    assert isinstance(dls.train, FaceDL) and not torch.equal(dls.valid.one_batch()[0], loaders(photos, imagenet=True).valid.one_batch()[0])
    assert len(kept_pixels()) == 6


def test_a_learner_does_all_that_fastai_expects(photos, tmp_path):
    dls = loaders(photos, augment="flip")
    learn = make_learner(dls, SETTINGS)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    file = photos[0] / photos[1].path[20]
    answers = [float(learn.predict(x)[2][1]) for x in (file, str(file), file.read_bytes(), open_rgb(file), np.asarray(open_rgb(file)))]
    loader = dls.test_dl([file, file])
    assert max(answers) - min(answers) < 1e-6 and [len(b) for b in loader] == [1] and loader.one_batch()[0].shape == (2, 3, 32, 32)
    rows = photos[1][photos[1].split == "test"]
    table = predict(learn, rows, root=photos[0])
    assert torch.equal(image_loader(dls, rows).one_batch()[0], face_test_loader(dls, rows).one_batch()[0])
    learn.export(tmp_path / "learn.pkl")
    again = load_learner(tmp_path / "learn.pkl")
    assert abs(float(again.predict(file)[2][1]) - answers[0]) < 1e-6
    assert np.allclose(predict(again, rows, root=photos[0]).p_fake, table.p_fake, atol=1e-6)


def test_a_loader_with_steps_of_its_own_goes_fastais_way(photos):
    dls, seen = loaders(photos), []
    dls.valid.after_item.add(Transform(lambda x: [seen.append(1), x][1]))
    assert dls.valid.plan() is None and len(list(dls.valid)) == 2 and seen
    lost = []
    (photos[0] / photos[1].path[15]).write_bytes(b"")
    dls.valid.broken = lambda i, e: lost.append(i)
    assert sum(len(y) for _, y in dls.valid) == 5 and lost == [0]


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_any_way_to_name_the_device_makes_a_learner(photos, device):
    learn = make_learner(loaders(photos, device=device), SETTINGS)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert len(learn.get_preds()[0]) == 6


@pytest.mark.parametrize("device", ["gpu", "cuda:99", 3.5])
def test_a_device_that_is_none_is_refused_in_one_line(photos, device):
    with pytest.raises(InputError, match="device is"): loaders(photos, device=device)


@pytest.mark.parametrize("options", [dict(), dict(progressive=True), dict(subsampling=0), dict(subsampling=1), dict(optimize=True),
                                     dict(mode="L"), dict(quality=20), dict(side=37)], ids=str)
def test_the_quick_decoder_is_exact(options, tmp_path, monkeypatch):
    assert blocks.decode_fast is not None, "simplejpeg is not installed"
    mode, side = options.pop("mode", "RGB"), options.pop("side", 64)
    field = np.random.default_rng(1).integers(0, 256, (side, side + 5, 3), np.uint8)
    Image.fromarray(field).convert(mode).save(tmp_path / "a.jpg", **{"quality": 90, **options})
    quick = open_image(tmp_path / "a.jpg")
    monkeypatch.setattr(blocks, "decode_fast", None)
    assert torch.equal(quick, open_image(tmp_path / "a.jpg")) and quick.dtype == torch.uint8
    assert np.abs(quick.permute(1, 2, 0).numpy().astype(int) - np.asarray(open_rgb(tmp_path / "a.jpg"))).max() <= 1


def test_a_damaged_jpeg_is_refused_in_the_same_words_by_either_decoder(tmp_path, monkeypatch):
    draw(tmp_path / "a.jpg", 0)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(RejectedImage) as quick: open_image(tmp_path / "a.jpg")
    monkeypatch.setattr(blocks, "decode_fast", None)
    with pytest.raises(RejectedImage) as slow: open_image(tmp_path / "a.jpg")
    assert str(quick.value) == str(slow.value)


# --- the store ---------------------------------------------------------------------------------------------------

def image(k): return np.random.default_rng(k).integers(0, 256, (3, 16, 16), np.uint8)
def key(k): return hashlib.sha256(str(k).encode()).digest()


def put(store, ks, more=0):
    if ks: store.add([key(k) for k in ks], [k + 1 for k in ks], np.stack([image(k) for k in ks]), more)


CHILD = f"""
import hashlib
import sys
import numpy as np
from fakeface.train.pixels import PixelStore
{inspect.getsource(image)}
{inspect.getsource(key)}
{inspect.getsource(put)}
store, (first, last) = PixelStore("16-x", 16), map(int, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
for k in range(first, last, 3):
    if k % 2: store.refresh()
    put(store, [j for j in range(k, k + 3) if key(j) not in store], more=last - k)
    print(k, flush=True)
"""


def held(store, ks):
    "Which images a store gives out; what it gives out is right."
    out, found = np.empty((3, 16, 16), np.uint8), []
    for k in ks:
        if store.read(key(k), out):
            assert np.array_equal(out, image(k)) and store.sign(key(k)) == k + 1
            found.append(k)
    return found


def child(first, last):
    "A process that keeps images, from when it is told to; it does not import torch."
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(first), str(last)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])})
    assert process.stdout.readline() == "ready\n"
    return process


def start(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_killed_writer_leaves_nothing_half_taken_for_whole_and_its_file_is_gone_on_with():
    writer = child(0, 10**6)
    start(writer)
    told = [int(writer.stdout.readline()) for _ in range(40)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    store = PixelStore("16-x", 16)
    assert len(store) >= told + 3 and held(store, range(len(store) + 3)) == list(range(len(store)))
    files = list(store.files)
    put(store, [10**6])
    assert list(store.files) == files and held(PixelStore("16-x", 16), [10**6]) == [10**6]


def test_the_claim_of_a_killed_process_goes_with_the_next_one_and_that_of_a_living_one_stays():
    put(PixelStore("16-x", 16), [0])
    left = pixels.pixel_folder() / "..claim"
    left.touch()
    PixelStore("16-x", 16)
    assert not left.exists()
    with Claim(pixels.pixel_folder(), inside=True):
        PixelStore("16-x", 16)
        assert left.exists()


def test_pixels_without_a_record_and_half_a_record_are_written_over():
    store = PixelStore("16-x", 16)
    put(store, range(3), more=20)
    segment = store.own
    place = segment.layout.start + 3 * segment.layout.stride
    os.pwrite(segment.held, b"\5" * segment.layout.stride, place) # killed here
    again = PixelStore("16-x", 16)
    assert held(again, range(6)) == [0, 1, 2]
    os.pwrite(segment.held, b"\5" * 20, pixels._place(3)) # or in the middle of the record
    again = PixelStore("16-x", 16)
    assert held(again, range(6)) == [0, 1, 2]
    put(again, [3, 4])
    assert held(PixelStore("16-x", 16), range(6)) == [0, 1, 2, 3, 4]


def test_two_processes_at_once_lose_nothing_and_share():
    writers = [child(0, 120), child(60, 180)]
    for writer in writers: start(writer)
    assert [(len(w.communicate()[0].split()), w.returncode) for w in writers] == [(40, 0)] * 2
    store = PixelStore("16-x", 16)
    assert held(store, range(181)) == list(range(180))
    assert 180 <= kept_pixels().images.sum() <= 240 # what both began on at the same moment is there twice


@pytest.mark.parametrize("how", ["pixels", "record", "head", "cut off"])
def test_a_damaged_file_is_noticed_and_made_anew(how):
    store = PixelStore("16-x", 16)
    put(store, range(5), more=5)
    segment = store.own
    with segment.file.open("r+b") as f:
        if how == "cut off": f.truncate(segment.layout.size - 1)
        else:
            f.seek({"pixels": segment.layout.start + 2 * segment.layout.stride + 5, "record": pixels._place(2) + 3, "head": 3}[how])
            f.write(b"\x5a\x5b\x5c")
    again = PixelStore("16-x", 16)
    assert held(again, range(5)) == ([] if how in ("head", "cut off") else [0, 1, 3, 4])
    put(again, range(5))
    assert held(PixelStore("16-x", 16), range(5)) == [0, 1, 2, 3, 4]


def test_the_bound_is_kept_and_the_least_recently_used_goes(monkeypatch):
    monkeypatch.setenv("FAKEFACE_CACHE_GB", "0.0001") # 100 kB
    def size(): return sum(f.stat().st_size for f in pixels.pixel_folder().glob("*/*"))
    stores = []
    for turn in range(6):
        stores.append(PixelStore(f"16-{turn}", 16))
        put(stores[-1], range(20))
        assert size() <= 100_000
        for file in stores[-1].files: os.utime(file, ns=(LONG_AGO + turn, LONG_AGO + turn))
    names = kept_pixels()["pixels"].tolist()
    assert "16-5" in names and "16-0" not in names and names == sorted(names)[-len(names):]
    stores[0].refresh()
    assert not len(stores[0])
    for file in pixels.pixel_folder().glob("*/*"): os.utime(file) # somebody uses them all
    busy = PixelStore("16-late", 16)
    for _ in range(3): put(busy, range(40))
    assert len(busy) < 40 and size() <= 100_000 and kept_pixels()["pixels"].tolist()[:len(names)] == names


def test_what_does_not_fit_is_not_kept_and_no_cache_keeps_nothing(photos, monkeypatch):
    monkeypatch.setenv("FAKEFACE_CACHE_GB", "0.00002") # 20 kB: six images
    dls = loaders(photos)
    list(dls.train)
    assert not len(kept_pixels()) and pixel_store("32-x", 32, 24) is None
    monkeypatch.delenv("FAKEFACE_CACHE_GB")
    with without_pixels(): list(loaders(photos).train)
    list(loaders(photos, cache=False).train)
    assert not len(kept_pixels())
    list(loaders(photos).train)
    assert kept_pixels().images.tolist() == [15]


def test_a_folder_that_cannot_be_written_costs_time_and_a_note(photos, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("FAKEFACE_CACHE_GB", "1")
    with pytest.warns(DataNote, match="pixels are not kept"): n = sum(len(y) for _, y in loaders(photos).valid)
    assert n == 6


def test_the_command_shows_and_clears(photos, capsys, monkeypatch):
    list(loaders(photos).valid)
    assert main(["cache", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["images"] for row in told["kept"]] == [6] and told["bound_gb"] > 0
    assert main(["cache", "--clear"]) == 0 and "removed 0.0 MB" in capsys.readouterr().out
    assert not len(kept_pixels()) and main(["cache"]) == 0 and capsys.readouterr().out.startswith("0 images")
    monkeypatch.setenv("FAKEFACE_CACHE_GB", "lots")
    assert main(["cache"]) == 2 and "give a number of gigabytes" in capsys.readouterr().err
