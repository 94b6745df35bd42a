"Marks of provenance: what real writers write is read, the audit sees them by subject, a scan learns them without opening a file twice."
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fakeface.data.manifest as manifests
from fakeface.audit.provenance import check_provenance
from fakeface.data.images import open_rgb
from fakeface.data.manifest import read_facts
from fakeface.data.marks import NO_MARK, mark_jpeg, marks_code, read_marks
from fakeface.evaluate.perturbations import HARMLESS, PERTURBATIONS, SWEEPS, marked_file, marks_kept, read_sweeps

pytestmark = pytest.mark.usefixtures("own_cache")


def jpeg(**options) -> bytes:
    Image.linear_gradient("L").resize((40, 40)).convert("RGB").save(buffer := io.BytesIO(), "JPEG", **options)
    return buffer.getvalue()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=600), st.integers(0, 3000))
def test_bytes_of_any_kind_anywhere_in_a_marked_file_raise_nothing(noise, at):
    whole = marked_file()
    for data in (noise, whole[:at] + noise + whole[at:], whole[:at] + noise + whole[at + len(noise):], whole[:at]):
        assert all(m.text.isprintable() and len(m.text) <= 200 for m in read_marks(data))


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300))
def test_a_text_in_a_file_comes_out_plain(text):
    found = read_marks(jpeg(comment=text.encode("utf-8", "surrogatepass")[:60_000]))
    assert all("\x1b" not in m.text and "\u202e" not in m.text and m.text == " ".join(m.text.split()) for m in found)


def test_a_marked_picture_is_the_same_picture(tmp_path):
    (tmp_path/"a.jpg").write_bytes(jpeg())
    (tmp_path/"b.jpg").write_bytes(mark_jpeg(jpeg()))
    assert open_rgb(tmp_path/"a.jpg").tobytes() == open_rgb(tmp_path/"b.jpg").tobytes()


def test_a_scan_reads_marks_with_the_other_facts_and_keeps_them(tmp_path, monkeypatch):
    for i, data in enumerate([jpeg(), mark_jpeg(jpeg()), jpeg(comment=b"by hand")]): (tmp_path/f"{i}.jpg").write_bytes(data)
    names = [f"{i}.jpg" for i in range(3)]
    facts = read_facts(tmp_path, names)
    assert facts["marks"].tolist() == [NO_MARK, "c2pa:generated+xmp:generated", "comment"]
    monkeypatch.setattr(manifests, "image_facts", None)
    pd.testing.assert_frame_equal(read_facts(tmp_path, names), facts)


def test_no_perturbation_that_saves_a_picture_anew_keeps_a_mark_of_its_origin():
    kept = marks_kept([*PERTURBATIONS.values(), *read_sweeps(SWEEPS), *HARMLESS])
    assert {name for name, kinds in kept.items() if {"c2pa", "xmp", "exif"} & set(kinds)} == {"clean"}


def test_the_check_judges_by_subject_not_by_image():
    "Forty marked images of one person are one witness: the interval does not shrink with them."
    def people(n: int, each: int) -> pd.DataFrame:
        rows = [(f"{label}{p}", label, "c2pa:generated" if label == "fake" and p < n // 4 else NO_MARK)
                for label in ("real", "fake") for p in range(n) for _ in range(each)]
        table = pd.DataFrame(rows, columns=["subject", "label", "marks"])
        return table.assign(path=table.index.astype(str), source=table["label"], split="all")
    def width(found: dict) -> float: return found["ci95"][1] - found["ci95"][0]
    few, same_people = check_provenance(people(40, 1)), check_provenance(people(40, 10))
    assert width(same_people) > 0.8 * width(few)
    assert width(check_provenance(people(400, 1))) < 0.5 * width(few)
    assert marks_code([]) == NO_MARK
