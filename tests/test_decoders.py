"The two decoders see one picture: whatever the header says, the network is shown what the scan, the maps and the pages see."
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fakeface.data.images as images
from fakeface.data.images import RejectedImage, image_facts, open_rgb
from fakeface.evaluate.perturbations import open_file
from fakeface.train.blocks import OpenFace, open_image

TYPES = {"BYTE": (1, "<B3x"), "SHORT": (3, "<H2x"), "LONG": (4, "<I"), "SSHORT": (8, "<h2x"), "SLONG": (9, "<i")}


def exif(value, kind="SHORT", count=1):
    "An EXIF block with an orientation of any type."
    number, layout = TYPES[kind]
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x112, number, count) + struct.pack(layout, value) + b"\0\0\0\0"


def xmp(text):
    return b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF><r:Description ' + text + b"</r:RDF></x:xmpmeta>"


def jpeg(*blocks, mode="RGB", **options):
    "A JPEG of 32 x 16 whose pixels tell which way it lies, with APP1 blocks in the given order."
    field = np.add.outer(np.arange(16) * 6, np.arange(32) * 4).astype(np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(np.stack([field, field[::-1], field[:, ::-1]], 2)).convert(mode)
    picture.save(buffer, "JPEG", quality=95, subsampling=0, **options)
    data = buffer.getvalue()
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in blocks) + data[2:]


def both(tmp_path, data, name="x.jpg"):
    "What the network and what everything else sees; they have to be equal."
    (tmp_path / name).write_bytes(data)
    net, rest, facts = open_image(tmp_path / name), open_rgb(tmp_path / name), image_facts(tmp_path / name)
    assert (facts["width"], facts["height"]) == rest.size == open_file(tmp_path / name).size == tuple(net.shape[:0:-1])
    assert np.abs(net.permute(1, 2, 0).numpy().astype(int) - np.asarray(rest)).max() <= 1
    return net


TURNED = {**{f"{kind} 6": (exif(6, kind),) for kind in TYPES}, "after xmp": (xmp(b"/>"), exif(6)), "before xmp": (exif(6), xmp(b"/>")),
          "xmp attribute": (xmp(b'tiff:Orientation="6"/>'),), "xmp single quotes": (xmp(b"tiff:Orientation='6'/>"),),
          "xmp element": (xmp(b"><tiff:Orientation>6</tiff:Orientation>"),), "two blocks": (exif(6), exif(3)),
          "two values": (exif(6, "SHORT", 2),),
          "exif before a contrary xmp": (exif(6), xmp(b'tiff:Orientation="3"/>')),
          "damaged exif, xmp": (b"Exif\0\0XX", xmp(b'tiff:Orientation="6"/>')),
          "exif of 0, xmp": (exif(0), xmp(b'tiff:Orientation="6"/>'))}
UPRIGHT = {"plain": (), **{f"value {v}": (exif(v),) for v in (0, 9, 77, 65535)},
           "negative": (exif(-6, "SLONG"),),
           "cut": (exif(6)[:12],), "no header": (b"Exif\0\0",), "damaged": (b"Exif\0\0" + b"\xff" * 40,),
           "xmp 0": (xmp(b'tiff:Orientation="0"/>'),),
           "xmp 42": (xmp(b'tiff:Orientation="42"/>'),), "no xmp": (b"http://ns.adobe.com/xap/1.0/\0",)}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("blocks, shape", [(b, (3, 32, 16)) for b in TURNED.values()] + [(b, (3, 16, 32)) for b in UPRIGHT.values()],
                         ids=[*TURNED, *UPRIGHT])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_odd_headers_are_seen_alike(blocks, shape, mode, tmp_path):
    assert tuple(both(tmp_path, jpeg(*blocks, mode=mode)).shape) == shape


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "JPEG progressive"])
def test_every_orientation_of_every_format(turn, kind, tmp_path):
    tag, buffer = Image.Exif(), io.BytesIO()
    tag[0x112] = turn
    picture = Image.open(io.BytesIO(jpeg()))
    options = {"WEBP": dict(lossless=True), "JPEG progressive": dict(quality=95, progressive=True)}.get(kind, {})
    picture.save(buffer, kind.split()[0], exif=tag.tobytes() if kind != "TIFF" else tag, **options)
    net = both(tmp_path, buffer.getvalue())
    turned = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.transpose(1, 0, 2),
              6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x.transpose(1, 0, 2), 2), 8: np.rot90}
    right = turned[turn](np.asarray(picture.convert("RGB")))
    assert np.abs(net.permute(1, 2, 0).numpy().astype(int) - right).mean() < 4


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.binary(min_size=0, max_size=60), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_any_block_and_any_damage_is_seen_alike_or_rejected_by_both(tmp_path_factory, block, at, byte):
    data = bytearray(jpeg(b"Exif\0\0II*\0" + block))
    data[min(at + 2, len(data) - 1)] = byte
    path = tmp_path_factory.mktemp("any") / "x.jpg"
    path.write_bytes(bytes(data))
    try: rest = np.asarray(open_rgb(path)).astype(int)
    except RejectedImage: rest = None
    try: net = open_image(path).permute(1, 2, 0).numpy().astype(int)
    except RejectedImage: net = None
    if rest is not None: assert net is not None and net.shape == rest.shape and np.abs(net - rest).max() <= 2


