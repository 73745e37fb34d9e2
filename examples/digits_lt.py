"""The images that the examples train on: scikit-learn's digits, made long-tailed. No network."""

import purenoise as pn
from purenoise.data.digits import load_digits

MEAN, STD = [0.3], [0.37]  # the constants with which the examples normalise, in [0, 1]


def long_tailed_digits(imbalance_ratio=40):
    """Return training images and labels, test images and labels; images are uint8 (N, 1, 8, 8)."""
    digits = load_digits()
    train, test = digits.train, digits.test
    n_max = int(digits.counts().min())
    counts = pn.imbalanced_counts("exp", n_max, digits.n_classes, imbalance_ratio)
    train = train.subset(pn.long_tail_subset(train.labels, counts))
    return train.images.array, train.labels, test.images.array, test.labels
