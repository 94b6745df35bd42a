"What is found below a data root, what is not used and why, what label files give, and how long the facts of a file hold."
import hashlib
import os
import socket
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fakeface.data.manifest as manifest
from fakeface.audit.evidence import read_audited
from fakeface.core.basics import DataNote, InputError
from fakeface.core.files import write_table
from fakeface.data.manifest import folder_images, read_facts, scan
from fakeface.data.recipes import Part, Recipe, RecipeError, compose
from fakeface.data.sources import find_files, read_cards, sources_table


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path, seed=0, kind=None):
    "A small image of noise."
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(file, kind or "JPEG")
    return path


def told(call):
    "What a call returns, and its notes."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call()
    return value, [str(w.message) for w in caught if issubclass(w.category, DataNote)]


# --- found and not used -----------------------------------------------------------------------------------------------

def test_every_file_with_an_images_suffix_is_used_or_rejected_by_name(tmp_path):
    (tmp_path / "fakeface.yaml").write_text("sources:\n  mine: {folder: mine, kind: generated}\n")
    for i, name in enumerate(["a.JPG", "b.jfif", "c.jpe", "d.mpo", "e.heic", "f.jp2", "g.ppm"]):
        picture(tmp_path / "mine" / name, i)
    (tmp_path / "mine" / "notes.txt").touch()
    images, rejects = scan(tmp_path, ["mine"])
    assert images.path.tolist() == ["mine/a.JPG", "mine/b.jfif", "mine/c.jpe", "mine/d.mpo"]
    assert rejects.path.tolist() == ["mine/e.heic", "mine/f.jp2", "mine/g.ppm"] and rejects.reason.str.contains("not read here").all()


@pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and odd names")
def test_one_odd_file_is_a_reject_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "utkface" / "UTKFace"
    picture(folder / "1_0_0_20170109000000001.jpg")
    os.mkfifo(folder / "pipe.jpg")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(folder / "s.jpg"))
    server.close()
    for name, target in (("dangling.jpg", "nowhere.jpg"), ("loop.jpg", "loop.jpg"), ("device.jpg", os.devnull)):
        (folder / name).symlink_to(target)
    (folder / "folder.jpg").mkdir()
    os.rename(picture(folder / "x.jpg", 1), os.fsencode(folder) + b"/Jos\xe9.jpg")
    os.makedirs(os.fsencode(folder) + b"/\xff")
    picture(folder / ("n" * 240 + ".jpg"), 2)
    images, rejects = scan(tmp_path)
    assert len(images) == 2
    names = {"pipe.jpg", "s.jpg", "dangling.jpg", "loop.jpg", "device.jpg", "folder.jpg", "Jos\\xe9.jpg"}
    assert set(rejects.path.str.rpartition("/")[2]) == names
    assert "UTF-8" in rejects.set_index("path").reason["utkface/UTKFace/Jos\\xe9.jpg"]
    for name in ("r.csv", "r.parquet"):  # every writer takes them
        write_table(rejects, tmp_path / name)


@pytest.mark.parametrize("make, what", [
    ("celeba/celeba/img_align_celeba/000001.jpg", "celeba/img_align_celeba/000001.jpg"), ("celeba/img_align_celeba_png/000001.png", "png"),
    ("utkface/part1/26_0_2_20170104023102422.jpg", "part1/26_0"), ("lfw", "holds no image file")])
def test_a_known_dataset_without_a_known_layout_is_named_and_never_called_absent(make, what, tmp_path):
    (picture(tmp_path / make) if "." in make else (tmp_path / make).mkdir())
    name = make.partition("/")[0]
    found, notes = told(lambda: scan(tmp_path))
    assert not len(found.images) and found.rejects.source.tolist() == [name]
    assert what in found.rejects.reason[0] and "looked for" in found.rejects.reason[0]
    assert len(notes) == 1 and name in notes[0]
    assert "looked for" in sources_table(tmp_path).note[name]
    recipe = Recipe("r", "r", [Part(name, 2), Part("1m_fake_faces", 2)], {"test": [Part(name, 1)]}, {"small": {}})
    with pytest.raises(RecipeError, match=f"absent under the data root: 1m_fake_faces.*{name} is there and cannot be used"):
        compose(recipe, found)


