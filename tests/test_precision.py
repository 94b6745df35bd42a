"In which numbers a network is trained: chosen by what the machine has, said in run.json; `32` is plain fastai to the bit."
import copy
import json
import random

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

import fastai.callback.all  # noqa: F401 (fit_one_cycle)
from fakeface.core.basics import InputError
from fakeface.data.recipes import PRECISIONS, read_recipe, settings
from fakeface.experiments.run import run_recipe
from fakeface.train import precision as numbers
from fakeface.train.blocks import face_dataloaders
from fakeface.train.fitting import train, training_record, training_words
from fakeface.train.learners import LEARNERS, make_learner, seeded, transfer_learner
from fakeface.train.models import small_net
from fakeface.train.precision import choose_precision, has_bf16, precision_of
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import default_device

GPU = torch.cuda.is_available()
NO_GPU = "no CUDA GPU here"
has_16 = pytest.mark.skipif(not has_bf16("cuda" if GPU else "cpu"), reason="this machine has no arithmetic for bfloat16")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "200 pictures of noise, the fakes with a faint grid, and their table."
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    rows = pd.DataFrame(dict(path=[f"{i}.png" for i in range(200)], label=["real", "fake"] * 100, split=["train"] * 128 + ["valid"] * 72))
    grid = 8 * (np.indices((32, 32)).sum(0) % 2)[..., None]
    for path, label in zip(rows["path"], rows["label"]):
        x = rng.normal(128, 30, (32, 32, 3)) + grid * (label == "fake")
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(root / path)
    return root, rows


def loaders(pictures, **more):
    "On the CPU, 32 pixels."
    root, rows = pictures
    return face_dataloaders(rows, root, batch_size=32, size=32, workers=0, device="cpu", **more)


def trained(pictures, asked, model="small(width=8)", epochs=2, seed=0):
    "A learner after its training, quietly."
    with seeded(seed):
        learn = make_learner(loaders(pictures), dict(model=model, arch="resnet18", pretrained=False, weights=None, precision=asked))
        train(learn, epochs, 5e-3, progress=False)
    return learn


def auc(learn, pictures):
    "On validation pictures."
    with learn.no_bar(), learn.no_logging(): p, y = learn.get_preds()
    return roc_auc_score(y.numpy(), p[:, 1].numpy())


def test_32_is_plain_fastai_to_the_bit(pictures):
    ours = trained(pictures, "32")
    with seeded(0):
        plain = Learner(loaders(pictures), small_net(8), loss_func=CrossEntropyLossFlat(), metrics=accuracy)
        with plain.no_bar(), plain.no_logging(): plain.fit_one_cycle(2, 5e-3)
    for name, value in plain.model.state_dict().items(): assert torch.equal(value, ours.model.state_dict()[name]), name
    assert training_record(ours) == dict(asked="32", precision="32", memory_format="contiguous", valid_loss="32", predictions="32")


@has_16
def test_bf16_learns_as_much(pictures):
    found = np.array([[auc(trained(pictures, asked, epochs=4, seed=s), pictures) for asked in ("bf16", "32")] for s in range(3)])
    assert found[:, 0].mean() > 0.7 and abs(found[:, 0] - found[:, 1]).mean() < 0.05, found


@has_16
def test_bf16_is_repeatable(pictures):
    a, b = trained(pictures, "bf16"), trained(pictures, "bf16")
    assert all(torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values()))


def test_predictions_are_of_32_bits_whatever_trained(pictures):
    learn = trained(pictures, "auto")
    with learn.no_bar(), learn.no_logging(): p, _ = learn.get_preds()
    with torch.no_grad(): own = torch.cat([learn.model.eval()(x.as_subclass(torch.Tensor)).softmax(1) for x, _ in learn.dls.valid])
    assert torch.equal(p, own) or (p - own).abs().max() < 1e-6
    assert not torch.is_autocast_enabled("cpu") and learn.model[0][0][0].weight.is_contiguous()


def test_what_the_machine_has_not_is_refused(pictures, monkeypatch):
    monkeypatch.setattr(numbers, "has_bf16", lambda kind="cpu": False)
    with pytest.raises(InputError, match="bf16, for which no arithmetic .* give --precision auto or 32"): choose_precision("bf16")
    with pytest.raises(InputError, match="fp16, which needs a CUDA GPU; give --precision auto or 32"): choose_precision("fp16")
    assert choose_precision("auto", "cpu", small_net()).name == "32"
    with pytest.raises(InputError, match="bf16"): make_learner(loaders(pictures), dict(model="small", precision="bf16"))


def test_the_refusal_comes_before_anything_is_written(tmp_path, monkeypatch, recipe_file):
    monkeypatch.setattr(numbers, "has_bf16", lambda kind="cpu": False)
    monkeypatch.setattr("fakeface.experiments.plan.default_device", lambda: torch.device("cpu"))
    with pytest.raises(InputError, match="give --precision auto or 32"):
        run_recipe(recipe_file, tmp_path, tmp_path / "run", precision="bf16")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def recipe_file(): return read_recipe("man-2-test")


