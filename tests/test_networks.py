"Networks by anybody: which output is fake, what is loaded of a file of weights, how images are fed, and which maps are refused."
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from fastai.data.transforms import Normalize
from fastai.learner import Learner, load_learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy, error_rate
from fastai.vision.core import PILImage
from fastai.vision.data import ImageDataLoaders, get_image_files
from fastai.vision.augment import Resize
from fastai.vision.learner import create_timm_model, default_split
from PIL import Image
from torch import nn

from fakeface.cli.main import main
from fakeface.core.basics import DataNote, InputError
from fakeface.data.images import RejectedImage
from fakeface.data.manifest import ManifestError
from fakeface.evaluate.perturbations import PERTURBATIONS
from fakeface.evaluate.robustness import ask
from fakeface.experiments.run import save_model, save_run
from fakeface.interpret.attribution import attribute, cam_layers, p_fake_of
from fakeface.interpret.faithfulness import cascade
from fakeface.interpret.ood import features
from fakeface.train.blocks import face_dataloaders, feed_of
from fakeface.train.fitting import train
from fakeface.train.inference import predict
from fakeface.train.learners import DivergedError, classes_of, make_learner, small_learner, transfer_learner
from fakeface.train.models import WeightsError, load_body, read_weights, small_net, transfer_net
from fakeface.train.runs import LearnerScorer, load_model, load_scorer, network_card, run_settings

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "Twenty pictures in two folders, fakes darker than reals."
    root = tmp_path_factory.mktemp("photos")
    for i in range(20):
        label, top = ("fake", 120) if i % 2 else ("real", 255)
        (root/label).mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, top, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root/label/f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def manifest(photos: Path) -> pd.DataFrame:
    "The same as a manifest: twelve to train on, eight to validate."
    files = sorted(photos.rglob("*.png"), key=lambda p: p.name)
    return pd.DataFrame({"path": [str(p.relative_to(photos)) for p in files], "label": [p.parent.name for p in files],
                         "split": ["train"] * 12 + ["valid"] * 8, "source": "mine"})


def loaders(manifest: pd.DataFrame, photos: Path, **options) -> object:
    return face_dataloaders(manifest, photos, **{"batch_size": 4, "size": 32, "device": "cpu", **options})


# --- what a Learner may be given --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def exported(photos: Path, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, Path]:
    "A small Learner on loaders of a relative root, and the file it was exported to."
    file, here = tmp_path_factory.mktemp("export")/"small.pkl", os.getcwd()
    torch.manual_seed(0)
    os.chdir(photos.parent)
    try: learn = small_learner(loaders(manifest, Path(photos.name)), 4)
    finally: os.chdir(here)
    learn.export(file)
    return learn, file


def items(photos: Path) -> dict[str, object]:
    "One image in all the forms in which fastai's users hand it over."
    file = photos/"fake/01.png"
    return {"absolute Path": file, "absolute str": str(file), "Path in the root": Path("fake/01.png"), "str in the root": "fake/01.png",
            "Pillow image": Image.open(file), "fastai image": PILImage.create(file), "array": np.asarray(Image.open(file)),
            "bytes": file.read_bytes(), "row": pd.Series(dict(path="fake/01.png", label="fake"))}


@pytest.mark.parametrize("kind", ["absolute Path", "absolute str", "Path in the root", "str in the root", "Pillow image", "fastai image",
                                  "array", "bytes", "row"])
