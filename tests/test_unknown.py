"Pictures that are no faces, and a detector that may say so: what follows from a seed, and who sees which images."
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeface.core.basics import InputError
from fakeface.data.manifest import folder_images
from fakeface.data.recipes import Part, Recipe
from fakeface.experiments.run import run_recipe
from fakeface.train.runs import Run
from fakeface.interpret.ood import SCORES, Distances, ask, fit_ood, known_threshold, load_ood, ood_rates
from fakeface.synthetic.objects import CHANGED, DRAWN, NONFACES, draw_nonfaces, nonface_picture
from fakeface.synthetic.world import build_world

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("root") / "world", images=300, workers=1, sources=["celeba", "ffhq", "1m_fake_faces"])


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    parts = [Part("celeba", 40), Part("1m_fake_faces", 80)]
    tests = {"known": [Part("celeba", 8), Part("1m_fake_faces", 16)], "new": [Part("ffhq", 20)]}
    recipe = Recipe("tiny", "tiny", parts, tests, {"small": dict(model="small", size=32, epochs=1, batch_size=8)})
    return run_recipe(recipe, root, tmp_path_factory.mktemp("run") / "run", progress=False)


# --- pictures ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", NONFACES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kind):
    assert nonface_picture(kind, 7, 2) == nonface_picture(kind, 7, 2)
    assert len({nonface_picture(kind, 7, 2), nonface_picture(kind, 8, 2), nonface_picture(kind, 7, 3)}) == 3


def test_more_kinds_and_more_pictures_leave_the_others_as_they_are(tmp_path):
    few = draw_nonfaces(tmp_path / "few", n=2, kinds=["cats", "noise"])
    many = draw_nonfaces(tmp_path / "many", n=3)
    assert len(many) == 3 * len(NONFACES) == 3 * (len(DRAWN) + 1 + len(CHANGED))
    assert set(zip(few.path, few.sha256)) < set(zip(many.path, many.sha256))


