"""A model card: what a network was trained on, how, what it can do, and what nobody has measured.

Source of the headings: Mitchell et al. 2019, "Model cards for model reporting". All numbers are the
run's own (``summary.json``, ``recipe.yaml``). Differs: intended use and licence are left to whoever
publishes the network, because no run knows them. A card is published: of files on the machine where
the run was made it has names alone (:mod:`private`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purenoise.datasources import SAME_CALL
from purenoise.export.manifest import Manifest
from purenoise.export.plainweights import how_to_load
from purenoise.export.private import public_line, public_notes, public_text
from purenoise.export.readalone import LINES, RULE
from purenoise.export.source import Finished
from purenoise.ourlines import is_our_line
from purenoise.recipe import Recipe
from purenoise.report.document import (
    Cell,
    Document,
    Facts,
    Lines,
    Section,
    Sentences,
    Table,
    section,
    text_cells,
)
from purenoise.report.markdown import to_markdown
from purenoise.report.wording import clean
from purenoise.terminal.tables import GROUP_RULES, percent, plural

MARK = "<!-- purenoise model card -->"
OVERALL = (
    ("accuracy %", "accuracy"), ("balanced accuracy %", "balanced_accuracy"),
    ("macro-F1 %", "macro_f1"), ("G-mean %", "g_mean"), ("worst class %", "worst_class"),
    ("calibration error (ECE) %", "ece"),
)  # fmt: skip
LIMITS = (
    "One seed. How far another seed would be from these numbers was not measured here; "
    "purenoise compare does that.",
    "Only the test images above were measured. What it says of images from elsewhere (another "
    "camera, place or time) is not known.",
    "The network always names one of its classes. What it says of images that belong to none was "
    "not tested for this card.",
    "Whether it treats groups of people differently, and how it stands up to attacks or to damaged "
    "images, was not measured.",
    "A class with few test images has a coarse number: with 10, one image is 10 points.",
)


def card_text(found: Finished, manifest: Manifest) -> str:
    """Return the model card of a finished run, or of an adjusted one, as Markdown."""
    summary = found.summary
    title = f"{manifest.model} for {plural(len(manifest.class_names), 'class', 'classes')}"
    data, method = public_text(summary["data"]), public_text(summary["method"])
    subtitle = f"Trained on {data} by {method}, seed {summary['seed']}."
    parts = (_network(manifest), _data(summary), _protocol(found), _results(summary),
             _limits(summary), _use(manifest), _environment(summary), _licence())  # fmt: skip
    return to_markdown(Document(clean(title), clean(subtitle), parts), MARK)


def _network(manifest: Manifest) -> Section:
    channels, height, width = manifest.image_shape
    pairs = (
        ("model", clean(manifest.model)),
        ("images", f"{channels} x {height} x {width} (channels, height, width)"),
        ("normalised by mean", _numbers(manifest.mean)),
        ("and standard deviation", _numbers(manifest.std)),
        ("last layer", manifest.head),
        ("SHA-256 of the weights", manifest.weights_digest),
    )
    return section("network", "Network", [Facts(pairs)])


def _data(summary: Mapping[str, Any]) -> Section:
    counts = summary["counts"]
    least = max(1, min(counts))
    pairs = (
        ("data set", clean(public_text(summary["data"]))),
        ("training images", f"{summary['n_train']:,}"),
        ("validation images", f"{summary['n_val']:,}"),
        ("test images", f"{summary['n_test']:,}"),
        ("largest and smallest class", f"{max(counts):,} and {min(counts):,} training images"),
        ("imbalance ratio", f"{max(counts) / least:.4g}"),
        ("SHA-256 of the data", str(summary["fingerprint"])),
        ("SHA-256 of the subset", str(summary["subset_sha256"] or "no subset: all images")),
    )
    return section("data", "Data", [Facts(pairs)])


def _protocol(found: Finished) -> Section:
    recipe, summary = found.recipe, found.summary
    train = recipe.train
    pairs = [
        ("method", clean(public_text(summary["method"]))),
        ("epochs", str(train.epochs)),
        ("batch size", str(train.batch_size)),
        ("optimiser", f"{train.optimizer}, learning rate {train.lr:g}, {train.schedule}"),
        ("weight decay", f"{train.weight_decay:g}"),
        ("augmentation", clean(summary["augment"])),
        ("first weights", _first_weights(recipe)),
        ("which epoch", clean(summary["selection"])),
        ("seed", str(summary["seed"])),
        ("recipe hash", str(summary["digest"])),
    ]
    notes = [clean(note) for note in public_notes(summary["notes"], recipe.model_dump(mode="json"))]
    again, line = _again(summary["command"])
    return section(
        "protocol", "Protocol",
        [Facts(tuple(pairs)), _adjusted(summary),
         Sentences(tuple(notes), "list") if notes else None,
         Sentences((again,)) if again else None,
         Lines((clean(line),)) if again else None],
    )  # fmt: skip


def _again(command: str) -> tuple[str, str]:
    """What to say before the line that made the run, and that line; nothing if it is not ours."""
    if command == SAME_CALL:
        return "The line that does this again:", command
    if not is_our_line(command):
        return "", ""
    line = public_line(command)
    where = "" if line == command else ", with the places of files as they are on your machine"
    return f"The line that does this again{where}:", line


def _first_weights(recipe: Recipe) -> str:
    if recipe.model.weights is not None:  # its place on one machine is nobody else's business
        return f"of the file {clean(Path(recipe.model.weights).name)}"
    return "published ones" if recipe.model.pretrained else "random"


def _adjusted(summary: Mapping[str, Any]) -> Sentences | None:
    how = summary.get("adjusted")
    if how is None:
        return None
    said = [f"After training the network was adjusted by {how['method']}, for class shares "
            f"'{clean(public_text(how['prior']['name']))}'; the adjustment lies in its last layer. "
            "The numbers below are those of the adjusted network.",
            *(clean(public_text(note)) for note in how["notes"])]  # fmt: skip
    return Sentences(tuple(said))


def _results(summary: Mapping[str, Any]) -> Section:
    test = summary["test"]
    if test is None:
        said = "There are no test images: nothing was measured."
        return section("results", "Results", [Sentences((said,)), _counts(summary)])
    overall = Table(
        f"All {summary['n_test']:,} test images.", ("", "value"),
        tuple(text_cells(name, percent(test[key])) for name, key in OVERALL),
    )  # fmt: skip
    groups = Table(
        "Mean accuracy of the classes in a group; n/a: no class is in it.",
        ("group", "training images", "accuracy %"),
        tuple(text_cells(g, rule, percent(test["groups"][g])) for g, rule in GROUP_RULES.items()),
    )
    rows = tuple(
        (Cell(clean(summary["class_names"][c])), Cell(f"{summary['counts'][c]:,}"),
         Cell(f"{test['n_test'][c]:,}"), Cell(percent(test["per_class"][c])))
        for c in _by_size(summary)
    )  # fmt: skip
    classes = Table("Every class, largest first.",
                    ("class", "training images", "test images", "accuracy %"), rows)  # fmt: skip
    return section("results", "Results", [overall, groups, classes])


def _counts(summary: Mapping[str, Any]) -> Table:
    rows = tuple(text_cells(clean(summary["class_names"][c]), f"{summary['counts'][c]:,}")
                 for c in _by_size(summary))  # fmt: skip
    return Table("Every class, largest first.", ("class", "training images"), rows)


def _by_size(summary: Mapping[str, Any]) -> list[int]:
    counts = summary["counts"]
    return sorted(range(len(counts)), key=lambda c: (-counts[c], c))


def _limits(summary: Mapping[str, Any]) -> Section:
    few = [clean(name) for name, n in zip(summary["class_names"], summary["counts"], strict=True)
           if n < 20]  # fmt: skip
    said = list(LIMITS)
    if few:
        shown = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        said.append(f"Fewer than 20 training images: {shown}.")
    return section("limits", "Limits, and what was not measured", [Sentences(tuple(said), "list")])


def _use(manifest: Manifest) -> Section:
    shape = tuple(manifest.image_shape)
    said = (
        "ONNX and torch.export files take float32 images in [0, 1], shape (N, channels, height, "
        "width), of the size above, and give logits; normalisation is inside.",
        "The weights are those of the plain model, whose input is to be normalised with the "
        "constants above:",
    )
    scaled = (
        f"{RULE} In Python, with Pillow and NumPy alone, for one file and the shape {shape}:",
    )
    return section("use", "Use", [Sentences(said), Lines(how_to_load(manifest)),
                                  Sentences(scaled), Lines(tuple(LINES.splitlines()))])  # fmt: skip


def _environment(summary: Mapping[str, Any]) -> Section:
    pairs = [(clean(k), clean(v)) for k, v in summary["environment"].items() if v is not None]
    seconds = summary.get("train_seconds")
    pairs += [("seconds of training", f"{seconds:,.1f}")] if seconds is not None else []
    return section("environment", "Where it was trained", [Facts(tuple(pairs))])


def _licence() -> Section:
    said = (
        "Licence: to be stated by whoever publishes the network. The licence of the images may "
        "bind it.",
        "Intended use, and uses that are not intended: to be stated likewise.",
    )
    return section("licence", "Licence and intended use", [Sentences(said, "list")])


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.9g}" for v in values)
