"""Output files that are either complete or not there.

A file is written under a temporary name in the folder where it belongs, ``NAME.part``, and renamed when it is finished:
a reader, or a crash, never sees half of it. What a killed process or a power cut leaves under that name can be seen and
looked into, and goes away with the next file that is written there. Two processes do not write one file at a time: the
second waits a while and is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cunet_deploy.errors import CunetError, InputError

try:
    import fcntl
except ImportError:  # Windows, which refuses to open or remove a file that another process has open
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "atomic_path",
    "check_target",
    "exists",
    "file_sha256",
    "part_path",
    "shown_name",
    "stat_digest",
    "unwritable",
    "write_bytes_atomic",
    "write_text_atomic",
]

_LONGEST_NAME = 255
"""Bytes, in the usual file systems."""
_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.02

_CREDENTIALS = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#]*@")

_CANNOT_WRITE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file is too large for this file system, or for a limit; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}


def exists(path: str | Path) -> bool:
    """Return whether something is at a path; false also for what cannot be one, such as a name that is too long."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def part_path(final: str | Path, suffix: str = ".part") -> Path:
    """Return the path of an unfinished file: ``NAME.part``; of a long name the beginning, and a part of its hash."""
    target = Path(os.path.realpath(final))
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_NAME - len(suffix):
        return target.with_name(target.name + suffix)
    end = f"~{hashlib.sha256(name).hexdigest()[:16]}{suffix}"
    return target.with_name(name[: _LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end)


@contextlib.contextmanager
def atomic_path(final: str | Path, *, overwrite: bool, wait: float = _WAIT_SECONDS) -> Iterator[Path]:
    """A temporary path that becomes ``final`` when the block ends without an error, and is removed when it does not.

    The temporary file exists already, empty, so that a folder that cannot be written to is noticed before any work is
    done. Missing parent folders are created. A symbolic link is followed: the file it points to is replaced.

    Args:
        final: where the file shall be.
        overwrite: whether a file that is there already may be replaced.
        wait: seconds to wait for another process that writes the same file.

    Yields:
        A path in the folder of ``final``, see `part_path`.

    Raises:
        InputError: ``final`` exists and ``overwrite`` is false, or it is no regular file, or a parent is no folder.
        CunetError: the folder or the disk cannot be written to, or another process writes this file.
    """
    target, temporary = Path(os.path.realpath(final)), part_path(final)
    check_target(final, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        claim = _claim(temporary, final, wait)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{final}: {target.parent} is not a folder; choose another path") from error
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        yield temporary
        _sync(temporary)
        check_target(final, overwrite=overwrite)  # another program may have written it in the meantime
        if fcntl is None:
            claim.close()
        temporary.replace(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
        if full or error.filename in (temporary, str(temporary)):
            raise unwritable(final, error) from error
        raise
    finally:
        if fcntl is None:
            claim.close()
        with contextlib.suppress(OSError):
            if _is_same(claim, temporary):
                temporary.unlink(missing_ok=True)
        claim.close()


def _claim(part: Path, final: str | Path, wait: float) -> IO[bytes]:
    """Open the temporary file, empty, for this process alone; a lock ends with its process, however that ends."""
    end = time.monotonic() + wait
    while True:
        file = part.open("ab")
        if fcntl is None:
            file.truncate(0)
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(file, part):  # and was not renamed by its owner in the meantime
                file.truncate(0)
                return file
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                raise CunetError(f"{final}: is being written by another process; wait for it, or end it") from None
            time.sleep(_POLL_SECONDS)
        except OSError:  # a file system without locks
            file.truncate(0)
            return file
        file.close()


def _is_same(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file still has that path."""
    if file.closed:
        return True
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)


def write_bytes_atomic(path: str | Path, data: bytes, *, overwrite: bool) -> None:
    """Write a binary file completely or not at all; see `atomic_path`."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str, *, overwrite: bool) -> None:
    r"""Write a UTF-8 text file completely or not at all, with ``\n`` as it stands; see `atomic_path`."""
    write_bytes_atomic(path, text.encode("utf-8"), overwrite=overwrite)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file as hexadecimal digits.

    Raises:
        InputError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing file") from error
    return digest.hexdigest()


def stat_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of names, sizes and times of files as hexadecimal digits, by which a change is noticed without reading.

    Files that are not there are left out; the text is empty where none is.
    """
    files = ((path, path.stat()) for path in paths if path.is_file())
    states = [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in files]
    return hashlib.sha256(ascii(states).encode()).hexdigest() if states else ""


def shown_name(name: str | Path) -> str:
    r"""A file name as text that every output can carry: bytes that are no UTF-8 are written as ``\xe9``.

    File names are bytes on most systems, and Python keeps those that are no text as lone surrogates, which neither JSON
    nor a terminal takes. Of a URL the user name and password are left out.
    """
    return _CREDENTIALS.sub(r"\1", os.fsencode(name).decode("utf-8", "backslashreplace"))


def check_target(final: str | Path, *, overwrite: bool) -> None:
    """Check that a file may be written, before the work that makes it.

    Args:
        final: where the file shall be.
        overwrite: whether a file that is there already may be replaced.

    Raises:
        InputError: ``final`` exists and ``overwrite`` is false, it is no regular file, or its name is too long.
        CunetError: a folder on the way cannot be entered.
    """
    target = Path(os.path.realpath(final))
    try:
        exists = target.exists()
    except OSError as error:  # a folder on the way cannot be entered, or a name is too long
        raise unwritable(final, error) from error
    if not exists:
        return
    if target.is_dir():
        raise InputError(f"{final}: is a folder; name a file in it")
    if not target.is_file():  # renaming onto a device such as /dev/null would replace it
        raise InputError(f"{final}: is not a regular file; name a file")
    if not overwrite:
        raise InputError(f"{final}: exists already; choose another name, or overwrite it", option="overwrite")


def _sync(path: Path) -> None:
    """Bring the content to the disk before the name, so that a power cut does not leave an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def unwritable(final: str | Path, error: OSError) -> CunetError:
    """The error to raise where a file cannot be written; it says why."""
    reason = _CANNOT_WRITE.get(error.errno or 0, error.strerror or str(error))
    kind = InputError if error.errno == errno.ENAMETOOLONG else CunetError
    return kind(f"{final}: cannot be written: {reason}")
