"Grad-CAM of the last convolution: all images at once beside the grad-cam package, one by one. `pip install grad-cam` for these rows."
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fakeface.interpret.attribution import attribute, cam_layers
from fakeface.train.models import make_net, transfer_net

from .common import Row, product_seconds, row


def measure(older: str | None, quick: bool) -> list[Row]:
    "Rows of three networks; none where the package is missing."
    try: import pytorch_grad_cam  # noqa: F401
    except ImportError:
        print("timing/maps.py: no package grad-cam, no rows")
        return []
    torch.set_num_threads(1)
    nets = (("small", 64), ("resnet18", 128)) if quick else (("small", 64), ("resnet18", 128), ("resnet18", 224))
    return [cams(name, size, 8 if quick else 64, 1 if quick else 3) for name, size in nets]


def cams(name: str, size: int, n: int, repeats: int) -> Row:
    "Maps for `fake`, log-odds, at the layer that we read."
    from pytorch_grad_cam import GradCAM
    torch.manual_seed(0)
    net = (make_net(name, size) if name == "small" else transfer_net(name, size, False)[0]).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, 0.1); m.running_var.uniform_(0.5, 2)
    x, layer = torch.randn(n, 3, size, size), [*cam_layers(net, size, 1).values()][0]
    log_odds = lambda z: z[1] - z[0]
    def theirs():
        with GradCAM(model=net, target_layers=[net.get_submodule(layer)]) as cam:
            return np.concatenate([cam(input_tensor=one, targets=[log_odds]) for one in x.split(1)])
    wanted = unscaled(theirs)
    scale = max(1.0, wanted.max())
    gaps = np.abs(attribute(net, x, "grad_cam").numpy() - wanted).max((1, 2)) / scale
    ours = lambda: attribute(net, x, "grad_cam")
    r = row(f"Grad-CAM, {name}@{size}", "grad-cam, one by one", n, ours, theirs, repeats, least=8, p=float(gaps.max()))
    floor = n * product_seconds(net, x[:1])
    r.note = (f"layer {layer}; {(gaps > 1e-4).sum()} of {n} maps differ by more than 1e-4, the median map by {np.median(gaps):.0e}; "
              f"as many products as the forward pass has, in a large matrix product: {floor:.3f} s")
    return r


def unscaled(theirs: Callable[[], np.ndarray]) -> np.ndarray:
    "The package's maps as they are before it spreads each from 0 to 1, which makes the faintest as bright as the strongest."
    from unittest.mock import patch

    import cv2
    resized = lambda cam, size=None: np.stack([cv2.resize(one, size) if size else one for one in cam])
    with patch("pytorch_grad_cam.base_cam.scale_cam_image", resized): return theirs()
