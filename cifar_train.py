"""LDAM-DRW's command line, on this package's engine: same flags, same folders, same file names.

    python cifar_train.py --gpu 0 --imb_type exp --imb_factor 0.01 --loss_type CE --train_rule None

Flags become a recipe (:mod:`purenoise.ldamflags`), and everything else is the package's. Where the
old script does not do what its flag says, this one does; docs/ldam-drw.md lists every difference.
Added: ``--data-dir``, ``--augment`` and the train rule ``DAR-BN`` (also called ``OPeN``).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purenoise.errors import PureNoiseError, RunError
from purenoise.ldamflags import parse, recipe_of, settings_of

if TYPE_CHECKING:
    from purenoise.ldamfiles import LdamFiles
    from purenoise.recipe import Recipe


def device_of(gpu: int | None) -> str:
    """Return the device for ``--gpu``; without a GPU, the CPU, and say so."""
    if gpu is None:
        return "auto"
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there == 0:
        say(f"--gpu {gpu}: there is no GPU that torch can use; this runs on the CPU.")
        return "cpu"
    if gpu >= there:
        raise RunError(f"--gpu {gpu}: there is no such GPU; allowed: 0 to {there - 1}, or None.")
    return f"cuda:{gpu}"


def train(args: argparse.Namespace, recipe: Recipe, command: str) -> None:
    """Train, or go on, or say that this run is finished."""
    from purenoise.experiment import run_recipe
    from purenoise.ldamfiles import OURS, LdamFiles, choose_name, read_checkpoint, resumable
    from purenoise.runtime import keep_freed_memory

    keep_freed_memory()
    settings = settings_of(args)
    resume = None
    if args.resume:
        path = Path(args.resume)
        content = read_checkpoint(path, args.arch)
        if args.start_epoch not in (0, content["epoch"]):
            raise RunError(f"--start-epoch is {args.start_epoch}, and {path} goes on at epoch "
                           f"{content['epoch']}.", "Leave --start-epoch out.")  # fmt: skip
        resume = resumable(content, path, recipe.digest(), settings)
    logs, models = Path(args.root_log), Path(args.root_model)
    name = choose_name(args.store_name, recipe.digest(), logs, models)
    if name != args.store_name:
        say(f"{args.store_name} holds a run with other settings; this one is called {name}.")
    args.store_name = name
    files = LdamFiles(logs / name, models / name, vars(args), settings, say)
    try:
        run = run_recipe(
            recipe, recipe, listeners=[files], folder=logs / name / OURS, command=command,
            on_epoch=files.after_epoch, resume=resume,
        )  # fmt: skip
    finally:
        files.close()
    if not run.trained:
        say("This run is finished; nothing was trained. Its result:\n")
    files.write_confusion(run.summary)
    show_result(run.summary, name, files)


def show_result(summary: dict[str, Any], name: str, files: LdamFiles) -> None:
    """Print the result of a finished run: the last epoch, and where everything lies."""
    best = summary["optimistic_best_on_test"]
    show_table(summary, summary["test"], f"{name} · seed {summary['seed']} · test, last epoch")
    say(f"\nPrec@1 {100 * summary['test']['accuracy']:.3f} (last epoch: the result)")
    say(f"Prec@1 {100 * best['accuracy']:.3f} (optimistic: the best epoch on the test images, "
        f"epoch {best['epoch']})")  # fmt: skip
    say(f"logs {files.log}   checkpoints {files.checkpoint.parent}")


def show_table(summary: dict[str, Any], metrics: dict[str, Any], title: str) -> None:
    """Print metrics overall, per group and per class."""
    from rich.console import Console

    from purenoise.terminal.tables import result_table

    Console(highlight=False).print(result_table(summary, metrics, title))


def evaluate(args: argparse.Namespace, recipe: Recipe) -> None:
    """Evaluate the checkpoint that ``--resume`` names."""
    from purenoise.evaluate import evaluate_split
    from purenoise.ldamfiles import read_checkpoint
    from purenoise.network import network
    from purenoise.prepare import prepare
    from purenoise.runtime import resolve_device, resolve_threads, torch_settings

    path = Path(args.resume)
    content = read_checkpoint(path, args.arch)
    data, device = prepare(recipe.data), resolve_device(recipe.device)
    model = network(recipe, data)
    try:
        model.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise RunError(
            f"The weights in {path} do not fit {args.arch} with --loss_type {args.loss_type} on "
            f"{args.dataset}.",
            "Give --dataset, --arch and --loss_type as they were in training.",
        ) from error
    with torch_settings(resolve_threads("auto"), device):
        metrics, _ = evaluate_split(model.to(device), data.dataset.test, data)
    summary = {"class_names": data.dataset.class_names, "counts": data.counts.tolist()}
    show_table(summary, metrics, f"{path} · after {content['epoch']} epochs · test")
    say(f"\nPrec@1 {100 * metrics['accuracy']:.3f} Prec@5 {100 * metrics['top5']:.3f}")


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def _in_flags(hint: str) -> str:
    """Say a hint about recipes in the words of this script."""
    hint = hint.replace("train.lr or lengthen train.warmup", "--lr")
    hint = hint.replace("train.batch_size", "--batch-size")
    return hint.replace("out=FOLDER", "--root_log and --root_model")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code. A user's mistake is one message and 2."""
    args = parse(argv)
    words = sys.argv[1:] if argv is None else argv
    try:
        recipe = recipe_of(args, device_of(args.gpu))
        if args.evaluate:
            evaluate(args, recipe)
        else:
            train(args, recipe, shlex.join(["python", "cifar_train.py", *words]))
    except PureNoiseError as error:
        print(f"cifar_train.py: {error.message}\n{_in_flags(error.hint)}".rstrip(), file=sys.stderr)
        return 130 if error.message.startswith("Stopped;") else 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
