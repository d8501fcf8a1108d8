"""The one kind of error that a user sees: a sentence that names what is wrong and what is allowed.

Whatever else is raised is a fault of this package, and is not dressed up.
"""

from pathlib import Path


class AnalysisError(Exception):
    """A file, folder or option that cannot be used; one sentence for the user."""


class Damage(AnalysisError):
    """A file whose content is not what was written. path: the file."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{path} {what}")
        self.path = path


class Unreachable(AnalysisError):
    """This process cannot look at a file that may be whole: no permission, too many open files. It says nothing of the run."""


class TooManyOpen(Unreachable):
    """This process may not open another file: every further one would be unreachable, too."""