def test_a_class_without_an_image_is_named(tmp_path):
    picture(tmp_path / "fake_vs_real_hard" / "real" / "real_1.jpg")
    (tmp_path / "fake_vs_real_hard" / "fake").mkdir()
    assert "no generated image in it" in scan(tmp_path).rejects.reason[0]
    (tmp_path / "pictures" / "none").mkdir(parents=True)
    picture(tmp_path / "pictures" / "some" / "a.jpg")
    assert folder_images(tmp_path / "pictures").rejects[["path", "reason"]].values.tolist() == [["none", "a folder without a picture"]]


# --- links ------------------------------------------------------------------------------------------------------------

def test_a_dataset_linked_at_the_top_of_the_root_is_followed_and_that_is_said(tmp_path):
    root = tmp_path / "root"
    picture(tmp_path / "server" / "images256x256" / "00001.png", kind="PNG")
    picture(tmp_path / "secret.png", 1, "PNG")
    (tmp_path / "server" / "images256x256" / "00002.png").symlink_to(tmp_path / "secret.png")
    root.mkdir()
    (root / "ffhq").symlink_to(tmp_path / "server")
    (root / "lfw").symlink_to(tmp_path / "gone")
    (root / "lag").symlink_to(tmp_path)
    found, notes = told(lambda: scan(root))
    assert found.images.path.tolist() == ["ffhq/images256x256/00001.png"] and found.images.subject.tolist() == ["ffhq/00001"]
    assert "out of the data root" in found.rejects.set_index("path").reason["ffhq/images256x256/00002.png"]
    assert any("link to" in n and "followed" in n for n in notes)
    table = sources_table(root)
    assert "followed" in table.note["ffhq"] and "link to nothing" in table.note["lfw"] and "back to the data root" in table.note["lag"]


def test_a_folder_linked_further_down_is_not_entered(tmp_path):
    root = tmp_path / "root"
    for label in ("real", "fake"):
        picture(root / "140k_real_and_fake" / "test" / label / "00001.jpg", len(label))
        picture(tmp_path / "server" / "train" / label / "00002.jpg", 9)
    (root / "140k_real_and_fake" / "train").symlink_to(tmp_path / "server" / "train")
    images, rejects = scan(root)
    assert len(images) == 2 and rejects.reason.tolist() == ["symbolic link to a folder out of the data root (not followed)"]


@pytest.mark.parametrize("folder", ["../secret", "./linked", "linked/p", "~/secret", "/absolute", "absent"])
def test_a_folder_of_the_users_file_that_leads_out_of_the_root_is_not_read(folder, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "secret" / "p" / "a.jpg")
    (root / "linked").symlink_to(tmp_path / "secret")
    if folder == "/absolute": folder = str(tmp_path / "secret")
    (root / "fakeface.yaml").write_text(f"sources:\n  mine: {{folder: '{folder}', kind: photograph}}\n")
    found, notes = told(lambda: scan(root, ["mine"]))
    assert not len(found.images) and f"`{folder}`" in found.rejects.reason[0] and len(notes) == 1
    assert f"`{folder}`" in sources_table(root).note["mine"]


@pytest.mark.parametrize("folder", ["deep/er", "./deep/er", "absolute", "linked"])
def test_a_folder_of_the_users_file_inside_the_root_is_read(folder, tmp_path):
    root = tmp_path / "root"
    picture(root / "deep" / "er" / "a.jpg")
    (root / "linked").symlink_to(root / "deep" / "er")
    if folder == "absolute": folder = str(root / "deep" / "er")
    (root / "fakeface.yaml").write_text(f"sources:\n  mine: {{folder: '{folder}', kind: photograph}}\n")
    assert scan(root, ["mine"]).images.path.str.endswith("/a.jpg").tolist() == [True]


