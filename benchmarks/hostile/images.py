"Image files as they should not be, made from nothing, and the doors that open images."
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .verdicts import REFUSED, Silent, Verdict, knock

Rng = np.random.Generator
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
CLOSE, LARGE = 2, 10_000_000 # grey levels that two decoders of one file may lie apart; pixels of an image that is not compared with itself


def _pick(rng: Rng, items: Any) -> Any:
    items = list(items)
    return items[int(rng.integers(len(items)))]


def _maybe(rng: Rng, share: float) -> bool: return bool(rng.random() < share)


# --- valid files -------------------------------------------------------------------------------------------------------

def picture(rng: Rng, mode: str = "RGB") -> Image.Image:
    "A small smooth picture of any mode."
    w, h = (int(_pick(rng, (1, 2, 7, 8, 16, 17, 24, 31, 33, 48))) for _ in range(2))
    if mode in ("I;16", "I", "F"):
        a = rng.integers(0, 65536, (h, w))
        return Image.fromarray(a.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    small = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize((w, h), Image.Resampling.BICUBIC)
    if mode == "PA": return small.convert("P").convert("PA")
    image = small.convert("RGB").convert("L").convert(mode) if mode in ("1", "LA", "L") else small.convert(mode)
    if mode in ("RGBA", "LA"): image.putalpha(Image.fromarray(rng.integers(0, 256, (h, w), dtype=np.uint8)))
    return image


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    "The file of a picture."
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def jpeg(rng: Rng) -> bytes:
    "A JPEG of any kind that Pillow writes."
    image = picture(rng, _pick(rng, ("RGB", "RGB", "RGB", "L", "CMYK", "YCbCr")))
    options = dict(quality=int(rng.integers(1, 101)), subsampling=int(rng.integers(3)),
                   progressive=_maybe(rng, 0.3), optimize=_maybe(rng, 0.2))
    if _maybe(rng, 0.15): options["restart_marker_blocks"] = int(rng.integers(1, 4))
    if _maybe(rng, 0.15): options["icc_profile"] = icc(rng)
    if _maybe(rng, 0.1): options["comment"] = rng.bytes(int(rng.integers(0, 300)))
    data = saved(image, "JPEG", **options)
    if _maybe(rng, 0.4): data = with_segments(rng, data)
    return data


def png(rng: Rng) -> bytes:
    "A PNG, at times an APNG, at times with odd chunks."
    mode = _pick(rng, ("1", "L", "LA", "P", "RGB", "RGB", "RGBA", "I;16"))
    options: dict[str, Any] = {}
    if mode in ("P", "L", "RGB") and _maybe(rng, 0.4):
        options["transparency"] = {"P": rng.bytes(int(rng.integers(1, 257))), "L": int(rng.integers(256)), "RGB": (1, 2, 3)}[mode]
    if _maybe(rng, 0.2): options["exif"] = exif(rng)
    if _maybe(rng, 0.2): options["icc_profile"] = icc(rng)
    if mode != "I;16" and _maybe(rng, 0.1): options |= dict(save_all=True, append_images=[picture(rng, mode)] * 2)
    data = saved(picture(rng, mode), "PNG", **options)
    if not _maybe(rng, 0.3): return data
    odd = [
        (b"tEXt", b"Raw profile type exif\0\nexif\n" + b"%8d\n" % 40 + exif(rng).hex().encode()),
        (b"eXIf", exif(rng)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(rng)),
        (b"gAMA", b"\0\0\0\0"),
        (b"tRNS", rng.bytes(3)),
        (b"zTXt", b"a\0\0" + b"\0" * 9),
        (b"PLTE", rng.bytes(7)),
        (b"acTL", struct.pack(">II", int(rng.integers(0, 5)), 0)),
        (b"IHDR", rng.bytes(13)),
        (b"IEND", b""),
    ]
    name, content = _pick(rng, odd)
    at = 33 if _maybe(rng, 0.7) else len(data) - 12
    return data[:at] + chunk(name, content) + data[at:]


def webp(rng: Rng) -> bytes:
    "A WebP, lossy or lossless, at times moving."
    image, options = picture(rng, _pick(rng, ("RGB", "RGBA"))), dict(quality=int(rng.integers(1, 101)), lossless=_maybe(rng, 0.3))
    if _maybe(rng, 0.2): options |= dict(save_all=True, append_images=[image.copy().rotate(90) for _ in range(2)])
    if _maybe(rng, 0.3): options["exif"] = exif(rng)
    if _maybe(rng, 0.2): options["xmp"] = xmp(rng)
    return saved(image, "WEBP", **options)


def gif(rng: Rng) -> bytes:
    "A GIF, at times moving or transparent."
    image, options = picture(rng, _pick(rng, ("P", "L", "1", "RGB"))), {}
    if _maybe(rng, 0.4): options = dict(save_all=True, append_images=[picture(rng, "P") for _ in range(int(rng.integers(1, 4)))], loop=0)
    if _maybe(rng, 0.3) and image.mode == "P": options["transparency"] = int(rng.integers(256))
    return saved(image, "GIF", **options)


def tiff(rng: Rng) -> bytes:
    "A TIFF of any mode and compression that go together."
    mode = _pick(rng, ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"))
    options = dict(compression=_pick(rng, (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")))
    if _maybe(rng, 0.2): options["tiffinfo"] = {274: int(rng.integers(0, 10))}
    if _maybe(rng, 0.15): options |= dict(save_all=True, append_images=[picture(rng, mode)])
    image = picture(rng, "RGB").convert("CMYK") if mode == "CMYK" else picture(rng, "1") if mode == "LAB" else picture(rng, mode)
    try: return saved(image, "TIFF", **options)
    except Exception: return saved(image, "TIFF") # the compression is not for this mode


def bmp(rng: Rng) -> bytes:
    "A BMP."
    return saved(picture(rng, _pick(rng, ("1", "L", "P", "RGB", "RGBA"))), "BMP")


def mpo(rng: Rng) -> bytes:
    "Two JPEGs in one file, as stereo cameras and phones write."
    image = picture(rng)
    return saved(image, "MPO", save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_90)])


VALID: tuple[Callable[[Rng], bytes], ...] = (jpeg, jpeg, jpeg, png, png, webp, gif, tiff, bmp, mpo)


# --- metadata ----------------------------------------------------------------------------------------------------------

def exif(rng: Rng) -> bytes:
    "An EXIF block whose orientation may have any type, count and value."
    order = _pick(rng, ("<", ">"))
    kind, value = int(_pick(rng, (3, 3, 3, 3, 1, 2, 4, 5, 7, 9, 12, 13, 0, 200))), int(_pick(rng, (*range(10), 255, 65535)))
    count = int(_pick(rng, (1, 1, 1, 1, 0, 2, 4, 5, 2**31)))
    packed = {1: struct.pack("B3x", value % 256), 2: str(value % 10).encode().ljust(4, b"\0"), 3: struct.pack(f"{order}H2x", value % 65536),
              4: struct.pack(f"{order}I", value), 9: struct.pack(f"{order}i", value)}.get(kind, struct.pack(f"{order}I", 26))
    tag = struct.pack(f"{order}HHI", 274, kind, count) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", int(_pick(rng, (8, 8, 8, 8, 8, 0, 7, 2**31, 4))))
    block = head + struct.pack(f"{order}H", int(_pick(rng, (1, 1, 1, 1, 0, 3, 65535)))) + tag + struct.pack(f"{order}III", 0, value, 1)
    return b"Exif\0\0" * _maybe(rng, 0.9) + (block[:int(rng.integers(len(block)))] if _maybe(rng, 0.1) else block)


def xmp(rng: Rng) -> bytes:
    "An XMP packet that speaks of orientation."
    value = _pick(rng, (*range(10), "x", "", "9" * 400, "6 ", "-1"))
    inside = [f'<rdf:Description tiff:Orientation="{value}"/>', f"<tiff:Orientation>{value}</tiff:Orientation>",
              f"<!DOCTYPE a [<!ENTITY b '{value}'>]><tiff:Orientation>&b;</tiff:Orientation>", "<rdf:Description", "\0\0", "é\ufffe"]
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{_pick(rng, inside)}</rdf:RDF></x:xmpmeta>'.encode()


def icc(rng: Rng) -> bytes:
    "A colour profile that is none."
    return rng.bytes(int(_pick(rng, (0, 1, 127, 128, 500, 70_000))))


def segment(marker: int, content: bytes) -> bytes:
    "A marker segment of a JPEG."
    content = content[:65533]
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(rng: Rng, data: bytes) -> bytes:
    "A JPEG with one to four odd segments after its first two bytes or after its first segment."
    kinds = [
        lambda: segment(0xE1, exif(rng)),
        lambda: segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(rng)),
        lambda: segment(0xE2, b"ICC_PROFILE\0" + rng.bytes(2) + icc(rng)),
        lambda: segment(0xED, b"Photoshop 3.0\08BIM" + rng.bytes(40)),
        lambda: segment(0xEE, b"Adobe\0d\0\0\0\0" + bytes([int(rng.integers(4))])),
        lambda: segment(0xE2, b"MPF\0" + rng.bytes(60)),
        lambda: segment(0xFE, rng.bytes(30)),
        lambda: segment(0xE0, b"JFXX\0" + rng.bytes(20)),
        lambda: segment(0xE1, b""),
        lambda: b"\xff\xe1\0\0",
        lambda: b"\xff" * 5,
        lambda: segment(0xE1, exif(rng) + b"\0" * 60_000),
    ]
    odd = b"".join(_pick(rng, kinds[:2] * 5 + kinds)() for _ in range(int(rng.integers(1, 5))))
    at = 2 if _maybe(rng, 0.5) else 4 + int.from_bytes(data[4:6], "big") # after the first segment
    return data[:at] + odd + data[at:]


def chunk(name: bytes, content: bytes) -> bytes:
    "A chunk of a PNG."
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


# --- what is done to them ----------------------------------------------------------------------------------------------

def flip(rng: Rng, data: bytes) -> bytes:
    "Some bytes are others."
    out, end = bytearray(data), len(data) if _maybe(rng, 0.5) else min(len(data), 64)
    for at in rng.integers(0, end, int(rng.integers(1, 12))): out[int(at)] = int(rng.integers(256))
    return bytes(out)


def cut(rng: Rng, data: bytes) -> bytes:
    "It ends too early."
    return data[:int(rng.integers(len(data)))]


def splice(rng: Rng, data: bytes) -> bytes:
    "The head of one file and the tail of another."
    other = _pick(rng, VALID)(rng)
    return data[:int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other) + 1)):]