def test_a_learner_takes_an_image_in_every_form_also_when_it_is_loaded_elsewhere(kind, exported, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn, file = exported
    item, expected = items(photos)[kind], None
    for one in (learn, load_learner(file)):
        with one.no_bar():
            word, position, p = one.predict(item)
            batch = one.get_preds(dl=one.dls.test_dl([item, item]))[0]
        assert word == ["real", "fake"][int(position)] and torch.allclose(batch, p.expand(2, 2), atol=1e-5)
        expected = p if expected is None else expected
        assert torch.allclose(p, expected, atol=1e-6)
    with learn.no_bar(): assert torch.allclose(learn.predict(photos/"fake/01.png")[2], expected, atol=1e-6)


def test_a_learner_names_a_file_that_is_not_there(exported, photos):
    with pytest.raises(RejectedImage, match="none.png: cannot be read"), exported[0].no_bar(): exported[0].predict("none.png")


# --- by the vocabulary ------------------------------------------------------------------------------------------------

def plain_learners(photos: Path, manifest: pd.DataFrame) -> dict[str, Learner]:
    "Learners of plain fastai, alphabetical vocabulary, each with items of another kind."
    options = dict(bs=4, num_workers=0, item_tfms=Resize(32), device=torch.device("cpu"), seed=1, valid_pct=0.4)
    files = get_image_files(photos).sorted()
    made = {"from_folder": ImageDataLoaders.from_folder(photos, **options),
            "from_df": ImageDataLoaders.from_df(manifest, path=photos, fn_col="path", label_col="label", **options),
            "from_path_func": ImageDataLoaders.from_path_func(photos, files, lambda p: p.parent.name, **options),
            "from_lists": ImageDataLoaders.from_lists(photos, files, [p.parent.name for p in files], **options)}
    torch.manual_seed(0)
    return {name: Learner(dls, small_net(4), loss_func=CrossEntropyLossFlat(), metrics=accuracy) for name, dls in made.items()}


def rows_of(learn: Learner) -> pd.DataFrame:
    "A plain Learner's validation images as a table."
    items = learn.dls.valid_ds.items
    if isinstance(items, pd.DataFrame): return items[["path", "label"]].reset_index(drop=True)
    files = [Path(i[0]) if isinstance(i, tuple) else Path(i) for i in items]
    return pd.DataFrame({"path": files, "label": [p.parent.name for p in files]})


def test_an_alphabetical_learner_of_plain_fastai_agrees_with_its_own_validation(photos, manifest):
    for name, learn in plain_learners(photos, manifest).items():
        with learn.no_bar(), learn.no_logging(): learn.fit(3, 0.01)
        rows = rows_of(learn)
        table = predict(learn, rows)
        with learn.no_bar(), learn.no_logging(): loss, acc = learn.validate()
        assert list(learn.dls.vocab) == ["fake", "real"], name
        assert table["loss"].mean() == pytest.approx(loss, abs=1e-4), name
        assert ((table["p_fake"] >= 0.5) == (table["label"] == "fake")).mean() == pytest.approx(acc), name
        own = np.where(table["label"] == "fake", table["p_fake"], 1 - table["p_fake"])
        np.testing.assert_allclose(table["loss"], -np.log(own), atol=1e-6)
        x = torch.cat([b[0] for b in learn.dls.valid.new(shuffle=False)]).as_subclass(torch.Tensor)
        np.testing.assert_allclose(p_fake_of(learn, x), table["p_fake"], atol=1e-5)
        np.testing.assert_allclose(features(learn, x)[1][:, 1], table["p_fake"], atol=1e-5)


def test_maps_speak_for_the_class_they_name_whatever_the_vocabulary(photos, manifest):
    learn = plain_learners(photos, manifest)["from_folder"]
    x = torch.rand(2, 3, 32, 32)
    swapped = Learner(loaders(manifest, photos), nn.Sequential(learn.model, _Swap()), loss_func=CrossEntropyLossFlat())
    ours = attribute(swapped, x, "integrated_gradients", target="fake")
    torch.testing.assert_close(attribute(learn, x, "integrated_gradients", target="fake"), ours)
    torch.testing.assert_close(attribute(learn, x, "integrated_gradients", target="real"), -ours)


class _Swap(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor: return z.flip(1)


@pytest.mark.parametrize("words", [("Fake", "Real"), ("0_real", "1_fake"), ("training_fake", "training_real")])
def test_classes_are_read_by_their_words(photos, manifest, words):
    named = {("fake" if "fake" in w.lower() else "real"): w for w in words}
    own = manifest.assign(label=manifest["label"].map(named))
    learn = Learner(loaders(own, photos, vocab=sorted(words)), small_net(4), loss_func=CrossEntropyLossFlat())
    real, fake = classes_of(learn)
    assert (learn.dls.vocab[real], learn.dls.vocab[fake]) == (named["real"], named["fake"])
    table = predict(learn, own)
    assert set(table["label"]) == {"real", "fake"}
    np.testing.assert_allclose(table["p_fake"], predict(learn, manifest)["p_fake"])


@pytest.mark.parametrize("vocab", [["a", "b"], ["0", "1"], ["fake", "other", "real"]])
def test_classes_without_the_words_are_refused_with_the_mend(photos, manifest, vocab):
    own = manifest.assign(label=[vocab[i % len(vocab)] for i in range(len(manifest))])
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, len(vocab)))
    learn = Learner(loaders(own, photos, vocab=vocab), net, loss_func=CrossEntropyLossFlat())
    for call in (lambda: predict(learn, own), lambda: p_fake_of(learn, torch.rand(1, 3, 32, 32)), lambda: network_card(learn)):
        with pytest.raises(InputError, match="one with the word `real`"): call()