# --- label files ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg"])
@pytest.mark.parametrize("keys", ["{:06d}.jpg", "{:06d}.JPG", "{:06d}", "{}", "img_align_celeba/{:06d}.png"])
@pytest.mark.parametrize("name, no", [("list_attr_celeba.csv", "-1"), ("LIST_ATTR_CELEBA.CSV", "0"), ("Anno/list_attr_celeba.csv", "-1")])
def test_labels_are_found_without_regard_to_case_suffix_and_leading_zeros(suffix, keys, name, no, tmp_path):
    for i in (1, 2): picture(tmp_path / "celeba" / "img_align_celeba" / f"{i:06d}{suffix}", i, "PNG")
    (tmp_path / "celeba" / "Anno").mkdir()
    rows = "".join(f"{keys.format(i)},{'1' if i == 1 else no},1,1,1\n" for i in (1, 2))
    (tmp_path / "celeba" / name).write_text("image_id,Male,Eyeglasses,Smiling,Young\n" + rows)
    (tmp_path / "celeba" / "identity_CelebA.txt").write_text("".join(f"{keys.format(i)} 7\n" for i in (1, 2)))
    found, notes = told(lambda: scan(tmp_path, ["celeba"]).images)
    assert found.gender.tolist() == ["male", "female"] and set(found.subject) == {"celeba/7"} and not notes


def test_the_labels_of_a_root_that_is_the_dataset_itself_are_found(tmp_path):
    for i in (1, 2): picture(tmp_path / "img_align_celeba" / f"{i:06d}.jpg", i)
    (tmp_path / "list_attr_celeba.txt").write_text("2\nMale Eyeglasses Smiling Young\n000001.jpg  1 -1 1 1\n000002.jpg  1 -1 1 1\n")
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 7\n000002.jpg 7\n")
    found = scan(tmp_path, ["celeba"]).images
    assert found.gender.tolist() == ["male"] * 2 and found.subject.nunique() == 1


def test_missing_rows_and_unknown_values_are_counted(tmp_path):
    for i in range(4): picture(tmp_path / "ffhq" / "thumbnails128x128" / f"{i:05d}.png", i, "PNG")
    rows = "Image;age;gender;glasses;smile;yaw\n0;33;Female;NoGlasses;.9;1\n1;old;w;NoGlasses;.9;1\n"
    (tmp_path / "ffhq" / "FFHQ_features.csv").write_text(rows)
    found, notes = told(lambda: scan(tmp_path, ["ffhq"]).images)
    assert found.gender.tolist()[0] == "female" and found.gender.isna().sum() == 3
    assert any("2 of 4 images found their row" in n for n in notes)
    assert any("gender: 1 image has a value that is not known" in n and "'w'" in n for n in notes) and any("age: 1" in n for n in notes)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"image,age\n", b'"', b"nothing\n\n\n"])
def test_a_damaged_label_file_is_one_line(text, tmp_path):
    picture(tmp_path / "ffhq" / "thumbnails128x128" / "00000.png", kind="PNG")
    (tmp_path / "ffhq" / "ffhq_features.csv").write_bytes(text)
    with pytest.raises(ValueError, match="ffhq_features.csv") as raised:
        scan(tmp_path, ["ffhq"])
    assert "\n" not in str(raised.value)


def test_upper_case_folders_keep_the_subject_of_a_photograph(tmp_path):
    picture(tmp_path / "fairface" / "Train" / "7.JPG")
    rows = "file,age,gender,race,service_test\ntrain/7.jpg,3-9,Male,East Asian,True\n"
    (tmp_path / "fairface" / "fairface_label_train.csv").write_text(rows)
    found = scan(tmp_path, ["fairface"]).images
    assert found.subject.tolist() == ["fairface/train/7"] and found.race.tolist() == ["east asian"]


# --- facts ------------------------------------------------------------------------------------------------------------

def test_facts_stay_with_their_file_when_two_sources_name_one_folder(tmp_path):
    for i in range(20): picture(tmp_path / "utkface" / "UTKFace" / f"{i}_0_0_20170109000000001.jpg", i)
    (tmp_path / "fakeface.yaml").write_text("sources:\n  mine: {folder: utkface, kind: photograph}\n")
    _, notes = told(lambda: scan(tmp_path))
    assert any("belong to several sources (mine, utkface)" in n for n in notes)
    (tmp_path / "fakeface.yaml").unlink()
    for found in (scan(tmp_path).images, read_facts(tmp_path, [*scan(tmp_path).images.path, *scan(tmp_path).images.path[::-1]])):
        assert found.sha256.tolist() == [hashlib.sha256((tmp_path / p).read_bytes()).hexdigest() for p in found.path]


