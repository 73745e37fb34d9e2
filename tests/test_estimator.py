"""OPeNClassifier: scikit-learn's own checks, its tools around it, its forms of input, mistakes."""

from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import purenoise as pn
from purenoise.data.digits import load_digits
from purenoise.errors import DataError, ModelError, PureNoiseError, RunError, TrainingError
from purenoise.metrics import probabilities

# Checks of scikit-learn that fail, each with its reason; five at most. docs/inloop.md lists them.
EXPECTED_FAILURES: dict[str, str] = {}
ARRAY_API = "check_array_api_input"  # runs only with a variable that is read at import: see below

CHECKED = pn.OPeNClassifier(
    image_shape="auto", epochs=4, batch_size=32, augment="none", random_state=0
)
CHECKS = [
    pytest.param(estimator, check, id=f"{getattr(check, 'func', check).__name__}-{number}")
    for number, (estimator, check) in enumerate(
        estimator_checks_generator(CHECKED, expected_failed_checks=EXPECTED_FAILURES, mark="xfail")
    )
    if getattr(check, "func", check).__name__ != ARRAY_API
]
COUNTS = [60, 40, 25, 16, 10, 8, 6, 5, 4, 3]


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return long-tailed training digits and balanced test digits; images are uint8 (N, 8, 8)."""
    data = load_digits()
    train = data.train.subset(pn.long_tail_subset(data.train.labels, COUNTS))
    return (train.images.array[:, 0], train.labels, data.test.images.array[:, 0],
            data.test.labels)  # fmt: skip


X, Y, X_TEST, Y_TEST = digits()


def quick(**parameters: object) -> pn.OPeNClassifier:
    """Return a classifier that is fitted in a moment."""
    return pn.OPeNClassifier(**({"epochs": 2, "random_state": 0, "threads": 1} | parameters))


def numpy_state() -> np.ndarray:
    """Return the state of numpy's global generator."""
    return np.random.get_state()[1].copy()  # noqa: NPY002 - that it is left alone is the point


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn_checks(estimator, check):
    """Each check of scikit-learn passes, for rows that are laid out as images."""
    check(estimator)


def test_no_check_is_left_out():
    """All checks that scikit-learn has are run, few are expected to fail, none is skipped."""
    names = Counter(getattr(c, "func", c).__name__ for _, c in estimator_checks_generator(CHECKED))
    assert len(CHECKS) + names[ARRAY_API] == sum(names.values())
    assert names["check_classifiers_train"] == 3
    assert len(EXPECTED_FAILURES) <= 5
    assert EXPECTED_FAILURES.keys() <= names.keys()


def test_array_api_check_passes():
    """The check that needs scipy's switch for other array libraries passes where it is on."""
    code = (
        "import sys, purenoise as pn\n"
        "from sklearn.utils.estimator_checks import estimator_checks_generator\n"
        "net = pn.OPeNClassifier(image_shape='auto', epochs=1, random_state=0)\n"
        "found = [(e, c) for e, c in estimator_checks_generator(net)"
        " if getattr(c, 'func', c).__name__ == sys.argv[1]]\n"
        "[check(estimator) for estimator, check in found]\n"
        "print(len(found))\n"
    )
    env = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(pn.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, ARRAY_API],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) >= 1


def test_forms_of_the_same_images_agree():
    """Images, images with channels, rows, float levels / 255: bit for bit the same network."""
    wanted = quick().fit(X, Y).decision_function(X_TEST)
    rows, tests = X.reshape(len(X), -1), X_TEST.reshape(len(X_TEST), -1)
    forms = [
        (quick(), X[..., None], X_TEST[..., None]),
        (quick(image_shape=(8, 8)), rows, tests),
        (quick(image_shape=(8, 8, 1)), pd.DataFrame(rows), pd.DataFrame(tests)),
        (quick(), X / 255, X_TEST / np.float32(255)),
        (quick(), (X / 255).tolist(), (X_TEST / 255).tolist()),
        (quick(), torch.from_numpy(X), torch.from_numpy(X_TEST)),
        (quick(image_shape=(8, 8)), 3.0 * rows - 7, 3.0 * tests - 7),  # the range is learnt
    ]
    for net, train, test in forms:
        assert np.array_equal(net.fit(train, Y).decision_function(test), wanted)


