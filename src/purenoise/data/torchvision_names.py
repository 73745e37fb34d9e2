"""Which of torchvision's data sets are for classification, and how each one names its splits.

A table, because torchvision has no word for either: some sets take ``train=``, some ``split=`` with
names of their own, some have no split at all. A test holds it against the signatures. Imports
nothing heavy, so that a recipe can be checked without torch.
"""

from __future__ import annotations

from typing import Any

from purenoise.errors import RecipeError, did_you_mean

Options = dict[str, Any]


def _flag(**rest: Any) -> dict[str, Options]:
    """Return the splits of a set that takes ``train=``."""
    return {"train": {"train": True, **rest}, "test": {"train": False, **rest}}


def _named(train: str = "train", test: str = "test", val: str = "") -> dict[str, Options]:
    """Return the splits of a set that takes ``split=``."""
    names = {"train": train, "val": val, "test": test}
    return {split: {"split": name} for split, name in names.items() if name}


_WHOLE: dict[str, Options] = {"train": {}}  # no split: a part is set aside

# Set: split (train, val, test) to the keyword arguments that choose it.
SPLITS: dict[str, dict[str, Options]] = {
    "CIFAR10": _flag(),
    "CIFAR100": _flag(),
    "CLEVRClassification": _named(test="val"),
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "Country211": _named(val="valid"),
    "DTD": _named(val="val"),
    "EMNIST": _flag(split="balanced"),
    "EuroSAT": _WHOLE,
    "FER2013": _WHOLE,  # the labels of its test images are not in every copy
    "FGVCAircraft": _named(val="val"),
    "FashionMNIST": _flag(),
    "Flowers102": _named(val="val"),
    "Food101": _named(),
    "GTSRB": _named(),
    "ImageNet": _named(test="val"),
    "Imagenette": _named(test="val"),
    "KMNIST": _flag(),
    "LFWPeople": _named(),
    "MNIST": _flag(),
    "OxfordIIITPet": _named(train="trainval"),
    "PCAM": _named(val="val"),
    "Places365": _named(train="train-standard", test="val"),
    "QMNIST": _flag(),
    "RenderedSST2": _named(val="val"),
    "SEMEION": _WHOLE,
    "STL10": _named(),
    "SUN397": _WHOLE,
    "SVHN": _named(),
    "StanfordCars": _named(),
    "USPS": _flag(),
}
_GENERIC = "it is a base for folders of one's own: give data=FOLDER"
_VIDEO, _STEREO, _FLOW = "it holds videos", "it is for stereo matching", "it is for optical flow"
REFUSED: dict[str, str] = {
    "CarlaStereo": _STEREO, "CREStereo": _STEREO, "ETH3DStereo": _STEREO,
    "FallingThingsStereo": _STEREO, "InStereo2k": _STEREO, "Kitti2012Stereo": _STEREO,
    "Kitti2015Stereo": _STEREO, "Middlebury2014Stereo": _STEREO, "SceneFlowStereo": _STEREO,
    "SintelStereo": _STEREO,
    "FlyingChairs": _FLOW, "FlyingThings3D": _FLOW, "HD1K": _FLOW, "KittiFlow": _FLOW,
    "Sintel": _FLOW,
    "HMDB51": _VIDEO, "Kinetics": _VIDEO, "MovingMNIST": _VIDEO, "UCF101": _VIDEO,
    "Cityscapes": "it is for segmentation", "SBDataset": "it is for segmentation",
    "VOCSegmentation": "it is for segmentation",
    "CocoDetection": "it is for detection", "Kitti": "it is for detection",
    "VOCDetection": "it is for detection", "WIDERFace": "it is for detection",
    "CocoCaptions": "it holds captions", "Flickr30k": "it holds captions",
    "Flickr8k": "it holds captions", "SBU": "it holds captions",
    "CelebA": "its images have many labels each; its five hair colours are data=celeba5",
    "INaturalist": "of its years, 2018 is the long-tailed benchmark: data=inat2018",
    "LFWPairs": "it compares pairs of images", "PhotoTour": "it compares pairs of images",
    "LSUN": "it needs the package lmdb and has no test labels",
    "LSUNClass": "it needs the package lmdb and has no test labels",
    "Omniglot": "its training and test images have no classes in common",
    "DatasetFolder": _GENERIC, "ImageFolder": _GENERIC, "VisionDataset": _GENERIC,
    "FakeData": "it holds no real images",
}  # fmt: skip


def check_torchvision_set(name: str) -> str:
    """Return the name of one of torchvision's data sets for classification.

    Raises:
        RecipeError: If it is unknown, or for something else.

    Example:
        >>> check_torchvision_set("SVHN")
        'SVHN'
    """
    if name in REFUSED:
        raise RecipeError(
            f"torchvision:{name} cannot be used: {REFUSED[name]}.", f"Known: {', '.join(SPLITS)}."
        )
    if name not in SPLITS:
        hint = did_you_mean(name, SPLITS)
        raise RecipeError(f"torchvision has no data set {name!r} for classification.", hint)
    return name