def test_an_error_that_passes_is_not_remembered(tmp_path, monkeypatch):
    for i in range(4): picture(tmp_path / "utkface" / "UTKFace" / f"{i}_0_0_20170109000000001.jpg", i)
    with monkeypatch.context() as m:
        m.setattr(manifest, "image_facts", lambda path: dict(reason="broken or truncated (Input/output error)"))
        assert len(scan(tmp_path).rejects) == 4
    assert len(scan(tmp_path).images) == 4


def test_an_audit_leaves_out_what_is_not_what_its_table_lists(tmp_path):
    paths = [picture(tmp_path / "utkface" / "UTKFace" / f"{i}_0_0_20170109000000001.jpg", i) for i in range(4)]
    listed, kept = scan(tmp_path).images.assign(split="train"), os.stat(paths[1])
    same = picture(paths[1], 99).read_bytes()[:kept.st_size].ljust(kept.st_size, b"\0")  # as long, and as old by its date
    paths[1].write_bytes(same)
    os.utime(paths[1], ns=(kept.st_atime_ns, kept.st_mtime_ns))
    paths[2].write_bytes(b"")
    with pytest.warns(DataNote, match=f"1 image changed since it was listed .*, such as .*{paths[1].name}; left out"):
        subject = read_audited(listed, tmp_path)
    assert (set(subject.manifest.path), subject.rejected) == ({listed.path[0], listed.path[3]}, 2)
    for i, path in enumerate(paths): picture(path, 50 + i)
    with pytest.warns(DataNote), pytest.raises(InputError, match="none of its 4 images is as listed"):
        read_audited(listed, tmp_path)


def test_an_audit_of_a_root_without_a_usable_image_says_why(tmp_path):
    picture(tmp_path / "utkface" / "UTKFace" / "1_0_0_20170109000000001.jpg", 1).write_bytes(b"")
    with pytest.raises(InputError, match="none of the images found .1. can be used: .*empty"): read_audited(tmp_path)


def test_thousands_of_rejects_are_told_in_a_line(tmp_path):
    from fakeface.data.sources import rejects_words
    words = rejects_words(pd.DataFrame({"path": [f"{i}.jpg" for i in range(3000)], "source": "mine", "reason": "empty (0 bytes)"}))
    assert words == "3,000 files: empty (0 bytes), such as 0.jpg"


def test_cards_of_the_package_name_several_folders():  # one name alone is a user's, and its absence is said
    assert min(len(card.folders) for card in read_cards().values()) > 1
    assert find_files(os.path.dirname(__file__)).paths == []


@pytest.mark.parametrize("folders, labels", [
    (("real", "fake/photos"), ("real", "fake")), # what stands side by side decides
    (("photos/real", "photos/fake"), ("real", "fake")),
    (("train/real", "train/fake/original", "test/real", "test/fake/original"), ("real", "fake", "real", "fake")),
    (("real/generated", "fake"), ("real", "fake"))])
def test_folders_that_say_both_real_and_fake_are_named_and_the_side_by_side_ones_decide(tmp_path, folders, labels):
    for i, folder in enumerate(folders):
        picture(tmp_path / folder / "a.jpg", i)
    found, notes = told(lambda: manifest.labelled_folder(tmp_path))
    assert found.images.set_index("path").label.to_dict() == {f"{f}/a.jpg": label for f, label in zip(folders, labels)}
    odd = [f"{f}/a.jpg" for f, label in zip(folders, labels) if f.count("/") > f.startswith(("train/", "test/"))]
    if odd[0].startswith("photos/"): odd = odd[1:] # photos/real says real twice
    assert len(notes) == 1 and "both real and fake" in notes[0] and any(f"{p}, taken for" in notes[0] for p in odd)


def test_images_beside_the_sources_that_no_card_knows_are_counted_and_named(tmp_path):
    picture(tmp_path / "lfw" / "lfw-deepfunneled" / "A_B" / "1.jpg")
    (images, rejects), notes = told(lambda: scan(tmp_path))
    assert notes == []
    picture(tmp_path / "my_fakes" / "deep" / "2.jpg", 1)
    picture(tmp_path / "3.png", 2)
    (tmp_path / "notes").mkdir()
    found, notes = told(lambda: scan(tmp_path))
    assert found.images.path.tolist() == images.path.tolist()
    assert len(notes) == 1 and notes[0].startswith("2 image files in 3.png, my_fakes belong to no source and are left out; name ")
    assert told(lambda: scan(tmp_path, ["lfw"]))[1] == []  # what was not asked for is not missed
