"""The stages, and what else is run from the repository's root. The only code that knows DVC, argv or the current folder."""

import sys
from types import TracebackType


def _on_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """As sys.excepthook; Ctrl-C while modules are being imported, which takes seconds, leaves one line."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("error: interrupted before anything was done\n")
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[:1] == ["-m"]:  # of `python -m pipeline.NAME`, which imports this package before the module
    sys.excepthook = _on_error
