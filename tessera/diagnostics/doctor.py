"""What this machine has, what is missing, and what Tessera would choose on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "missing"]

CORE = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "tokenizers",
    "sentencepiece",
    "huggingface-hub",
    "httpx",
    "typer",
    "rich",
    "onnx",
    "onnxruntime",
)
EXTRAS = {
    "default": ("gguf", "pip"),
    "media": ("av", "pypdfium2", "pillow-heif"),
}
_WHAT_FOR = {
    "default": "the default model cannot be made",
    "media": "videos, PDF and HEIF pictures cannot be opened",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    level: Level
    subject: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was found."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """False if something that every use needs is missing."""
        return not any(finding.level == "missing" for finding in self.findings)

    def lines(self) -> list[str]:
        """Return the text of `tessera doctor`."""
        marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
        return [f"{marks[f.level]}  {f.subject:<14}{f.text}" for f in self.findings]


def examine(*, cache: Path, default_model: Finding) -> Report:
    """Look at the machine.

    Args:
        cache: where models are kept.
        default_model: what there is to say about the default model.
    """
    findings = [
        _python(),
        Finding("ok", "machine", _machine()),
        _memory(),
        _disk(cache),
        *_core_packages(),
        *_torch(),
        *_extras(),
        default_model,
        Finding("ok", "network", _network()),
    ]
    return Report(findings=findings)


def _python() -> Finding:
    version = platform.python_version()
    return Finding("ok", "python", f"{version} ({platform.python_implementation()})")


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_cpu_name()}"


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    names = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return f" ({names[0].strip()})" if names else ""


def _memory() -> Finding:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return Finding("note", "memory", "size unknown")
    total = pages * size / 1e9
    if total < 2:
        return Finding("note", "memory", f"{total:.1f} GB; the default model wants 2 GB")
    return Finding("ok", "memory", f"{total:.1f} GB")


def _disk(cache: Path) -> Finding:
    folder = cache
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:,.1f} GB free for {cache} (TESSERA_CACHE moves it)"
    return Finding("ok" if free > 1.5 else "note", "disk", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _core_packages() -> list[Finding]:
    missing = [package for package in CORE if _version(package) is None]
    if missing:
        text = f"{', '.join(missing)}: pip install tessera-vl"
        return [Finding("missing", "packages", text)]
    versions = ", ".join(f"{package} {_version(package)}" for package in CORE)
    return [Finding("ok", "packages", versions)]


def _extras() -> list[Finding]:
    findings = []
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        if missing:
            gap = f"without {', '.join(missing)} {_WHAT_FOR[extra]}"
            text = f"{gap}: pip install 'tessera-vl[{extra}]'"
            findings.append(Finding("note", f"extra {extra}", text))
        else:
            findings.append(Finding("ok", f"extra {extra}", "complete"))
    return findings


def _torch() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return []
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it needs is not on this machine
        cause = " ".join(str(error).split())
        text = f"is installed and does not load ({cause}): install it again"
        return [Finding("missing", "torch", text)]
    from tessera.engine.backends import choose_precision

    gpu = "CUDA" if torch.cuda.is_available() else None
    if gpu is None and torch.backends.mps.is_available():
        gpu = "Metal"
    capability = torch.backends.cpu.get_cpu_capability()
    default, auto = (choose_precision(name).reason for name in ("default", "auto"))
    return [
        Finding("ok", "cpu", f"{capability}, {_threads(torch.get_num_threads())}"),
        Finding("ok", "gpu", f"{gpu} is there" if gpu else "none; the CPU is used"),
        Finding("ok", "precision", f"{default}; --precision auto: {auto}"),
    ]


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _network() -> str:
    """Name which settings exist, never their values: they may hold passwords."""
    given = [name for name in _PROXIES if os.environ.get(name) or os.environ.get(name.upper())]
    given += [name for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN") if name in os.environ]
    given += sorted(name for name in os.environ if name.startswith("PIP_"))
    return f"set: {', '.join(given)}" if given else "no proxy, index or hub setting is set"