def test_colour_images_and_other_models():
    """Channels come last, as many as there are; models of other libraries go by their names."""
    colour = np.stack([X, 255 - X, X // 2], axis=-1)
    net = quick(model="torchvision:resnet18", epochs=1).fit(colour, Y)
    assert net.model_.conv1.in_channels == 3
    assert net.n_features_in_ == 8 * 8 * 3
    assert net.predict_proba(colour[:5]).shape == (5, 10)


@pytest.mark.parametrize("kind", [str, float, lambda c: -c, lambda c: f"class {c}"])
def test_labels_of_any_type(kind):
    """Predictions are labels as they were given, in their type; classes_ are sorted."""
    labels = np.array([kind(c) for c in Y.tolist()])
    net = quick().fit(X, labels)
    assert net.classes_.tolist() == sorted(set(labels.tolist()))
    assert net.predict(X_TEST).dtype == labels.dtype
    assert set(net.predict(X_TEST)) <= set(labels)


def test_scores_agree():
    """Labels, probabilities and logits say the same, in the order of classes_."""
    net = quick(epochs=6).fit(X, Y)
    logits, p = net.decision_function(X_TEST), net.predict_proba(X_TEST)
    assert np.allclose(p, probabilities(logits), atol=1e-7)
    assert np.array_equal(net.predict(X_TEST), net.classes_[logits.argmax(1)])
    assert net.score(X_TEST, Y_TEST) == np.mean(net.predict(X_TEST) == Y_TEST)
    two = np.isin(Y, (0, 3))
    net.fit(X[two], Y[two])
    margin = net.decision_function(X_TEST)
    assert margin.shape == (len(X_TEST),)
    assert np.allclose(net.predict_proba(X_TEST)[:, 1], 1 / (1 + np.exp(-margin)), atol=1e-6)
    assert np.array_equal(net.predict(X_TEST), np.where(margin > 0, 3, 0))


def test_open_happens_and_leaves_a_plain_network():
    """Noise is seen in the second phase only, and what is kept has ordinary batch norms."""
    net = quick(epochs=4, defer=0.5, val_fraction=0.2).fit(X, Y)
    noise = [record["noise_rows"] for record in net.history_]
    assert noise[:2] == [0, 0]
    assert min(noise[2:]) > 10
    norms = {type(m) for m in net.model_.modules() if "Norm" in type(m).__name__}
    assert norms == {torch.nn.BatchNorm2d}
    assert not net.model_.training
    assert net.n_iter_ == len(net.history_) == 4
    held = sum(net.history_[-1]["val"]["n_test"])
    assert held == sum(min(round(0.2 * n), n - 1) for n in COUNTS)


def test_method_is_that_of_the_recipes():
    """Another method is another second phase: drs has no noise, erm no second phase."""
    for method in ("drs", "erm", "balanced-softmax", "open+ldam"):
        history = quick(method=method, epochs=4).fit(X, Y).history_
        assert [record["phase"] for record in history][-1] == (method in ("drs", "open+ldam"))
        assert (history[-1]["noise_rows"] > 0) == method.startswith("open")
    with pytest.warns(UserWarning, match="they are favoured twice"):
        quick(method="open+ldam-drw", epochs=4).fit(X, Y)


def test_same_seed_same_network():
    """A seed gives the network again, whatever the global generators do, and leaves them alone."""
    torch.manual_seed(5)
    before = torch.get_rng_state(), numpy_state()
    first = quick().fit(X, Y).decision_function(X_TEST)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], numpy_state())
    torch.manual_seed(6)
    assert np.array_equal(quick().fit(X, Y).decision_function(X_TEST), first)
    assert not np.array_equal(quick(random_state=1).fit(X, Y).decision_function(X_TEST), first)
    drawn = [
        quick(random_state=np.random.RandomState(3)).fit(X, Y).decision_function(X_TEST)
        for _ in range(2)
    ]
    assert np.array_equal(*drawn)


def test_threads_are_given_back():
    """Fitting with a number of threads of its own leaves torch's as it was."""
    before = torch.get_num_threads()
    quick(threads=1).fit(X, Y)
    assert torch.get_num_threads() == before


def test_round_trips_keep_predictions(tmp_path):
    """Pickle and joblib give back a classifier that predicts the same; a clone is not fitted."""
    net = quick().fit(X, Y)
    wanted = net.predict_proba(X_TEST)
    assert np.array_equal(pickle.loads(pickle.dumps(net)).predict_proba(X_TEST), wanted)
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    assert np.array_equal(joblib.load(stream).predict_proba(X_TEST), wanted)
    assert clone(net).get_params() == net.get_params()
    assert not hasattr(clone(net), "model_")
    assert clone(net).set_params(delta=0.5, method="drs").delta == 0.5


