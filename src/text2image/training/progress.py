"""The progress bar of a training, alignDRAW's or a sharpener's."""

from typing import Any, NamedTuple, Protocol

from tqdm import tqdm


class Row(Protocol):
    """One epoch of a history."""

    epoch: int
    step: int

    def line(self) -> str:
        """What a person reads of it."""
        ...


class StepReport(NamedTuple):
    """Where training stands after a step, or after an epoch."""

    epoch: int
    step: int      # of all steps
    status: str    # what stands beside the bar
    resumed: bool  # from a saved state
    row: Any       # of the history, where an epoch has just ended; else None


class ProgressBar:
    """A bar with time left, and a line an epoch; the lines are all there is where there is no terminal."""

    def __init__(self, name: str, steps: int, hidden: bool = False):
        self.bar = tqdm(total=steps, desc=name, unit="step", disable=True if hidden else None, smoothing=0.05)
        self.name, self.hidden, self.done = name, hidden, 0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, report: StepReport) -> None:
        """Move to where `report` says that training stands."""
        if self.hidden:
            return
        if self.done == 0 and report.resumed:
            self.bar.initial = self.bar.n = self.done = report.step - 1
            self.bar.write(f"{self.name}: resumed at step {report.step}")
        self.bar.update(report.step - self.done)
        self.done = report.step
        self.bar.set_postfix_str(report.status, refresh=False)
        if report.row is not None:
            self.bar.write(f"{self.name}: epoch {report.row.epoch}  step {report.row.step}  {report.row.line()}")
