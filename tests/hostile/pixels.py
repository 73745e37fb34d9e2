"""Hostile images and arrays: broken and enormous ones, strange modes, what is no file at all."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from purenoise.data.arrays import load_npz
from purenoise.data.decode import load_image
from purenoise.data.target import Target
from purenoise.predict import find_images
from purenoise.predictions import read_predictions

from .kind import Expected, Kind, command
from .texts import fifo, sparse, written

SHAPE = (3, 8, 8)
LIMIT = 64 << 20


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def png(width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    """Return a PNG with any header."""

    def chunk(name: bytes, content: bytes) -> bytes:
        size, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(name + content))
        return size + name + content + check

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))  # fmt: skip


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _rgb(size: int = 16) -> Image.Image:
    return Image.effect_noise((size, size), 60).convert("RGB")


def _exif(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def _animated(kind: str) -> bytes:
    return saved(_rgb(), kind, save_all=True, append_images=[_rgb() for _ in range(30)])


def _text_bomb() -> bytes:
    body = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    size, check = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = png(8, 8, rows=bytes(72))
    return whole[:33] + size + b"zTXt" + body + check + whole[33:]


JPEG, GOOD_PNG = saved(_rgb(64), "JPEG"), saved(_rgb(), "PNG")
IMAGES: dict[str, tuple[str, Callable[[], bytes], Expected]] = {
    "no bytes": ("x.png", lambda: b"", "refused"),
    "cut short": ("x.jpg", lambda: JPEG[: len(JPEG) // 2], "refused"),
    "a header alone": ("x.png", lambda: GOOD_PNG[:33], "refused"),
    "2^31 pixels a side": ("x.png", lambda: png(2**31 - 1, 2**31 - 1), "refused"),
    "a bomb of 30,000 squared": ("x.png", lambda: png(30_000, 30_000, rows=bytes(10**6)),
                                 "refused"),
    "a bomb just below the limit": ("x.png", lambda: png(9_400, 9_400, 1, rows=bytes(10**6)),
                                    "either"),
    "no width": ("x.png", lambda: png(0, 5), "refused"),
    "a GIF of 65,535 squared": ("x.gif", lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff"
                                b"\xff\xff\0\x02\x01\0\0;", "refused"),
    "a BMP of 2^30 squared": ("x.bmp", lambda: b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0), "refused"),
    "a PPM of 10^9 squared": ("x.ppm", lambda: b"P6 1000000000 1000000000 255\n", "refused"),
    "a comment of 200 MB": ("x.png", _text_bomb, "either"),
    "an animated GIF": ("x.gif", lambda: _animated("GIF"), "harmless"),
    "an animated WebP": ("x.webp", lambda: _animated("WEBP"), "harmless"),
    "CMYK": ("x.jpg", lambda: saved(_rgb().convert("CMYK"), "JPEG"), "harmless"),
    "16 bits": ("x.png", lambda: saved(Image.fromarray(np.full((9, 9), 40000, np.uint16)), "PNG"),
                "refused"),
    "32-bit floats": ("x.tif", lambda: saved(Image.new("F", (9, 9), 0.5), "TIFF"), "refused"),
    "a palette with transparency": ("x.png", lambda: saved(_rgb().convert("P"), "PNG",
                                                           transparency=b"\0" * 200), "harmless"),
    "grey with transparency": ("x.png", lambda: saved(_rgb().convert("LA"), "PNG"), "harmless"),
    "one bit": ("x.png", lambda: saved(_rgb().convert("1"), "PNG"), "harmless"),
    "turned by EXIF": ("x.jpg", lambda: saved(_rgb(), "JPEG", exif=_exif(6)), "harmless"),
    "turned in a way that there is not": ("x.jpg", lambda: saved(_rgb(), "JPEG",
                                                                 exif=_exif(999)), "harmless"),
    "EXIF of noise": ("x.jpg", lambda: saved(_rgb(), "JPEG", exif=b"Exif\0\0" + bytes(
        range(256)) * 8), "either"),
    "JPEG called PNG": ("x.png", lambda: JPEG, "harmless"),
    "a pickle called PNG": ("x.png", lambda: pickle.dumps(Bomb()), "refused"),
    "PostScript that runs a program": ("x.png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"
                                       b"%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (w) file\n",
                                       "refused"),
    "SVG": ("x.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
            "refused"),
    "one pixel": ("x.png", lambda: saved(Image.new("RGB", (1, 1)), "PNG"), "harmless"),
    "one by 60,000": ("x.png", lambda: saved(Image.new("L", (1, 60_000)), "PNG"), "either"),
}  # fmt: skip


def decoded(path: Path) -> Any:
    """Decode one image."""
    return load_image(path, SHAPE)


def npz(**members: bytes) -> bytes:
    """Return a zip file, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    """Return an array as a file, objects too."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: str, kind: str = "'|u1'", content: bytes = b"") -> bytes:
    """Return an array file with any header."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + content