def test_a_saved_network_keeps_its_order_of_classes(photos, manifest, tmp_path):
    chosen = dict(model="small(width=4)", arch="resnet18", size=32, resize="squish", color="rgb", crop=1.0, pretrained=False)
    learn = make_learner(loaders(manifest, photos, vocab=["fake", "real"]), chosen)
    save_model(learn, tmp_path, chosen)
    want = predict(learn, manifest)["p_fake"]
    got = load_scorer(tmp_path, "cpu")([Image.open(photos/p) for p in manifest["path"]])
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert json.loads((tmp_path/"model.json").read_text())["vocab"] == ["fake", "real"]


def test_a_network_of_somebody_elses_is_saved_and_said_to_be_so(photos, manifest, tmp_path):
    learn = plain_learners(photos, manifest)["from_folder"]
    card = network_card(learn)
    assert (card["vocab"], card["positive"], card["rebuildable"]) == (["fake", "real"], "fake", False)
    (tmp_path/"model.json").write_text(json.dumps(card))
    (tmp_path/"model.safetensors").write_bytes(b"")
    for load in (run_settings, load_model, load_scorer):
        with pytest.raises(InputError, match="into the Learner that made it"): load(tmp_path)


# --- what is loaded ---------------------------------------------------------------------------------------------------

TINY = "squeezenet1_1"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return torchvision.models.get_model(TINY, weights=None).state_dict()