def shuffle(rng: Rng, data: bytes) -> bytes:
    "A piece is missing, stands twice, or is empty."
    a, b = sorted(int(x) for x in rng.integers(0, len(data) + 1, 2))
    return _pick(rng, (data[:a] + data[b:], data[:b] + data[a:], data[:a] + b"\0" * (b - a) + data[b:]))


def frame(rng: Rng, data: bytes) -> bytes:
    "Something stands before or after it."
    junk = _pick(rng, (b"\0" * 9, b"\n", b"\xff\xd8\xff", b"%!PS\n", archive(rng), rng.bytes(50), b"<html>"))
    return data + junk if _maybe(rng, 0.6) else junk + data


def lie(rng: Rng, data: bytes) -> bytes:
    "The header tells another size than the pixels have."
    w, h = (int(_pick(rng, (0, 1, 3, 64, 5000, 9_999, 30_000, 65_535, 2**31 - 1, 2**32 - 1))) for _ in range(2))
    out = bytearray(data)
    if data[:2] == b"\xff\xd8":
        at = next((i for i in range(2, len(data) - 9) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC1, 0xC2)), None)
        if at: out[at + 5:at + 9] = struct.pack(">HH", h % 65536, w % 65536)
    elif data[:4] == b"\x89PNG": return data[:8] + chunk(b"IHDR", struct.pack(">II", w, h) + data[24:29]) + data[33:]
    elif data[:3] == b"GIF": out[6:10] = struct.pack("<HH", w % 65536, h % 65536)
    elif data[:2] == b"BM": out[18:26] = struct.pack("<II", w, h)
    elif data[:4] == b"RIFF": out[20:30] = out[20:24] + struct.pack("<I", w)[:3] + struct.pack("<I", h)[:3]
    elif data[:2] in (b"II", b"MM"): # the values of width and length in the first directory
        order = "<" if data[:2] == b"II" else ">"
        start = struct.unpack(f"{order}I", data[4:8])[0]
        for i in range(start + 2, min(len(data) - 12, start + 2 + 24), 12): out[i + 8:i + 12] = struct.pack(f"{order}I", _pick(rng, (w, h)))
    return bytes(out)


