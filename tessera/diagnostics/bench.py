"""How fast a model is on this machine: tiles, prompts, tokens, memory.

A preset is measured with random weights of its shapes, so nothing has to be downloaded. Every
figure is the median of repeated runs after one that is not counted; the tiles are all different
and nothing is remembered between runs.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

import tessera
from tessera.assistant import load
from tessera.checkpoint.loader import Blank, free_memory
from tessera.config import ModelConfig
from tessera.engine.backends import choose_precision
from tessera.engine.generate import encode_tiles
from tessera.engine.kernels import undisturbed
from tessera.engine.quantise import plan_quantiser
from tessera.errors import UserError
from tessera.models.cache import KVCache
from tessera.models.chat import ChatModel
from tessera.presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What is measured."""

    tiles: int = 2  # encoded at once
    prompts: tuple[int, ...] = (306, 1842)  # positions: one tile and a question, 7 tiles and one
    new_tokens: int = 32
    repeats: int = 3


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """What was measured; seconds are medians."""

    model: str
    precision: str
    threads: int
    machine: str
    versions: str
    load_s: float
    tile_s: float
    prompt_s: dict[int, float]
    token_s: float
    peak_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the text of `tessera bench`."""
        lines = [
            f"{self.model}, {self.precision}, {self.threads} threads, {self.machine}",
            f"  {self.versions}",
            f"  load      {self.load_s:9.2f} s",
            f"  vision    {self.tile_s:9.2f} s a tile, projector included",
        ]
        for length, seconds in self.prompt_s.items():
            lines.append(
                f"  prompt    {length / seconds:9.1f} tokens/s for {length:,} positions"
                f" ({seconds:.2f} s)"
            )
        lines.append(f"  answer    {1 / self.token_s:9.1f} tokens/s")
        lines.append(f"  memory    {self.peak_bytes / 1e9:9.2f} GB at the peak, Python included")
        return lines


def bench(name: str, *, precision: str = "default", plan: BenchPlan | None = None) -> BenchResult:
    """Measure a preset with random weights, or a checkpoint directory or hub id with its own.

    Raises:
        UserError: there is no such model or precision, or it does not fit into memory.
    """
    plan = plan or BenchPlan()
    started = time.perf_counter()
    make = {key.lower(): make for key, make in PRESETS.items()}.get(name.lower())
    if make is not None:
        config = make()
        _check_prompts(plan, config)
        model, precision = random_model(config, precision)
    else:
        assistant = load(name, precision=precision, device="cpu")
        model, precision = assistant.model, assistant.precision
        _check_prompts(plan, model.config)
    load_s = time.perf_counter() - started
    prompt_s = {length: _prompt_seconds(model, length, plan.repeats) for length in plan.prompts}
    return BenchResult(
        model=name,
        precision=precision,
        threads=torch.get_num_threads(),
        machine=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        versions=f"tessera {tessera.__version__}, torch {torch.__version__}",
        load_s=load_s,
        tile_s=_tile_seconds(model, plan),
        prompt_s=prompt_s,
        token_s=_token_seconds(model, min(plan.prompts), plan),
        peak_bytes=_peak_bytes(),
    )


def random_model(config: ModelConfig, precision: str) -> tuple[ChatModel, str]:
    """Make a model with small random weights, parameter by parameter as if it were loaded."""
    with torch.device("meta"):
        shapes = [(name, tuple(p.shape)) for name, p in ChatModel(config).named_parameters()]
    num_params = sum(torch.Size(shape).numel() for _, shape in shapes)
    chosen = choose_precision(precision, "cpu", num_params=num_params)
    converter = None
    if chosen.is_integer:
        converter = plan_quantiser(chosen.name, shapes, free=free_memory())
        needed = sum(converter.num_bytes(*item) for item in shapes)
    else:
        needed = num_params * chosen.dtype.itemsize
    free = free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"the weights take {needed / 1e9:.1f} GB in {chosen.name}, {free / 1e9:.1f} GB are "
            "free: choose another --precision or a smaller model"
        )
    with Blank(dtype=chosen.dtype, device=torch.device("cpu")):
        model = ChatModel(config)
    model = model.to(chosen.dtype).requires_grad_(False).eval()
    done: set[str] = set()
    for name, _ in shapes:
        _randomise(model.get_parameter(name))
        done.add(name)
        if converter is not None:
            done.difference_update(converter.filled(model, done))
    return model, chosen.name


def _randomise(parameter: nn.Parameter) -> None:
    """Fill with noise; norms and scales stay near one, so that numbers keep their size."""
    if parameter.ndim == 1:
        parameter.data.fill_(1.0)
        return
    rows = torch.randn(min(64, len(parameter)), *parameter.shape[1:]) * 0.02
    for start in range(0, len(parameter), len(rows)):  # drawing billions would take minutes
        parameter.data[start : start + len(rows)] = rows[: len(parameter) - start]


def _median(run: Callable[[], Any], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _tile_seconds(model: ChatModel, plan: BenchPlan) -> float:
    size = model.config.tile_size
    pixels = torch.randn(plan.tiles, 3, size, size)
    return _median(lambda: encode_tiles(model, pixels), plan.repeats) / plan.tiles


@torch.inference_mode()
def _read(model: ChatModel, length: int, room: int = 0) -> KVCache:
    config = model.config.language
    ids = torch.arange(1, length + 1)[None] % config.vocab_size
    cache = KVCache(config, 1, capacity=length + room, dtype=model.dtype)
    model(model.language.embedding(ids), cache=cache, last_only=True)
    return cache


def _check_prompts(plan: BenchPlan, config: ModelConfig) -> None:
    limit = config.language.max_positions
    if max(plan.prompts) > limit:
        raise UserError(
            f"a prompt of {max(plan.prompts)} positions: the model reads {limit}, give fewer"
        )


def _prompt_seconds(model: ChatModel, length: int, repeats: int) -> float:
    return _median(lambda: _read(model, length), repeats)


@torch.inference_mode()
def _token_seconds(model: ChatModel, length: int, plan: BenchPlan) -> float:
    cache = _read(model, length, room=plan.new_tokens * (plan.repeats + 1))

    def answer() -> None:
        token = torch.ones(1, 1, dtype=torch.long)
        with undisturbed(model):
            for _ in range(plan.new_tokens):
                logits = model(model.language.embedding(token), cache=cache, last_only=True)
                token = logits[:, -1].argmax(-1, keepdim=True)

    return _median(answer, plan.repeats) / plan.new_tokens


def _peak_bytes() -> int:
    """Return the most memory that this process held; Linux counts in kilobytes, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def set_threads(count: int | None) -> None:
    """Use this many threads; None: as many as torch chose."""
    if count is None:
        return
    if count > (os.cpu_count() or 1):
        raise UserError(f"--threads {count}: this machine has {os.cpu_count()}")
    torch.set_num_threads(count)