def first(model: nn.Module) -> torch.Tensor:
    "The weights of a network's first convolution."
    return next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.detach()


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "encoder.", "_orig_mod.", "_orig_mod.module.", "module.model."])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "net"])
def test_wrapped_weights_are_found(state, tmp_path, prefix, key):
    wrapped = {f"{prefix}{k}": v for k, v in state.items()}
    nested = {"epoch": 3, key: wrapped, "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}}
    torch.save(nested if key else wrapped, tmp_path/"w.pth")
    net = torchvision.models.get_model(TINY, weights=None)
    assert load_body(net, read_weights(tmp_path/"w.pth")) == "50 of 50"
    assert torch.equal(first(net), state["features.0.weight"])


@pytest.mark.parametrize("arch", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", TINY, "resnet18"])
def test_a_file_fills_all_of_a_body_or_nothing_is_trained(arch, tmp_path):
    torch.manual_seed(2)
    size = {"img_size": 224} if "vit" in arch else {}
    timms = timm.is_model(arch) and arch != "resnet18"
    whole = timm.create_model(arch, pretrained=False, **size) if timms else torchvision.models.get_model(arch, weights=None)
    full = {k: v for k, v in whole.state_dict().items() if "num_batches" not in k}
    torch.save({f"module.{k}": v for k, v in full.items()}, tmp_path/"full.pth")
    model, _, filled = transfer_net(arch, 32, weights=tmp_path/"full.pth")
    done, of = filled.split(" of ")
    assert done == of and int(of) >= 20
    assert torch.equal(first(model), first(whole))
    lost = list(full)[len(full) // 2]
    torch.save({k: v for k, v in full.items() if k != lost}, tmp_path/"holed.pth")
    words = f"holed.pth: fills {int(of) - 1} of {of} .*{lost}"
    with pytest.raises(WeightsError, match=words): transfer_net(arch, 32, weights=tmp_path/"holed.pth")
    torch.save({k: v.repeat(2, *[1] * (v.ndim - 1)) if v.ndim else v for k, v in full.items()}, tmp_path/"wide.pth")
    with pytest.raises(WeightsError, match="has shape"): transfer_net(arch, 32, weights=tmp_path/"wide.pth")


def test_weights_of_the_registrys_own_networks_are_used_or_refused(photos, manifest, tmp_path):
    dls, other = loaders(manifest, photos), small_net(4)
    torch.save({"model": {f"module.{k}": v for k, v in other.state_dict().items()}}, tmp_path/"own.pth")
    learn = make_learner(dls, {"model": "small(width=4)", "weights": tmp_path/"own.pth"})
    assert learn.weights_filled == "15 of 15"
    assert all(torch.equal(a, b) for a, b in zip(learn.model.state_dict().values(), other.state_dict().values()))
    for model in ("small", "vgg10"):
        with pytest.raises(WeightsError, match="own.pth"): make_learner(dls, {"model": model, "weights": tmp_path/"own.pth"})


def test_fastais_own_saved_learners_are_weights_too(photos, manifest, state, tmp_path):
    learn = transfer_learner(loaders(manifest, photos), TINY, pretrained=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    learn.path = tmp_path
    again = transfer_learner(loaders(manifest, photos), TINY, weights=learn.save("mine"))
    assert again.weights_filled == "50 of 50" and torch.equal(first(again.model), first(learn.model))


def test_two_networks_in_one_file_are_refused(state):
    with pytest.raises(WeightsError, match="2 networks that fit, `student.`, `teacher.`"):
        load_body(torchvision.models.get_model(TINY), {f"{who}.{k}": v for who in ("student", "teacher") for k, v in state.items()})


# --- how it is fed ----------------------------------------------------------------------------------------------------

def test_batches_are_normalised_and_resized_as_the_weights_were_learnt(photos, manifest, tmp_path):
    arch = "tf_efficientnet_lite0" # mean and std of a half, bicubic
    cfg = timm.get_pretrained_cfg(arch)
    torch.save(timm.create_model(arch, pretrained=False).state_dict(), tmp_path/"w.pth")
    chosen = {"model": "transfer", "arch": arch, "weights": tmp_path/"w.pth", "size": 32, "resize": "squish", "color": "grey", "crop": 1.0,
              "pretrained": False}
    dls = loaders(manifest, photos, imagenet=True, color="grey")
    learn = make_learner(dls, chosen)
    for loader in learn.dls.loaders: # training and validation
        means = [t.mean.flatten().tolist() for t in loader.after_batch.fs if isinstance(t, Normalize)]
        np.testing.assert_allclose(means, [cfg.mean])
    assert feed_of(learn.dls)["interpolation"] == cfg.interpolation == "bicubic"
    theirs = dict(stats=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), interpolation="bilinear")
    assert feed_of(dls) == theirs # the caller's own stay as they were
    save_model(learn, tmp_path, chosen)
    card = json.loads((tmp_path/"model.json").read_text())
    np.testing.assert_allclose((card["mean"], card["std"]), (cfg.mean, cfg.std))
    assert card["weights_filled"] == learn.weights_filled
    got = load_scorer(tmp_path, "cpu")([Image.open(photos/p) for p in manifest["path"]])
    np.testing.assert_allclose(got, predict(learn, manifest)["p_fake"], atol=1e-5)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "vit_b_16", "swin_tiny_patch4_window7_224"])
def test_transformers_are_built_for_the_size_or_refused_in_a_line(arch):
    model, _, _ = transfer_net(arch, 64, pretrained=False)
    with torch.no_grad(): assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    if not arch.startswith("vit"): return
    with pytest.raises(WeightsError, match=f"{arch} .*8 pixels.*--size 224"): transfer_net(arch, 8, pretrained=False)


def test_maps_whose_premise_fails_are_refused():
    torch.manual_seed(0)
    net = create_timm_model("vit_tiny_patch16_224", 2, default_split, pretrained=False, img_size=32)[0].eval()
    x = torch.rand(1, 3, 32, 32)
    for method in ("grad_cam", "guided_grad_cam"):
        with pytest.raises(InputError, match="Grad-CAM there says nothing"): attribute(net, x, method)
    with pytest.raises(InputError, match="no ReLU"): attribute(net, x, "guided_backprop")
    assert attribute(net, x, "occlusion").shape == (1, 32, 32)
    convnext = timm.create_model("convnext_atto", pretrained=False, num_classes=2).eval()
    assert "stages.3" in [*cam_layers(convnext, 32, 1).values()][0]


# --- training ---------------------------------------------------------------------------------------------------------

def test_a_training_that_diverges_ends_in_a_line(photos, manifest):
    learn = make_learner(loaders(manifest, photos), {"model": "three_conv", "opt": "sgd"})
    with learn.no_bar(), learn.no_logging(), pytest.raises(DivergedError) as error: learn.fit(20, 1e4)
    assert "\n" not in str(error.value) and "diverged in epoch" in str(error.value) and "--lr 1e+03" in str(error.value)


def test_answers_that_are_no_numbers_reach_no_table(photos, manifest):
    learn = make_learner(loaders(manifest, photos), {"model": "small"})
    with torch.no_grad(): learn.model[1][-1].weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="20 of 20 images"): predict(learn, manifest)


