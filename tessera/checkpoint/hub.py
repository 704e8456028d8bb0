"""A name becomes a checkpoint directory: a local one, or a repository fetched by `huggingface_hub`.

The library is used as it is, with its cache, tokens and environment variables (HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE, HF_HOME). Added here: only the files that a checkpoint needs are fetched,
never Python or pickle files; all of one commit; large files are checked against the sha256 that the
hub names; and errors are one line that says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tessera.checkpoint.values import (
    INDEX_NAME,
    MAX_INDEX_BYTES,
    WEIGHTS_NAME,
    hint,
    read_json_object,
    show,
)
from tessera.errors import DownloadError
from tessera.presets import PRESETS, VISION_PRESETS

OWNER = "OpenGVLab"
SMALL_FILES = ["*.json", "tokenizer.model", "README*", "LICENSE*"]
# Below the top level lie other formats and copies; the rest can run code when opened.
NEVER = ["*/*", "*.py", "*.bin", "*.pth", "*.pt", "*.ckpt", "*.pkl"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WEIGHTS = re.compile(r"\w[\w.-]*\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "Run the same command again: finished files are kept."


def resolve(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Return a local checkpoint directory, downloading it if the name is a hub id.

    Args:
        name_or_path: a directory, or owner/name on the hub; what exists as a directory is one.
        revision: branch, tag or commit; None takes the newest.
        progress: takes lines that say what happens while a repository is fetched.

    Raises:
        DownloadError: the name is neither, or the repository cannot be fetched whole.
    """
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    with contextlib.suppress(OSError, ValueError):  # a name that no path can have
        if name and path.is_dir():
            return path
        if name and path.exists():
            raise DownloadError(f"{show(name)} is a file. Give the directory that it lies in.")
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name):
        raise DownloadError(_unknown(name))
    return _fetch(name, revision, progress)


def _unknown(name: str) -> str:
    presets = [*PRESETS, *VISION_PRESETS]
    if name in presets:
        return (
            f"{show(name)} is a preset, numbers without weights, and not a directory here."
            f" Its weights are {OWNER}/{name} on the hub."
        )
    near = hint(name, [*presets, *(f"{OWNER}/{preset}" for preset in presets)])
    return (
        f"{show(name)} is neither a directory here nor a hub id (owner/name)."
        f"{near or ' Check the spelling, or give the path of a checkpoint directory.'}"
    )


def _network_errors() -> tuple[type[BaseException], ...]:
    """Return what huggingface_hub raises; its HTTP client changed over the versions."""
    from huggingface_hub import errors as hub

    # The Rust part that fetches large files (hf_xet) raises plain RuntimeError.
    errors: list[type[BaseException]] = [OSError, ValueError, RuntimeError]
    if (xet := getattr(hub, "XetDownloadError", None)) is not None:
        errors.append(xet)
    for name in ("httpx2", "httpx"):
        with contextlib.suppress(ImportError):
            errors.append(importlib.import_module(name).HTTPError)
    return tuple(errors)


def _is_offline() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def _fetch(repo: str, revision: str | None, progress: Callable[[str], None] | None) -> Path:
    bar = _progress_bar(repo, progress)
    directory = _download(repo, revision, SMALL_FILES, bar)
    weights = [WEIGHTS_NAME]
    if (directory / INDEX_NAME).exists():
        files = read_json_object(directory, INDEX_NAME, limit=MAX_INDEX_BYTES).get("weight_map")
        names = set(map(str, files.values())) if isinstance(files, dict) else set()
        weights = sorted(filter(_WEIGHTS.fullmatch, names))
    # The commit of the small files, even if the branch moved since.
    _download(repo, directory.name, weights, bar)
    absent = [name for name in weights if not (directory / name).is_file()]
    if absent or not weights:
        raise DownloadError(
            f"{repo} has no {show((absent or [WEIGHTS_NAME])[0])}: only .safetensors weights are"
            f" read. Choose a repository that has them, as {OWNER}/Mini-InternVL-Chat-2B-V1-5."
        )
    for name in weights:
        _check_hash(directory, name, repo, progress)
    return directory


def _download(repo: str, revision: str | None, patterns: list[str], bar: type) -> Path:
    from huggingface_hub import snapshot_download

    try:
        directory = snapshot_download(
            repo,
            revision=revision,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            local_files_only=_is_offline(),
            allow_patterns=patterns,
            ignore_patterns=NEVER,
            tqdm_class=bar,
        )
    except _network_errors() as error:
        raise DownloadError(_explain(error, repo, revision)) from None
    return Path(directory)


