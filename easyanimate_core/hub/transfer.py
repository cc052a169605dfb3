"""Downloads one file from a hub: resumable, verified against its hash, and never left half done.

The hubs' own libraries do not do all of this: `huggingface_hub` deletes partial downloads when
interrupted (from 1.31 on) and does not verify hashes over HTTP. So the libraries list the files,
and the bytes are downloaded here by plain HTTP, the same way from every hub.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..errors import DownloadError
from ..files import is_held, patiently, remove, replace
from .sources import Address, RemoteFile, refused, unreachable

#: Called with a line of text to show to the user.
Say = Callable[[str], None]

#: Called with the number of bytes read or received; an exception raised from it cancels.
Count = Callable[[int], None]

#: Timeouts in seconds for connecting and for the next bytes. A cancel may take as long.
_TIMEOUT = (10, 10)
#: Seconds before each retry after an attempt that received nothing.
_WAITS = (1.0, 2.0, 4.0)
#: Small enough that a cancel is noticed at once on a slow connection.
_CHUNK = 1 << 18
_MAX_REDIRECTS = 10
_BUSY = (408, 429, 500, 502, 503, 504)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _WrongContentError(Exception):
    """The received content is not the published file; the message is the predicate."""


class _NothingArrivedError(Exception):
    """The host is busy or unresponsive; a retry may succeed."""


def part_path(target: Path, file: RemoteFile) -> Path:
    """Path of the partial download, named after the file's hash."""
    return target.with_name(f".{target.name}.{file.fingerprint[:12] or 'new'}.part")


def matches(path: Path, file: RemoteFile, count: Count) -> bool:
    """Whether the file at `path` has the published size and hash. Reads all of it."""
    if path.stat().st_size != file.size:
        return False
    content = _Content(file)
    content.read(path, count)
    return content.is_published


