"""The one exception for everything a user can put right, and text in a form to be shown."""


class UserError(Exception):
    """What is wrong, where, and what to do: one line, shown without a traceback."""


class UserWarningLine(UserWarning):
    """Something a user should know, though the work goes on: one line on standard error."""


def printable(text: str, longest: int = 4000) -> str:
    """A text on one line, cut in the middle where it is long, and without what steers a terminal: that is escaped."""
    if len(text) > longest:  # before the rest, since a hostile file can make it of any length
        text = f"{text[:longest - longest // 3]} ... {text[-(longest // 3):]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in " ".join(text.split()))
