"Twins: a killed command goes on where it was, the pair stays one subject wherever the folder is read, the door executes what it was given."
import os
import signal
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fakeface.cli.main import main
from fakeface.core.basics import DataNote, InputError
from fakeface.data.manifest import labelled_folder, scan
from fakeface.data.recipes import compose, read_recipe
from fakeface.data.twins import make_twins

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("own_cache")


SLOW = """import time
from PIL import ImageOps

def mirror(image):
    time.sleep(0.05)
    if image.filename.endswith("7.jpg"): raise ValueError("seven")
    return ImageOps.mirror(image)
"""


@pytest.fixture
def faces(tmp_path):
    "A data root with FairFace in its layout: 16 photographs of noise."
    rng, root = np.random.default_rng(0), tmp_path/"faces"
    for i in range(1, 17):
        (file := root/"fairface"/("train" if i < 13 else "val")/f"{i}.jpg").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(file, quality=85)
    head = "file,age,gender,race\n"
    for split, some in (("train", range(1, 13)), ("val", range(13, 17))):
        rows = [f"{split}/{i}.jpg,20-29,{'Male' if i % 2 else 'Female'},White" for i in some]
        (root/"fairface"/f"fairface_label_{split}.csv").write_text(head + "\n".join(rows))
    return root


def files(folder: Path) -> dict[str, bytes]:
    "Everything in a folder, hidden files too, but for where it lies."
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes().replace(folder.name.encode(), b"NAME") for p in found}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_and_resumed_gives_the_same_folder_as_an_unbroken_one(faces, tmp_path):
    (tmp_path/"slow.py").write_text(SLOW)
    code = f"import fakeface.data.twins as t; t.make_twins('fairface', 'slow:mirror', {str(faces/'broken')!r}, {str(faces)!r})"
    env, killed = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}, 0
    for _ in range(3):
        had = len(list((faces/"broken").glob("fake/*/*.jpg")))
        process = forked.Popen(["-c", code], cwd=tmp_path, env=env, stderr=forked.DEVNULL)
        until = time.time() + 60
        while process.poll() is None and time.time() < until and len(list((faces/"broken").glob("fake/*/*.jpg"))) < had + 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 3 and not (faces/"broken"/"pairs.csv").exists()
    for name in ("broken", "whole"):
        forked.run(["-c", code.replace("/broken'", f"/{name}'")], cwd=tmp_path, env=env, check=True)
    assert files(faces/"broken") == files(faces/"whole")
    assert len(list((faces/"whole").glob("fake/*/*.jpg"))) == 15
    listed = (faces/"whole"/"rejects.csv").read_text().splitlines()[1:]
    assert listed == ["fairface/train/7.jpg,fairface,the generator failed: ValueError: seven"]


def test_a_pair_is_one_subject_wherever_the_folder_is_read_and_keeps_what_is_known_of_the_person(faces):
    out = make_twins("fairface", "PIL.ImageOps:mirror", faces/"fairface_psp_twins", faces).folder
    found = scan(faces, ["fairface_psp_twins", "fairface"]).images
    pairs = found[found["source"] == "fairface_psp_twins"]
    assert set(pairs.groupby("subject")["label"].agg(lambda labels: "+".join(sorted(labels)))) == {"fake+real"}
    assert set(pairs["subject"]) == set(found.loc[found["source"] == "fairface", "subject"])
    assert pairs["gender"].value_counts().to_dict() == {"male": 16, "female": 16}
    assert set(labelled_folder(out).images["subject"]) == set(pairs["subject"])
    manifest = compose(read_recipe("kyllo-twins"), scan(faces, ["fairface_psp_twins"])).manifest
    assert manifest.groupby("subject")["split"].nunique().max() == 1 and set(manifest["label"]) == {"real", "fake"}


def test_the_folder_renamed_is_still_a_source(faces):
    make_twins("fairface", "PIL.ImageOps:mirror", faces/"twins", faces).folder.rename(faces/"renamed")
    assert scan(faces, ["renamed"]).images["subject"].nunique() == 16


def test_the_command_line_makes_lists_and_refuses(faces, tmp_path, capsys):
    line = ["twins", "fairface", "--root", str(faces), "--out", str(faces/"t"), "--generator"]
    assert main([*line, "PIL.ImageOps:mirror", "--shard", "1/2"]) == 0 and main([*line, "PIL.ImageOps:mirror", "--shard", "2/2", "-q"]) == 0
    assert "16 pairs" in capsys.readouterr().out
    assert main([*line, "PIL.ImageOps:flip"]) == 2 and "another call" in capsys.readouterr().err
    assert main(["twins", str(tmp_path/"none"), "--out", str(tmp_path/"o"), "--generator", "a {in} {out}"]) == 2
    assert not (tmp_path/"o").exists()


def test_the_words_of_a_command_are_arguments_and_no_shell_reads_them(faces, tmp_path):
    code = ("import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2]); "
            "open(sys.argv[3], 'w').write('\\n'.join(sys.argv[3:]))")
    told = tmp_path/"told; touch x"
    make_twins("fairface", f"{sys.executable} -c \"{code}\" {{in}} {{out}} '{told}' '$HOME' '`id`' ';'", faces/"t", faces)
    assert told.read_text().splitlines() == [str(told), "$HOME", "`id`", ";"]


def test_of_a_folder_with_real_and_fake_in_it_no_fake_is_taken_for_a_photograph(tmp_path):
    for i, name in enumerate(("real/a.png", "real/b.png", "fake/a.png", "odd/c.png")):
        (tmp_path/"mine"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path/"mine"/name)
    with pytest.warns(DataNote, match="2 pictures in no folder called real are no photographs"):
        make_twins(str(tmp_path/"mine"), "PIL.ImageOps:mirror", tmp_path/"pairs")
    assert sorted(pd.read_csv(tmp_path/"pairs"/"pairs.csv").original) == ["real/a.png", "real/b.png"]


def test_a_quality_of_0_is_refused_and_not_taken_for_none(faces, tmp_path):
    with pytest.raises(InputError, match="quality is 0; give 1 to 100"):
        make_twins("fairface", "PIL.ImageOps:mirror", tmp_path/"pairs", faces, quality=0)


def test_a_generator_may_return_a_mode_that_png_has_not(faces, tmp_path, monkeypatch):
    (tmp_path/"modes.py").write_text("def cmyk(i): return i.convert('CMYK')\ndef floats(i): return i.convert('F')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert make_twins("fairface", "modes:cmyk", tmp_path/"pairs", faces).pairs == 16
    with pytest.raises(InputError, match="no pair could be made .* floating-point pixels"):
        make_twins("fairface", "modes:floats", tmp_path/"none", faces)