def fetch(address: Address, file: RemoteFile, target: Path, count: Count, say: Say) -> None:
    """Download the file completely to `part_path(target, file)`, resuming an earlier call.

    `count` is called for every byte, including those already present, and with a negative number
    if bytes had to be discarded.

    Raises:
        DownloadError: The host refuses or does not respond, the disk is full, or the content is
            wrong twice. A partial download is kept for the next call unless it is wrong.
    """
    part = part_path(target, file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            try:
                _receive(address, file, part, count)
                break
            except _WrongContentError as error:
                remove(part)
                if last:
                    raise DownloadError(
                        f"{file.path} {error}, twice. It was removed. Something between here and "
                        f"{urlsplit(address.url).netloc} modifies it, or the repository is being "
                        "updated: try again later, or use the other source."
                    ) from error
                say(f"{file.path} {error}: removed, downloading it again.")
        with patiently(
            lambda: part.open("rb+")
        ) as handle:  # a power cut must not leave an empty file at the final path
            os.fsync(handle.fileno())
    except OSError as error:
        raise disk_error(target.parent, error) from error


def put_in_place(target: Path, file: RemoteFile) -> OSError | None:
    """Move the file from `fetch` to `target`; return the error if another program holds it."""
    try:
        replace(part_path(target, file), target)
    except OSError as error:
        if not is_held(error):
            raise disk_error(target.parent, error) from error
        return error
    return None


class _Content:
    """Size and hash of the bytes received so far."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        """Start over."""
        self.size = 0
        if self._file.git_sha1:  # git hashes a header first
            self._hash = hashlib.sha1(f"blob {self._file.size}\0".encode(), usedforsecurity=False)
        else:
            self._hash = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._hash.update(chunk)

    def read(self, path: Path, count: Count) -> None:
        """Add the content of `path`."""
        with path.open("rb") as handle:
            while chunk := handle.read(16 * _CHUNK):
                self.add(chunk)
                count(len(chunk))

    @property
    def is_published(self) -> bool:
        """Whether it is the published file; only the size is compared if there is no hash."""
        same = self._hash.hexdigest() == self._file.fingerprint
        return self.size == self._file.size and (same or not self._file.fingerprint)


def _receive(address: Address, file: RemoteFile, part: Path, count: Count) -> None:
    """Download the whole file to `part` and verify its hash."""
    content = _Content(file)
    part.touch()
    content.read(part, count)
    waits = iter(_WAITS)
    while content.size < file.size:
        before = content.size
        try:
            _append(address, file, part, content, count)
        except _NothingArrivedError as error:
            if content.size > before:
                waits = iter(_WAITS)
                continue
            wait = next(waits, None)
            if wait is None:
                raise DownloadError(str(error)) from error
            _pause(wait, count)
    if not content.is_published:
        count(-content.size)
        raise _WrongContentError("arrived damaged: its hash is not the published one")


def _append(
    address: Address, file: RemoteFile, part: Path, content: _Content, count: Count
) -> None:
    """Resume at the end of `part`; `_NothingArrivedError` if the connection breaks off."""
    from requests import RequestException

    try:
        with _open(address, content.size) as response:
            _check_answer(response, address, file, content.size)
            if content.size and response.status_code == 200:  # the host does not support ranges
                count(-content.size)
                content.restart()
            with patiently(lambda: part.open("r+b")) as handle:
                handle.seek(content.size)
                handle.truncate()
                for chunk in response.iter_content(_CHUNK):
                    if content.size + len(chunk) > file.size:
                        count(-content.size)
                        raise _WrongContentError(f"is longer than the published {file.size} bytes")
                    handle.write(chunk)
                    content.add(chunk)
                    count(len(chunk))
    except RequestException as error:
        raise _NothingArrivedError(str(unreachable(_host(address.url), error))) from error
    if content.size < file.size:
        raise _NothingArrivedError(
            f"{_host(address.url)} keeps closing the connection before the end of {file.path}. Try "
            "again later; the same command resumes."
        )


@contextmanager
def _open(address: Address, start: int) -> Iterator[Any]:
    """The response to a request for the bytes from `start` on.

    Redirects are followed here, because only the first host may see the secret headers: hubs serve
    large files from third-party hosts, through signed URLs.
    """
    import requests

    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    url = address.url
    with requests.Session() as session:
        for _ in range(_MAX_REDIRECTS):
            secret = address.secret if _origin(url) == _origin(address.url) else {}
            response = session.get(
                url,
                headers={**headers, **secret},
                auth=_as_it_is,
                allow_redirects=False,
                stream=True,
                timeout=_TIMEOUT,
            )
            with response:
                if not response.is_redirect:
                    yield response
                    return
                url = urljoin(url, response.headers["Location"])
        raise requests.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")


def _as_it_is(request: Any) -> Any:
    """Keeps requests from replacing the token with a password from ~/.netrc."""
    return request


def _check_answer(response: Any, address: Address, file: RemoteFile, start: int) -> None:
    """Raise unless the response is the rest of the file, or all of it."""
    status = response.status_code
    if status in _BUSY:
        raise _NothingArrivedError(str(refused(_host(address.url), status, address.source)))
    if status == 416:
        raise _WrongContentError(f"is shorter than the published {file.size} bytes")
    if status not in (200, 206):
        raise refused(address.url.split("?")[0], status, address.source)
    length = response.headers.get("Content-Length")
    if status == 206:
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not sent or int(sent[1]) != start:
            raise _WrongContentError("was not resumed where it had stopped")
        length = None if sent[2] == "*" else sent[2]
    if length is not None and int(length) != file.size:
        raise _WrongContentError(
            f"has {length} bytes on the host instead of the published {file.size}"
        )


def _origin(url: str) -> tuple[str, str]:
    """Scheme, host and port; secrets are only sent to the same origin."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _host(url: str) -> str:
    return "://".join(_origin(url))


def _pause(seconds: float, count: Count) -> None:
    """Wait, but notice a cancel."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        count(0)
        time.sleep(0.1)


def disk_error(folder: Path, error: OSError) -> DownloadError:
    """The error for an `OSError` raised while writing to `folder`."""
    if error.errno in _FULL:
        free = shutil.disk_usage(folder).free
        return DownloadError(
            f"The disk of {folder} is full ({free / 1e9:.2f} GB free; {error.strerror}). "
            "Free some space; the same command resumes."
        )
    held = " Another program may have it open: close it; the same command resumes."
    return DownloadError(
        f"{error.filename or folder} cannot be written: {error.strerror or error}."
        f"{held if is_held(error) else ''}"
    )
