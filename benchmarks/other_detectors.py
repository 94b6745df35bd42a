"""How do the image detectors whose answers come with deepsafe-bench do on each source of real images?
`pip install deepsafe-bench==1.0.0` (PolyForm Noncommercial 1.0.0), then `python benchmarks/other_detectors.py`.

False positive rates at 0.5 by real source with Wilson's intervals, AUC of each source against all fakes and against the worst kind of
them, the threshold for 1 % false positives frozen on the other sources, and how far the sources agree on the order of the detectors. The
figures are written to `data_manifests/reference/deepsafe_*.csv`, which study 12 shows where the package is not installed. About 15
seconds of one core.
"""
import argparse

from fakeface.evaluate.cells import source_words
from fakeface.evaluate.deepsafe import deepsafe_sources, keep_deepsafe


def main() -> None:
    "Counts, writes, and says what came out."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--where", default=None, help="folder it was installed into; without it this Python's packages")
    p.add_argument("--out", default=None, help="folder of the tables; without it data_manifests/reference")
    args = p.parse_args()
    print(*keep_deepsafe(args.where, args.out), sep="\n")
    table = deepsafe_sources(args.where)
    order = table.attrs["order"]
    print(table.attrs["said"], *source_words(table), sep="\n")
    print(f"Kendall's W over {order['sources']} sources: {order['W']:.2f} [{order['W_lo']:.2f}, {order['W_hi']:.2f}]")


if __name__ == "__main__":
    main()