def _arrays(**other: bytes) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    good = {
        "train_images.npy": npy(random.integers(0, 256, (12, 8, 8), np.uint8)),
        "train_labels.npy": npy(np.arange(12) % 2),
        "test_images.npy": npy(random.integers(0, 256, (6, 8, 8), np.uint8)),
        "test_labels.npy": npy(np.arange(6) % 2),
    }
    return good | {f"{name}.npy": content for name, content in other.items()}


def _encrypted() -> bytes:
    content = bytearray(npz(**_arrays()))
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(mark)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(mark, at + 1)
    return bytes(content)


def _squeezed(method: int) -> bytes:
    content = bytearray(npz(**_arrays()))
    for mark, place in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + place : at + place + 2] = struct.pack("<H", method)
            at = content.find(mark, at + 1)
    return bytes(content)


GIB = bytes(1 << 28)
ARRAYS: dict[str, tuple[Callable[[], bytes], Expected]] = {
    "good": (lambda: npz(**_arrays()), "harmless"),
    "pickled images": (lambda: npz(**_arrays(train_images=npy(np.array([Bomb()], object)))),
                       "refused"),
    "pickled labels": (lambda: npz(**_arrays(train_labels=npy(np.array([Bomb()] * 12, object)))),
                       "refused"),
    "a pickle in place of an array": (lambda: npz(**_arrays(train_labels=pickle.dumps(Bomb()))),
                                      "refused"),
    "a pickle in place of it all": (lambda: pickle.dumps(Bomb()), "refused"),
    "10^12 images": (lambda: npz(**_arrays(train_images=header("(1000000000000, 8, 8)"))),
                     "refused"),
    "10^30 images": (lambda: npz(**_arrays(train_images=header(f"({10**30}, 8, 8)"))), "refused"),
    "fewer than no images": (lambda: npz(**_arrays(train_images=header("(-5, 8, 8)"))), "refused"),
    "sizes that cancel out": (lambda: npz(**_arrays(train_images=header("(5000000000, 8, 8)"),
                              train_labels=header("(-320000000000,)"))), "refused"),
    "no images of 10^12 pixels": (lambda: npz(**_arrays(train_images=header(
        "(0, 1000000, 1000000)"))), "refused"),
    "a header that is code": (lambda: npz(**_arrays(train_images=header(
        "__import__('os').system('touch ran')"))), "refused"),
    "a header of brackets": (lambda: npz(**_arrays(train_images=header("(" * 9000))), "refused"),
    "a header of 60 kB": (lambda: npz(**_arrays(train_images=header("(" + "1," * 30_000 + ")"))),
                          "refused"),
    "a shape of letters": (lambda: npz(**_arrays(train_images=header("('a',)"))), "refused"),
    "a type of numpy that there is not": (lambda: npz(**_arrays(train_images=header(
        "(12, 8, 8)", "'|q9'"))), "refused"),
    "a type of 2 GB": (lambda: npz(**_arrays(train_labels=header("(12,)", "'<U500000000'"))),
                       "refused"),
    "fields": (lambda: npz(**_arrays(train_labels=npy(np.zeros(12, [("a", "i4")])))), "refused"),
    "floats": (lambda: npz(**_arrays(train_images=npy(np.full((12, 8, 8), np.nan)))), "refused"),
    "dates": (lambda: npz(**_arrays(train_labels=npy(np.zeros(12, "M8[s]")))), "refused"),
    "a bomb of zeros": (lambda: npz(**_arrays(train_images=header("(4194304, 8, 8)", "'|u1'",
                        GIB))), "refused"),
    "less than its header says": (lambda: npz(**_arrays(train_images=header("(12, 8, 8)"))),
                                  "refused"),
    "one name twice for numpy": (lambda: npz(**_arrays(), train_images=header(
        "(2000000000, 8, 8)")), "harmless"),
    "encrypted": (_encrypted, "refused"),
    "an unknown compression": (lambda: _squeezed(97), "refused"),
    "the wrong compression": (lambda: _squeezed(14), "refused"),
    "no zip": (lambda: b"PK\x03\x04" + bytes(100), "refused"),
    "version 9": (lambda: npz(**_arrays(train_images=b"\x93NUMPY\x09\0" + bytes(200))),
                  "refused"),
    "labels with escape sequences": (lambda: npz(**_arrays(train_labels=npy(np.array(
        ["\x1b[31mred", "\u202eevil"] * 6)), test_labels=npy(np.array(
            ["\x1b[31mred", "\u202eevil"] * 3)))), "harmless"),
    "labels of a billion": (lambda: npz(**_arrays(train_labels=npy(np.arange(12) * 10**9))),
                            "refused"),
    "as many labels again": (lambda: npz(**_arrays(train_labels=npy(np.arange(24) % 2))),
                             "refused"),
}  # fmt: skip
ANSWERS: dict[str, tuple[Callable[[], dict[str, bytes]], Expected]] = {
    "good": (lambda: {"logits": npy(np.zeros((4, 2), np.float32)), "labels": npy(np.arange(4) % 2)},
             "harmless"),
    "pickled": (lambda: {"logits": npy(np.array([Bomb()], object)), "labels": npy(np.zeros(1))},
                "refused"),
    "10^12 of them": (lambda: {"logits": header("(1000000000000, 8)", "'<f4'"),
                               "labels": npy(np.zeros(1, int))}, "refused"),
    "a bomb of zeros": (lambda: {"logits": header("(8388608, 8)", "'<f4'", GIB),
                                 "labels": npy(np.zeros(1, int))}, "refused"),
    "fewer than none": (lambda: {"logits": header("(-5, 8)", "'<f4'"),
                                 "labels": npy(np.zeros(1, int))}, "refused"),
    "not finite": (lambda: {"logits": npy(np.full((4, 2), np.nan)), "labels": npy(np.arange(4))},
                   "refused"),
    "other names": (lambda: {"x": npy(np.zeros(3))}, "refused"),
    "no arrays": (lambda: {"logits": b"no array", "labels": b"none"}, "refused"),
    "numbers of no shape": (lambda: {"logits": npy(np.float32(1)), "labels": npy(np.int64(1))},
                            "refused"),
}  # fmt: skip


