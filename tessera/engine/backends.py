"""On which device and in which number type a model runs, each with its reason in one line.

CUDA and Metal were never run by us and are unmeasured. They are chosen automatically only after a
self-check: a few numbers of the loaded model on the device against the same numbers on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tessera.errors import ConfigError, nearest
from tessera.models.chat import ChatModel

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,
    "int4": torch.float32,
}  # and the type of the activations
_MANY_PARAMS = 1_000_000_000  # from here `auto` takes int4; a guess, not measured yet
# Largest difference of the self-check relative to the largest number: rounding over all layers.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Precision:
    """In which numbers a model computes, and why, in one line."""

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """Type of activations, and of weights that are not integers."""
        return PRECISIONS[self.name]

    @property
    def is_integer(self) -> bool:
        """Whether the weights of linears are integers."""
        return self.name in ("int8", "int4")


def choose_precision(requested: str, device: str = "cpu", *, num_params: int = 0) -> Precision:
    """Choose among `PRECISIONS`, for `default` and `auto` by the machine.

    `default` computes as exactly as the machine can without being slow: float32 or bfloat16.
    `auto` reads fewer bytes: on a CPU without fast bfloat16 it takes integer weights.

    Args:
        requested: a precision, `default` or `auto`.
        device: where the model will run.
        num_params: parameters of the model; for `auto`, large ones become int4.

    Raises:
        ConfigError: There is no such precision.
    """
    if requested in PRECISIONS:
        if requested in ("int8", "int4") and device.partition(":")[0] != "cpu":
            raise ConfigError(
                f"precision {requested} is computed on the CPU only: add --device cpu"
            )
        return Precision(requested, f"{requested} as asked for")
    if requested not in ("default", "auto"):
        names = [*PRECISIONS, "default", "auto"]
        raise ConfigError(
            f"precision {requested!r} does not exist, there are {', '.join(names)}."
            f"{nearest(requested, names)}"
        )
    kind = device.partition(":")[0]
    if kind == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        return Precision("bfloat16", "bfloat16: this GPU computes it fast")
    if kind == "cpu" and (unit := fast_bfloat16_unit()):
        return Precision("bfloat16", f"bfloat16: this CPU computes it fast ({unit})")
    where = "this CPU has no fast bfloat16" if kind == "cpu" else f"the safe choice on {kind}"
    if requested == "auto" and kind == "cpu":
        return _integer_precision(num_params, where)
    return Precision("float32", f"float32: {where}")


def _integer_precision(num_params: int, where: str) -> Precision:
    if num_params >= _MANY_PARAMS:
        count = f"{num_params / 1e9:.1f} billion parameters"
        return Precision("int4", f"int4: {where}, and {count} are read for each token")
    return Precision("int8", f"int8: {where}")


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
        tolerance = _TOLERANCE.get(model.dtype, 5e-2)
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
    size = model.config.tile_size
    ramp = torch.arange(3 * size * size, dtype=torch.float32).reshape(1, 3, size, size)
    pixels = torch.sin(ramp * 0.01).to(device=model.device, dtype=model.dtype)
    visual_BSD = model.encode_tiles(pixels)
    ids = torch.arange(1, 9, device=model.device)[None] % model.config.language.vocab_size
    room = max(1, model.config.language.max_positions - ids.shape[1])
    embeds_BLD = torch.cat([visual_BSD[:, :room], model.language.embedding(ids)], dim=1)
    return model(embeds_BLD)[0, -8:].float()
