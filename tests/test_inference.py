"Predicting: plain fastai's answers in less time, the same bits in any company, quicker ways only where they were measured."
import importlib.util
import json
import shutil
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerGradCam
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, imagenet_stats
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from fakeface.core.basics import InputError
from fakeface.experiments.run import run_recipe
from fakeface.interpret.attribution import LogOdds, attribute, cam_layers
from fakeface.serve.export import export_bundle
from fakeface.serve.predict import Detector
from fakeface.synthetic.world import build_world
from fakeface.train.backends import rewriter
from fakeface.train.drift import measure_drift
from fakeface.train.folding import HalfFolded, folded
from fakeface.train.inference import FixedBatches, SeenLayers, predict
from fakeface.train.models import make_net, transfer_net
from fakeface.train.runs import LearnerScorer, load_scorer, read_drifts, read_part

BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
NETS = ["small", "two_conv", "resnet18", "squeezenet1_1", "mobilenet_v3_small", "tf_efficientnet_lite0", "convnext_atto", "resnet26d"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    "A Learner of fastai and a table of its images."
    folder = tmp_path_factory.mktemp("plain")
    for i in range(12):
        (into := folder/("fake" if i % 2 else "real")).mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)).save(into/f"{i}.png")
    dls = ImageDataLoaders.from_folder(folder, valid_pct=0.3, seed=0, item_tfms=Resize(32), bs=4, num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), CrossEntropyLossFlat())
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    return learn, pd.DataFrame(dict(path=paths, label=[p.partition("/")[0] for p in paths])), folder


def test_a_long_wait_for_answers_is_not_silent(plain, monkeypatch, caplog):
    learn, rows, folder = plain
    monkeypatch.setattr("fakeface.core.basics._SOON", 0)
    with caplog.at_level("DEBUG", "fakeface"): answers = predict(learn, rows, root=folder)
    said = [r.getMessage() for r in caplog.records]
    assert len(answers) == 12 and any(line.startswith("asking about 12 images: ") and " of 3" in line for line in said), said
    assert any(line.startswith("asking about 12 images: 3, ") for line in said), said
    assert not [cb for cb in learn.cbs if type(cb).__name__ == "_Bar"]


def lively(name: str, size: int = 64) -> nn.Module:
    "A network whose batch norms do something."
    torch.manual_seed(1)
    net = (make_net(name, size) if name in ("small", "two_conv") else transfer_net(name, size, False)[0]).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, 0.1); m.running_var.uniform_(0.5, 2)
    return net


@pytest.mark.parametrize("name", NETS)
def test_a_rewritten_network_gives_the_same_answers_and_leaves_the_network_as_it_was(name):
    net, x = lively(name), torch.randn(5, 3, 64, 64)
    before = deepcopy(net.state_dict())
    with torch.no_grad(): wanted = net(x).softmax(1)
    fast = folded(net, (3, 64, 64))
    assert fast.way != "as it is"
    with torch.inference_mode(): assert float((fast(x).softmax(1) - wanted).abs().max()) <= 1e-5
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("name", NETS)
def test_an_images_answer_is_the_same_to_the_bit_alone_and_in_any_company(name):
    asked, x = FixedBatches(lively(name)), torch.randn(37, 3, 64, 64)
    whole = asked(x)
    for n in (1, 1, 1, 3, 9, 16, 21): assert torch.equal(asked(x[:n]), whole[:n]), (name, n, asked.alone) # measured at the second
    assert torch.equal(asked(x.flip(0)).flip(0), whole)


def test_a_network_whose_answers_differ_alone_goes_on_being_filled_up():
    class Company(nn.Module):
        def forward(self, x): return x.mean((2, 3))[:, :2] * len(x)
    asked, x, seen = FixedBatches(Company(), lambda net, shape: net), torch.rand(3, 3, 8, 8), []
    for _ in range(3): seen.append(asked(x))
    assert asked.alone == {(3, 8, 8): False} and all(torch.equal(y, seen[0]) for y in seen)
    assert torch.equal(seen[0], x.mean((2, 3))[:, :2] * 16)