def _check_hash(
    directory: Path, name: str, repo: str, progress: Callable[[str], None] | None
) -> None:
    """Compare a file of the hub cache with the sha256 that is its blob's name, once."""
    link = directory / name
    if not link.is_symlink():
        return
    blob = link.parent / os.readlink(link)
    if not _SHA256.fullmatch(blob.name):
        return
    state = blob.stat()
    note = directory.parent.parent / ".tessera-verified" / blob.name
    seen = f"{state.st_size} {state.st_mtime_ns}"
    if note.is_file() and note.read_text() == seen:
        return
    if progress is not None:
        progress(f"checking {show(name)} of {repo}")
    digest = hashlib.sha256()
    with blob.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    if digest.hexdigest() != blob.name:
        link.unlink()
        blob.resolve().unlink()
        blob.unlink(missing_ok=True)
        raise DownloadError(
            f"{show(name)} of {repo} is not the file it should be (its sha256 differs), so it was"
            f" removed. {_AGAIN} If this repeats, the server or a proxy changes files."
        )
    with contextlib.suppress(OSError):  # a cache that is read-only is checked every time
        note.parent.mkdir(exist_ok=True)
        note.write_text(seen)


def _explain(error: BaseException, repo: str, revision: str | None) -> str:
    from huggingface_hub import errors as hub

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    status = next((code for link in chain if (code := _status(link)) is not None), None)
    if any(isinstance(link, hub.GatedRepoError) for link in chain):
        return _gated(repo)
    if any(isinstance(link, hub.RevisionNotFoundError) for link in chain):
        return (
            f"{repo} has no revision {show(revision)}. Leave the revision out for the newest, or"
            " take one from the repository's page."
        )
    if any(isinstance(link, hub.RepositoryNotFoundError) for link in chain) or status == 401:
        presets = [f"{OWNER}/{preset}" for preset in (*PRESETS, *VISION_PRESETS)]
        return (
            f"{show(repo)} is neither a directory here nor a repository that the hub shows you."
            f" If it is private, set HF_TOKEN.{hint(repo, presets)}"
        )
    if status == 429:
        return (
            f"The hub asks to slow down (429) for {repo}. Wait some minutes or set HF_TOKEN."
            f" {_AGAIN}"
        )
    if status is not None:
        return f"The hub answered {status} for {repo}. {_AGAIN}"
    return _explain_local(chain, repo)


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _explain_local(chain: list[BaseException], repo: str) -> str:
    from huggingface_hub import errors as hub

    text = str(chain[0])
    numbers = [link.errno for link in chain if isinstance(link, OSError)]
    if errno.ENOSPC in numbers:
        return f"The disk is full while fetching {repo}. Make room or set HF_HOME to another disk."
    if errno.EACCES in numbers or errno.EROFS in numbers:
        return f"The hub's cache cannot be written for {repo}. Set HF_HOME to a directory of yours."
    if "Consistency check failed" in text:
        return f"A file of {repo} arrived with a wrong size and was dropped. {_AGAIN}"
    if isinstance(chain[0], hub.HFValidationError):
        return _unknown(repo)
    if _is_offline():
        return (
            f"{repo} is not, or not wholly, in the hub's cache, and HF_HUB_OFFLINE forbids to fetch"
            " it. Unset it once, or give a checkpoint directory."
        )
    return (
        f"{repo} could not be fetched: the hub cannot be reached or broke off, and the cache does"
        f" not hold it wholly. Check the connection (HF_ENDPOINT for a mirror). {_AGAIN}"
    )


def _gated(repo: str) -> str:
    from huggingface_hub import constants, get_token

    page = f"{(os.environ.get('HF_ENDPOINT') or constants.ENDPOINT).rstrip('/')}/{repo}"
    if get_token() is None:
        return f"{repo} is gated. Accept its conditions at {page}, then set HF_TOKEN and run again."
    return f"{repo} is gated, and your HF_TOKEN has no access yet. Accept its conditions at {page}."


def _progress_bar(repo: str, progress: Callable[[str], None] | None) -> type:
    """Return a bar class for `snapshot_download` that draws nothing and tells every twentieth."""
    from tqdm.auto import tqdm

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._told, self._title = 0, str(kwargs.get("desc"))
            kwargs.pop("name", None)
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            # Of the bars the library makes, this one counts bytes that reached the disk.
            if progress is None or not self.total or "Reconstruct" not in self._title:
                return
            if (twentieth := int(20 * self.n / self.total)) > self._told:
                self._told = twentieth
                progress(f"fetching {repo}: {self.n / 1e9:.2f} of {self.total / 1e9:.2f} GB")

    return Reporter