# --- fastai's manners -------------------------------------------------------------------------------------------------

def test_a_learner_takes_what_fastais_users_hand_it(photos, manifest, tmp_path):
    learn = make_learner(loaders(manifest, photos), {"model": "small"})
    want = predict(learn, manifest)["p_fake"].to_numpy()
    learn.export(tmp_path/"learner.pkl")
    for one in (learn, load_learner(tmp_path/"learner.pkl")):
        with one.no_bar(), one.no_logging():
            file = photos/manifest["path"][0]
            for item in (file, str(file), PILImage.create(file), np.array(Image.open(file)), manifest.iloc[0]):
                assert float(one.predict(item)[2][1]) == pytest.approx(want[0], abs=1e-5), type(item)
            files = [photos/p for p in manifest["path"]]
            for items in (files, [str(f) for f in files], manifest, get_image_files(photos).sorted(key=lambda p: p.name)):
                p = one.get_preds(dl=one.dls.test_dl(items))[0][:, 1]
                np.testing.assert_allclose(p, want, atol=1e-5)


@pytest.mark.parametrize("change, words", [
    (lambda m: m.drop(columns="split"), "no column `split`"), (lambda m: m.drop(columns="label"), "no column `label`"),
    (lambda m: m.assign(label=(m["label"] == "fake").astype(int)), "write real or fake"),
    (lambda m: m.assign(label="odd"), "label is odd; write real or fake"), (lambda m: m.assign(split="Train"), "there is: train"),
    (lambda m: m.drop(columns="split").assign(is_valid="yes"), "is_valid is 'yes'; write True or False"),
    (lambda m: m.assign(path=["gone.png", *m["path"][1:]]), "images is missing .gone.png.")])
def test_a_manifest_that_cannot_be_trained_on_is_refused_in_words(photos, manifest, change, words):
    with pytest.raises(ManifestError, match=words): loaders(change(manifest), photos)


def test_a_table_in_other_words_is_read_and_what_was_read_as_what_is_said(photos, manifest):
    other = manifest.assign(label=manifest["label"].str.upper(), split=manifest["split"].replace("valid", "val")).rename(columns=str.title)
    with pytest.warns(DataNote, match="REAL as real, FAKE as fake"): dls = loaders(other, photos)
    plain = loaders(manifest.drop(columns="split").assign(is_valid=manifest["split"] == "valid"), photos)
    assert [len(d.train_ds) for d in (dls, plain)] == [12, 12] and [len(d.valid_ds) for d in (dls, plain)] == [8, 8]
    assert [int(y) for _, y in dls.valid_ds] == [int(y) for _, y in plain.valid_ds] == [int(w == "fake") for w in manifest["label"][12:]]


def test_absolute_paths_and_devices_by_name_work(photos, manifest):
    absolute = manifest.assign(path=[str(photos/p) for p in manifest["path"]])
    assert loaders(absolute, "elsewhere").one_batch()[0].shape == (4, 3, 32, 32)
    with pytest.raises(InputError, match="use cpu"): loaders(manifest, photos, device="gpu")