def test_sums_and_cuts_that_others_read_are_not_taken_over():
    class Twice(nn.Module): # the convolution's result is read three times, and changed in place
        def __init__(self):
            super().__init__()
            self.a, self.n, self.b, self.end = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.Linear(6, 2)
        def forward(self, x):
            y = self.a(x)
            z = torch.relu(self.n(y)) + y
            z += self.b(z)
            return self.end((z + y).mean((2, 3)))
    net, x = Twice().eval(), torch.randn(4, 3, 8, 8)
    net.n.running_mean.normal_()
    with torch.no_grad(): wanted = net(x)
    fast = folded(net, (3, 8, 8))
    with torch.inference_mode(): assert torch.allclose(fast(x), wanted, atol=1e-5)
    assert any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())


@pytest.mark.parametrize("name", ["small", "resnet18", "mobilenet_v3_small"])
def test_layers_that_are_looked_at_give_what_they_give_in_the_network_itself(name):
    net, x = lively(name), torch.randn(18, 3, 64, 64)
    layers, kept = [*cam_layers(net, 64, 3).values()], {}
    hooks = [net.get_submodule(n).register_forward_hook(lambda m, i, o, n=n: kept.update({n: o.mean((2, 3))})) for n in layers]
    with torch.no_grad(): net(x)
    for hook in hooks: hook.remove()
    seen = SeenLayers(net, layers, lambda f: f.mean((2, 3)))
    got = seen(x)
    assert torch.allclose(got, torch.cat([kept[n] for n in layers], 1), atol=1e-4)
    for _ in range(3): assert torch.equal(seen(x[:1]), got[:1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Thirty pictures in two folders."
    folder = tmp_path_factory.mktemp("photos")
    for i in range(30):
        file = folder/("fake", "real")[i % 2]/f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 200 + 50 * (i % 2), (70, 64, 3), dtype=np.uint8)).save(file)
    return folder


def test_predictions_are_plain_fastais_within_a_hundred_thousandth(photos):
    dls = ImageDataLoaders.from_folder(photos, valid_pct=0.3, seed=1, bs=8, item_tfms=Resize(64), num_workers=0,
                                       batch_tfms=Normalize.from_stats(*imagenet_stats), device="cpu")
    learn, files = Learner(dls, lively("resnet18"), loss_func=CrossEntropyLossFlat()), sorted(photos.rglob("*.png"))
    with learn.no_bar(): plain = learn.get_preds(dl=dls.test_dl(files))[0][:, list(dls.vocab).index("fake")].numpy()
    got = predict(learn, pd.DataFrame({"path": files}))["p_fake"].to_numpy()
    assert np.abs(got - plain).max() <= 1e-5 and np.std(plain) > 1e-3
    with learn.no_bar(): one = learn.predict(files[0])[2][list(dls.vocab).index("fake")].item()
    assert abs(one - got[0]) <= 1e-5


def test_a_learner_that_was_trained_on_is_not_asked_with_its_old_weights(photos):
    dls = ImageDataLoaders.from_folder(photos, valid_pct=0.3, seed=1, bs=8, item_tfms=Resize(64), num_workers=0, device="cpu")
    learn = Learner(dls, lively("small"), loss_func=CrossEntropyLossFlat())
    scorer, images = LearnerScorer(learn), [Image.open(p) for p in sorted(photos.rglob("*.png"))[:4]]
    before = scorer(images)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    with learn.no_bar(): plain = learn.get_preds(dl=dls.test_dl([np.array(im) for im in images]))[0][:, 0].numpy()
    assert np.abs(scorer(images) - plain).max() < 1e-4 and np.abs(before - plain).max() > 1e-4


# --- quicker ways -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A world and a run on it."
    home = tmp_path_factory.mktemp("ways")
    build_world(home/"world", images=300, seed=5)
    return home/"world", run_recipe("man-2-test", home/"world", home/"run", epochs=1, progress=False).folder


