"Several processes train one network: what they make is what one process makes, and all end when one does. gloo, on CPUs."
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback

from fakeface.cli.main import main
from fakeface.core.files import FILES, run_file
from fakeface.experiments import run as experiments
from fakeface.synthetic.world import build_world
from fakeface.train.distributed import Shard
from fakeface.train.learners import StopDiverged
from fakeface.train.runs import Run

pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")]
# no batch norm, nothing random: the same arithmetic
PLAIN = ("--size", 32, "--augment", "none", "--model", "two_conv(dropout=0)", "--precision", "32")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("root") / "world", images=250, workers=1)


def environment(rank: int, port: int, world: int = 2) -> dict[str, str]:
    "What torchrun says to a process."
    return dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def make_light(runs: object) -> None:
    "Leaves out what a run does besides training and predicting."
    runs.write_report, runs.measure_baselines = lambda *args: None, lambda *args: {}


def in_two(do: Callable[[int], int | None], folder: Path, seconds: float = 60) -> list[tuple[int, str, str]]: # exit code, output, errors
    "Calls `do` with its rank in two forked processes, so that nothing is imported again."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children, began = [], time.monotonic()
    for rank in range(2):
        if child := os.fork():
            children.append(child)
            continue
        code = 99
        try:
            os.environ |= environment(rank, port)
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            sys.__stderr__ = sys.stderr
            torch.set_num_threads(1)
            make_light(experiments)
            code = do(rank) or 0
        finally:
            with suppress(Exception): sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    codes = {}
    while len(codes) < 2 and time.monotonic() - began < seconds:
        for child in set(children) - set(codes):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid: codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    for child in set(children) - set(codes):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(codes) == 2, f"not at an end after {seconds} s: {[(folder / f'err-{r}').read_text() for r in range(2)]}"
    return [(codes[c], (folder / f"out-{r}").read_text(), (folder / f"err-{r}").read_text()) for r, c in enumerate(children)]


def run(*args: object) -> int:
    "`fakeface run man-2-test` in this process."
    return main(["run", "man-2-test", *map(str, args)])


