"""Near duplicates: the search finds what comparing all with all finds, whatever bits lean; and asking first whether moving could make a
doubtful pair alike leaves out no pair that bringing it into register would have confirmed."""
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

import fakeface.core.hamming as hamming
import fakeface.data.duplicates as duplicates
from fakeface.core.hamming import near_pairs
from fakeface.data.duplicates import find_leakage, near_duplicates, read_thumbnails
from fakeface.data.images import grey_thumbnail
from fakeface.data.manifest import scan
from fakeface.synthetic.world import cached_world


@pytest.fixture(scope="module")
def world() -> tuple:
    "A small world and its images."
    return (root := cached_world(images=300)), scan(root).images


def hashes(n: int, lean: float, kinds: int, seed: int) -> np.ndarray:
    "Hashes whose bits are 1 with a chance of 0.5 - lean to 0.5 + lean; with `kinds`, copies of so many, each with few bits turned."
    rng = np.random.default_rng(seed)
    bits = rng.random((kinds or n, 64)) < rng.uniform(0.5 - lean, 0.5 + lean, 64)
    if kinds: bits = bits[rng.integers(0, kinds, n)] ^ (rng.random((n, 64)) < 0.04)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").ravel()


def all_pairs(h: np.ndarray, distance: int) -> np.ndarray:
    "Every pair, compared."
    return np.argwhere(np.triu(np.bitwise_count(h[:, None] ^ h[None]) <= distance, 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.sampled_from([0, 0.3, 0.45, 0.49]), st.sampled_from([0, 0, 1, 7, 60]), st.integers(0, 12),
       st.integers(0, 2**32 - 1))
def test_the_search_finds_the_pairs_that_comparing_all_with_all_finds(n, lean, kinds, distance, seed):
    h = hashes(n, lean, kinds, seed)
    expected = all_pairs(h, distance)
    assert np.array_equal(near_pairs(h, distance), expected)
    def even(i, j): return (i + j) % 2 == 0
    def third(i, j): return i % 3 > 0
    i, j = expected.T
    assert np.array_equal(near_pairs(h, distance, keep=even, settle=third), expected[even(i, j) & third(i, j)])


def test_pairs_are_settled_in_lots_and_each_once(monkeypatch):
    monkeypatch.setattr(hamming, "_MANY", 50)
    h, asked = hashes(300, 0.3, 20, 0), []
    def settle(i, j):
        asked.append(np.stack([i, j], 1))
        return np.ones(len(i), bool)
    found = near_pairs(h, 6, settle=settle)
    every = np.concatenate(asked)
    assert len(asked) > 3 and min(map(len, asked[:-1])) >= 50
    assert len(np.unique(every, axis=0)) == len(every) == len(found) == len(all_pairs(h, 6))


def treated(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    "A copy with a border cut off, half of them also smaller, saved poorly, of more contrast, or turned by up to a degree and a half."
    w, h = image.size
    left, top, right, bottom = rng.uniform(0, rng.uniform(0.005, 0.07), 4)
    copy = image.crop((round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h)))
    def saved(i):
        i.save(file := io.BytesIO(), "JPEG", quality=40)
        return Image.open(file).convert("RGB")
    ways = [lambda i: i.resize((i.width // 2, i.height // 2)), saved, lambda i: ImageEnhance.Contrast(i).enhance(1.3),
            lambda i: i.rotate(rng.uniform(-1.5, 1.5), resample=Image.Resampling.BILINEAR), *[lambda i: i] * 4]
    return ways[rng.integers(len(ways))](copy)


@pytest.mark.parametrize("few", [100_000, 0])
@pytest.mark.parametrize("least", [0.97, 0.93])
def test_asking_first_loses_no_pair_that_trying_confirms(world, monkeypatch, few, least):
    (root, images), rng = world, np.random.default_rng(5)
    paths = images["path"].iloc[::2]
    copies = [grey_thumbnail(treated(Image.open(root/p).convert("RGB"), rng)) for p in paths for _ in range(2)]
    thumbnails = np.concatenate([read_thumbnails(paths, root, 1), np.stack(copies)])
    table = pd.DataFrame({"path": np.arange(len(thumbnails)).astype(str)})
    monkeypatch.setattr(duplicates, "_FEW", few)
    asked = near_duplicates(table, thumbnails, least=least, mirrored=True)
    monkeypatch.setattr(duplicates, "_may_meet", lambda fine, thumbnails, a, b, spread, least: np.ones(len(a), bool))
    tried = near_duplicates(table, thumbnails, least=least, mirrored=True)
    pd.testing.assert_frame_equal(asked, tried)
    assert (tried["alike"] < 0.99).sum() > 50 # many of them are doubtful ones


def inner(share: float):
    "What cuts a share of the side off, on all sides."
    return lambda i: i.crop((*(round(share * x) for x in i.size), *(round((1 - share) * x) for x in i.size)))


EDITS = {"cropped by 12 of 256 px": inner(12 / 256), "cropped by 5 %": inner(0.05), "cropped by 10 %": inner(0.1),
         "letterbox": lambda i: ImageOps.expand(i, (0, i.height // 8), "black"),
         "caption bar": lambda i: ImageOps.expand(i, (0, 0, 0, i.height // 8), "white")}


@pytest.mark.parametrize("edit", EDITS)
def test_a_test_of_edited_training_pictures_is_a_leak(world, tmp_path, edit):
    (root, images), rows = world, []
    for n, path in enumerate(images["path"].iloc[::10]):
        picture = Image.open(root/path).convert("RGB").resize((256, 256))
        for split, one in (("train", picture), ("test", EDITS[edit](picture))):
            one.save(tmp_path/f"{split}{n}.png")
            rows.append(dict(path=f"{split}{n}.png", split=split, label="real", source="own", subject=f"{split}{n}"))
    leaks = find_leakage(pd.DataFrame(rows), tmp_path)
    found = {(i, j) for i, j in leaks[["path_i", "path_j"]].to_numpy()}
    pairs = {(f"train{n}.png", f"test{n}.png") for n in range(len(rows) // 2)}
    assert len(found & pairs) >= 0.85 * len(pairs) and (leaks.loc[leaks["kind"] == "part", "alike"] >= 0.95).all()