@pytest.mark.skipif(not BF16, reason="this processor has no bf16")
def test_bf16_is_refused_until_it_was_measured_and_then_says_how_far_it_is_off(made, tmp_path):
    root, run = made
    early = export_bundle(run, tmp_path/"early.fakeface")
    for refused in (lambda: load_scorer(run, precision="bf16"), lambda: Detector.load(run, precision="bf16"),
                    lambda: Detector.load(early, root, precision="bf16")):
        with pytest.raises(InputError, match="was never measured"): refused()
    detector = Detector.load(run, root, "cpu", precision="bf16")
    noted = json.loads((run/"precision.json").read_text())["ways"]["torch-bf16"]
    assert detector.drift == noted and 0 < noted["largest"] < 0.05 and noted["n"] > 10
    files = [root/p for p in pd.read_parquet(run/"manifest.parquet").query("split == 'valid'")["path"]]
    gap = np.abs(load_scorer(run)(files).astype(float) - load_scorer(run, precision="bf16")(files))
    assert gap.max() == pytest.approx(noted["largest"], abs=1e-7)
    bundle = Detector.load(export_bundle(run, tmp_path/"a.fakeface"), device="cpu", precision="bf16")
    assert bundle.drift == noted
    assert bundle.predict(files[0], band=False).p_fake == detector.predict(files[0], band=False).p_fake


def test_a_backend_that_is_not_installed_is_one_line_with_the_command():
    if importlib.util.find_spec("openvino"): pytest.skip("openvino is installed")
    with pytest.raises(InputError, match=r"^backend openvino is not installed: pip install 'fakeface\[fast\]'$"):
        rewriter("32", "openvino")


def test_openvino_gives_the_same_answers_in_single_precision():
    pytest.importorskip("openvino", reason="the extra `fast` is not installed")
    net, x = lively("resnet18"), torch.randn(19, 3, 64, 64)
    asked, wanted = FixedBatches(net, rewriter("32", "openvino")), FixedBatches(net)(x).softmax(1)
    got = asked(x)
    assert float((got.softmax(1) - wanted).abs().max()) <= 1e-5
    for _ in range(3): assert torch.equal(asked(x[:2]), got[:2])


def test_what_is_no_way_of_asking_is_named():
    with pytest.raises(InputError, match="precision is 'fp8'; use one of 32, bf16"): rewriter("fp8")
    with pytest.raises(InputError, match="backend is 'tpu'; use one of torch, openvino"): rewriter(backend="tpu")


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["small", "resnet18", "squeezenet1_1", "mobilenet_v3_small", "tf_efficientnet_lite0", "resnet26d"])
def test_grad_cam_without_a_pass_back_through_the_body_is_captums(name):
    net, x = lively(name), torch.randn(5, 3, 64, 64)
    layer, most = [*cam_layers(net, 64, 1).values()][0], 0.0
    for target in ("fake", "real"): # an untrained network may have nothing to say for one of them
        odds = LogOdds(net, target)
        wanted = LayerGradCam(odds, odds.net.get_submodule(layer)).attribute(x, relu_attributions=True).detach()
        wanted = interpolate(wanted, (64, 64), mode="bilinear", align_corners=False)[:, 0]
        got, most = attribute(net, x, "grad_cam", target), max(most, float(wanted.max()))
        assert float((got - wanted).abs().max()) <= 1e-4 * max(1, float(wanted.max()))
    assert most > 0
    assert HalfFolded(net, layer, x).at.target == layer


def test_grad_cam_at_layers_in_between_is_captums():
    net, x = lively("resnet18"), torch.randn(3, 3, 64, 64)
    odds = LogOdds(net)
    for layer in [*cam_layers(net, 64, 8).values()][:4]:
        wanted = LayerGradCam(odds, odds.net.get_submodule(layer)).attribute(x, relu_attributions=True).detach()
        wanted = interpolate(wanted, (64, 64), mode="bilinear", align_corners=False)[:, 0]
        assert float((attribute(net, x, "grad_cam", layer=layer) - wanted).abs().max()) <= 1e-4 * max(1, float(wanted.max())), layer


def test_verdicts_that_turn_are_counted_at_the_present_threshold(made, tmp_path):
    "What was counted at another threshold is measured anew, not shown."
    from fakeface.evaluate.thresholds import fit_operating_point, save_point
    world, run = made[0], tmp_path/"run"
    shutil.copytree(made[1], run)
    measure_drift(run, world, "32", "torch")
    assert "torch-32" in read_drifts(run) # beside bf16, where the processor has it
    valid = read_part(run, "predictions").query("split == 'valid'")
    point = fit_operating_point(valid, aim="eer")
    save_point(point, run, True)
    assert read_drifts(run) == {}
    assert (measure_drift(run, world, "32", "torch").threshold, list(read_drifts(run))) == (point.threshold, ["torch-32"])