@pytest.fixture(scope="module")
def one(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    "One process with the effective batch of two."
    out = tmp_path_factory.mktemp("one") / "run"
    with pytest.MonkeyPatch.context() as light:
        light.setattr(experiments, "write_report", lambda *args: None)
        assert run("--root", world, "--out", out, "--epochs", 2, "--batch-size", 24, "-q", *PLAIN) == 0
    return Run(out)


# --- what two processes make ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def two(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, subprocess.CompletedProcess]:
    "Two processes of torchrun."
    out = tmp_path_factory.mktemp("two") / "run"
    args = ["run", "man-2-test", "--root", world, "--out", out, "--epochs", 2, "--batch-size", 12, *PLAIN, "--json"]
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fakeface",
                           *map(str, args)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return Run(out), done


def test_two_processes_learn_what_one_learns_with_their_effective_batch(one, two):
    run, _ = two
    assert run.predictions.path.tolist() == one.predictions.path.tolist() and run.predictions.path.is_unique
    assert len(run.predictions) % 2 or len(run.predictions) % 24  # the parts are not even
    assert (run.predictions.p_fake - one.predictions.p_fake).abs().max() < 1e-5
    assert one.predictions.p_fake.std() > 1e-3  # something was learnt that could differ
    for column in ("train_loss", "valid_loss", "accuracy"):  # of all validation images, not of rank 0's share
        assert run.history[column].tolist() == pytest.approx(one.history[column].tolist(), abs=1e-5)


def test_a_run_says_how_many_processes_trained_it_and_only_the_first_speaks(one, two):
    run, done = two
    assert run.info["distributed"] == dict(processes=2, machines=1, batch_size=12, effective_batch=24, backend="gloo", sync_bn=False)
    assert "distributed" not in one.info
    assert json.loads(done.stdout)["metrics"]["tests"]["celeba"]["n"] == run.metrics["tests"]["celeba"]["n"]  # one document
    assert done.stderr.count("effective batch 24") == 1 and "learning rate stays" in done.stderr
    assert {p.name for p in run.folder.iterdir()} == {*FILES.values()} - {FILES["epochs"], FILES["precision"]}
    ledger = (run.folder.parent / "test_use.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["test"] for line in ledger) == ["celeba", "ffhq"]


class Spy(Callback):
    "Writes down, in each process, the parameters before and after the training, and one random number of it."
    order = 100

    def __init__(self, folder: Path, rank: int):
        self.folder, self.rank, self.told = folder, rank, {}

    def note(self, when: str) -> None:
        net = getattr(self.learn.model, "module", self.learn.model)
        self.told.setdefault(when, {k: v.detach().clone() for k, v in net.state_dict().items()})

    def before_fit(self) -> None: self.note("before")
    def before_batch(self) -> None: self.told.setdefault("random", torch.rand(3))
    def after_fit(self) -> None:
        if hasattr(self.learn, "gather_preds"): return  # predicting is no training
        self.told.pop("after", None)
        self.note("after")
        torch.save(self.told, self.folder / f"{self.rank}.pt")


def test_parameters_are_the_same_in_both_and_random_numbers_are_not_and_each_row_is_as_one_process_would_predict_it(world, tmp_path):
    def train(rank: int) -> None:
        experiments.run_recipe("man-2-test", world, tmp_path / "run", epochs=1, size=32, batch_size=20, augment="flip", progress=False,
                               cbs=[Spy(tmp_path, rank)])
    told = in_two(train, tmp_path)
    assert [code for code, *_ in told] == [0, 0], told
    a, b = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for when in ("before", "after"):
        assert all(torch.equal(a[when][k], b[when][k]) for k in a[when] if "running" not in k)
    assert not all(torch.equal(a["before"][k], a["after"][k]) for k in a["before"])
    assert not torch.equal(a["random"], b["random"])
    made = Run(tmp_path / "run", world)
    alone = experiments.predict(experiments.load_run_model(made.folder, world), made.manifest[made.manifest.split != "train"], "run", world)
    pd.testing.assert_series_equal(made.predictions.set_index("path").p_fake, alone.set_index("path").p_fake, check_exact=True)


def test_an_image_that_breaks_in_one_process_is_left_out_and_the_other_waits_for_nothing(world, tmp_path):
    gone, plain = [], Shard.create_batches
    def train(rank: int) -> None:
        def breaking(shard, samps):  # the first image that rank 1 trains on is gone from then on
            samps = list(samps)
            if rank and not gone:
                gone.append(str(shard.dataset.items.iloc[samps[0]]["path"]))
                (world / gone[0]).rename(tmp_path / "gone")
                (tmp_path / "name").write_text(gone[0])
            return plain(shard, samps)
        Shard.create_batches = breaking
        experiments.run_recipe("man-2-test", world, tmp_path / "run", epochs=1, size=32, batch_size=20, progress=False)
    try:
        told = in_two(train, tmp_path)
        name = (tmp_path / "name").read_text()
    finally: (tmp_path / "gone").rename(world / (tmp_path / "name").read_text())
    assert [code for code, *_ in told] == [0, 0], told
    made = Run(tmp_path / "run")
    assert name in set(made.rejects.path) and name not in set(made.manifest.path) and made.metrics["lost"] == 1


# --- when one ends, all end -------------------------------------------------------------------------------------------

def ended(told: list[tuple[int, str, str]]) -> str: # the one line
    "What the processes said when they ended: one line, in one of them."
    said = "".join(err for *_, err in told)
    lines = [line for line in said.splitlines() if line.startswith("fakeface: ")]  # torch's own log is not ours
    assert len(lines) == 1 and "Traceback" not in said, said
    return lines[0]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_in_one_line_and_the_same_command_goes_on_to_the_same_bits(victim, two, world, tmp_path):
    args = ("--root", world, "--out", tmp_path / "runs" / "run", "--epochs", 2, "--batch-size", 12, *PLAIN)
    def train(rank: int) -> int:
        plain = StopDiverged.after_batch
        def killing(self):
            if rank == victim and self.learn.epoch == 1 and self.iter == 2 and not (tmp_path / "again").exists(): os.kill(os.getpid(), 9)
            return plain(self)
        StopDiverged.after_batch = killing
        return run(*args)
    began = time.monotonic()
    told = in_two(train, tmp_path)
    assert told[victim][0] == -signal.SIGKILL and told[1 - victim][0] == 2
    assert time.monotonic() - began < 45
    assert re.fullmatch(rf"fakeface: process {victim} of 2 \(on .*\) ended without a word: .* starts again.*", ended(told))
    assert not (tmp_path / "runs" / "run").exists()
    (tmp_path / "again").touch()
    told = in_two(train, tmp_path)
    assert [code for code, *_ in told] == [0, 0] and "goes on from epoch 2 of 2" in told[0][2], told
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["index.html", "run", "test_use.jsonl"]
    pd.testing.assert_frame_equal(Run(tmp_path / "runs" / "run").predictions, two[0].predictions, check_exact=True)


def test_an_error_of_the_first_process_before_the_training_ends_both_with_its_line_and_exit_code(world, tmp_path):
    for args, says in ((["--model", "huge"], "use one of small"), (["--epoch", "3"], "No such option: --epoch"),
                       (["--seeds", "2"], "start without torchrun")):
        told = in_two(lambda rank, args=args: run("--root", world, "--out", tmp_path / "run", *args), tmp_path)
        assert [code for code, *_ in told] == [2, 2]
        assert says in ended(told) and ended(told) in told[0][2]
        assert not (tmp_path / "run").exists()


def test_an_error_of_another_process_is_said_by_it_and_ends_both(world, tmp_path):
    def train(rank: int) -> int:
        if rank: experiments.face_dataloaders = lambda *args, **kwargs: 1 / 0
        return run("--root", world, "--out", tmp_path / "run", "-q")
    told = in_two(train, tmp_path)
    assert [code for code, *_ in told] == [70, 70]
    assert "process 1 of 2" in ended(told) and "ZeroDivisionError" in told[1][2]
    assert list(tmp_path.glob("*run*")) == []


def test_a_command_that_works_in_one_process_says_so(tmp_path):
    told = in_two(lambda rank: main(["recipes"]), tmp_path)
    assert [code for code, *_ in told] == [2, 2] and "`fakeface recipes` works in one process" in ended(told)


def test_a_finished_training_is_predicted_by_the_first_process_alone(world, tmp_path):
    args = dict(epochs=1, size=32, batch_size=20, progress=False)
    def train(rank: int) -> None:
        if rank == 0 and not (tmp_path / "again").exists(): experiments.write_report = experiments.score_predictions = lambda *a: 1 / 0
        with suppress(ZeroDivisionError, ValueError): experiments.run_recipe("man-2-test", world, tmp_path / "run", **args)
    assert [code for code, *_ in in_two(train, tmp_path)] == [0, 0]
    (kept,) = tmp_path.glob(".run.partial-*")
    weights = run_file(kept, "weights").read_bytes()
    (tmp_path / "again").touch()
    assert [code for code, *_ in in_two(train, tmp_path)] == [0, 0]
    assert Run(tmp_path / "run").file("weights").read_bytes() == weights


def test_a_probe_of_two_processes_is_that_of_one_and_says_that_no_batch_grew(world, tmp_path):
    probe = ("--root", world, "--size", 32, "--model", "probe", "--arch", "resnet18", "--no-pretrained", "--augment", "matched",
             "--history", "48:75", "--epochs", 1, "--batch-size", 16)
    with pytest.MonkeyPatch.context() as light:
        light.setattr(experiments, "write_report", lambda *args: None)
        assert run("--out", tmp_path / "one", "-q", *probe) == 0
    ends = in_two(lambda rank: run("--out", tmp_path / "two", *probe), tmp_path, 240)
    assert [code for code, *_ in ends] == [0, 0], ends
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    assert two.predictions.path.tolist() == one.predictions.path.tolist()
    assert (two.predictions.p_fake - one.predictions.p_fake).abs().max() < 1e-6 and one.predictions.p_fake.std() > 1e-3
    assert two.info["distributed"] == dict(processes=2, machines=1, batch_size=16, backend="gloo")
    assert "fits the same head" in ends[0][2] and "effective batch" not in ends[0][2]
