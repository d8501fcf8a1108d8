"""The folder OUT.h5.parts, in which a run lies until its end: what its files are called, who may write there, and how it goes.

    rank-00000.h5           the part of a rank (writer.py)
    state-12-rank-00000     its state after 12 cycles (hosting/checkpoint.py)
    checkpoint.json         which states count
    lock                    locked (flock) by the run that writes here; holds its process and host

Only this module spells these names. File systems without locks are common on clusters: there everybody goes without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from healmpi.settings import UsageError

BUFFER_BYTES = 2**18
"""Small pieces are gathered until there are so many."""

OWN_FILE = os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags with which a file of the folder is opened: a link in it could lead to any file, and a pipe would be waited for."""

_SUFFIX = ".parts"
_PART = re.compile(r"rank-(\d{1,9})\.h5")
_STATE = re.compile(r"state-(\d+)-rank-(\d+)")


class State(NamedTuple):
    """One rank's state on disk. step: cycles since the start of the run, warm-up included."""

    step: int
    rank: int
    path: Path


class PartsFolder:
    """What a run leaves beside its results file OUT until that is whole. Nothing is made or looked at on creation."""

    part_names = "rank-*.h5"
    """What all part files are called."""

    def __init__(self, out: Path):
        self.out = out
        self.path = out.parent / f"{out.name}{_SUFFIX}"
        self.index = self.path / "checkpoint.json"
        self.lock = self.path / "lock"

    @staticmethod
    def owner(folder: Path) -> Path | None:
        """The OUT that a folder of this name belongs to; None: it is not called like the parts of anything."""
        return folder.with_name(folder.name.removesuffix(_SUFFIX)) if folder.name.endswith(_SUFFIX) and folder.name != _SUFFIX else None

    @property
    def temporary(self) -> Path:
        """Where this process makes OUT before it is renamed: beside it, on the same file system."""
        return self.out.with_name(f"{self.out.name}.merging-{os.getpid()}")

    def part(self, rank: int) -> Path:
        """The part file of one rank."""
        return self.path / f"rank-{rank:05d}.h5"

    def rank_of(self, part: Path) -> int | None:
        """The rank whose part file is called so; None: nobody's is."""
        name = _PART.fullmatch(part.name)
        return int(name[1]) if name and self.part(int(name[1])) == part else None

    def parts(self) -> list[Path]:
        """The part files that are there, by rank. Raises OSError."""
        return sorted(self.path.glob(self.part_names)) if self.path.is_dir() else []

    def state(self, step: int, rank: int) -> Path:
        """A rank's state. step: cycles since the start of the run, warm-up included."""
        return self.path / f"state-{step}-rank-{rank:05d}"

    def states(self) -> list[State]:
        """The states that are there, by step and rank. Raises OSError."""
        found = self.path.iterdir() if self.path.is_dir() else ()
        named = [(_STATE.fullmatch(path.name), path) for path in found]
        return sorted(State(int(name[1]), int(name[2]), path) for name, path in named if name)

    def leftovers(self) -> list[Path]:
        """What lies in the folder besides the lock, whoever put it there. Raises OSError."""
        return sorted(path for path in self.path.iterdir() if path != self.lock) if self.path.is_dir() else []

    def prepare(self, discard: bool) -> None:
        """Make the folder, on one rank. discard: delete what an earlier run has left in it. Raises UsageError."""
        self.refuse_running()
        with refusing(self.out):
            if discard:
                self.remove()
            self.path.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Delete all that a run has put into the folder, and the folder unless something else lies in it. Raises OSError.

        Whatever is called like a file of ours goes, folders too; of a link the link alone, also of one in the folder's own place.
        """
        if self.path.is_symlink():
            self.path.unlink()
            return
        # What says which states count goes first: no run goes on from a folder that is half gone.
        ours = ("checkpoint.json*", "state-*-rank-*", self.part_names, self.lock.name)
        for path in [path for pattern in ours for path in self.path.glob(pattern)]:
            _delete(path)
        # Somebody's own file in the folder is not ours to delete.
        with contextlib.suppress(OSError):
            self.path.rmdir()

    # Who may write here.

    def refuse_running(self) -> None:
        """Raise UsageError while a run writes here."""
        # No lock: nobody writes. Some network file systems have no locks either: there this check is not to be had.
        with contextlib.suppress(OSError), self._open_lock(os.O_RDONLY) as lock:
            self._lock(lock, fcntl.LOCK_SH)

    def hold(self, force: bool = False) -> IO[str]:
        """Lock the folder until the returned file is closed or this process ends.

        force: something else in the place of the lock goes. Raises UsageError: another run holds it, or the lock cannot be written.
        """
        with refusing(self.out), contextlib.ExitStack() as undo:
            if self.path.is_symlink():
                raise UsageError("-o", str(self.out), f"{self.path} is a link, and must be a folder of its own")
            if force and os.path.lexists(self.lock) and not _is_own_file(self.lock.lstat()):
                _delete(self.lock)
            lock = undo.enter_context(self._open_lock(os.O_RDWR | os.O_CREAT))
            with contextlib.suppress(OSError):  # a file system without locks
                self._lock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(f"pid {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            undo.pop_all()
            return lock

    def _open_lock(self, flags: int) -> IO[str]:
        """Raises OSError: it is not there, or not a file of its own."""
        number = os.open(self.lock, flags | OWN_FILE, 0o666)
        if not _is_own_file(os.fstat(number)):
            os.close(number)
            raise OSError(f"{self.lock} is not a file of its own")
        return os.fdopen(number, "r+" if flags & os.O_RDWR else "r")

    def _lock(self, lock: IO[str], how: int) -> None:
        """Raises UsageError: somebody else holds it; OSError: there are no locks here."""
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("OUT.h5", str(self.out), f"a run is writing there ({lock.read()})") from None


def _is_own_file(found: os.stat_result) -> bool:
    """Whether it can be written into, and is no other file at the same time."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _delete(path: Path) -> None:
    """A file, a link or a folder. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def refusing(out: Path) -> Iterator[None]:
    """What the system refuses becomes a UsageError about OUT."""
    try:
        yield
    except OSError as error:
        raise UsageError("-o", str(out), f"it cannot be written ({error.strerror or error})") from None


def write_whole(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all, also when the power fails. data: or its pieces. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)  # what a kill has left, or a link to elsewhere
        with temporary.open("xb", buffering=BUFFER_BYTES) as file:
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # A half of it would be in the way on a full disk.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