def test_works_in_pipelines_and_cross_validation():
    """Steps before it may scale rows or shape images; cross-validation fits it anew."""
    rows = X.reshape(len(X), -1)
    scaled = make_pipeline(StandardScaler(), quick(image_shape=(8, 8)))
    assert scaled.fit(rows, Y).predict(rows).shape == Y.shape
    shaped = make_pipeline(FunctionTransformer(lambda r: r.reshape(-1, 8, 8)), quick(epochs=12))
    scores = cross_val_score(shaped, rows, Y, cv=3, scoring="balanced_accuracy")
    assert scores.shape == (3,)
    assert scores.min() > 0.2  # chance is 0.1


def test_grid_search_in_two_processes():
    """A search over method and delta in two processes finds what one process finds."""
    grid = [{"method": ["erm"]}, {"method": ["open"], "delta": [0.0, np.float64(1 / 3)]}]
    common = {"cv": 2, "scoring": "balanced_accuracy"}
    one, two = (
        GridSearchCV(quick(epochs=8), grid, n_jobs=n, **common).fit(X, Y) for n in (None, 2)
    )
    scores = [search.cv_results_["mean_test_score"] for search in (one, two)]
    assert np.allclose(*scores, atol=1e-6)
    assert len(set(scores[0])) > 1
    assert two.best_params_ == one.best_params_
    assert two.predict(X_TEST).shape == Y_TEST.shape


def test_feature_names_are_kept_and_checked():
    """Columns of a table are named; another table is refused by scikit-learn's own sentence."""
    table = pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel")
    net = quick(image_shape=(8, 8)).fit(table, Y)
    assert net.feature_names_in_[:2].tolist() == ["pixel0", "pixel1"]
    with pytest.raises(ValueError, match="feature names should match"):
        net.predict(table[table.columns[::-1]])


def test_run_folder_is_written_only_if_asked_for(tmp_path, monkeypatch):
    """With out= there is a run that other commands read, and the result is the same to the bit."""
    monkeypatch.chdir(tmp_path)
    kept, free = quick(out="run").fit(X, Y), quick().fit(X, Y)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert np.array_equal(kept.decision_function(X_TEST), free.decision_function(X_TEST))
    losses = [[record["loss"] for record in net.history_] for net in (kept, free)]
    assert losses[0] == losses[1]
    assert kept.history_[0].keys() == free.history_[0].keys()
    again = quick(out="run").fit(X, Y)  # reads what is finished
    assert again.history_ == kept.history_
    assert np.array_equal(again.decision_function(X_TEST), free.decision_function(X_TEST))
    with pytest.raises(RunError, match="a finished run of other images or labels than X and y"):
        quick(out="run").fit(X[:-1], Y[:-1])
    with pytest.raises(RunError, match="holds a run of another recipe"):
        quick(out="run", delta=0.1).fit(X, Y)


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


def test_verbose_prints_the_course(capsys):
    """With verbose phases and epochs are printed, without it nothing is."""
    quick().fit(X, Y)
    assert capsys.readouterr().out == ""
    quick(verbose=True).fit(X, Y)
    out = capsys.readouterr().out
    assert "from epoch 2: class-balanced sampling, noise: open" in out
    assert "epoch 2/2: loss " in out


def test_what_a_user_should_know_is_a_warning():
    """A network without batch norm learns from noise without DAR-BN, and a warning says so."""
    large = X.repeat(4, 1).repeat(4, 2)  # (N, 32, 32)
    with pytest.warns(UserWarning, match="no batch norm: it learns from noise without DAR-BN"):
        quick(model="timm:test_convnext", epochs=1).fit(large, Y)


@pytest.mark.long
def test_open_helps_rare_classes():
    """On long-tailed digits OPeN has the better balanced accuracy than plain training, in mean."""

    def score(method: str, seed: int) -> float:
        net = pn.OPeNClassifier(method=method, random_state=seed, threads=1).fit(X, Y)
        return balanced_accuracy_score(Y_TEST, net.predict(X_TEST))

    means = {m: np.mean([score(m, seed) for seed in range(5)]) for m in ("erm", "open")}
    assert means["open"] > means["erm"]
