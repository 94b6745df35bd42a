"""Two pictures of the app for README and docs, drawn faces only: `python tools/app_pictures.py BUNDLE WORLD`.

Starts `fakeface app` with a bundle, asks it about drawn faces of a built-in world and about noise, in a headless Chromium without a
network, and writes docs/images/app.png (a desk, light) and app-phone.png (a phone, dark), each below 150 kB.
"""
import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/"benchmarks")]
from app_hostile import BROWSER, browser  # noqa: E402
from served import served  # noqa: E402

SHOTS = {"app": (dict(viewport=dict(width=1100, height=1000), color_scheme="light"), 2), "app-phone": (
    dict(viewport=dict(width=390, height=844), device_scale_factor=1.5, color_scheme="dark"), 1)} # name -> context, cards shown


def drawn_files(world: Path) -> list[dict]: # for a file field
    "A drawn face, and noise."
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(noise, "PNG")
    first = lambda folder: sorted(p for p in (world/folder).rglob("*") if p.suffix in (".jpg", ".png"))[0]
    return [dict(name=name, mimeType="image/jpeg", buffer=data) for name, data in (
        ("drawn.jpg", first("1m_fake_faces").read_bytes()), ("noise.png", noise.getvalue()))]


def shoot(url: str, files: list[dict], out: Path) -> None:
    "Asks and takes the pictures."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=BROWSER)
        for name, (context, cards) in SHOTS.items():
            page = chromium.new_context(**context).new_page()
            page.goto(url)
            page.set_input_files("#picture", files[:cards])
            page.click("text=Ask the network")
            page.locator("#status", has_text=f"{cards} of {cards} answered.").wait_for(timeout=120_000)
            bottom = page.locator("#answers").bounding_box()
            clip = dict(x=0, y=0, width=context["viewport"]["width"], height=bottom["y"] + bottom["height"] + 8)
            image = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB")
            image.quantize(64, dither=Image.Dither.NONE).save(out/f"{name}.png", optimize=True)
            print(f"{out/name}.png: {image.width} x {image.height}, {(out/f'{name}.png').stat().st_size / 1000:.0f} kB")
        chromium.close()


def main() -> None:
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="of `fakeface export`")
    parser.add_argument("world", type=Path, help="of `fakeface world`")
    parser.add_argument("--out", type=Path, default=ROOT/"docs"/"images", help="a folder (docs/images)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with served(args.bundle) as app: shoot(app.url, drawn_files(args.world), args.out)


if __name__ == "__main__":
    main()
