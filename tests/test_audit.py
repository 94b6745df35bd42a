"The audit's promises: injected defects warn, clean worlds pass, copies are found without comparing all pairs, a run refuses them."
import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fakeface.audit.audit import CHECKS, audit, terms
from fakeface.audit.checks import VERDICTS, Check, checks_table, verdict
from fakeface.audit.shortcut_checks import check_shortcut
from fakeface.audit.shortcuts import Baseline
from fakeface.audit.subjects import check_subjects
from fakeface.cli.main import main
from fakeface.core import basics
from fakeface.core.files import write_table
from fakeface.core.hamming import near_pairs
from fakeface.data.duplicates import LeakError, find_leakage
from fakeface.data.manifest import scan
from fakeface.data.recipes import Part, Recipe, compose
from fakeface.report.audit import summary, write_audit
from fakeface.synthetic.world import build_world

SOURCES = ("utkface", "lfw", "lag", "celeba", "1m_fake_faces")
DEFECTS = ("jpeg-quality", "exact-duplicates", "near-duplicates", "shared-subject:0.4")
WARNED = ("warn", "fail")


def recipe(**kwargs) -> Recipe:
    "A small study: three sources of photographs and one generator, tested on another source."
    return Recipe("small", "a small study", [Part("utkface", 9000), Part("lfw", 9000), Part("lag", 9000), Part("1m_fake_faces", 9000)],
                  {"celeba": [Part("celeba", 9000), Part("1m_fake_faces", 3000)]},
                  {"small": {"model": "small", "size": 32, "epochs": 1}}, **kwargs)


def drawn(folder, *defect: str):
    "A small world of a few sources, and the study's manifest of it."
    root = build_world(folder/"world", seed=3, images=500, equal=True, defect=defect, sources=SOURCES, workers=1)
    return root, compose(recipe(), scan(root)).manifest