def test_anybodys_learner_is_asked_about_pictures(photos, manifest):
    learn = plain_learners(photos, manifest)["from_path_func"]
    rows = rows_of(learn)
    got = LearnerScorer(learn)([Image.open(p) for p in rows["path"]])
    np.testing.assert_allclose(got, predict(learn, rows)["p_fake"], atol=1e-6)


def test_the_run_folder_and_the_robustness_of_an_alphabetical_learner_say_what_its_validation_says(photos, manifest, tmp_path, capsys):
    learn = plain_learners(photos, manifest)["from_df"]
    with learn.no_bar(), learn.no_logging(): learn.fit(3, 0.01)
    with learn.no_bar(), learn.no_logging(): loss, acc = learn.validate()
    rows = rows_of(learn).assign(split="mine", source="mine")
    run = save_run(learn, rows, tmp_path/"run", photos)
    assert run.metrics["tests"]["mine"]["accuracy"] == pytest.approx(acc)
    answers = run.predictions
    assert answers["loss"].mean() == pytest.approx(loss, abs=1e-4)
    asked = ask(LearnerScorer(learn), rows, photos, [PERTURBATIONS["web"]])
    clean = asked[asked["perturbation"] == "clean"].set_index("path")["p_fake"]
    np.testing.assert_allclose(clean[answers["path"]], answers["p_fake"], atol=1e-6)
    assert main(["robustness", str(run.folder), "--root", str(photos)]) == 2  # only the program that made this network can rebuild it
    assert "into the Learner that made it" in capsys.readouterr().err


@pytest.mark.parametrize("metrics", [accuracy, error_rate, [error_rate, accuracy], []])
def test_a_history_goes_by_the_names_of_its_figures_and_outlives_predictions(photos, manifest, tmp_path, metrics):
    learn = small_learner(face_dataloaders(manifest, photos, size=32), 4, metrics=metrics, precision="32")
    history = train(learn, 2, progress=False)
    rows = manifest[manifest["split"] == "valid"].assign(source="mine", split="mine")
    answers = predict(learn, rows, root=photos)
    right = ((answers["p_fake"] >= 0.5) == (answers["label"] == "fake")).mean() if metrics else np.nan
    kept = save_run(learn, rows, tmp_path/"run", photos).history
    for found in (history, kept):
        assert len(found) == 2 and found["accuracy"].iloc[-1] == pytest.approx(right, abs=1e-6, nan_ok=True)
        np.testing.assert_allclose(found["valid_loss"], history["valid_loss"])


def test_the_robustness_of_a_run_goes_by_its_networks_vocabulary(photos, manifest, tmp_path):
    chosen = dict(model="small(width=4)", arch="resnet18", size=32, resize="squish", color="rgb", crop=1.0, pretrained=False)
    learn = make_learner(loaders(manifest, photos, vocab=["fake", "real"]), chosen)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.01)
    run = save_run(learn, manifest.replace({"split": {"valid": "mine"}}), tmp_path/"run", photos)
    save_model(learn, run.folder, chosen)
    out = tmp_path/"robust.html"
    assert main(["robustness", str(run.folder), "--root", str(photos), "--sweeps", "jpeg:90", "--out", str(out)]) == 0
    clean = pd.read_csv(tmp_path/"robust.images.csv").set_index("path")["clean"]
    np.testing.assert_allclose(clean, run.predictions.set_index("path")["p_fake"][clean.index], atol=1e-5)


def test_randomised_networks_keep_the_order_of_classes(photos, manifest):
    learn = plain_learners(photos, manifest)["from_folder"]
    swapped = Learner(loaders(manifest, photos), nn.Sequential(learn.model, _Swap()), loss_func=CrossEntropyLossFlat())
    x = torch.rand(3, 3, 32, 32)
    one, other = (cascade(some, x, ["integrated_gradients"], steps=1, draws=1, target="fake") for some in (learn, swapped))
    np.testing.assert_allclose(one["similarity"], other["similarity"], atol=1e-4)


@pytest.mark.parametrize("arch, words", [("inception_v3", "--size 299"), ("resnet10t(drop=1)", "mend its arguments")])
def test_other_builders_failures_are_a_line(arch, words):
    with pytest.raises(WeightsError, match=words) as error: transfer_net(arch, 32, pretrained=False)
    assert "\n" not in str(error.value)
