"""Made-up trees in the exact layouts of published data sets, small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .support import age

CELEBA_ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]


def picture(path: Path, label: int, seed: int, size: tuple[int, int] = (12, 14)) -> Path:
    """Write an image of ``size`` (H, W) whose colour says its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([label, seed]).normal(50 + 60 * (label % 4), 20, (*size, 3))
    pixels[..., label % 3] += 40
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return age(path)


def write_lists(
    root: Path, lists: Mapping[str, Sequence[tuple[str, int]]], *, images: bool = True
) -> Path:
    """Write list files, and the images that they name."""
    root.mkdir(parents=True, exist_ok=True)
    for name, rows in lists.items():
        text = "".join(f"{path} {label}\n" for path, label in rows)
        (root / name).write_text(text, encoding="utf-8")
        for i, (path, label) in enumerate(rows) if images else ():
            picture(root / path, label, hash_of(path, i))
    return root


def hash_of(path: str, i: int) -> int:
    """Return a number for an image's path that no run of Python changes."""
    return sum(map(ord, path)) * 1000 + i


def imagenet_lt(root: Path, flat_val: bool = False) -> Path:
    """Write ImageNet-LT's layout with 3 classes: 6, 4 and 2 training images."""
    wnids = ("n01440764", "n01443537", "n01484850")
    train = [(f"train/{w}/{w}_{i}.JPEG", c) for c, w in enumerate(wnids) for i in range(6 - 2 * c)]
    val = [(f"train/{w}/{w}_{100 + i}.JPEG", c) for c, w in enumerate(wnids) for i in range(2)]
    test = [
        (f"val/{'' if flat_val else w + '/'}ILSVRC2012_val_{c:04}{i:04}.JPEG", c)
        for c, w in enumerate(wnids)
        for i in range(2)
    ]
    names = ("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt")
    return write_lists(root, dict(zip(names, (train, val, test), strict=True)))


def places_lt(root: Path, second_layout: bool) -> Path:
    """Write Places-LT in one of its two layouts, with 3 classes: 6, 4 and 2 training images."""
    places = ("airfield", "airplane_cabin", "badlands")
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
    for c, place in enumerate(places):
        folder = f"data_256/{place[0]}/{place}" if second_layout else f"train/{place}"
        rows["train"] += [(f"{folder}/{i:08}.jpg", c) for i in range(6 - 2 * c)]
        rows["val"] += [(f"{folder}/{100 + i:08}.jpg", c) for i in range(2)]
        folder = "val_256" if second_layout else f"val/{place}"
        rows["test"] += [(f"{folder}/Places365_val_{c:04}{i:04}.jpg", c) for i in range(2)]
    return write_lists(root, {f"Places_LT_{split}.txt": part for split, part in rows.items()})


def inat2018(root: Path) -> Path:
    """Write iNaturalist 2018's layout with 3 classes, in no order, as its lists are."""
    kinds = ("Plantae", "Insecta", "Aves")
    train = [
        (f"train_val2018/{k}/{c}/{c:04x}{i:04x}d8.jpg", c)
        for i in range(6)
        for c, k in enumerate(kinds)
        if i < 6 - 2 * c
    ]
    val = [
        (f"train_val2018/{k}/{c}/{c:04x}{i:04x}f0.jpg", c)
        for i in range(2)
        for c, k in enumerate(kinds)
    ]
    return write_lists(root, {"iNaturalist18_train.txt": train, "iNaturalist18_val.txt": val})


def celeba(root: Path, n: int = 1000, images: bool = True) -> Path:
    """Write CelebA's layout: attributes, partition and images that someone has chosen of them."""
    root.mkdir(parents=True, exist_ok=True)
    order = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair", "Bald")
    rows = [f"{n}", " ".join(CELEBA_ATTRIBUTES) + " "]
    for i in range(n):
        has = {order[i % 5]} | ({"Brown_Hair", "Black_Hair"} if i % 50 == 0 else set())
        flags = [" 1" if a in has else "-1" for a in CELEBA_ATTRIBUTES]
        rows.append(f"{i + 1:06}.jpg {' '.join(flags)}")
        if images:
            picture(root / "img_align_celeba" / f"{i + 1:06}.jpg", i % 5, i, (11, 9))
    (root / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    parts = [f"{i + 1:06}.jpg {min(2, i * 3 // n)}" for i in range(n)]
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n", encoding="utf-8")
    return root


def medmnist(path: Path, colour: bool = False, side: int = 28) -> Path:
    """Write an .npz file in MedMNIST's layout: 3 classes of 12, 6 and 3 training images."""
    draw = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, sizes in (("train", (12, 6, 3)), ("val", (2, 2, 2)), ("test", (3, 3, 3))):
        labels = np.repeat(np.arange(3), sizes)
        shape = (len(labels), side, side) + (3,) * colour
        centre = labels.reshape(-1, *[1] * (len(shape) - 1)) * 70 + 50
        arrays[f"{split}_images"] = draw.normal(centre, 20, shape).clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def fashion_mnist(root: Path, sizes: Sequence[int] = (40, 40)) -> Path:
    """Write FashionMNIST as torchvision keeps it: idx files of 10 balanced classes."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, n in zip(("train", "t10k"), sizes, strict=True):
        labels = (np.arange(n) % 10).astype(np.uint8)
        pixels = draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        head = np.array([0x0803, n, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = np.array([0x0801, n], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return root


def eurosat(root: Path) -> Path:
    """Write EuroSAT as torchvision keeps it: a folder per class, no split."""
    for c, name in enumerate(("AnnualCrop", "Forest", "River")):
        for i in range(10):
            picture(root / "eurosat" / "2750" / name / f"{name}_{i}.jpg", c, i, (64, 64))
    return root


def textures(root: Path) -> Path:
    """Write the Describable Textures as torchvision keeps them: three lists of a partition."""
    top = root / "dtd" / "dtd"
    (top / "labels").mkdir(parents=True)
    for s, split in enumerate(("train", "val", "test")):
        names = [f"{k}/{k}_{s}{i}.jpg" for k in ("banded", "dotted") for i in range(4)]
        (top / "labels" / f"{split}1.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            picture(top / "images" / name, i // 4, 10 * s + i, (30, 40))
    return root
