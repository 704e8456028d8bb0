"""A checkpoint directory and a model class become a filled model.

The class is handed in, because this part knows names and files but no module. Memory is taken
only after config and headers were found to agree, and each tensor is read to where it stays.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tessera.checkpoint.files import Progress, fill, plan_load
from tessera.checkpoint.names import config_from_released, unread_keys, weight_table
from tessera.checkpoint.values import read_json_object, show
from tessera.config import ModelConfig, VisionConfig
from tessera.errors import CheckpointError, ConfigError

CONFIG_NAME = "config.json"
_log = logging.getLogger("tessera")
Model = TypeVar("Model", bound=nn.Module)


class Converter(Protocol):
    """Changes parts of a model as soon as they are filled: it never exists whole before."""

    def num_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        """Count what a parameter takes once it is converted."""

    def filled(self, model: nn.Module, names: set[str]) -> list[str]:
        """Convert what is complete among the filled parameters; return the names that are gone."""


def read_config(directory: Path | str) -> ModelConfig | VisionConfig:
    """Read `config.json` of a chat model or of a stand-alone InternViT; warn of unknown keys.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: it describes a model we do not know.
    """
    directory = Path(directory)
    data, where = read_json_object(directory, CONFIG_NAME), str(directory / CONFIG_NAME)
    config = config_from_released(data, where=where)
    if unknown := unread_keys(data, where=where):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        names = ", ".join(map(show, unknown[:5]))
        _log.warning("%s: %s%s unknown here and without effect", where, names, more)
    return config


def read_chat_config(directory: Path | str) -> ModelConfig:
    """Read `config.json` of a chat model.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: it describes no chat model, or one we do not know.
    """
    config = read_config(directory)
    if isinstance(config, VisionConfig):
        raise ConfigError(
            f"{Path(directory) / CONFIG_NAME} describes a vision encoder alone. Give the"
            " directory of a chat model (model_type 'internvl_chat')."
        )
    return config


def load_model(
    directory: Path | str,
    build: Callable[[], Model],
    config: ModelConfig | VisionConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    converter: Converter | None = None,
    progress: Progress | None = None,
) -> Model:
    """Build a model and fill it from the directory: `load_model(d, lambda: ChatModel(c), c)`.

    Args:
        directory: where the weights lie.
        build: makes the model; its parameters need no values yet.
        config: what `read_config` gave.
        dtype: type of the parameters in memory.
        device: where they stay.
        converter: replaces parts of the model while the rest is being read.
        progress: called with (bytes done, bytes in all).

    Raises:
        CheckpointError: the directory does not hold the model of its config.
    """
    table = weight_table(config)
    plan = plan_load(directory, table)
    if converter is None:
        needed = sum(math.prod(entry.shape) for entry in table) * dtype.itemsize
    else:
        needed = sum(converter.num_bytes(entry.ours, entry.shape) for entry in table)
    free = free_memory() if torch.device(device).type == "cpu" else None
    if free is not None and needed > free:
        raise CheckpointError(_no_memory(directory, needed, f"{free / 1e9:.1f} GB are free"))
    try:
        with Blank(dtype=dtype, device=torch.device(device)):
            model = build()
        model = model.to(device=device, dtype=dtype)  # the few that were made in another way
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise CheckpointError(_no_memory(directory, needed, "they are not free")) from None
    done: set[str] = set()

    def convert(name: str) -> list[str]:
        assert converter is not None
        done.add(name)
        gone = converter.filled(model, done)
        done.difference_update(gone)
        return gone

    fill(model, plan, progress=progress, filled=convert if converter else None)
    return model.requires_grad_(False).eval()


def free_memory() -> int | None:
    """Return the bytes that a program can take without being killed, None if nobody says."""
    known = [size for size in (_free_of_machine(), _free_of_container()) if size is not None]
    return min(known, default=None)


def _free_of_machine() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return sum(1024 * int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _free_of_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what the control group (a container, mostly) leaves, None without a limit."""
    try:
        limit, used = ((root / f"memory.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(used))  # "max" is no number: no limit
    except (OSError, ValueError):
        return None


def _no_memory(directory: Path | str, needed: int, state: str) -> str:
    return (
        f"{directory}: the weights take {needed / 1e9:.1f} GB of memory, {state}."
        " Close programs, choose --precision int8 or bfloat16, or take a smaller model."
    )


class Blank(TorchFunctionMode):
    """Inside it, parameters come with the given type and place, and initialising them does nothing.

    Pages of memory that nobody wrote do not exist yet, so a model made here costs nothing until it
    is filled. The meta device would do the same, but imports 800 modules (78 MB, seconds) for it.
    """

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.defaults = {"dtype": dtype, "device": device}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Pass a call on, or skip it if it only sets a first value."""
        kwargs = dict(kwargs or {})
        if func in _MAKERS:
            for name, value in self.defaults.items():
                if kwargs.get(name) is None:
                    kwargs[name] = value
        elif func in _SETTERS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand)
_SETTERS = (torch.Tensor.uniform_, torch.Tensor.normal_)
