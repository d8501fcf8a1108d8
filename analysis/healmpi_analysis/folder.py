"""A folder of files that is written beside and swapped in whole: until the end the old one stands as it was.

    with Folder(out, ".manifest") as folder:        # nothing in `out` changes yet
        folder.save("figures/a.png", data)
        folder.swap()                               # all files at once; what the last time left, and this one did not write, goes

New files are made in a hidden folder inside `out`, on the same file system, and renamed. So `out` may be a link or the current
directory, and keeps its identity and whatever else is in it. What is not of our making is never touched: the manifest says what is,
and a file that stands in the way without being in it is refused before anything is read or written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from healmpi_analysis.errors import AnalysisError

_UNFINISHED = ".unfinished-"

_LEFT_BEHIND_S = 24 * 3600.0
"""So old is an unfinished folder only if whoever wrote it was killed."""


class Folder:
    """One writing of a folder; a context manager. Leaving it without `swap` leaves `out` as it was, or absent as it was.

    first: the file that people open. It is refused at once, before the work, where it stands in the way.
    """

    def __init__(self, out: Path, manifest: str, first: str = ""):
        """Raises AnalysisError: `out` is a file, a link to nothing, or cannot be written."""
        self.out, self._manifest = out, manifest
        self._names: list[str] = []
        if out.is_symlink() and not out.exists():
            raise AnalysisError(f"{out} is a link to nothing; -o names a folder")
        if out.exists() and not out.is_dir():
            raise AnalysisError(f"{out} is a file; -o names the folder of the report")
        nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise AnalysisError(f"{nearest} cannot be written (Permission denied); -o names the folder")
        self._ours = self._listed()
        if first:
            self._check(first)

    def __enter__(self) -> Folder:
        self._made = [place for place in (self.out, *self.out.parents) if not place.exists()]
        try:
            with self._named("made"):
                self.out.mkdir(parents=True, exist_ok=True)
            with self._named("written"):
                self._clear_leftovers()
                self._new = Path(tempfile.mkdtemp(prefix=self._manifest + _UNFINISHED, dir=self.out))
        except BaseException:
            self._remove_made()
            raise
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self._new, ignore_errors=True)
        self._remove_made()

    def _remove_made(self) -> None:
        for place in self._made:
            with contextlib.suppress(OSError):
                place.rmdir()  # only where it is empty

    def _clear_leftovers(self) -> None:
        for path in self.out.glob(f"{self._manifest}{_UNFINISHED}*"):
            if path.is_dir() and time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(path, ignore_errors=True)

    def save(self, name: str, data: bytes) -> None:
        """A file of the new folder. Raises AnalysisError."""
        path = self._new / name
        with self._named("written", name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._names.append(name)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for those who can write into folders alone; gone afterwards. Raises AnalysisError."""
        with self._named("written"), tempfile.TemporaryDirectory(dir=self._new) as place:
            yield Path(place)

    def swap(self) -> None:
        """Put all new files in their places, in the order in which they were saved, and remove those of ours that are not among them.

        Raises AnalysisError, before anything was changed: something that is not ours stands in the way.
        """
        for name in self._names:
            self._check(name)
        with self._named("written"):
            # Both what was and what will be: whenever this stops, all of it is ours.
            self._write_manifest([*self._names, *sorted(self._ours - set(self._names))])
            # Renaming needs no room on the disk, and no signal comes between.
            with _signals_held():
                self._rename()

    def _rename(self) -> None:
        for name in self._names:
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._new / name, self.out / name)
        for name in self._ours - set(self._names):
            (self.out / name).unlink(missing_ok=True)
        self._write_manifest(self._names)
        for folder in sorted({(self.out / name).parent for name in self._ours} - {self.out}, reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()

    # What is ours.

    def _write_manifest(self, names: list[str]) -> None:
        new = self._new / self._manifest
        new.write_text("\n".join(names) + "\n", encoding="utf-8", errors="surrogateescape")
        os.replace(new, self.out / self._manifest)

    def _listed(self) -> set[str]:
        path = self.out / self._manifest
        with self._named("read"):
            text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
        # A manifest that was tampered with must not reach outside the folder.
        return {name for name in text.splitlines() if name and (self.out / name).resolve().is_relative_to(self.out.resolve())}

    def _check(self, name: str) -> None:
        """Raise AnalysisError if something that is not ours stands in the way."""
        path = self.out / name
        for folder in [one for one in path.parents if one != self.out and one.is_relative_to(self.out)]:
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise AnalysisError(f"{folder} is not a folder of healmpi-report's, and it is not replaced; -o names another folder")
        if path.is_dir() or ((path.exists() or path.is_symlink()) and name not in self._ours):
            raise AnalysisError(f"{path} is not of healmpi-report's making, and it is not replaced; -o names another folder")

    @contextlib.contextmanager
    def _named(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AnalysisError(f"{self.out / name} cannot be {what} ({error.strerror}); -o names the folder") from None


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that end a program take effect when this is over.

    They are noted and not blocked: a blocked signal would go to one of the threads of the numerical libraries.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in its main thread alone
        return
    noted: list[int] = []
    ending = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in ending}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in noted:
            signal.raise_signal(number)
