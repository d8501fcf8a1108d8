"""The one kind of error that a user sees: a sentence that names what is wrong and what is allowed.

Whatever else is raised is a fault of this package, and is not dressed up.
"""


class AnalysisError(Exception):
    """A file, folder or option that cannot be used; one sentence for the user."""


class Unreachable(AnalysisError):
    """This process cannot look at a file that may be whole: no permission, too many open files. It says nothing of the run."""


class TooManyOpen(Unreachable):
    """This process may not open another file: every further one would be unreachable, too."""
