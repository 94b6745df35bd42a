"""How long explaining takes: 16 images of 128 pixels, every method and the ten-layer Grad-CAM grid, on two ordinary networks.

    python benchmarks/attribution_time.py

Untrained networks of random weights: time does not depend on what was learnt. The picture's drawing is counted in.
"""
import argparse
import time

import torch
import torchvision

from fakeface.interpret.attribution import METHODS, attribute, cam_layers, explain, explain_layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--arch", nargs="+", default=["squeezenet1_1", "resnet18"], help="torchvision names")
    args = parser.parse_args()
    x = torch.rand(args.images, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    print(f"{args.images} images of {args.size} px, {torch.get_num_threads()} threads")
    for arch in args.arch:
        net = torchvision.models.get_model(arch, weights=None, num_classes=2).eval()
        for method in METHODS:
            start = time.perf_counter()
            attribute(net, x, method)
            print(f"{arch:16} {method:22} {time.perf_counter() - start:7.1f} s", flush=True)
        start = time.perf_counter()
        explain_layers(net, x).savefig("/dev/null", format="png")
        layers = len(cam_layers(net, args.size))
        print(f"{arch:16} {f'Grad-CAM, {layers} layers':22} {time.perf_counter() - start:7.1f} s", flush=True)
        start = time.perf_counter()
        explain(net, x, methods=["shap", "occlusion"]).savefig("/dev/null", format="png")
        print(f"{arch:16} {'explain shap occlusion':22} {time.perf_counter() - start:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