CHANGES = (flip, cut, splice, shuffle, frame, lie)


# --- what is no such image at all --------------------------------------------------------------------------------------

def archive(rng: Rng) -> bytes:
    "A ZIP."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z: z.writestr("a.txt", "a")
    return out.getvalue()


def bomb(rng: Rng) -> bytes:
    "A small file of very many pixels, below and above the limit."
    side = int(_pick(rng, (3000, 6000, 9_900, 12_000)))
    if _maybe(rng, 0.3): return saved(Image.new("1", (side, side)), _pick(rng, ("GIF", "TIFF", "BMP")), **{})
    kind, bits = _pick(rng, ((0, 1), (3, 1), (0, 8)))
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (side * bits + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    palette = chunk(b"PLTE", b"\0\0\0\xff\xff\xff") + chunk(b"tRNS", b"\x80\x80") if kind == 3 else b""
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, 0))
    return head + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def foreign(rng: Rng) -> bytes:
    "A file of another kind, some of which Pillow would open or run."
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    texts = [
        b"",
        b"\0",
        b"\n",
        b"hello",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"BM",
        b"II*\0",
        b"RIFF\4\0\0\0WEBP",
        page + b"{} loop\n",
        page + b"(canary) (w) file closefile showpage\n",
        b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 32, len(page), 0, 0, 0, 0) + b"\0\0" + page,
        b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>alert(1)</script>",
        b"MZ" + rng.bytes(80),
        b"\x7fELF" + rng.bytes(80),
        archive(rng),
        rng.bytes(int(rng.integers(1, 3000))),
        b"P6 9 9 255\n" + rng.bytes(243),
        b"P3 99999 99999 255\n",
        b"P7\nWIDTH 9\n",
        b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"a c red",\n"a"};',
        b"#define a_width 8\n#define a_height 8\n",
        b"SIMPLE  =                    T".ljust(2880),
        b"8BPS\0\1" + rng.bytes(40),
        b"\xd7\xcd\xc6\x9a" + rng.bytes(60),
        b"icns" + rng.bytes(40),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ]
    if _maybe(rng, 0.7): return _pick(rng, texts)
    format = _pick(rng, ("AVIF", "JPEG2000", "ICO", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS", "PDF", "EPS", "IM", "MSP", "XBM"))
    return saved(picture(rng, "1" if format in ("MSP", "XBM") else "RGB"), format)


def hostile_image(rng: Rng) -> tuple[str, bytes]:
    "The suffix and the bytes of one file; about one in three is a valid image."
    lot = rng.random()
    if lot < 0.004: data, made = bomb(rng), None
    elif lot < 0.12: data, made = foreign(rng), None
    else:
        made = _pick(rng, VALID)
        data = made(rng)
        for _ in range(int(_pick(rng, (0, 0, 1, 1, 1, 2, 3)))):
            if data: data = _pick(rng, CHANGES)(rng, data)
    right = {jpeg: ".jpg", png: ".png", webp: ".webp", gif: ".gif", tiff: ".tif", bmp: ".bmp", mpo: ".jpg"}.get(made, ".jpg")
    return (right if _maybe(rng, 0.7) else _pick(rng, SUFFIXES)), data


# --- doors -------------------------------------------------------------------------------------------------------------

def facts_door(path: Path) -> dict[str, Any]:
    "The facts of a file; a rejection is of one line and without the path."
    from fakeface.data.images import RejectedImage, image_facts
    facts = image_facts(path)
    if facts["reason"] is None and not (facts["width"] > 0 and facts["height"] > 0): raise Silent(f"no size: {facts}")
    if facts["reason"] is not None:
        if str(path.parent) in facts["reason"]: raise Silent(f"a machine's path in the reason: {facts['reason']}")
        raise RejectedImage(facts["reason"])
    return facts


def pixels_door(path: Path, facts: dict[str, Any] | None) -> None:
    "Both decoders take what the scan took, with its size, and see the same; and refuse what it refused."
    from fakeface.train.blocks import open_image
    from fakeface.data.images import RejectedImage, open_rgb
    large = facts is not None and facts["width"] * facts["height"] > LARGE # one at a time, and its size alone
    def ask(door: Callable[[Path], Any]) -> Any:
        try: pixels = door(path)
        except RejectedImage as e: return str(e)
        if large: return (pixels.height, pixels.width, 3) if door is open_rgb else (*pixels.shape[1:], 3)
        return np.asarray(pixels) if door is open_rgb else pixels.numpy().transpose(1, 2, 0)
    one, two = ask(open_rgb), ask(open_image)
    for name, x in (("open_rgb", one), ("open_image", two)):
        if facts is None and not isinstance(x, str): raise Silent(f"rejected by the scan, taken by {name}")
        if facts is not None and isinstance(x, str): raise Silent(f"accepted by the scan, refused by {name}: {x}")
    if facts is None: return
    shapes = [(facts["height"], facts["width"], 3), *(x if large else x.shape for x in (one, two))]
    if len(set(shapes)) > 1: raise Silent("sizes differ: scan {}, open_rgb {}, open_image {}".format(*shapes))
    apart = 0 if large else int(np.abs(one.astype(np.int16) - two).max())
    if apart > CLOSE: raise Silent(f"the decoders lie {apart} grey levels apart")


def look_door(path: Path, facts: dict[str, Any] | None) -> None:
    "The look and the scoring of what was taken; both refuse the rest in a line."
    from fakeface.data.duplicates import read_thumbnails
    from fakeface.core.basics import InputError
    from fakeface.evaluate.detectors import open_row

    doors = {"read_thumbnails": lambda: read_thumbnails([path.name], path.parent, 1), "open_row": lambda: open_row(path.parent, path.name)}
    for name, door in doors.items():
        try: door()
        except InputError as e:
            if facts is not None: raise Silent(f"accepted by the scan, refused by {name}: {e}") from e
        else:
            if facts is None and name == "open_row": raise Silent(f"rejected by the scan, taken by {name}")


def try_image(path: Path) -> tuple[list[Verdict], bool]:
    "All doors for one file, and whether it was taken."
    found: dict[str, Any] = {}
    verdicts = [knock("image_facts", lambda: found.update(facts_door(path)))]
    facts = found or None
    verdicts.append(knock("open_rgb, open_image", lambda: pixels_door(path, facts)))
    verdicts.append(knock("read_thumbnails, open_row", lambda: look_door(path, facts), [path.name]))
    return verdicts, verdicts[0].kind != REFUSED and facts is not None


def try_folder(root: Path, # holds `hostile/` with the files
               taken: set[str], # names of the accepted ones
              ) -> list[Verdict]:
    "A scan of the folder finds every file and takes the same ones, and a training over them ends."
    (root/"fakeface.yaml").write_text("sources:\n  hostile: {kind: generated}\n")
    files, rows = {p.name for p in (root/"hostile").iterdir()}, {}
    def scanned() -> None:
        from fakeface.data.manifest import scan
        found = scan(root, ["hostile"])
        good, bad = ({Path(p).name for p in t["path"]} for t in (found.images, found.rejects))
        if good | bad != files: raise Silent(f"neither taken nor rejected by name: {sorted(files - good - bad)[:3]}")
        if good != taken: raise Silent(f"scan and image_facts disagree about {sorted(good ^ taken)[:3]}")
        rows["images"] = found.images
    def foldered() -> None:
        from fakeface.data.manifest import folder_images
        found = folder_images(root/"hostile")
        if {Path(p).name for p in found.images["path"]} != taken: raise Silent("folder_images and image_facts disagree")
    verdicts = [knock("scan", scanned), knock("folder_images", foldered)]
    if len(rows.get("images", ())) >= 4: verdicts.append(knock("training", lambda: train_on(rows["images"], root)))
    return verdicts


def train_on(images: pd.DataFrame, root: Path) -> None:
    "One epoch over everything, a prediction for everything, and a map of one."
    from fakeface.train.blocks import face_dataloaders
    from fakeface.data.recipes import SETTINGS
    from fakeface.train.fitting import train
    from fakeface.train.inference import predict
    from fakeface.train.learners import make_learner, seeded
    i = np.arange(len(images))
    rows = images.assign(label=np.where(i % 2, "fake", "real"), split=np.where(i % 4 < 2, "valid", "train"))
    with seeded(0):
        learn = make_learner(face_dataloaders(rows, root, 16, workers=0, device="cpu", size=16), {**SETTINGS, "model": "small"})
        train(learn, 1, progress=False)
        scored = predict(learn, rows)
    if len(scored) != len(rows) or not scored["p_fake"].between(0, 1).all(): raise Silent("not every image has a probability")