def load_arrays(path: Path) -> Any:
    """Load an ``.npz`` of images."""
    return load_npz(path, Target(None, None, 64), memory_limit=LIMIT,
                    test_fraction=0.5, split_seed=0)  # fmt: skip


def _folder_of(make: Callable[[Path], None]) -> Callable[[Path, Any], Path]:
    """Return what makes a folder of two classes with something strange in one of them."""

    def build(folder: Path, _: Any) -> Path:
        for name in ("a", "b"):
            (folder / "data" / name).mkdir(parents=True)
            for i in range(4):
                Image.effect_noise((12, 12), 50 + i).save(folder / "data" / name / f"{i}.png")
        make(folder / "data")
        return folder / "data"

    return build


def _bytes_name(folder: Path) -> None:
    with open(os.fsencode(folder / "a") + b"/\xff\xfe.png", "wb") as file:
        file.write(GOOD_PNG)


def _deep(folder: Path) -> None:
    here = folder / "a"
    for _ in range(60):
        here = here / "deeper"
    here.mkdir(parents=True)
    (here / "x.png").write_bytes(GOOD_PNG)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "a link out of the folder": lambda f: (f / "a" / "x.png").symlink_to("../../../outside/victim"),
    "a link to itself": lambda f: (f / "a" / "x.png").symlink_to("x.png"),
    "a link to a folder above": lambda f: (f / "a" / "x").symlink_to(".."),
    "a FIFO": lambda f: os.mkfifo(f / "a" / "x.png"),
    "a FIFO beside the classes": lambda f: os.mkfifo(f / "x.png"),
    "a device": lambda f: (f / "a" / "x.png").symlink_to("/dev/zero"),
    "a folder with the name of an image": lambda f: (f / "a" / "x.png").mkdir(),
    "a name that is no UTF-8": _bytes_name,
    "a name of escape sequences": lambda f: (f / "a" / "\x1b[31m\n.png").write_bytes(b""),
    "a name of markup": lambda f: (f / "a" / "<img src=x onerror=y>[red].png").write_bytes(b""),
    "a formula for a name": lambda f: (f / "a" / "=cmd().png").write_bytes(GOOD_PNG),
    "60 folders deep": _deep,
    "50 GiB of nothing": lambda f: sparse("x.png")(f / "a", None) and None,
}


def inspect_folder(path: Path) -> Any:
    """Look at a folder of images, then predict it with a run."""
    return command("inspect", path)


def predict_folder(path: Path) -> Any:
    """Predict all that is in a folder, in each form of output."""
    from .warm import base_run

    for form in ("csv", "json"):
        command("predict", base_run(), path, "--format", form)
    return command("predict", base_run(), path)


def _kinds() -> list[Kind]:
    found = [
        Kind(f"image: {what}", written(name, make()), decoded, expected)
        for what, (name, make, expected) in IMAGES.items()
    ]
    found += [
        Kind(f"npz: {what}", lambda f, _, m=make: written("x.npz", m())(f, _), load_arrays, wanted)
        for what, (make, wanted) in ARRAYS.items()
    ]
    for what, (members, wanted) in ANSWERS.items():

        def said(folder: Path, _: Any, members: Any = members) -> Path:
            content = npz(**{f"{name}.npy": array for name, array in members().items()})
            return written("p.npz", content)(folder, _)

        found.append(Kind(f"predictions: {what}", said, read_predictions, wanted))
    for group, name, read in (
        ("image", "x.png", decoded), ("npz", "x.npz", load_arrays),
        ("predictions", "p.npz", read_predictions),
    ):  # fmt: skip
        found.append(Kind(f"{group}: a FIFO for a file", fifo(name), read))
        found.append(Kind(f"{group}: 50 GiB of nothing", sparse(name), read))
    found.append(
        Kind("image: a FIFO that is named", fifo("x.png"), lambda path: find_images([path]))
    )
    for what, change in FOLDERS.items():
        wanted: Expected = "refused" if what == "a FIFO beside the classes" else "harmless"
        found.append(Kind(f"folder: {what}", _folder_of(change), inspect_folder, wanted))
        found.append(Kind(f"predict: {what}", _folder_of(change), predict_folder, "either"))
    return found


KINDS = _kinds()
