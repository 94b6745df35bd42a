"Many images: shards and their parts, a process that is killed in the middle, and the workers of a cluster, one of whom is killed."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fakeface.cli.main import main
from fakeface.core.shards import PLAN, Shard, merge_parts
from fakeface.evaluate.many import list_images

pytestmark = pytest.mark.usefixtures("own_cache")
DETECTOR = '''"A detector that writes down whom it was asked about, and takes its time."
import os, time
import numpy as np
def bright(images):
    time.sleep(float(os.environ.get("PACE", 0)))
    with open(os.environ["ASKED"], "a") as f: f.write("".join(f"{np.asarray(i.convert('L')).ravel()[0]}\\n" for i in images))
    return [float(np.asarray(i.convert("L")).mean()) / 255 for i in images]
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "Eighty pictures, each of its own grey, and a detector."
    for k in range(80):
        file = tmp_path/"faces"/("real", "fake")[k % 2]/f"{k:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 3 * k).save(file)
    (tmp_path/"brightness.py").write_text(DETECTOR)
    monkeypatch.setenv("ASKED", str(tmp_path/"asked"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def command(home: Path, *more: object) -> list[str]:
    given = ("--detector", "brightness:bright", "--batch", 2, "--part", 5, "--parts", home/"parts")
    return [*map(str, ("score", home/"faces", *given, *more))]


def merged(home: Path) -> pd.DataFrame:
    assert main(["merge", str(home/"parts"), "--out", str(home/"all.parquet"), "--quiet"]) == 0
    return pd.read_parquet(home/"all.parquet")


@pytest.fixture
def in_one_piece(home: Path) -> pd.DataFrame:
    "What one process says that writes no parts."
    out = home/"one.parquet"
    assert main(["score", str(home/"faces"), "--detector", "brightness:bright", "--batch", "2", "--save", str(out), "--quiet"]) == 0
    (home/"asked").unlink()
    return pd.read_parquet(out)


def same(table: pd.DataFrame, one: pd.DataFrame) -> bool:
    "Whether both have the same rows in the same order, to the last bit."
    columns = ["path", "label", "split", "source", "p_fake", "loss", "run"]
    return len(table) == 80 and table[columns].astype(object).equals(one[columns].astype(object))


def test_shards_give_the_table_of_one_process(home: Path, in_one_piece: pd.DataFrame) -> None:
    for i in (3, 1, 2): assert main(command(home, "--shard", f"{i}/3", "--quiet")) == 0
    assert same(merged(home), in_one_piece)


def test_a_shard_that_is_killed_goes_on_where_it_was(home: Path, in_one_piece: pd.DataFrame) -> None:
    start, env = ["-m", "fakeface.cli.main", *command(home)], {**os.environ, "PACE": "0.05"}
    process = forked.Popen(start, env=env, stdout=forked.DEVNULL, stderr=forked.DEVNULL)
    while len(done := list((home/"parts").glob("*/part-*.parquet"))) < 3 and process.poll() is None: time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    done = {p.name: p.stat().st_mtime_ns for p in (home/"parts").glob("*/part-*.parquet")}
    assert 3 <= len(done) < 16
    assert main(command(home, "--quiet")) == 0
    assert same(merged(home), in_one_piece)
    now = {p.name: p.stat().st_mtime_ns for p in (home/"parts").glob("*/part-*.parquet")}
    assert all(now[name] == when for name, when in done.items()) # finished parts were not done again
    asked = pd.Series((home/"asked").read_text().split()).value_counts()
    assert len(asked) == 80 and (asked > 1).sum() <= 5 # at most the images of one part were asked about twice
    assert not [p for p in (home/"parts").rglob(".*") if "partial" in p.name]


def test_a_merge_refuses_gaps_doubles_and_other_detectors(home: Path, capsys: pytest.CaptureFixture) -> None:
    for i in (1, 3): assert main(command(home, "--shard", f"{i}/3", "--quiet")) == 0
    merge = ["merge", str(home/"parts"), "--out", str(home/"all.csv")]
    def refused(why: str) -> None:
        assert main(merge) == 2
        assert why in capsys.readouterr().err
        assert not (home/"all.csv").exists()
    refused("2 of 3 shards is missing; run them with --shard 2/3")
    assert main([*command(home, "--shard", "2/3", "--quiet"), "--flip"]) == 0
    refused("do not belong together: flip was False, and is True")
    for file in (home/"parts/shard-00002-of-00003").iterdir(): file.unlink()
    Image.new("L", (4, 4), 7).save(home/"faces/real/new.png")
    assert main(command(home, "--shard", "2/3", "--quiet")) == 0
    refused("the lists of images differ (80 and 81 images)")
    (home/"faces/real/new.png").unlink()
    assert main(command(home, "--shard", "2/3", "--quiet")) == 2
    for file in (home/"parts/shard-00002-of-00003").iterdir(): file.unlink()
    assert main(command(home, "--shard", "2/3", "--quiet")) == 0
    parts = sorted((home/"parts/shard-00002-of-00003").glob("part-*"))
    kept = parts[1].read_bytes()
    parts[1].write_bytes(parts[0].read_bytes())
    refused("remove the shards and begin anew")
    parts[1].write_bytes(kept)
    assert main([*merge, "--quiet"]) == 0


def test_a_table_that_is_corrected_between_two_shards_is_not_mixed(home: Path, capsys: pytest.CaptureFixture) -> None:
    table = pd.DataFrame({"path": [f"{('real', 'fake')[k % 2]}/{k:03d}.png" for k in range(80)], "label": ["real", "fake"] * 40})
    def score(*more: str) -> int:
        return main(["score", str(home/"list.csv"), "--root", str(home/"faces"), *command(home, *more, "--quiet")[2:]])
    table.to_csv(home/"list.csv", index=False)
    assert score("--shard", "1/2") == 0
    table.assign(label="real").to_csv(home/"list.csv", index=False)
    capsys.readouterr()
    assert score("--shard", "1/2") == 2
    assert "shard-00001-of-00002: the lists have the same images and differ in label" in capsys.readouterr().err
    assert score("--shard", "2/2") == 0
    merge = ["merge", str(home/"parts"), "--out", str(home/"all.csv")]
    assert main(merge) == 2 and "do not belong together: the lists have the same images and differ in label" in capsys.readouterr().err
    for plan in home.glob(f"parts/*/{PLAN}"): # of an earlier version, which has not noted it
        plan.write_text(json.dumps({k: v for k, v in json.loads(plan.read_text()).items() if k != "known"}))
    assert main(merge) == 0 and score("--shard", "2/2") == 0


def test_two_processes_are_not_at_the_same_shard(home: Path, capsys: pytest.CaptureFixture) -> None:
    from fakeface.core.files import Claim
    with Claim(home/"parts/shard-00001-of-00002", inside=True):
        process = forked.run(["-m", "fakeface.cli.main", *command(home, "--shard", "1/2")], capture_output=True, text=True)
    assert process.returncode == 2 and "another process is writing there" in process.stderr


def test_a_broken_file_costs_its_row_and_is_named(home: Path, capsys: pytest.CaptureFixture) -> None:
    (home/"faces/fake/001.png").write_bytes(b"no picture")
    assert main(command(home, "--quiet")) == 0
    assert len(merged(home)) == 79
    assert "fake/001.png" in capsys.readouterr().out


def test_options_that_do_not_go_together_are_refused(home: Path, capsys: pytest.CaptureFixture) -> None:
    for more, why in ((["--shard", "0/3"], "give I/N"), (["--shard", "x"], "give I/N"), (["--sample", "3"], "--sample and --parts"),
                      (["--shard", "1/2", "--cluster", "x"], "give one of them"), (["--cluster", "nobody"], "--cluster")):
        assert main(command(home, *more)) == 2
        assert why in capsys.readouterr().err
    assert main(["score", str(home/"faces"), "--detector", "brightness:bright", "--shard", "1/2"]) == 2
    assert "give --parts FOLDER" in capsys.readouterr().err


def test_a_million_paths_are_dealt_evenly_and_quickly() -> None:
    paths = [f"faces/{k:07d}.jpg" for k in range(200_000)]
    start = time.process_time()
    sizes = [int(Shard(i, 16).takes(paths).sum()) for i in (1, 8, 16)]
    assert time.process_time() - start < 10
    assert all(12_000 < n < 13_000 for n in sizes) # 12,500 and four standard deviations


def test_two_workers_of_a_cluster_one_of_them_killed_give_the_table_of_one_process(home: Path, in_one_piece: pd.DataFrame,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra scale is not installed")
    from fakeface.serve.cluster import write_on_cluster
    from fakeface.serve.many import Question
    rows, root = list_images(home/"faces")
    question = Question("score", str(root), detector="brightness:bright", batch=2)
    monkeypatch.setenv("PACE", "0.05")
    kind = dict(threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None)
    with distributed.LocalCluster(2, **kind) as cluster, distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        killer = subprocess.Popen([sys.executable, "-c", KILLER, str(home/"parts"), str(next(iter(pids.values())))])
        plan, had = write_on_cluster(client, rows, question, home/"parts", 5)
        assert killer.wait(30) == 0 # it was killed while parts were missing
        after = client.run(os.getpid)
    assert (plan.parts, had) == (16, 0) and set(after.values()) != set(pids.values())
    assert same(merged(home), in_one_piece)
    assert set(pd.Series((home/"asked").read_text().split()).astype(int)) == {3 * k for k in range(80)}


KILLER = '''
import os, signal, sys, time
from pathlib import Path
count = lambda: len(list(Path(sys.argv[1]).glob("*/part-*.parquet")))
while count() < 3: time.sleep(.005)
os.kill(int(sys.argv[2]), signal.SIGKILL)
sys.exit(0 if count() < 16 else 1)
'''


def test_faces_keep_their_rows_in_order(tmp_path: Path) -> None:
    "As `predict` writes them: several rows an image."
    from fakeface.core.shards import write_shard
    listing = pd.DataFrame({"path": [f"{k}.jpg" for k in range(60)]})
    def faces(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.loc[rows.index.repeat(np.where(rows["row"] % 4 == 0, 3, 1))].reset_index(drop=True)
    for i in range(1, 6): write_shard(listing, Shard(i, 5), "predict", {}, tmp_path/"parts", faces, 3)
    merge_parts(tmp_path/"parts", tmp_path/"all.parquet")
    expected = [f"{k}.jpg" for k in range(60) for _ in range(3 if k % 4 == 0 else 1)]
    assert pd.read_parquet(tmp_path/"all.parquet")["path"].tolist() == expected
    assert len(list((tmp_path/"parts").glob(f"*/{PLAN}"))) == 5


def test_a_data_root_that_is_the_working_directory_is_one(tmp_path, monkeypatch):
    from fakeface.cli import predict
    asked = []
    monkeypatch.setattr(predict, "write_parts", lambda many, listing, question, output: asked.append(question))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    Image.new("RGB", (8, 8)).save("a.png")
    for more in (["--root", "."], []): assert main(["predict", "a.png", "--model", "run", "--parts", "parts", *more]) == 0
    assert [q.root for q in asked] == [".", None]
    monkeypatch.setattr("fakeface.serve.many._is_run", lambda model: True)
    monkeypatch.setattr("fakeface.serve.many.fingerprint_of", lambda model: "")
    assert [q.asked()["measured"] for q in asked] == [True, False]
