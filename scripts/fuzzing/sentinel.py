"""Notices what reading a file must never do, by Python's audit events."""

import collections
import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tfseg

#: Events by the starts of their names.
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.putenv"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "shutil.", "subprocess.", "socket.", "ctypes.", "pty.", "urllib."),
    *("pickle.find_class", "tempfile.", "webbrowser.", "ftplib.", "http."),
)
_CLASS_MAKERS = (collections.__file__, dataclasses.__file__)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Something that no reader may do; no ``except Exception`` catches it."""


class Sentinel:
    """Watches this process; there is no way to stop it, so that one is made in a process.

    Args:
        folder: where the inputs are; other files but Python's and this project's are not read.

    Attributes:
        seen: what was forbidden and tried while `watching`.
    """

    def __init__(self, folder: Path):
        project = Path(__file__).resolve().parents[2]
        places = (folder, project, sys.prefix, sys.base_prefix)
        self._readable = tuple(os.path.realpath(p) + os.sep for p in places)
        self._code = (*self._readable, "<frozen", "<__array_function__")
        self._own = os.path.join(os.path.realpath(Path(tfseg.__file__).parent), "")
        self._armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What happens inside is watched."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and self._is_forbidden(event, arguments):
            self._armed = False
            frame = sys._getframe(1)
            where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            self.seen.append(f"{event} at {where}: {repr(arguments)[:200]}")
            self._armed = True
            raise Forbidden(self.seen[-1])

    def _is_forbidden(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return self._opens_amiss(*arguments)
        if event == "exec":  # the import of a module, too, and the making of a class in one
            caller = sys._getframe(2).f_code.co_filename
            code = os.fspath(arguments[0].co_filename)
            return not code.startswith(self._code) and caller not in _CLASS_MAKERS
        if event == "subprocess.Popen" and self._own_program(arguments[1]):
            return False
        return event.startswith(_FORBIDDEN)

    def _own_program(self, command: Any) -> bool:
        """Whether it is Python with one of tfseg's programs, which read what crashes libraries."""
        return list(command[:2]) == [sys.executable, "-P"] and str(command[2]).startswith(self._own)

    def _opens_amiss(self, path: Any, mode: Any, flags: Any) -> bool:
        if isinstance(path, int) or path == os.devnull:  # what subprocess opens, too
            return False
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or flags & _WRITES
        return bool(writes) or not os.path.realpath(path).startswith(self._readable)
