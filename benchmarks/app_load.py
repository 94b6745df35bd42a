"""A hundred people send a picture to the app at the same moment: `python benchmarks/app_load.py`.

Each sends one JPEG of a drawn face, 1,024 pixels a side, on a connection of its own, and reads its places in the queue and its answer.
Printed are the answers, the time until the answer (median, 95th percentile, longest), the most memory of the server and of the process
that opens pictures, and what is left on the disk afterwards. With --model a network answers, else a stand-in at once. Exit code 1 where
an answer is missing or a status is 500 or above. A minute or two.
"""
import argparse
import csv
import io
import json
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from served import served

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def pictures(n: int, # different ones
             side: int = 1024, # pixels
            ) -> list[bytes]: # JPEG files
    "Drawn faces."
    from fakeface.synthetic.faces import LATENTS, draw_face
    return [_jpeg(draw_face(np.random.default_rng(seed).random(len(LATENTS)), 256), seed, side) for seed in range(n)]


def _jpeg(face: np.ndarray, seed: int, side: int) -> bytes:
    "The drawing made large, with the grain of a camera."
    large = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), float)
    grainy = np.clip(large + np.random.default_rng(seed).normal(0, 5, large.shape), 0, 255)
    out = io.BytesIO()
    Image.fromarray(grainy.astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue()


def ask(url: str, data: bytes, start: threading.Barrier, out: list[dict]) -> None:
    "One visitor."
    told, began = dict(status=0, places=0, answered=False), 0.0
    with httpx.Client(timeout=900, trust_env=False) as client:
        start.wait()
        began = time.monotonic()
        try:
            files, lines = {"picture": ("face.jpg", data)}, {"accept": "application/x-ndjson"}
            with client.stream("POST", f"{url}/look", files=files, headers=lines) as r:
                told["status"] = r.status_code
                for line in r.iter_lines():
                    said = json.loads(line)
                    told["places"] += "place" in said
                    told["answered"] |= "html" in said
                    told["verdict"] = (said.get("answer") or {}).get("verdict", said.get("refused"))
        except httpx.HTTPError as e: told["error"] = type(e).__name__
    out.append(told | dict(seconds=time.monotonic() - began))


def load(url: str, files: list[bytes], n: int) -> list[dict]:
    "`n` visitors at once."
    out, start = [], threading.Barrier(n)
    threads = [threading.Thread(target=ask, args=(url, files[k % len(files)], start, out)) for k in range(n)]
    for t in threads: t.start()
    for t in threads: t.join()
    return out


def summary(found: list[dict], peak: dict[int, float], server: int) -> dict:
    "What is printed."
    seconds = [f["seconds"] for f in found]
    return dict(uploads=len(found), answered=sum(f["answered"] for f in found), above_499=sum(f["status"] >= 500 for f in found),
                lost=sum("error" in f for f in found), saw_a_place=sum(f["places"] > 0 for f in found),
                median_s=round(float(np.median(seconds)), 2), p95_s=round(float(np.quantile(seconds, 0.95)), 2),
                longest_s=round(max(seconds), 2), server_mb=round(peak.get(server, 0)),
                opener_mb=round(max([v for k, v in peak.items() if k != server], default=0)))


def main() -> int: # exit code
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundle or a run folder; without it a stand-in")
    parser.add_argument("--uploads", type=int, default=100, help="visitors at once (100)")
    parser.add_argument("--rounds", type=int, default=2, help="one after the other (2)")
    parser.add_argument("--out", type=Path, help="a CSV file for the figures")
    parser.add_argument("--side", type=int, default=1024, help="pixels of a picture (1,024)")
    args, rows = parser.parse_args(), []
    files = pictures(10, args.side)
    print(f"{args.uploads} uploads at once, {sum(map(len, files)) / len(files) / 1e6:.2f} MB each, {args.model or 'stand-in'}")
    with served(args.model) as app:
        for k in range(args.rounds):
            rows.append(dict(round=k + 1, model=Path(args.model).name if args.model else "stand-in",
                             **summary(load(app.url, files, args.uploads), app.peak, app.process.pid)))
            print(" · ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        time.sleep(0.5)
        left = app.left()
    print(f"left on the disk, or open: {left or 'nothing'}")
    if args.out:
        with open(args.out, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return int(bool(left) or any(r["above_499"] or r["lost"] or r["answered"] < r["uploads"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
