"""Products with integer weights by ONNX Runtime's CPU kernels: one operator a linear.

    int8   DynamicQuantizeMatMul    activations to 8 bits, integer products, any number of rows
    int4   MatMulNBits              activations to 8 bits a block; reads fewer bytes, so it wins
                                    where weights are what takes the time: one position at once

Everything around a product (norms, attention, caches) stays in torch; tensors are shared, not
copied. All sessions share one pool of as many threads as torch uses.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tessera.models.quantized import GROUP, Int4Linear, Int8Linear, QuantizedLinear

_log = logging.getLogger("tessera")
_DOMAIN = "com.microsoft"
_INT8_ACTIVATIONS = 4  # accuracy_level of MatMulNBits
_threads: int | None = None


class KernelLinear(nn.Module):
    """A quantised linear computed with integer instructions."""

    def __init__(self, linear: QuantizedLinear) -> None:
        super().__init__()
        self.in_width, self.out_width = linear.widths
        self.bias_O: Tensor | None = linear.bias_O
        self._session = _session(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to the last axis; float32 in and out."""
        rows = x.reshape(-1, self.in_width).contiguous()
        # A scale for each row instead of one for all: rows are brought to one size before.
        size = rows.abs().amax(1, keepdim=True).clamp_min(1e-30)
        out = torch.empty(len(rows), self.out_width)
        _run(self._session, rows / size, out)
        out *= size
        if self.bias_O is not None:
            out += self.bias_O
        return out.unflatten(0, x.shape[:-1])


class TwoSpeedLinear(nn.Module):
    """int4 for one new position of each row, where reading weights takes the time; else int8.

    Chosen by the positions and not by the rows of a batch: no row feels its neighbours.
    """

    def __init__(self, one: KernelLinear, many: KernelLinear) -> None:
        super().__init__()
        self.one, self.many = one, many

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Apply it to the last axis."""
        return self.one(x_BLD) if x_BLD.shape[-2] == 1 else self.many(x_BLD)


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let torch use one thread while a model with kernels reads single tokens.

    What torch computes then is small, and its waiting threads would hold up those of the kernels.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not any(isinstance(module, KernelLinear) for module in model.modules()):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(session: Any, x: Tensor, out: Tensor) -> None:
    binding = session.io_binding()
    for bind, name, tensor in (
        (binding.bind_input, "x", x),
        (binding.bind_output, "y", out),
    ):
        bind(name, "cpu", 0, np.float32, list(tensor.shape), tensor.data_ptr())
    session.run_with_iobinding(binding)


def _session(linear: QuantizedLinear) -> Any:
    """Make an ONNX Runtime session of one operator; it keeps its own copy of the weights."""
    import onnxruntime

    _share_threads()
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _model_bytes(linear), options, providers=["CPUExecutionProvider"]
    )
    session._model_bytes = None  # kept for a fallback to other providers, which there is not
    return session


def _model_bytes(linear: QuantizedLinear) -> bytes:
    from onnx import TensorProto, helper

    node, weights = _operator(linear)
    first, last = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in zip(("x", "y"), linear.widths, strict=True)
    )
    graph = helper.make_graph([node], "linear", [first], [last], weights)
    versions = [helper.make_opsetid("", 21), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    return bytes(model.SerializeToString())


def _operator(linear: QuantizedLinear) -> tuple[Any, list[Any]]:
    from onnx import helper, numpy_helper

    in_width, out_width = linear.widths
    if isinstance(linear, Int8Linear):
        arrays = {
            "b": linear.levels_OI.T.contiguous().numpy(),
            "scale": linear.scale_O.numpy(),
            "zero": np.zeros(out_width, np.int8),
        }
        node = helper.make_node("DynamicQuantizeMatMul", ["x", *arrays], ["y"], domain=_DOMAIN)
    else:
        assert isinstance(linear, Int4Linear), type(linear)
        nibbles = linear.nibbles_OH.unflatten(1, (-1, GROUP // 2))
        arrays = {"b": nibbles.numpy(), "scale": linear.scale_OK.flatten().numpy()}
        node = helper.make_node(
            "MatMulNBits", ["x", *arrays], ["y"], domain=_DOMAIN, K=in_width, N=out_width,
            bits=4, block_size=GROUP, accuracy_level=_INT8_ACTIVATIONS,
        )  # fmt: skip
    return node, [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _share_threads() -> None:
    """Give all sessions one pool; it can be sized once in a process, before the first session."""
    global _threads
    wanted = torch.get_num_threads()
    if _threads is None:
        import onnxruntime

        _threads = wanted
        onnxruntime.set_global_thread_pool_sizes(wanted, 1)
    elif _threads != wanted:
        _log.warning(
            "integer kernels go on with %d threads, torch has %d now: set them before the first "
            "model is loaded", _threads, wanted,
        )  # fmt: skip
