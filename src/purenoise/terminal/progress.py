"""What is shown while training: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from purenoise.terminal.plaintext import printable
from purenoise.terminal.tables import clock

PLAIN_SECONDS = 10.0
METER_SECONDS = 0.5


class Watcher:
    """Shows events: a method ``_on_NAME`` for each name, others pass.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None

    def __call__(self, name: str, event: dict[str, Any]) -> None:
        """Show an event."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(event)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: str) -> None:
        target = self._bar.console if self._bar is not None else self.console
        target.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class Display(Watcher):
    """Shows the events of a run.

    Args:
        console: Where to.
        epochs: Length of the run.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        super().__init__(console)
        self.epochs = epochs
        self._read_at = 0.0
        self._printed_at = 0.0
        self._started = time.monotonic()
        self._first_epoch = 0

    def _on_start(self, event: dict[str, Any]) -> None:
        n, ratio = sum(event["counts"]), max(event["counts"]) / max(1, min(event["counts"]))
        self._print(
            f"{event['recipe']}: {n:,} training images, {len(event['counts'])} classes, imbalance "
            f"ratio {ratio:.3g}; {event['n_test']:,} test images"
        )
        if event["subset_sha256"]:
            self._print(f"subset sha256 {event['subset_sha256']}")
        where = event["environment"]
        threads = f"{where['threads']} thread{'s' * (where['threads'] > 1)}"
        self._print(
            f"method {event['method']}, seed {event['seed']}, {event['epochs']} epochs on "
            f"{where['device']} ({threads}); augmentation {event['augment']}"
        )
        for note in event["notes"]:
            self._print(f"note: {note}")
        epoch, step = event["resumed_at"]
        if epoch or step:
            at_the_end = epoch >= event["epochs"]
            self._print("all epochs are trained; the end is done again" if at_the_end else
                        f"continues at epoch {epoch + 1}, step {step + 1}")  # fmt: skip
        self._first_epoch = epoch
        self._started = self._printed_at = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[result]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task(
                "epoch", total=float(self.epochs), completed=epoch, result=""
            )
            self._bar.start()

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._print(f"warning: {event['text']}")

    def _on_phase(self, event: dict[str, Any]) -> None:
        parts = [f"{event['sampler']} sampling"]
        if event["weights"] != "none":
            parts.append(f"{event['weights']} weights")
        if event["noise"] != "none":
            parts.append(f"noise: {event['noise']}")
        self._print(f"from epoch {event['epoch'] + 1}: {', '.join(parts)}")

    def _on_step(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._read_at < METER_SECONDS:
            return
        self._read_at = now
        done = event["epoch"] + (event["step"] + 1) / event["steps"]
        if self._bar is not None:
            means = event["meter"].means()
            self._bar.update(
                self._task,
                completed=done,
                description=f"{event['epoch'] + 1}/{self.epochs}",
                result=f"loss {means['loss']:.3f} acc {100 * means['accuracy']:.1f}%",
            )
        elif event["steps"] > 1 and now - self._printed_at > 6 * PLAIN_SECONDS:
            means = event["meter"].means()
            self._line(f"epoch {event['epoch'] + 1}/{self.epochs} step {event['step'] + 1}/"
                       f"{event['steps']}", means, done)  # fmt: skip

    def _on_epoch(self, event: dict[str, Any]) -> None:
        done = event["epoch"] + 1
        if self._bar is not None:
            self._bar.update(self._task, completed=float(done))
            return
        if done == self.epochs or time.monotonic() - self._printed_at > PLAIN_SECONDS:
            self._line(f"epoch {done}/{self.epochs}", event, done)

    def _line(self, where: str, means: dict[str, Any], done: float) -> None:
        self._printed_at = time.monotonic()
        passed = self._printed_at - self._started
        left = passed / max(1e-9, done - self._first_epoch) * (self.epochs - done)
        test = means.get("test")
        tested = f", test {100 * test['accuracy']:.1f}%" if test else ""
        self._print(
            f"{where}: loss {means['loss']:.4f}, natural accuracy {100 * means['accuracy']:.1f}%"
            f"{tested}, {clock(left)} left"
        )

    def _on_end(self, event: dict[str, Any]) -> None:
        self.close()
        self._print(f"trained in {clock(event['seconds'])}")
        self.console.print()