@pytest.fixture(scope="module")
def clean(tmp_path_factory): return drawn(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def injected(tmp_path_factory): return drawn(tmp_path_factory.mktemp("injected"), *DEFECTS)


def test_a_world_in_which_only_the_trace_tells_warns_of_nothing_else(clean):
    root, manifest = clean
    checks = audit(manifest, root, faces=0, workers=1).checks # geometry is left out, which costs most
    assert {name for name, t in checks.items() if t["verdict"] in WARNED} <= {"spectrum"}


def test_a_pass_of_near_duplicates_says_which_copies_are_not_found(clean):
    root, manifest = clean
    found = audit(manifest, root, only=["near-duplicates"], workers=1).checks["near-duplicates"]
    assert found["verdict"] == "pass" and "are not found, and inside one split none that is cropped or padded." in found["why"]


def test_the_order_of_the_rows_changes_no_copy_and_no_subject(injected):
    root, manifest = injected
    shuffled = manifest.sample(frac=1, random_state=0).reset_index(drop=True)
    paths = [{frozenset(p) for p in find_leakage(m, root)[["path_i", "path_j"]].to_numpy()} for m in (manifest, shuffled)]
    assert paths[0] == paths[1] and paths[0]
    assert check_subjects(manifest, False)["figure"] == check_subjects(shuffled, False)["figure"] > 0


def test_the_command_finds_what_is_injected_and_writes_page_and_figures(injected, tmp_path, capsys):
    root, manifest = injected
    file = write_table(manifest, tmp_path/"m.csv")
    assert main(["audit", str(file), "--root", str(root), "--out", str(tmp_path/"out"), "--sample-faces", "0"]) == 0
    checks = json.loads((tmp_path/"out"/"audit.json").read_text())["checks"]
    assert set(checks) == set(CHECKS)
    found = {n for n, t in checks.items() if t["verdict"] in WARNED}
    assert {"file-facts", "exact-duplicates", "near-duplicates", "shared-subjects"} <= found
    for check in checks.values():
        assert check["verdict"] in VERDICTS and {"verdict", "figure", "ci95", "why"} <= set(check)
    page = (tmp_path/"out"/"audit.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "") and str(root) not in page
    assert capsys.readouterr().out.count("\n") > len(CHECKS)


def test_a_run_over_a_cross_split_duplicate_is_refused_with_the_mend(injected, tmp_path):
    from fakeface.experiments.run import run_recipe
    root, manifest = injected
    copies = find_leakage(manifest, root)
    assert len(copies)
    with pytest.raises(LeakError, match="duplicates: drop") as told:
        run_recipe(recipe(), root, tmp_path/"run", profile="small", progress=False)
    r = copies.iloc[0]
    assert all(word in str(told.value) for word in (r.path_i, r.path_j, r.split_i, r.split_j)) and not (tmp_path/"run").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = run_recipe(recipe(duplicates="drop"), root, tmp_path/"run", profile="small", progress=False, aim=dict(aim="eer"))
    assert made.metrics["duplicates"]["dropped"] > 0 and len(find_leakage(made.manifest, root)) == 0
    assert made.metrics["operating"]["point"]["aim"] == "eer"
    assert set(made.metrics["baselines"]["celeba"]) == {"file-facts", "size", "thumbnail", "colour", "spectrum"}


def test_every_series_of_trainings_refuses_one_too(injected, tmp_path):
    from fakeface.experiments.grid import Grid, run_grid
    from fakeface.experiments.seeds import run_seeds
    from fakeface.experiments.learning_curve import curve, mix
    from fakeface.experiments.transfer import Transfer, divide, run_transfer
    root, sets = injected[0], {name: {"real": [Part(name, 9000, label="real")]} for name in ("utkface", "celeba")}
    transfer = Transfer("t", "t", sets, recipe().profiles, [Part("1m_fake_faces", 9000, label="fake")])
    asked = [lambda out: run_seeds(recipe(), root, out), lambda out: curve(recipe(), root, out), lambda out: mix(recipe(), root, out),
             lambda out: run_transfer(transfer, root, out),
             lambda out: run_grid(Grid("g", "g", recipe(), axes={"color": ["rgb", "grey"]}), root, out)]
    for i, ask in enumerate(asked):
        with pytest.raises(LeakError, match="duplicates: drop"): ask(tmp_path/str(i))
        assert not (tmp_path/str(i)).exists()
    divided, _ = divide(replace(transfer, duplicates="drop"), root)
    assert len(find_leakage(divided, root)) == 0 and len(divided) > 200


def test_a_sweep_enters_its_test_set_uses(clean, tmp_path):
    from fakeface.evaluate.ledger import Ledger
    from fakeface.experiments.learning_curve import curve
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve(recipe(), clean[0], tmp_path/"sweep", sizes=[60, 120], seeds=[0], epochs=1, progress=False)
    entries = Ledger(tmp_path/"sweep").entries()
    assert [(e["model"], e["test"], e["before"]) for e in entries] == [("size-60-seed-0", "celeba", 0), ("size-120-seed-0", "celeba", 1)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=60), st.integers(0, 8), st.integers(0, 2**32))
def test_near_pairs_are_those_of_comparing_all(values, distance, seed):
    rng = np.random.default_rng(seed)
    some = [v ^ int(np.bitwise_or.reduce(1 << rng.integers(0, 64, rng.integers(1, 9)).astype(object))) for v in values]
    h = np.array(values + some, np.uint64)
    expected = np.argwhere(np.triu(np.bitwise_count(h[:, None] ^ h[None]) <= distance, 1)) if len(h) else np.empty((0, 2), int)
    assert near_pairs(h, distance).tolist() == expected.tolist()


def test_an_auc_below_a_half_is_not_called_fine():
    below = Baseline(0.3, (0.25, 0.35), 500, np.zeros(1), np.zeros(1))
    assert check_shortcut("size", below)["verdict"] == "not measured"


def test_a_file_that_is_gone_is_named(clean):
    root, manifest = clean
    gone = pd.concat([manifest, manifest.head(1).assign(path="celeba/none.jpg")])
    with pytest.raises(ValueError, match=r"celeba/none.jpg is not under"):
        audit(gone, root, faces=0)


def dark_images(e):
    "The measurement of a check that is new: how many images are dark."
    share = float((e.thumbnails.mean((1, 2)) < 60).mean())
    return verdict("warn" if share > 0.5 else "pass", f"{100 * share:.0f} % of the images are dark.", share, n=len(e.manifest))


def test_a_check_that_is_registered_in_one_line_shows_everywhere(clean, tmp_path, monkeypatch):
    root, manifest = clean
    dark = Check("darkness", "Are most images dark?", "share of images below a grey of 60", "warn above 50 %", dark_images, "share",
                 dict(dark=0.5))
    monkeypatch.setitem(CHECKS, dark.name, dark)
    found = audit(manifest.head(60), root, only=["darkness"], workers=1)
    assert list(found.checks)[-1] == "darkness" and found.checks["darkness"]["verdict"] in ("pass", "warn")
    assert {t["why"] for name, t in found.checks.items() if name != "darkness"} == {"Not asked for."}
    assert found.lines()[-1].startswith("darkness ") and "<b>darkness</b>" in found._repr_html_()
    stored = json.loads(found.to_json())
    assert stored["checks"]["darkness"] == found.checks["darkness"] and stored["terms"]["dark"] == terms()["dark"] == 0.5
    page = write_audit(found, tmp_path).read_text().replace("\u00a0", " ")
    for words in ("<td>darkness</td>", found.checks["darkness"]["why"], "Share of images below a grey of 60.", "Warn above 50 %."):
        assert words in page, words
    assert checks_table(CHECKS.values()).loc["darkness", "question"] == "Are most images dark?"
    with pytest.raises(ValueError, match="known: .*coverage, darkness"): audit(manifest, root, only=["sizes"])


def test_a_run_and_the_audit_of_one_folder_judge_the_file_facts_alike(tmp_path):
    from fakeface.audit.shortcuts import baseline_words, highest, measure_baselines
    from fakeface.experiments.plan import own_folder
    rng = np.random.default_rng(0)
    for label, noise in (("real", 10), ("fake", 40)): # as a generator's trace does, noise takes bytes
        (tmp_path/"faces"/label).mkdir(parents=True)
        for i in range(150):
            pixels = rng.normal(128, noise, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path/"faces"/label/f"{i}.jpg", quality=90)
    manifest = own_folder(tmp_path/"faces")[1].manifest
    checks = audit(manifest, tmp_path/"faces", only=["file-facts", "coverage"], workers=1).checks
    facts = checks["file-facts"]
    assert (facts["verdict"], facts["figure"]) == ("pass", 0.5)
    assert "Bytes per pixel added, which do not decide here, give AUC 1.000" in facts["why"]
    assert "harder compression of one class does the same. To find out, save both classes once more at one quality" in facts["why"]
    run = measure_baselines(manifest, tmp_path/"faces")["test"]
    assert run["file-facts"]["auc"] == 0.5 and run["file-facts"]["with_bytes"]["auc"] > 0.9
    assert highest(run)[0] != "file-facts" and "file facts without bytes per pixel" in baseline_words(run)
    assert (checks["coverage"]["verdict"], "counterpart" in checks["coverage"]["why"]) == ("not measured", False)


def test_every_step_of_an_audit_that_takes_long_is_named(injected, own_cache, monkeypatch, caplog):
    manifest, root = injected[1], injected[0]
    monkeypatch.setattr("fakeface.core.basics._is_watched", lambda log: False)
    monkeypatch.setattr("fakeface.core.basics._SOON", -1) # any part of a bar is late
    monkeypatch.setattr("fakeface.audit.audit.slow_step", partial(basics.slow_step, after=0))
    monkeypatch.setattr("fakeface.audit.shortcut_checks.slow_step", partial(basics.slow_step, after=0))
    with caplog.at_level("INFO", logger="fakeface"): audit(manifest, root, workers=1)
    steps = "\n".join(r.getMessage() for r in caplog.records)
    for step in ("looking for duplicates", "measuring the shortcut thumbnail", "finding faces", "checking labels", "checking coverage"):
        assert step in steps, step


def test_what_an_audit_leaves_out_is_named_with_its_reason_and_is_not_called_unreadable(tmp_path):
    for i, name in enumerate(("real/0.png", "real/1.png", "fake/0.png", "odd/0.png", "odd/1.png")):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path/name)
    (tmp_path/"fake"/"x.jpg").write_bytes(b"no picture")
    found = audit(tmp_path, faces=0, only=["size"])
    assert found.rejected == 3 and json.loads(found.to_json())["left_out"] == found.left_out
    assert "2 files: in no folder called real or fake, such as odd/0.png" in summary(found)[0]
    assert "fake/x.jpg: not an image" in summary(found)[0]
    listed = found.manifest[["path", "label"]]
    (tmp_path/"real"/"1.png").write_bytes(b"")
    assert "real/1.png: empty (0 bytes)" in summary(audit(listed, tmp_path, faces=0, only=["size"]))[0]


