"""Errors of the operating system, with the file that they are about, and what to do."""

from __future__ import annotations

import errno

from llm_datagen.errors import DiskError

_RIGHTS = "give the user that runs this the right to write there, or choose another path"
_HINTS = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "choose a path on a file system that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "this is a folder; give the path of a file",
    errno.ELOOP: "symbolic links lead in a circle; choose another path",
    errno.ESPIPE: "write what comes from there to a file first, and give that",
    errno.ENOSPC: "make room, then resume",
    errno.EMFILE: "raise the limit of open files, ulimit -n",
}
"""What to do about an error of the system."""


def named(error: OSError, path: str) -> DiskError:
    """Return `error` as one that names the file; what fails on an open file does not."""
    if isinstance(error, DiskError):
        return error
    what, hint = error.strerror or str(error), _HINTS.get(error.errno or 0)
    return DiskError(error.errno, f"{what} ({hint})" if hint else what, error.filename or path)
