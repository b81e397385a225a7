"""One run at a time in a folder."""

import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import IO

from tfseg.train.errors import RunDirError

_LOG = logging.getLogger(__name__)


class RunLock:
    """The right to write to a run's folder, held from its making until `release`.

    It is the kernel's lock (flock) of the file .lock in the folder, which says who holds it. It
    ends with its process, however that dies: a file that is left over blocks nothing. On NFS,
    Linux extends it to all machines that mount the folder, unless it is mounted with ``nolock``
    or ``local_lock``; then it holds among the processes of one machine. A file system without
    locks gives a warning.

    Args:
        run_dir: the folder, which exists.

    Raises:
        RunDirError: another run holds it.
    """

    NAME = ".lock"

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._file: IO[str] | None = None
        self.acquire()

    def acquire(self) -> None:
        """Takes the lock again after `release`; nothing happens while it is held.

        Raises:
            RunDirError: another run holds it.
        """
        if self._file is not None:
            return
        file = (self._run_dir / self.NAME).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read(200).strip() or "another process"
            raise RunDirError(
                f"{self._run_dir} is in use by {holder}: wait for that run's end, stop it, or name "
                "another folder"
            ) from None
        except OSError as e:
            _LOG.warning(
                "%s cannot be locked (%s): see that no two runs write to it", self._run_dir, e
            )
        self._file = file
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()

    def release(self) -> None:
        """Lets other runs in."""
        if self._file is not None:
            self._file.close()
            self._file = None
