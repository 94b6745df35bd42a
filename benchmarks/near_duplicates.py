"""How long a search for near duplicates takes, and how much memory: a million synthetic 64-bit hashes, pairs at most 6 bits apart.

    python benchmarks/near_duplicates.py

Two kinds of hashes: random bits, and bits that lean (each is 1 with a chance between 0.2 and 0.8), as the hashes of faces do, which look
alike. In both a thousand pairs 1 to 6 bits apart are injected; all of them have to be found. Each search runs in a process of its own,
whose peak memory is told, what the hashes themselves take included. About 20 seconds on one core.
"""
import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from fakeface.data.duplicates import near_pairs


def hashes(rows: int, lean: float, injected: int, seed: int) -> tuple[np.ndarray, set[tuple[int, int]]]:
    "Hashes whose bits are 1 with a chance of 0.5 - lean to 0.5 + lean, and the pairs injected among them."
    rng = np.random.default_rng(seed)
    h = np.zeros(rows, np.uint64)
    for bit, chance in enumerate(rng.uniform(0.5 - lean, 0.5 + lean, 64)):
        h |= (rng.random(rows) < chance).astype(np.uint64) << np.uint64(bit)
    one = rng.permutation(rows)[:2 * injected].reshape(2, -1)
    for a, b in one.T:
        flip = np.uint64(1) << rng.choice(64, rng.integers(1, 7), replace=False).astype(np.uint64)
        h[b] = h[a] ^ np.bitwise_or.reduce(flip)
    return h, {tuple(sorted(pair)) for pair in one.T.tolist()}


def search(rows: int, lean: float, injected: int, distance: int, seed: int) -> tuple[int, int, float, float]:
    "Pairs found, injected ones among them, seconds, peak GiB."
    h, there = hashes(rows, lean, injected, seed)
    start = time.perf_counter()
    found = near_pairs(h, distance)
    took = time.perf_counter() - start
    return len(found), len(there & set(map(tuple, found.tolist()))), took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--distance", type=int, default=6, help="bits that may differ")
    parser.add_argument("--injected", type=int, default=1_000, help="pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, lean in (("random", 0.0), ("leaning", 0.3)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            n, hit, took, memory = pool.submit(search, args.rows, lean, args.injected, args.distance, args.seed).result()
        print(f"{name:8} {args.rows:,} hashes: {n:,} pairs at most {args.distance} bits apart, {hit:,} of {args.injected:,} injected ones; "
              f"{took:.1f} s, peak {memory:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
