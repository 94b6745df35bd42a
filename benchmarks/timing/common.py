"What all rows of the speed table share: two ways of doing the same work, timed in turns in one process."
import gc
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

EARLIER = "an earlier commit"  # the checkout that --older names
ALLOCATORS = {"jemalloc": "jemalloc", "tcmalloc": "tcmalloc", "mimalloc": "mimalloc"}


@dataclass
class Row:
    "One line of the speed table."
    work: str  # what is done
    against: str  # by which other code, or at which earlier commit
    n: int  # images, rows or files
    cpu: float  # s of our way, median
    cpu_against: float  # s of the other way, median
    wall: float
    wall_against: float
    repeats: int
    least: float | None = None  # the ratio that is aimed at
    pixels: float | None = None  # largest difference of a pixel, of 255
    p: float | None = None  # largest difference of p_fake, or of a map
    auc: float | None = None  # our AUC minus the other's, mean over seeds
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    ratio = property(lambda self: self.cpu_against / self.cpu if self.cpu else float("nan"), doc="How many times quicker, by CPU seconds.")
    ratio_wall = property(lambda self: self.wall_against / self.wall if self.wall else float("nan"), doc="The same on the clock.")

    def as_dict(self) -> dict[str, Any]:
        "The row as it stands in the CSV."
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items() if k != "extra"} | {
            "ratio": round(self.ratio, 2), "ratio_wall": round(self.ratio_wall, 2)}


def in_turns(ways: dict[str, Callable[[], Any]], # name -> a call that does the whole work once
             repeats: int = 5, # counted rounds, after one that is not
            ) -> dict[str, tuple[float, float]]:  # name -> medians: CPU seconds (threads and children too), wall seconds
    "Times several ways of doing the same work, one after the other, round after round; every other round goes backwards."
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name in (list(ways) if turn % 2 else list(ways)[::-1]):
            gc.collect()
            before, start = os.times(), time.perf_counter()
            ways[name]()
            wall, after = time.perf_counter() - start, os.times()
            if turn: spent[name].append((sum(after[:4]) - sum(before[:4]), wall))
    return {name: (median(c for c, _ in some), median(w for _, w in some)) for name, some in spent.items()}


def row(work: str, against: str, n: int, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int = 5, **more: Any) -> Row:
    "A row of two calls timed in turns."
    t = in_turns({"ours": ours, "theirs": theirs}, repeats)
    return Row(work, against, n, t["ours"][0], t["theirs"][0], t["ours"][1], t["theirs"][1], repeats, **more)


def product_seconds(net: Any, x: Any, rounds: int = 30) -> float:
    "CPU seconds that as many multiplications as a forward pass makes take in a large matrix product, here and now: a measure, no bound."
    import torch
    from torch import nn
    macs, layers = [], [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [m.register_forward_hook(lambda m, given, out: macs.append(out.numel() * m.weight[0].numel())) for m in layers]
    with torch.inference_mode(): net(x)
    for hook in hooks: hook.remove()
    a = torch.randn(1024, 1024)
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        a @ a
        spent.append(time.process_time() - start)
    return sum(macs) / (1024**3 / median(spent))


def one_thread() -> None:
    "A single thread for every library, as the rows are stated; call it before torch is imported."
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"): os.environ[name] = "1"


def machine() -> str:
    "Processor, threads and allocator, in words."
    lines: Iterable[str] = open("/proc/cpuinfo", encoding="utf-8") if os.path.exists("/proc/cpuinfo") else ()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")
    loaded = open("/proc/self/maps", encoding="utf-8").read() if os.path.exists("/proc/self/maps") else ""
    allocator = next((word for key, word in ALLOCATORS.items() if key in loaded), "the C library's malloc")
    return f"{model}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'default')} thread(s), allocator: {allocator}"