def test_a_single_name_among_files_is_no_pass_and_a_pass_says_of_how_many_nobody_is_known():
    paths = [f"real/{i}.jpg" for i in range(8)] + ["real/old logo.jpg"]
    manifest = pd.DataFrame(dict(path=paths, split="all", label="real", source="real", subject=paths))
    assert check_subjects(manifest, True)["verdict"] == "not measured"
    named = manifest.assign(subject=[*paths[:7], "real/Ada Lovelace.jpg", "lfw/Alan_Turing"])
    assert check_subjects(named, True)["why"] == "No name stands under two subjects; who is in 7 of the 9 images nobody says."
    twice = manifest.assign(subject=[*paths[:7], "real/Alan Turing.jpg", "lfw/Alan_Turing"])
    assert check_subjects(twice, True)["figure"] == 1 # the suffix is no part of a name


def test_a_table_with_other_columns_and_numbers_for_labels_is_audited_by_the_map_that_the_message_names(tmp_path, capsys):
    for i, name in enumerate("abcd"):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path/f"{name}.png")
    (tmp_path/"train.csv").write_text("id,label,file\n0,1,a.png\n1,1,b.png\n2,0,c.png\n3,0,d.png\n")
    line = ["audit", str(tmp_path/"train.csv"), "--root", str(tmp_path), "--sample-faces", "0", "--only", "size", "--json"]
    assert main(line) == 2 and "--map path=THEIRS" in capsys.readouterr().err
    assert main([*line, "--map", "path=file"]) == 2 and "--map real=0,fake=1" in capsys.readouterr().err
    assert main([*line, "--map", "path=file,real=1,fake=0"]) == 0 and json.loads(capsys.readouterr().out)["images"] == 4
    assert main(["audit", str(tmp_path), "--map", "path=file"]) == 2 and "is a folder; --map says" in capsys.readouterr().err


@pytest.mark.parametrize("extra, reason", [("notes.csv", "notes.csv: not read (.csv)"),
                                           ("real/empty.jpg", "real/empty.jpg: empty (0 bytes)"),
                                           ("cats/a.png", "cats/a.png: in no folder called real or fake")])
def test_the_summary_says_why_files_are_left_out(extra, reason, tmp_path):
    rng = np.random.default_rng(0)
    for name in (f"{label}/{k}.png" for label in ("real", "fake") for k in range(6)):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path/name)
    (tmp_path/extra).parent.mkdir(exist_ok=True)
    (tmp_path/extra).write_bytes((tmp_path/"real/0.png").read_bytes() if extra.endswith("png") else b"")
    done = audit(tmp_path, faces=0, workers=1, only=("size",))
    assert done.rejected == 1 and f"12 images, 6 real and 6 fake, from 2 sources. Left out: {reason}" in summary(done)[0]
