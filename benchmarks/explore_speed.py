"""How quick the pages of a run stay on a made-up run of 100,000 predictions: milliseconds of each kind of request, and memory.

Every request asks something new, so that nothing is answered from what was remembered. The pictures themselves are not there: their tiles
say so, which takes as long as finding out that they are. `python benchmarks/explore_speed.py --rows 100000 --out explore_speed.csv`
"""
import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from fakeface.core.basics import progress
from fakeface.core.files import write_table
from fakeface.evaluate.scores import score_predictions
from fakeface.evaluate.thresholds import fit_operating_point, save_point
from fakeface.serve.explore import Explorer, wall_page
from fakeface.serve.wall import Wanted, bars, chosen, figures, page_of, two_runs


def made_up(rows: int, seed: int) -> pd.DataFrame:
    "Predictions with subjects, sources, splits and attributes."
    rng = np.random.default_rng(seed)
    fake = np.random.default_rng(9).random(rows) < 0.5
    place = np.random.default_rng(8)
    table = dict(path=[f"faces/{i // 1000:04d}/{i:07d}.jpg" for i in range(rows)], label=np.where(fake, "fake", "real"),
                 source=place.choice(["a", "b", "c", "lfw"], rows) + np.where(fake, " fake", ""),
                 split=place.choice(["valid", "test", "ffhq", "twins"], rows, p=[0.1, 0.5, 0.2, 0.2]),
                 age=place.integers(1, 90, rows).astype(float),
                 subject=[f"s{i}" for i in place.integers(0, rows // 2, rows)], gender=place.choice(["female", "male"], rows),
                 race=place.choice(["white", "black", "asian", "indian", "other"], rows), glasses=place.choice(["yes", "no", None], rows),
                 sha256=[f"{i:064x}" for i in range(rows)], p_fake=1 / (1 + np.exp(-rng.normal(np.where(fake, 2, -2), 2.5))), run="made-up")
    table = pd.DataFrame(table)
    return table.assign(loss=-np.log(np.clip(np.where(fake, table["p_fake"], 1 - table["p_fake"]), 1e-7, 1)))


def run_folder(folder: Path, predictions: pd.DataFrame) -> Path:
    "A finished run without a network."
    folder.mkdir(parents=True)
    predictions.to_parquet(folder/"predictions.parquet")
    save_point(fit_operating_point(predictions[predictions["split"] == "valid"]), folder)
    small = predictions.groupby("split").head(200)
    info = dict(recipe="made-up", title="made up", started="", world=None, data="faces", settings={}, seed=0)
    (folder/"run.json").write_text(json.dumps(info))
    (folder/"metrics.json").write_text(json.dumps(score_predictions(small) | dict(sources={}, rejected=0)))
    return folder


def questions(rng: np.random.Generator) -> dict[str, Wanted]:
    "One of each kind, new every time."
    low, at = float(rng.uniform(0, 0.5)), float(rng.uniform(0.05, 0.95))
    gender, glasses = str(rng.choice(["female", "male"])), str(rng.choice(["yes", "no", "(unknown)"]))
    age, sort = int(rng.integers(10, 80)), str(rng.choice(["loss", "p", "p-up", "near"]))
    return {"filter": Wanted(attributes=(("gender", gender), ("glasses", glasses)), low=low, result="wrong", threshold=at),
            "condition": Wanted(where=f"age >= {age} and source != 'lfw'", low=low),
            "condition on the score": Wanted(where=f"p_fake > {low} and age >= {age}"), "sort": Wanted(sort=sort, low=low),
            "page": Wanted(low=low, page=int(rng.integers(2, 900))), "threshold": Wanted(threshold=at),
            "side": Wanted(side="first", threshold=at)}


def seconds_of(explorer: Explorer, times: int) -> dict[str, list[float]]:
    "Seconds of every request, by its kind."
    wall, rng, took = explorer.wall, np.random.default_rng(1), {}
    work = {"filter": chosen, "condition": chosen, "condition on the score": chosen, "sort": chosen, "page": page_of, "side": chosen,
            "threshold": lambda w, q: (figures(w, q), bars(w, q))}
    for _ in progress(range(times), times, "asking"):
        asked = questions(rng)
        more = {"two runs": (two_runs, asked["threshold"]), "whole page": (None, asked["filter"])}
        each = {k: (work[k], w) for k, w in asked.items()} | more | {"page again": (page_of, asked["page"])}
        for name, (what, w) in each.items():
            began = time.perf_counter()
            if what: what(wall, w)
            else: wall_page(explorer, w)
            took.setdefault(name, []).append(time.perf_counter() - began)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="predictions of the made-up run")
    parser.add_argument("--times", type=int, default=100, help="requests of each kind")
    parser.add_argument("--out", type=Path, default=Path("explore_speed.csv"), help="one row a kind of request")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        first, second = (run_folder(Path(d)/"runs"/name, made_up(asked.rows, seed)) for seed, name in enumerate(("first", "second")))
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        explorer = Explorer(first, None, second)
        opened = time.perf_counter() - began
        wall_page(explorer, Wanted()) # enters the ledger, once a session
        took = seconds_of(explorer, asked.times)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = pd.DataFrame({name: dict(n=len(s), p50_ms=1000 * np.quantile(s, 0.5), p95_ms=1000 * np.quantile(s, 0.95), most_ms=1000 * max(s))
                          for name, s in took.items()}).T.rename_axis("request").round(1)
    print(table.to_string())
    print(f"{asked.rows:,} rows, two runs: opened in {opened:.1f} s; peak memory {after / 1024:,.0f} MB, {(after - before) / 1024:,.0f} MB "
          "more than before they were opened")
    write_table(table.reset_index(), asked.out)
    print(asked.out)


if __name__ == "__main__": main()
