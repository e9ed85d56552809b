"""The one exception for everything a user can put right."""


class UserError(Exception):
    """What is wrong, where, and what to do: one line, shown without a traceback."""


class UserWarningLine(UserWarning):
    """Something a user should know, though the work goes on: one line on standard error."""
