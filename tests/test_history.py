"A network with a history for all images, and a linear probe: what a run says is what its bundle and its folder say, and maps can be made."
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fakeface.core.basics import InputError
from fakeface.core.stats import photograph_kinds
from fakeface.data.recipes import read_recipe, settings
from fakeface.evaluate.thresholds import UNSEEN, fit_operating_point, load_point, unseen_rates
from fakeface.experiments import run as runner
from fakeface.experiments.run import run_recipe, save_run
from fakeface.interpret.attribution import attribute, cam_layers
from fakeface.interpret.features import watching
from fakeface.interpret.ood import features
from fakeface.serve.export import export_bundle
from fakeface.serve.predict import Detector
from fakeface.synthetic.world import build_world
from fakeface.train.blocks import face_dataloaders, loader_options
from fakeface.train.fitting import EpochLines, Forecast
from fakeface.train.inference import predict
from fakeface.train.learners import make_learner
from fakeface.train.runs import load_run_model

PROBE = dict(model="probe", arch="tf_efficientnet_lite0", weights="package:efficientnet-lite0", size=64, epochs=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A world, and a run of the recipe `robust` on it, smaller than published."
    home = tmp_path_factory.mktemp("history")
    build_world(home/"world", images=400, seed=5)
    run = run_recipe("robust", home/"world", home/"run", profile="published", progress=False, **PROBE)
    return home, run, export_bundle(run.folder, home/"a.fakeface", home/"world", sample=20)


def test_the_settings_of_the_recipe_are_those_of_the_run(made):
    _, run, _ = made
    asked = settings(read_recipe("robust"), "published")
    assert {k: run.settings[k] for k in ("model", "history", "augment")} == {k: asked[k] for k in ("model", "history", "augment")}
    assert run.metrics["valid"]["auc"] > 0.6 # something was learnt


def test_run_bundle_and_folder_give_the_same_score(made):
    home, run, bundle = made
    rows = run.predictions.iloc[:24]
    again = predict(load_run_model(run.folder, home/"world", "cpu"), rows, root=home/"world")["p_fake"]
    assert again.tolist() == rows["p_fake"].tolist()
    for where in (bundle, run.folder):
        answers = list(Detector.load(where, device="cpu").predict_many([home/"world"/p for p in rows["path"]], band=False))
        assert [a.answers[0].p_fake for a in answers if len(a.answers) == 1] == [p for p, a in zip(rows["p_fake"], answers)
                                                                                 if len(a.answers) == 1]


def test_the_history_reaches_the_network(made):
    home, run, _ = made
    learn = load_run_model(run.folder, home/"world", "cpu")
    with_it = learn.dls.valid.one_batch()[0]
    learn.dls.valid.dataset.tls[0].tfms.fs[-1].history = None
    assert np.abs((learn.dls.valid.one_batch()[0] - with_it).numpy()).max() > 0.05


def test_the_same_seed_fits_the_same_probe(made, tmp_path):
    home, run, _ = made
    again = run_recipe("robust", home/"world", tmp_path/"again", profile="published", progress=False, **PROBE)
    assert again.predictions["p_fake"].tolist() == run.predictions["p_fake"].tolist()


def test_a_probe_is_fitted_under_every_schedule(made, tmp_path):
    home, run, _ = made
    flat = run_recipe("robust", home/"world", tmp_path/"flat", profile="published", progress=False, schedule="flat", **PROBE)
    assert flat.predictions["p_fake"].tolist() == run.predictions["p_fake"].tolist() # it has no rate that a schedule could change


def test_a_map_can_be_made_of_a_probe(made):
    home, run, _ = made
    learn = load_run_model(run.folder, home/"world", "cpu")
    x = learn.dls.valid.one_batch()[0][:2]
    maps = np.asarray(attribute(learn, x, "grad_cam"))
    assert len(maps) == 2 and np.isfinite(maps).all() and maps.std() > 0


def test_the_centre_of_an_image_speaks_in_its_map_where_it_lies(made):
    "The rims have one view, the centre has two: what is changed at a rim moves the whole image's maps alone."
    home, run, _ = made
    learn = load_run_model(run.folder, home/"world", "cpu")
    x = learn.dls.valid.one_batch()[0][:3].as_subclass(torch.Tensor)
    changed = x.clone()
    changed[..., :8, :] = 0 # above the middle five eighths
    with torch.no_grad(): was, now = learn.model[0](x), learn.model[0](changed)
    half = was.shape[1] // 2
    assert torch.equal(was[:, half:], now[:, half:]) and not torch.allclose(was[:, :half], now[:, :half])
    layer = [*cam_layers(learn)][-1]
    with watching(learn, [layer]) as seen: learn.model(x)
    assert len(seen[layer]) == 3 # of the images, not of their centres
    assert len(features(learn, x, layer=layer)[0]) == 3


def test_photographs_are_asked_of_a_fit_that_has_seen_none_of_their_kind(made, tmp_path):
    home, _, _ = made
    asked = dict(PROBE, augment="none", precision="32")
    run = run_recipe("robust", home/"world", tmp_path/"run", profile="published", progress=False, aim=dict(aim="unseen", fpr=0.05), **asked)
    p, m = run.predictions, run.manifest
    is_asked = (p["split"] == "valid") & (p["label"] == "real")
    assert p[UNSEEN].notna().equals(is_asked) and set(photograph_kinds(p[is_asked])) >= {"ffhq", "celeba"}
    kind = pd.Series(photograph_kinds(m), m.index)
    assert ((m["source"] == "140k_real_and_fake") & (kind == "ffhq")).any() # its photographs are FFHQ's
    for left_out in ("ffhq", "celeba"): # trained by hand on the rest
        rest = m[(kind != left_out) | (m["label"] == "fake") | (m["split"] != "train")].reset_index(drop=True)
        learn = make_learner(face_dataloaders(rest, home/"world", imagenet=True, **loader_options(run.settings)), run.settings)
        with learn.no_bar(), learn.no_logging(): learn.fine_tune(1)
        own = p[is_asked & (photograph_kinds(p) == left_out)]
        assert len(own) and np.allclose(predict(learn, own, root=home/"world")["p_fake"], own[UNSEEN], atol=1e-4)
    point, valid = load_point(run.folder), p[p["split"] == "valid"]
    assert point.aim == "unseen" and (unseen_rates(valid, point.threshold)["fpr"] <= 0.05).all()
    assert point.threshold >= fit_operating_point(valid, "each", 0.05).threshold
    assert "of a kind that a fit has not seen" in (run.folder/"report.html").read_text(encoding="utf-8")


def test_a_probe_that_was_made_with_fastai_alone_keeps_them_too(made, tmp_path):
    home, run, _ = made
    learn = make_learner(face_dataloaders(run.manifest, home/"world", imagenet=True, **loader_options(run.settings)), run.settings)
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(1)
    kept = save_run(learn, run.manifest, tmp_path/"mine", home/"world")
    assert kept.predictions[UNSEEN].notna().equals(run.predictions[UNSEEN].notna())


def test_answers_about_unseen_kinds_outlive_a_kill_after_training(made, tmp_path, monkeypatch):
    home, whole, _ = made
    def dies(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(runner, "predict", dies)
        run_recipe("robust", home/"world", tmp_path/"run", profile="published", progress=False, **PROBE)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "train", dies) # it is not trained again
        run = run_recipe("robust", home/"world", tmp_path/"run", profile="published", progress=False, **PROBE)
    pd.testing.assert_series_equal(run.predictions[UNSEEN], whole.predictions[UNSEEN])
    assert not [f.name for f in run.folder.iterdir() if f.name.startswith(".")]


def test_the_aim_for_unseen_kinds_is_refused_before_anything_slow(made, tmp_path):
    home, _, _ = made
    aim = dict(aim="unseen")
    with pytest.raises(InputError, match="which the model `probe` makes and small does not"):
        run_recipe("robust", home/"world", tmp_path/"run", profile="small", aim=aim)
    all_kinds, others = read_recipe("robust"), ("utkface", "lfw", "celeba", "fairface")
    one = replace(all_kinds, train=[p for p in all_kinds.train if p.source not in others])
    with pytest.raises(InputError, match=r"training has 1 \(ffhq\); add a second source of photographs"):
        run_recipe(one, home/"world", tmp_path/"run", profile="published", aim=aim, **PROBE)
    assert not (tmp_path/"run").exists()


def test_a_probe_is_not_said_to_have_epochs(made, tmp_path, capsys):
    home, run, _ = made
    lines = [Forecast(enough=0, short=-1), EpochLines()]
    again = run_recipe("robust", home/"world", tmp_path/"again", profile="published", progress=False, cbs=lines, **PROBE | dict(epochs=2))
    forecast, fitted = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("about ", "fitted at once"))]
    trained = int((again.manifest["split"] == "train").sum())
    assert f"for features of {trained:,} training images, drawn 2 times and once as they are, to which the probe is then fitted" in forecast
    assert "epoch" not in forecast and fitted.startswith("fitted at once: train loss")