def test_a_folder_of_the_users_is_never_overwritten(tmp_path):
    (tmp_path / "cat.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not empty"):
            draw_nonfaces(tmp_path, n=1, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["cat.txt"]


def test_nothing_outside_a_folder_is_read_and_what_is_left_out_is_told(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    draw_nonfaces(outside, n=1, kinds=["noise"])
    (inside / "cats").mkdir(parents=True)
    shutil.copy(outside / "noise" / "000.jpg", inside / "cats" / "a.JPG")
    (inside / "cats" / "b.jpg").symlink_to(outside / "noise" / "000.jpg")
    (inside / "more").symlink_to(outside)
    (inside / "cats" / "c.png").write_bytes(b"no picture")
    images, rejects = folder_images(inside)
    assert images.path.tolist() == ["cats/a.JPG"] and images.kind.tolist() == ["cats"]
    assert rejects.path.tolist() == ["cats/b.jpg", "cats/c.png", "more"] and rejects.reason.notna().all()


@pytest.mark.parametrize("make, what", [
    (lambda p: p / "none", "is no folder"), (lambda p: p, "it is empty"),
    (lambda p: [(p / "x.jpg").write_bytes(b"x"), p][1], "1 not an image"), (lambda p: [(p / "x.heic").touch(), p][1], "not read")])
def test_a_folder_without_a_picture_gives_one_clear_line(make, what, tmp_path):
    with pytest.raises(InputError, match=what) as raised:
        folder_images(make(tmp_path))
    assert "\n" not in str(raised.value)


# --- scores -----------------------------------------------------------------------------------------------------------

@given(st.integers(1, 400), st.floats(0.5, 0.98), st.integers(0, 10**6))
@settings(deadline=None)
def test_at_least_the_promised_share_of_validation_is_kept_or_it_is_refused(n, keep, seed):
    scores = np.random.default_rng(seed).normal(size=n)
    try:
        edge = known_threshold(scores, keep)
    except InputError as error:
        assert n < keep / (1 - keep) and "cannot promise" in str(error)
    else:
        assert (scores <= edge).mean() >= keep and edge in scores


def test_the_threshold_of_exchangeable_scores_keeps_what_it_promises():
    rng = np.random.default_rng(5)
    kept = [(rng.normal(size=2000) <= known_threshold(rng.normal(size=99))).mean() for _ in range(1000)]
    assert abs(np.mean(kept) - 0.95) < 0.003


@pytest.mark.parametrize("f", [np.zeros((40, 3)), np.ones((40, 3)), np.tile([[0., 1, 2]], (40, 1)), np.eye(40)], ids=str)
def test_features_without_spread_do_not_crash(f):
    d = Distances.fit(f.astype(np.float32), np.arange(40) % 2, k=3)
    assert np.isfinite(d.score(f.astype(np.float32), np.full((40, 2), 0.5)).to_numpy()).all()


def test_features_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="did the training diverge"):
        Distances.fit(np.full((40, 3), np.nan, np.float32), np.arange(40) % 2)


def test_a_second_image_of_a_person_narrows_no_rate():
    rng, n = np.random.default_rng(0), 60
    once = pd.DataFrame({"group": "known", "kind": "k", "label": "real", "subject": [f"p{k}" for k in range(n)], "p_fake": rng.random(n),
                         "predicted": np.where(rng.random(n) < 0.6, "real", "fake"), **{s: rng.random(n) for s in SCORES}})
    asked = SimpleNamespace(thresholds=dict.fromkeys(SCORES, 0.8))
    one, two = (ood_rates(rows, asked) for rows in (once, pd.concat([once, once], ignore_index=True)))
    ends = [c for c in one if c.startswith(("real", "ood")) and c.endswith(("_lo", "_hi"))]
    np.testing.assert_allclose(one[ends], two[ends], atol=0.02)


def test_no_test_image_is_seen_by_the_fit(run, root):
    "Test rows that do not exist on disk are not missed, and other test rows give the same thresholds to the bit."
    manifest = run.manifest
    tests = ~manifest.split.isin(["train", "valid"])
    gone = manifest.assign(path=manifest.path.where(~tests, "nowhere/" + manifest.path))
    fits = [fit_ood(run.folder, root, rows, k=3) for rows in (manifest, gone, manifest[~tests])]
    assert fits[0].thresholds == fits[1].thresholds == fits[2].thresholds
    assert all(np.array_equal(fits[0].distances.precision, f.distances.precision) for f in fits)


def test_the_threshold_comes_from_validation_and_the_distances_from_training(run, root):
    "Swapping images on one side changes what that side sets, and nothing of the other."
    manifest = run.manifest
    valid = manifest[manifest.split == "valid"]
    base, fewer = (fit_ood(run.folder, root, rows, k=3) for rows in (manifest, manifest.drop(valid.index[:3])))
    assert np.array_equal(base.distances.bank, fewer.distances.bank) and base.info["n_valid"] == fewer.info["n_valid"] + 3
    for s in SCORES:
        assert base.thresholds[s] in base.score(valid, root)[s].to_numpy()


def test_a_saved_unknown_gives_the_same_scores(run, root, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    for layer in (None, "depths", ["0.1"]):
        made = fit_ood(folder, root, layer=layer, k=3)
        made.save(folder)
        again, rows = load_ood(folder), run.manifest.tail(12)[["path"]]
        pd.testing.assert_frame_equal(again.score(rows, root), made.score(rows, root))
        assert again.info == made.info
    (folder / "ood.json").write_text(json.dumps(json.loads((folder / "ood.json").read_text()) | {"weights": "others"}))
    with pytest.raises(InputError, match="other weights"):
        load_ood(folder)
    (folder / "ood.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be read"):
        load_ood(folder)


def test_known_and_new_sources_are_told_apart_and_nothing_is_asked_twice(run, root, tmp_path):
    unknown = fit_ood(run.folder, root, k=3)
    asked = ask(unknown, draw_nonfaces(tmp_path / "o", n=3), tmp_path / "o", run.manifest, root)
    assert not asked.path[asked.group != "picture"].isin(run.manifest.query("split in ['train', 'valid']").path).any()
    assert not asked.path.duplicated().any()
    rates = ood_rates(asked, unknown).set_index("kind")
    assert rates.group.to_dict() == {"celeba (real)": "known", "1m_fake_faces (fake)": "known", "ffhq (real)": "new source",
                                     **dict.fromkeys(NONFACES, "picture")}
    assert rates.auc_knn.isna().tolist() == (rates.group == "known").tolist()
    assert rates.n.sum() == len(asked)