@pytest.mark.parametrize("text, name", [(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n{ } loop\n", "PostScript"),
                                        (b"%PDF-1.7\n", "PDF"), (b"SIMPLE  =                    T", "FITS"), (b"8BPS\0\1", "Photoshop")])
def test_only_the_listed_formats_are_opened_whatever_the_name_says(text, name, tmp_path):
    (tmp_path / "x.jpg").write_bytes(text)
    assert image_facts(tmp_path / "x.jpg")["reason"].startswith(f"{name}: not read here")
    for opens in (open_rgb, open_image, open_file, OpenFace(8)):
        with pytest.raises(RejectedImage, match=name): opens(tmp_path / "x.jpg")


def palette_png(side):
    "A PNG of one colour with a half transparent palette: some kilobytes that declare side x side pixels."
    def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (side // 8 + 1)) for _ in range(side)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 3, 0, 0, 0)), (b"PLTE", b"\0\0\0\xff\xff\xff"), (b"tRNS", b"\x80\x80"),
              (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def test_large_images_are_decoded_one_at_a_time_and_in_strips(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(palette_png(800))
    monkeypatch.setattr(images, "LARGE", 800 * 800 - 1)
    now, most, loads = [], [], Image.Image.load
    def load(self):
        now.append(1)
        most.append(len(now))
        time.sleep(0.005)
        now.pop()
        return loads(self)
    monkeypatch.setattr(images, "_load", load)
    threads = [threading.Thread(target=image_facts, args=(tmp_path / "x.png",)) for _ in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(most) == 6 and max(most) == 1
    monkeypatch.undo()
    sizes, flat = [], images._flat
    monkeypatch.setattr(images, "_flat", lambda strip: [sizes.append(strip.width * strip.height), flat(strip)][1])
    image = Image.open(tmp_path / "x.png")
    assert images._in_strips(image, 10_000).getpixel((3, 700)) == (127, 127, 127)
    assert max(sizes) <= 10_000 and sum(sizes) == 800 * 800


def test_a_dead_file_is_one_exception_with_path_and_reason_in_a_worker_too(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(RejectedImage) as here: OpenFace(8)(str(tmp_path / "x.jpg"))
    loader = torch.utils.data.DataLoader([str(tmp_path / "x.jpg")], num_workers=1, collate_fn=OpenOne())
    with pytest.raises(RejectedImage) as there: next(iter(loader))
    assert here.value.words == there.value.words == f"{tmp_path / 'x.jpg'}: empty (0 bytes)"


class OpenOne:
    "Opens the one file of a batch."
    def __call__(self, batch): return OpenFace(8)(batch[0])


# --- 16 and 32 bits --------------------------------------------------------------------------------------------------------

def depths() -> dict[str, np.ndarray]:
    "One picture by number of bits, and where its darkest strip alone would not tell how many are used."
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    return {"8 in 32": grey.astype(np.int32), "16 in 32": grey.astype(np.int32) * 257, "16": grey.astype(np.uint16) * 257,
            "8 in 16": grey.astype(np.uint16), "8": grey}


@pytest.mark.parametrize("name", depths())
def test_values_of_8_bits_are_the_same_picture_to_every_reader_however_many_bits_hold_them(name, tmp_path, monkeypatch):
    wanted, file = depths()["8"], tmp_path / "x.tif"
    Image.fromarray(depths()[name]).save(file)
    monkeypatch.setattr(images, "_in_strips", lambda image, real=images._in_strips: real(image, most=64 * 8))
    net = both(tmp_path, file.read_bytes(), "x.tif")
    seen = dict(rgb=np.asarray(open_rgb(file)), network=net.permute(1, 2, 0).numpy(), asked=np.asarray(open_file(file)),
                fed=OpenFace(64, "squish")(file).permute(1, 2, 0).numpy())
    assert {k: int(np.abs(v[..., 0].astype(int) - wanted).max()) for k, v in seen.items()} == dict.fromkeys(seen, 0)
    thumbnail = np.frombuffer(image_facts(file, thumbnail=True)["thumbnail"], np.uint8)
    assert np.array_equal(thumbnail, images.grey_thumbnail(Image.fromarray(wanted)).ravel())


def png(values: np.ndarray) -> bytes:
    "A PNG of 16-bit colours, (height, width, 3), which Pillow does not write."
    h, w, _ = values.shape
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_16_bit_colours_that_would_be_nearly_black_are_refused_by_every_reader(bits, tmp_path):
    values = np.random.default_rng(0).integers(0, 2**bits, (64, 64, 3))
    (file := tmp_path / "x.png").write_bytes(png(values))
    if bits == 16: return np.testing.assert_array_equal(np.asarray(open_rgb(file)), values >> 8)
    for read in (open_rgb, open_image, open_file):
        with pytest.raises(RejectedImage, match="nearly black"): read(file)
    assert "nearly black" in image_facts(file)["reason"]


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_floating_point_is_refused_by_every_reader_since_no_file_states_its_range(high, tmp_path):
    Image.fromarray(np.linspace(0, high, 64 * 64, dtype=np.float32).reshape(64, 64)).save(file := tmp_path / "x.tif")
    for read in (open_rgb, open_image, open_file):
        with pytest.raises(RejectedImage, match="floating-point"): read(file)
    assert "floating-point" in image_facts(file)["reason"]
