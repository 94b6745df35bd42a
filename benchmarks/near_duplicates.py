"""How long a search for near duplicates takes, and how much memory: a million synthetic 64-bit hashes, pairs at most 6 bits apart.

    python benchmarks/near_duplicates.py           # the search through hashes
    python benchmarks/near_duplicates.py --whole   # and the whole: thumbnails of such hashes, hashed, searched, mirrored and confirmed
    python benchmarks/near_duplicates.py --growth  # the search of a run instead, between two splits, among 2,100 to 134,400 pictures

Three kinds of hashes: random bits, bits that lean (each is 1 with a chance between 0.2 and 0.8), as the hashes of faces do, which look
alike, and bits that lean as the built-in world's do. In all a thousand pairs 1 to 6 bits apart are injected; all of them have to be found.
Each search runs in a process of its own, whose peak memory is told, what the hashes or thumbnails themselves take included. About 20
CPU seconds; the whole takes a minute more. `--growth` tells by what power of the pictures the whole grows where they do not lie near each
other, a third of them being a test set.
"""
import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd

from fakeface.core.hamming import near_pairs
from fakeface.data.duplicates import frequencies, near_duplicates, read_thumbnails
from fakeface.data.manifest import scan
from fakeface.synthetic.world import cached_world

SIDE, LOWEST = 32, np.array(sorted(((u, v) for u in range(12) for v in range(12) if u + v), key=lambda p: (p[0]**2 + p[1]**2, p))[:64])


def chances(kind: str, seed: int) -> np.ndarray:
    "How likely each bit is to be 1."
    if kind == "world":
        root = cached_world(images=1000)
        lowest = frequencies(read_thumbnails(scan(root).images["path"], root))[:, LOWEST[:, 0], LOWEST[:, 1]]
        return (lowest > 0).mean(0)
    lean = 0.3 if kind == "leaning" else 0.0
    return np.random.default_rng(seed).uniform(0.5 - lean, 0.5 + lean, 64)


def hashes(rows: int, chance: np.ndarray, injected: int, seed: int) -> tuple[np.ndarray, set[tuple[int, int]]]:
    "Hashes of such bits, and the pairs injected among them."
    rng = np.random.default_rng(seed)
    h = np.zeros(rows, np.uint64)
    for bit, c in enumerate(chance): h |= (rng.random(rows) < c).astype(np.uint64) << np.uint64(bit)
    one = rng.permutation(rows)[:2 * injected].reshape(2, -1)
    for a, b in one.T:
        flip = np.uint64(1) << rng.choice(64, rng.integers(1, 7), replace=False).astype(np.uint64)
        h[b] = h[a] ^ np.bitwise_or.reduce(flip)
    return h, {tuple(sorted(pair)) for pair in one.T.tolist()}


def thumbnails(h: np.ndarray, seed: int) -> np.ndarray:
    "Pictures of 32 x 32 pixels that have these hashes, but for what rounding to whole greys does to them."
    rng, k = np.random.default_rng(seed), np.arange(SIDE)
    dct = (np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * SIDE)) * np.where(k, 0.25, np.sqrt(1 / SIDE))[:, None]).astype(np.float32)
    out = np.empty((len(h), SIDE, SIDE), np.uint8)
    for s in range(0, len(h), 10_000):
        bits = (h[s:s + 10_000, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        waves = rng.normal(0, 4, (len(bits), SIDE, SIDE)).astype(np.float32)
        waves[:, LOWEST[:, 0], LOWEST[:, 1]] = (2.0 * bits - 1) * (10 + np.abs(rng.normal(0, 60, bits.shape)))
        waves[:, 0, 0] = 128 * SIDE
        out[s:s + 10_000] = (dct.T @ waves @ dct).clip(0, 255)
    return out


def search(rows: int, chance: np.ndarray, injected: int, distance: int, seed: int, whole: bool,
           splits: bool = False) -> tuple[int, int, float, float]:
    "Pairs found, injected ones among them, CPU seconds, peak GiB."
    h, there = hashes(rows, chance, injected, seed)
    if whole: pictures, table = thumbnails(h, seed), pd.DataFrame({"path": np.arange(rows)})
    sides = dict(sides=(np.random.default_rng(seed).random(rows) < 1 / 3).astype(int)) if splits else {}
    start = time.process_time()
    if whole: found = near_duplicates(table, pictures, distance, mirrored=True, **sides)[["i", "j"]].to_numpy()
    else: found = near_pairs(h, distance)
    took = time.process_time() - start
    return len(found), len(there & set(map(tuple, found.tolist()))), took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(kind: str, rows: int = 1_000_000, injected: int = 1_000, distance: int = 6, seed: int = 0, whole: bool = False,
             splits: bool = False) -> tuple:
    "As of `search`, in a process of its own."
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(search, rows, chances(kind, seed), injected, distance, seed, whole, splits).result()


def growth(kind: str, sizes: tuple[int, ...] = (2_100, 8_400, 33_600, 134_400), repeats: int = 3) -> str:
    "CPU seconds at each size, medians, and the power they grow by up to 33,600 and 134,400 pictures."
    spent = [float(np.median([measured(kind, n, n // 1000, whole=True, splits=True)[2] for _ in range(repeats)])) for n in sizes]
    powers = [f"n^{np.log(s / spent[0]) / np.log(n / sizes[0]):.2f} to {n:,}" for n, s in zip(sizes[2:], spent[2:])]
    return f"{kind:8} " + ", ".join(f"{s:.2f} s at {n:,}" for n, s in zip(sizes, spent)) + f": {', '.join(powers)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--distance", type=int, default=6, help="bits that may differ")
    parser.add_argument("--injected", type=int, default=1_000, help="pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="thumbnails too: hashed, searched, confirmed")
    parser.add_argument("--growth", action="store_true", help="the whole, between two splits, at four sizes, and nothing else")
    args = parser.parse_args()
    if args.growth:
        for kind in ("random", "leaning"): print(growth(kind), flush=True)
        return
    for kind in ("random", "leaning", "world"):
        n, hit, took, memory = measured(kind, args.rows, args.injected, args.distance, args.seed)
        print(f"{kind:8} {args.rows:,} hashes: {n:,} pairs at most {args.distance} bits apart, {hit:,} of {args.injected:,} injected ones; "
              f"{took:.1f} CPU s, peak {memory:.2f} GiB", flush=True)
    if args.whole:
        n, _, took, memory = measured("world", args.rows, args.injected, args.distance, args.seed, whole=True)
        print(f"whole    {args.rows:,} thumbnails, mirrored too: {n:,} pairs confirmed by pixels; {took:.1f} CPU s, peak {memory:.2f} GiB")


if __name__ == "__main__":
    main()
