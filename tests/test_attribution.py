"Attribution: what no picture in a notebook shows. Progress on slow methods, networks on a GPU, state after an error."
from copy import deepcopy
from unittest.mock import patch

import pytest
import torch
from torch import nn

from fakeface.interpret import attribution
from fakeface.interpret.attribution import METHODS, attribute, cam_layers, cam_words, explain
from fakeface.train.models import transfer_net
from fakeface.train.probe import probe_net


def network() -> nn.Module:
    "Two convolutions whose ReLUs work in place."
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def images(n: int = 4, size: int = 16) -> torch.Tensor:
    "Noise."
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["shap", "occlusion", "integrated_gradients"])
def test_slow_methods_show_progress_on_sixteen_images(method):
    told = []
    real = attribution.progress
    with patch.object(attribution, "progress", lambda items, total, what: told.append((total, what)) or real(items, total, what)):
        attribute(network(), images(16), method, background=images())
    assert told[0][0] >= 4 and "16 images" in told[0][1]


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_raises_in_the_middle_is_left_as_it_was(method):
    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("in the middle")
    net = nn.Sequential(network(), Raises()).train()
    before, state = deepcopy(net.state_dict()), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="in the middle"):
        attribute(net, images(), method, layer="0.3", background=images())
    assert net.training and net[0][2].inplace and not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_the_same_when_gradients_are_switched_off_outside(method):
    net = network()
    with torch.no_grad():
        off = attribute(net, images(), method, background=images())
    assert torch.equal(off, attribute(net, images(), method, background=images()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", METHODS)
def test_a_network_on_a_gpu_gives_the_same_maps(method):
    net = network()
    there, here = (attribute(n, images(), method, background=images()) for n in (deepcopy(net).cuda(), net))
    assert there.device.type == "cpu" and there.shape == here.shape
    if method != "shap": # it draws its background on the device, from another stream of random numbers
        torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-4)


def test_maps_of_a_probe_say_which_stages_they_leave_out():
    stages = [nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()) for i, o in ((3, 4), (4, 8), (8, 8))]
    probe = probe_net(nn.Sequential(nn.Sequential(*stages), nn.Linear(8, 2)), 32).eval()
    titles = [explain(net, images(1, 32), methods=method, size=32).get_suptitle()
              for net in (probe, network().eval()) for method in ("grad_cam", "occlusion")]
    assert [cam_words(probe) in title for title in titles] == [True, False, False, False] and "earlier stages" in cam_words(probe)
    assert cam_words(network()) == cam_words(None) == ""


@pytest.mark.parametrize("arch, words", [("squeezenet1_1", "reads 256 of the 512 maps"), ("densenet121", "reads 32 of the 1,024 maps"),
                                         ("resnet18", "the sum is at layer 0.7.1."), ("resnet50d", ""), # its last ReLU comes after the sum
                                         ("tf_efficientnet_lite0", "")])
def test_a_map_of_a_part_of_what_the_head_is_given_says_which(arch, words):
    net = transfer_net(arch, 64, pretrained=False)[0].eval()
    title = explain(net, images(1, 64), methods="grad_cam", size=64).get_suptitle()
    assert words in cam_words(net, 64) and cam_words(net, 64) in title and bool(cam_words(net, 64)) == bool(words)
    layer = [*cam_layers(net, 64, 1).values()][0]
    assert "Grad-CAM reads" not in explain(net, images(1, 64), methods="grad_cam", size=64, layer=layer).get_suptitle()
