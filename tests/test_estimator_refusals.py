"""What the classifier refuses or warns of, and that it leaves nothing behind."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import purenoise as pn
from purenoise.errors import DataError, ModelError, PureNoiseError, TrainingError

from .estimatordata import X, Y, quick


def test_parameters_are_refused_all_at_once():
    """Every parameter that cannot be used is named as the classifier calls it, with what may be."""
    net = pn.OPeNClassifier(
        "smal_cnn", "opne", epochs=0, batch_size=2.5, lr=-1, augment="crp", delta=2,
        val_fraction=1, device="gpu", random_state=2**40, threads=0, schedule="cosin",
    )  # fmt: skip
    with pytest.raises(PureNoiseError) as caught:
        net.fit(X, Y)
    text = str(caught.value)
    assert text.startswith("OPeNClassifier has 12 parameters that cannot be used:\n")
    for sentence in (
        "model: There is no model 'smal_cnn'. Did you mean 'small_cnn'?",
        "method: Method 'opne' is not known. Did you mean 'open'?",
        "epochs: must be at least 1, got 0",
        "batch_size: must be a whole number, got 2.5",
        "lr: must be above 0, got -1",
        "augment: There is no augmentation 'crp'. Did you mean 'crop'?",
        "delta: must be at most 1, got 2",
        "val_fraction: must be below 1, got 1",
        "device: must be auto, cpu, cuda, cuda:N or mps, got 'gpu'",
        "random_state: must be below 4294967296, got 1099511627776",
        "threads: must be a whole number from 1 on, or auto, got 0",
        "schedule: must be 'step', 'cosine' or 'constant', got 'cosin'. Did you mean 'cosine'?",
    ):
        assert f"\n  - {sentence}" in text


FLAT = X.reshape(len(X), -1)


@pytest.mark.parametrize(
    ("parameters", "data", "labels", "error", "sentence"),
    [
        ({}, FLAT, Y, DataError,
         "X has rows of 64 numbers, and image_shape is not set.\nIs it (8, 8)? Give"),
        ({"image_shape": (8, 9)}, FLAT, Y, DataError,
         "image_shape=(8, 9) holds 72 numbers, and the rows of X have 64.\nIs it (8, 8)?"),
        ({"image_shape": (8,)}, FLAT, Y, DataError,
         "image_shape is (8,), and must be (height, width) or (height, width, channels)"),
        ({"image_shape": "atuo"}, FLAT, Y, DataError, "image_shape is 'atuo', and must be (height"),
        ({"image_shape": "auto"}, X, Y, DataError, "image_shape='auto' is for rows (N, F), and"),
        ({"image_shape": (9, 9)}, X, Y, DataError,
         "image_shape=(9, 9) was given, and the images in X are (8, 8)."),
        ({}, X[Y == 3], Y[Y == 3], DataError, "y has one class only, 3: there is nothing to tell"),
        ({}, np.zeros((4, 8, 8)), [0, 1, 0, 1], DataError, "All numbers in X are 0: nothing to"),
        ({}, np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], DataError, "one and the same colour"),
        ({}, np.zeros((4, 3, 8, 8)), [0, 1, 0, 1], DataError, "seem to have their 3 channels"),
        ({}, np.zeros((4, 2, 2, 2, 2)), [0, 1, 0, 1], DataError, "which is no array of images"),
        ({}, [X[0], X[1, :4]], [0, 1], DataError, "X is a list of arrays of different shapes."),
        ({}, np.array([-1.7e308, 1.7e308] + [0] * 14).reshape(4, 2, 2), [0, 1, 0, 1], DataError,
         "which no scale can hold"),
        ({}, np.arange(16).reshape(4, 2, 2), [0, 1, 0, 1], ModelError,
         "small_cnn cannot take images of 2 x 2 pixels"),
        ({"model": "torchvision:resnet18"}, X, Y, ModelError,
         "Give np.repeat(X.reshape(-1, 8, 8, 1), 3, axis=-1) without image_shape, or choose"),
        ({"model": "torchvision:resnet18", "image_shape": (4, 8, 2)}, FLAT, Y, ModelError,
         "Give images of shape (N, H, W, 3), or choose a model of timm"),
        ({"model": "timm:test_vit"}, X, Y, ModelError, "should be divisible by patch size"),
        ({"model": "timm:resnet19"}, X, Y, ModelError, "timm has no model 'resnet19'.\nDid"),
        ({"batch_size": 1}, np.arange(48).reshape(3, 4, 4), [0, 0, 1], TrainingError,
         "A batch has one natural image, too few for the batch norm"),
        ({"lr": 1e30}, X, Y, TrainingError, "The loss is"),
        ({}, np.where(X[:, None] > 9, np.nan, 0), Y, ValueError, "contains NaN"),
        ({}, X, Y + 0.5, ValueError, "Unknown label type: continuous"),
        ({}, X, Y[:5], ValueError, "inconsistent numbers of samples"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_fitted(parameters, data, labels, error, sentence):
    """What cannot be trained on is refused by a sentence, and nothing counts as fitted."""
    net = quick(**parameters)
    with pytest.raises(error) as caught:
        net.fit(data, labels)
    assert sentence in str(caught.value)
    assert not re.search(r"\b(train|data)\.", str(caught.value))  # no key of a recipe
    assert not hasattr(net, "model_")


@pytest.mark.parametrize(
    ("fitted", "given", "sentence"),
    [
        (X, FLAT[:5], "X has shape (5, 64), and the classifier was fitted on images of shape"),
        (X, X[0], "a single image is X[None]"),
        (X, X[:5, :7], "X has shape (5, 7, 8)"),
        (X, X[:5] / 255, "X is float64, and the classifier was fitted on uint8 levels"),
        (X, X[:5].astype(int) + 300, "X is int64, and the classifier was fitted on uint8 levels"),
        (
            X / 255,
            X[:5],
            "X holds uint8 levels, and the classifier was fitted on numbers in [0, 1]",
        ),
        (X / 255, X[:5] + 0.0, "X reaches from 0 to 255, and the classifier was fitted on numbers"),
        (X + 0.0, X[:5] / 255, "All numbers in X lie in [0, 1], and the classifier was fitted on"),
    ],
)
def test_images_of_another_form_are_refused(fitted, given, sentence):
    """What is predicted must have the form and the kind of numbers that were fitted."""
    net = quick(epochs=1).fit(fitted, Y)
    with pytest.raises(DataError) as caught:
        net.predict(given)
    assert sentence in str(caught.value)


def test_the_hint_on_channels_works():
    """What a user is told to do with grey images, for a model of three channels, can be done."""
    with pytest.raises(ModelError) as caught:
        quick(model="torchvision:resnet18", image_shape=(8, 8)).fit(FLAT, Y)
    told = re.search(r"Give (np\.repeat\(.*\)) without", caught.value.hint)[1]
    colour = eval(told, {"np": np, "X": FLAT})
    net = quick(model="torchvision:resnet18", epochs=1).fit(colour, Y)
    assert net.predict(colour[:3]).shape == (3,)


def test_a_fit_that_fails_leaves_nothing_behind():
    """After a fit that failed the classifier is not fitted, whatever it was before."""
    net = quick(epochs=1).fit(X, Y)
    with pytest.raises(DataError):
        net.fit(X[Y == 3], Y[Y == 3])
    for method in (net.predict, net.predict_proba, net.decision_function):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            method(X)


def test_outputs_that_are_not_finite_are_refused():
    """A network that went astray in its last step predicts nothing."""
    net = quick(epochs=1).fit(X, Y)
    with torch.no_grad():
        net.model_.fc.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="outputs are not finite"):
        net.predict(X)


def test_what_a_user_should_know_is_a_warning():
    """A network without batch norm learns from noise without DAR-BN, and a warning says so."""
    large = X.repeat(4, 1).repeat(4, 2)  # (N, 32, 32)
    with pytest.warns(UserWarning, match="no batch norm: it learns from noise without DAR-BN"):
        quick(model="timm:test_convnext", epochs=1).fit(large, Y)