def test_precision_is_a_setting(recipe_file):
    assert settings(recipe_file, "small")["precision"] == "auto"
    assert settings(recipe_file, "small", precision=32)["precision"] == "32"  # YAML reads it as a number
    with pytest.raises(InputError, match=f"use one of {', '.join(PRECISIONS)}"): settings(recipe_file, "small", precision="half")


def test_a_run_says_what_ran(tmp_path, pictures):
    from fakeface.experiments.plan import own_folder
    root, rows = pictures
    for label in ("real", "fake"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for path in rows.loc[rows["label"] == label, "path"]: (tmp_path / "own" / label / path).write_bytes((root / path).read_bytes())
    recipe, *images = own_folder(tmp_path / "own")
    for asked in ("auto", "32"):
        run = run_recipe(recipe, tmp_path / "own", tmp_path / asked, own=tuple(images), progress=False, model="small(width=4)", size=32,
                         epochs=1, precision=asked)
        expected = choose_precision(asked, default_device().type, small_net(4)).record
        assert run.info["training"] == expected
        assert json.loads((tmp_path / asked / "model.json").read_text())["trained"] == expected
        assert training_words(expected) in (tmp_path / asked / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    "A file of a resnet18's weights."
    from torchvision.models import resnet18
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("body") / "body.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


def test_features_once_train_the_head_as_the_slow_way_does(pictures, body):
    from fakeface.train.frozen import FrozenBody
    made = []
    for most in (0, 2**30):
        with seeded(0):
            learn = transfer_learner(loaders(pictures, imagenet=True), "resnet18", weights=body, frozen="eval", precision="32")
            learn.frozen_body.most = most
            start = copy.deepcopy(learn.model.state_dict())
            with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(3, 5e-3)
        made.append(learn)
    slow, quick = made
    assert "every epoch" in slow.frozen_body.told[0] and "once for 3 epochs" in quick.frozen_body.told[0]
    assert isinstance(quick.frozen_body, FrozenBody)
    for name, value in slow.model.state_dict().items():
        assert torch.allclose(value.float(), quick.model.state_dict()[name].float(), atol=1e-5), name
        if name.startswith("0."): assert torch.equal(value, start[name]), name  # batch norms as they were
    assert np.allclose(slow.recorder.values, quick.recorder.values, atol=1e-4)


def test_fine_tune_means_what_it_did_unless_asked(pictures, body):
    with seeded(0):
        ours = transfer_learner(loaders(pictures, imagenet=True), "resnet18", weights=body, precision="32")
        before = copy.deepcopy(ours.model[0].state_dict())
        with ours.no_bar(), ours.no_logging(): ours.fit_one_cycle(1, 5e-3)
    assert not any(type(cb).__name__ == "FrozenBody" for cb in ours.cbs)
    assert not torch.equal(before["1.running_mean"], ours.model[0].state_dict()["1.running_mean"])  # fastai's train_bn


def test_augmented_images_are_asked_in_every_epoch(pictures, body):
    for augment in ("flip", "fastai"):
        learn = transfer_learner(loaders(pictures, imagenet=True, augment=augment), "resnet18", weights=body, frozen="eval", precision="32")
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 5e-3)
        assert learn.frozen_body.told == ["asked in every epoch (images are augmented)"]


def test_a_probe_never_thaws(pictures, body):
    assert "transfer_head" in LEARNERS
    with seeded(0):
        learn = make_learner(loaders(pictures, imagenet=True), dict(model="transfer_head", arch="resnet18", pretrained=False, weights=body))
        before = copy.deepcopy(learn.model[0].state_dict())
        table = train(learn, 3, progress=False)
    assert len(table) == 3 and all(torch.equal(v, before[k]) for k, v in learn.model[0].state_dict().items())
    assert "asked once for 3 epochs" in training_record(learn)["frozen_body"]


def test_random_numbers_after_the_features_are_as_without_them(pictures, body):
    states = []
    for most in (0, 2**30):
        with seeded(0):
            learn = transfer_learner(loaders(pictures, imagenet=True), "resnet18", weights=body, frozen="eval", precision="32")
            learn.frozen_body.most = most
            with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 5e-3)
            states.append((random.random(), torch.rand(1).item()))
    assert states[0] == states[1]


@pytest.mark.skipif(not GPU, reason=NO_GPU)
@pytest.mark.parametrize("asked", ["auto", "bf16", "fp16", "32"])
def test_on_a_gpu(pictures, asked):
    root, rows = pictures
    if asked == "bf16" and not has_bf16("cuda"): pytest.skip("this GPU has no arithmetic for bfloat16")
    with seeded(0):
        dls = face_dataloaders(rows, root, batch_size=32, size=32, device="cuda")
        learn = make_learner(dls, dict(model="small(width=8)", precision=asked))
        table = train(learn, 4, 5e-3, progress=False)
    assert np.isfinite(table["train_loss"]).all() and auc(learn, pictures) > 0.6
    assert asked in ("auto", precision_of(learn).name) and (asked == "32") == (not precision_of(learn).channels_last)
    assert learn.model[0][0][0].weight.is_contiguous()
