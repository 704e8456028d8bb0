"""On which device and in which number type a model runs, each with its reason in one line.

CUDA and Metal were never run by us and are unmeasured. They are chosen automatically only after a
self-check: a few numbers of the loaded model on the device against the same numbers on the CPU.
"""

from __future__ import annotations

import torch

from tessera.errors import ConfigError, nearest
from tessera.models.chat import ChatModel

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Largest difference of the self-check relative to the largest number: rounding over all layers.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def choose_precision(requested: str, device: str = "cpu") -> tuple[torch.dtype, str]:
    """Return the number type for `float32`, `bfloat16` or `default`, and why.

    Raises:
        ConfigError: There is no such precision.
    """
    if requested in PRECISIONS:
        return PRECISIONS[requested], f"{requested} as asked for"
    if requested != "default":
        names = [*PRECISIONS, "default"]
        raise ConfigError(
            f"precision {requested!r} does not exist, there are {', '.join(names)}."
            f"{nearest(requested, names)}"
        )
    kind = device.partition(":")[0]
    if kind == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        return torch.bfloat16, "bfloat16: this GPU computes it fast"
    if kind == "cpu" and (unit := fast_bfloat16_unit()):
        return torch.bfloat16, f"bfloat16: this CPU computes it fast ({unit})"
    where = "this CPU has no fast bfloat16" if kind == "cpu" else f"the safe choice on {kind}"
    return torch.float32, f"float32: {where}"


def fast_bfloat16_unit() -> str | None:
    """Name the instructions that make bfloat16 fast on this CPU; None on most."""
    for unit, probe in (
        ("AMX", "_is_amx_tile_supported"),
        ("AVX512-BF16", "_is_avx512_bf16_supported"),
    ):
        is_supported = getattr(torch.cpu, probe, None)  # private in torch 2.6 to 2.13
        if is_supported is not None and is_supported():
            return unit
    return None


def available_devices() -> list[str]:
    """List what this machine has, the fastest first; `cpu` is always the last."""
    devices = ["cuda"] if torch.cuda.is_available() else []
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return [*devices, "cpu"]


def plan_device(requested: str) -> str:
    """Return the device to aim at; for `auto` it still has to pass `move_checked`.

    Raises:
        ConfigError: The device does not exist here.
    """
    devices = available_devices()
    if requested == "auto":
        return devices[0]
    if requested.partition(":")[0] not in devices:
        names = ["auto", *devices]
        raise ConfigError(
            f"device {requested!r} is not available here, there are {', '.join(names)}."
            f"{nearest(requested, names)}"
        )
    try:
        torch.empty(0, device=requested)
    except RuntimeError:
        raise ConfigError(f"device {requested!r} is not available here: check its number") from None
    return requested


def move_checked(model: ChatModel, device: str) -> tuple[str, str]:
    """Move a model from the CPU to a device if that computes the same there; return (device, why).

    Unmeasured on real CUDA and Metal. If the numbers differ or the device fails, the model is back
    on the CPU afterwards.
    """
    if device == "cpu":
        return "cpu", "cpu: nothing faster found"
    expected = probe_numbers(model)
    try:
        model.to(device)
        found = probe_numbers(model).to("cpu")
        largest = float(expected.abs().max())
        error = float((found - expected).abs().max()) / max(largest, 1e-6)
        tolerance = _TOLERANCE.get(model.language.embedding.weight.dtype, 5e-2)
        fault = None if error <= tolerance else f"its numbers differ from the CPU's by {error:.1e}"
    except (RuntimeError, NotImplementedError, TypeError) as failure:
        fault = f"it failed the self-check ({type(failure).__name__})"
    if fault is None:
        return device, f"{device}: passed the self-check against the CPU"
    model.to("cpu")
    return "cpu", f"cpu: {device} was not used, {fault}"


@torch.inference_mode()
def probe_numbers(model: ChatModel) -> torch.Tensor:
    """Compute logits of a few fixed tokens behind one fixed tile, as float32."""
    weight = model.language.embedding.weight
    size = model.config.tile_size
    ramp = torch.arange(3 * size * size, dtype=torch.float32).reshape(1, 3, size, size)
    pixels = torch.sin(ramp * 0.01).to(device=weight.device, dtype=weight.dtype)
    visual_BSD = model.encode_tiles(pixels)
    ids = torch.arange(1, 9, device=weight.device)[None] % model.config.language.vocab_size
    room = max(1, model.config.language.max_positions - ids.shape[1])
    embeds_BLD = torch.cat([visual_BSD[:, :room], model.language.embedding(ids)], dim=1)
    return model(embeds_BLD)[0, -8:].float()
