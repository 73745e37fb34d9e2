"""The flags of LDAM-DRW's script, and the recipe that they stand for. Imports no torch at first.

Differs from LDAM-DRW: a word that is not known is refused, where the old script warns and goes on
or does nothing; every train rule does what it says. docs/ldam-drw.md lists all differences.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from purenoise.errors import ModelError, did_you_mean
from purenoise.methodfile import LossSpec, Method, PhaseSpec

if TYPE_CHECKING:
    from purenoise.recipe import Recipe

LOSSES = {
    "CE": LossSpec(name="cross-entropy"),
    "LDAM": LossSpec.model_validate({"name": "ldam", "max_m": 0.5, "s": 30.0}),
    "Focal": LossSpec.model_validate({"name": "focal", "gamma": 1.0}),
}
_PLAIN = PhaseSpec()
_NOISE = PhaseSpec(start="defer", sampler="class-balanced", noise="open")
RULES = {
    "None": [_PLAIN],
    "Resample": [PhaseSpec(sampler="effective-number")],
    "Reweight": [PhaseSpec(weights="effective-number")],
    "DRW": [_PLAIN, PhaseSpec(start="defer", weights="effective-number")],
    "DAR-BN": [_PLAIN, _NOISE],
    "OPeN": [_PLAIN, _NOISE],
}
ARCHS = [f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
ARCHS += ["wide_resnet28_10", "wide_resnet40_10", "wide_resnet40_14"]
WIDE_DROPOUT = 0.3
# Where files go and what is shown; all other flags are the experiment.
NOT_SETTINGS = ("workers", "print_freq", "resume", "evaluate", "gpu", "root_log", "root_model",
                "start_epoch", "pretrained", "store_name", "data_dir")  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one message, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            near = did_you_mean(text, known)
            near = f"{near} " if near.startswith("Did") else ""
            raise argparse.ArgumentTypeError(
                f"{text!r} is not known. {near}Allowed: {', '.join(known)}."
            )
        return text

    return read


def _number(kind: type, allowed: str, fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"must be {allowed}, got {text!r}.")
        return value

    return read


def _arch(text: str) -> str:
    """Check the name of a network; a wide one may have any depth 6n + 4 and any width."""
    if not re.fullmatch(r"wide_resnet\d+_\d+", text):
        return _one_of(ARCHS)(text)
    import torch

    from purenoise.models import build_model

    try:
        with torch.device("meta"):
            build_model(text, 10)
    except ModelError as error:
        raise argparse.ArgumentTypeError(error.message) from error
    return text


def _gpu(text: str) -> int | None:
    if text == "None":
        return None
    return int(_number(int, "the number of a GPU, from 0 on, or None", lambda v: v >= 0)(text))


def _name_part(text: str) -> str:
    if not re.fullmatch(r"[\w.+=,-]*", text):
        raise argparse.ArgumentTypeError(
            f"is part of a folder's name: letters, digits and _.+=,- are allowed, got {text!r}."
        )
    return text


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names, aliases and defaults are LDAM-DRW's."""
    parser = _Parser(
        prog="cifar_train.py",
        description="Train on long-tailed CIFAR with the flags of LDAM-DRW's script.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    whole, positive = (
        _number(int, "a whole number from 0 on", lambda v: v >= 0),
        _number(int, "a whole number from 1 on", lambda v: v >= 1),
    )
    seed = _number(int, "a whole number from 0 to 2^32 - 1", lambda v: 0 <= v < 2**32)
    add = parser.add_argument
    add("--dataset", default="cifar10", type=_one_of(("cifar10", "cifar100")), help="data set")
    add(
        "-a",
        "--arch",
        metavar="ARCH",
        default="resnet32",
        type=_arch,
        help=f"network: {' | '.join(ARCHS)}, or any wide_resnetD_W with D = 6n + 4; wide ones have "
        f"dropout {WIDE_DROPOUT}",
    )
    add("--loss_type", default="CE", type=_one_of(tuple(LOSSES)), help=" | ".join(LOSSES))
    add("--imb_type", default="exp", type=_one_of(("exp", "step")), help="exp | step")
    add(
        "--imb_factor",
        default=0.01,
        help="smallest / largest class",
        type=_number(float, "above 0 and at most 1", lambda v: 0 < v <= 1),
    )
    add(
        "--train_rule",
        default="None",
        type=_one_of(tuple(RULES)),
        help=f"{' | '.join(RULES)}; the last two are one",
    )
    add("--rand_number", default=0, type=seed, help="seed of the long-tailed subset")
    add("--exp_str", default="0", type=_name_part, help="last part of the folders' name")
    add(
        "-j",
        "--workers",
        default=4,
        type=whole,
        metavar="N",
        help="accepted, and without effect: the images are in memory, no worker loads them",
    )
    add("--epochs", default=200, type=positive, metavar="N", help="number of epochs")
    add(
        "--start-epoch",
        default=0,
        type=whole,
        metavar="N",
        help="with --resume, must be the checkpoint's epoch; a run goes on there by itself",
    )
    add("-b", "--batch-size", default=128, type=positive, metavar="N", help="batch size")
    add(
        "--lr",
        "--learning-rate",
        default=0.1,
        metavar="LR",
        dest="lr",
        help="learning rate",
        type=_number(float, "above 0", lambda v: 0 < v < float("inf")),
    )
    add(
        "--momentum",
        default=0.9,
        metavar="M",
        help="momentum",
        type=_number(float, "at least 0 and below 1", lambda v: 0 <= v < 1),
    )
    add(
        "--wd",
        "--weight-decay",
        default=2e-4,
        metavar="W",
        dest="weight_decay",
        type=_number(float, "0 or above", lambda v: 0 <= v < float("inf")),
        help="weight decay",
    )
    add("-p", "--print-freq", default=10, type=positive, metavar="N", help="steps between lines")
    add("--resume", default="", metavar="PATH", help="go on from a ckpt.pth.tar")
    add("-e", "--evaluate", action="store_true", help="evaluate the checkpoint that --resume names")
    add("--pretrained", action="store_true", help="refused: there are no such weights")
    add("--seed", default=None, type=seed, help="seed of everything but the subset; None is 0")
    add("--gpu", default=None, type=_gpu, help="number of the GPU; without one, the CPU is taken")
    add("--root_log", default="log", help="folder of the logs")
    add("--root_model", default="checkpoint", help="folder of the checkpoints")
    add("--data-dir", default="./data", help="folder of CIFAR's files")
    add("--augment", default="flip-crop", type=_one_of(("flip-crop", "open")),
        help="flip-crop: LDAM-DRW's | open: that of the OPeN paper")  # fmt: skip
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags and refuse those that contradict each other."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest:
        flags = [option for action in parser._actions for option in action.option_strings]
        parser.error(f"{rest[0]!r} is no flag. {did_you_mean(rest[0].split('=')[0], flags)}")
    if args.pretrained:
        parser.error("--pretrained: there are no published weights of these networks for CIFAR. "
                     "Leave it out, or give a checkpoint of your own with --resume.")  # fmt: skip
    if args.evaluate and not args.resume:
        parser.error("-e evaluates a checkpoint: name it with --resume PATH.")
    if args.start_epoch and not args.resume:
        parser.error(f"--start-epoch {args.start_epoch} without --resume would begin with new "
                     "weights in the middle of the schedule. Add --resume PATH.")  # fmt: skip
    parts = (args.dataset, args.arch, args.loss_type, args.train_rule, args.imb_type)
    args.store_name = "_".join([*parts, str(args.imb_factor), args.exp_str])
    return args


def method_of(loss_type: str, train_rule: str) -> Method:
    """Compose the method that a loss and a train rule stand for."""
    return Method(loss=LOSSES[loss_type], phases=RULES[train_rule])


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that make the experiment, by name."""
    return {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}


def recipe_of(args: argparse.Namespace, device: str) -> Recipe:
    """Translate the flags, to be run on ``device``."""
    from purenoise.recipe import Recipe

    imbalance = {"type": args.imb_type, "imb_factor": args.imb_factor, "subset": "ldam",
                 "seed": args.rand_number}  # fmt: skip
    dropout = WIDE_DROPOUT if args.arch.startswith("wide_") else 0.0
    return Recipe.model_validate({
        "name": args.store_name,
        "data": {"name": args.dataset, "root": args.data_dir, "imbalance": imbalance},
        "augment": args.augment,
        "model": {"name": args.arch, "dropout": dropout},
        "method": method_of(args.loss_type, args.train_rule),
        "train": {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr,
                  "momentum": args.momentum, "weight_decay": args.weight_decay},
        "eval": {"every": 1},
        "seed": args.seed or 0,
        "device": device,
    })  # fmt: skip
