"""Open damaged pictures and keep account: what opened, what was refused, what took how long."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tessera.errors import ImageError
from tessera.processing.image import ImageLimits, open_image
from tests.attacks.make_pictures import mutate

MAX_SECONDS = 0.25  # of processor time, for one small picture
# A lie below the limit cannot be told from a picture that is truly as large, and costs as much.
# The time of small pictures is judged here, so the limit is low.
LIMITS = ImageLimits(max_pixels=2_000_000)


@dataclass
class Account:
    """Result of many attacks; `unexpected` must stay empty and `slowest_s` below the limit."""

    tried: int = 0
    opened: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    unexpected: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def attack(indices: Iterable[int], *, limits: ImageLimits = LIMITS) -> Account:
    """Open attacks by number, every third one in reference mode."""
    account = Account()
    for index in indices:
        label, data = mutate(index)
        account.tried += 1
        start = time.process_time()
        try:
            image = open_image(
                data, mode="reference" if index % 3 == 2 else "upright", limits=limits
            )
        except ImageError as error:
            account.refused += 1
            if not str(error).isprintable():
                account.unexpected.append(f"{label}: message with control characters")
        except Exception as error:
            account.unexpected.append(f"{label}: {type(error).__name__}: {error}")
        else:
            account.opened += 1
            account.kinds[f"{image.mode}"] += 1
            if min(image.size) < 1:
                account.unexpected.append(f"{label}: opened with size {image.size}")
        seconds = time.process_time() - start
        if seconds > account.slowest_s:
            account.slowest_s, account.slowest = seconds, label
    return account


def peak_mib() -> float:
    """Peak resident memory of this process; Linux counts in its ru_maxrss the parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def forget_peak() -> None:
    """Start a new peak from the memory in use now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
