"""Lists the files of a hub's repository and their addresses, through the hub's own library.

The libraries know the endpoints and mirrors (`HF_ENDPOINT`, `MODELSCOPE_ENDPOINT`) and where the
token is stored. A token is never printed, and only sent to the hub's own host; see `transfer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import DownloadError
from ..files.names import name_fault
from ..files.packages import pip_command
from .zoo import HUGGINGFACE, MODELSCOPE

#: Timeout in seconds for listing a repository.
_TIMEOUT = 30
_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: `path` with /, `size` in bytes, and a hash of its content.

    `sha256` hashes the content, `git_sha1` the git blob; "" if the hub does not report it.
    """

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def fingerprint(self) -> str:
        """The expected hash."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Address:
    """Where a file is downloaded from. `secret` holds headers for the host of `url` only."""

    url: str
    source: str
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Repository:
    """The files of a repository at one revision, and a function from path to address."""

    name: str
    source: str
    files: tuple[RemoteFile, ...]
    address: Callable[[str], Address]


class Source(Protocol):
    """A hub."""

    def open(self, name: str) -> Repository:
        """List a repository; `DownloadError` if it cannot be read."""


class HuggingFace:
    """Hugging Face, or a mirror; `endpoint=None` uses the library's default.

    Files are downloaded over plain HTTP. Xet is faster on a fast connection, but cannot resume.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def open(self, name: str) -> Repository:
        from huggingface_hub import HfApi, constants, get_token, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        endpoint = (self._endpoint or constants.ENDPOINT).rstrip("/")
        page = f"{endpoint}/{name}"
        try:
            info = HfApi(endpoint=endpoint).model_info(name, files_metadata=True, timeout=_TIMEOUT)
        except OfflineModeIsEnabled as error:
            raise DownloadError(
                "HF_HUB_OFFLINE is set: huggingface_hub may not use the network. Unset it."
            ) from error
        except HfHubHTTPError as error:
            raise refused(page, error.response.status_code, HUGGINGFACE) from error
        except (
            Exception
        ) as error:  # transport errors are requests', httpx's or httpx2's, by version
            raise unreachable(endpoint, error) from error
        files = tuple(
            _checked(
                page,
                RemoteFile(
                    entry.rfilename,
                    entry.size or 0,
                    sha256=entry.lfs.sha256 if entry.lfs else "",
                    git_sha1="" if entry.lfs else entry.blob_id or "",
                ),
            )
            for entry in info.siblings or ()
        )

        def address(path: str) -> Address:
            url = hf_hub_url(name, path, revision=info.sha, endpoint=endpoint)
            return Address(url, HUGGINGFACE, _bearer(get_token()))

        return Repository(name, HUGGINGFACE, files, address)


class ModelScope:
    """ModelScope; `endpoint=None` uses the library's default."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def open(self, name: str) -> Repository:
        try:
            from modelscope_hub import HubApi
            from modelscope_hub.errors import APIError
        except ImportError as error:
            raise DownloadError(
                "ModelScope's library is not installed (modelscope 1.38 or newer). Install it "
                f"with: {pip_command('modelscope')}"
            ) from error
        api = HubApi(endpoint=self._endpoint)
        client = api.legacy
        page = client.get_download_url(name, "model", "", "master").split("/api/")[0]
        try:
            entries = api.list_repo_files(name, "model")
        except APIError as error:
            if error.status_code is None:
                raise unreachable(page, error) from error
            raise refused(f"{page}/models/{name}", error.status_code, MODELSCOPE) from error
        except Exception as error:  # the library's own and requests' transport errors
            raise unreachable(page, error) from error
        files = tuple(
            _checked(page, RemoteFile(entry.path, entry.size, sha256=entry.sha256 or ""))
            for entry in entries
            if not entry.is_dir
        )

        def address(path: str) -> Address:
            url = client.get_download_url(name, "model", path, "master")
            return Address(url, MODELSCOPE, _bearer(client.token))

        return Repository(name, MODELSCOPE, files, address)


SOURCES: Mapping[str, Callable[[], Source]] = {HUGGINGFACE: HuggingFace, MODELSCOPE: ModelScope}


def refused(page: str, status: int, source: str) -> DownloadError:
    """The error for a response other than the file."""
    log_in = "hf auth login" if source == HUGGINGFACE else "modelscope login"
    if status in (401, 403):
        return DownloadError(
            f"{page} denies access (HTTP {status}): it does not exist, it requires a login or "
            "acceptance of its terms, or this computer's token is not valid. Open the page in a "
            f"browser, then log in with: {log_in}"
        )
    if status == 404:
        return DownloadError(f"{page} does not exist (HTTP 404). Check its name and the source.")
    return DownloadError(
        f"{page} responded with HTTP {status}. Try again later; the same command resumes."
    )


def unreachable(place: str, error: BaseException) -> DownloadError:
    """The error for a host that does not respond.

    It names only the type of the cause, whose text may contain a signed URL.
    """
    return DownloadError(
        f"{place} cannot be reached ({type(error).__name__}). Check the network, the proxy "
        "(HTTPS_PROXY) and the mirror (HF_ENDPOINT); the same command resumes."
    )


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _checked(page: str, file: RemoteFile) -> RemoteFile:
    """`file`, if its hash and size are well-formed and every system can store its path."""
    for part in file.path.split("/"):
        if part in ("", ".", ".."):
            raise DownloadError(
                f"{page} lists a file {file.path!r}, which is not inside the repository. Refused."
            )
        if fault := name_fault(part):
            raise DownloadError(
                f"{page} lists a file {file.path!r}, which not every system can store: {part!r} is "
                f"not a valid name: {fault}. Refused."
            )
    hashes = (_SHA256, file.sha256), (_SHA1, file.git_sha1)
    if any(value and not pattern.fullmatch(value) for pattern, value in hashes) or file.size < 0:
        raise DownloadError(f"{page} lists {file.path!r} with an invalid hash or size. Refused.")
    return file
