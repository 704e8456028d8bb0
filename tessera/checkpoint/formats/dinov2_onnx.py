"""A DINOv2-layout vision transformer inside an ONNX file, in the names of a released InternViT.

Linear weights lost their names on export (`onnx::MatMul_1966`); the nodes that use them kept
theirs, so weights are found through the graph. What follows the twelve blocks (final norm, other
heads) is dropped: the chat model reads an earlier block.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.errors import CheckpointError, UserError

if TYPE_CHECKING:
    import numpy as np

_LINEARS = {
    "query": "attention/attention/query",
    "key": "attention/attention/key",
    "value": "attention/attention/value",
    "proj": "attention/output/dense",
    "fc1": "mlp/fc1",
    "fc2": "mlp/fc2",
}


@dataclass(frozen=True, kw_only=True)
class OnnxVision:
    """Tensors under released names (`vision_model.*`) and the facts a config needs."""

    tensors: dict[str, np.ndarray]
    width: int
    num_layers: int
    mlp_width: int
    grid_size: int
    patch_size: int
    norm_eps: float


class _Graph:
    """Initialisers by name, and the constants that nodes take by the node's name."""

    def __init__(self, path: Path) -> None:
        try:
            import onnx
            from onnx import numpy_helper
        except ImportError:
            raise UserError(
                "the default model needs the package onnx: pip install 'tessera-vl[default]'"
            ) from None
        model = onnx.load(str(path), load_external_data=False)
        self._path = path
        self._to_array = numpy_helper.to_array
        self._initialisers = {item.name: item for item in model.graph.initializer}
        self._nodes = {node.name: node for node in model.graph.node}
        self._constants = {
            node.output[0]: node.attribute[0].t
            for node in model.graph.node
            if node.op_type == "Constant" and node.attribute
        }

    def tensor(self, name: str) -> Any:
        """Return the initialiser of that name."""
        if name not in self._initialisers:
            raise CheckpointError(
                f"{self._path} holds no tensor {name!r}: not the expected ONNX file"
            )
        return self._to_array(self._initialisers[name])

    def has(self, name: str) -> bool:
        """Say whether there is an initialiser of that name."""
        return name in self._initialisers

    def operand(self, node_name: str) -> Any:
        """Return the one constant input of a node."""
        node = self._nodes.get(node_name)
        for name in node.input if node is not None else ():
            if name in self._initialisers:
                return self.tensor(name)
            if name in self._constants:
                return self._to_array(self._constants[name])
        raise CheckpointError(f"{self._path} has no node {node_name!r} with a constant input")


def _block(graph: _Graph, index: int) -> dict[str, np.ndarray]:
    import numpy as np

    old, path = f"backbone.encoder.layer.{index}.", f"/backbone/encoder/layer.{index}/"
    new = f"vision_model.encoder.layers.{index}."
    weight = {name: graph.operand(f"{path}{part}/MatMul").T for name, part in _LINEARS.items()}
    bias = {
        name: graph.tensor(f"{old}{part.replace('/', '.')}.bias") for name, part in _LINEARS.items()
    }
    return {
        f"{new}norm1.weight": graph.tensor(f"{old}norm1.weight"),
        f"{new}norm1.bias": graph.tensor(f"{old}norm1.bias"),
        f"{new}attn.qkv.weight": np.concatenate([weight[k] for k in ("query", "key", "value")]),
        f"{new}attn.qkv.bias": np.concatenate([bias[k] for k in ("query", "key", "value")]),
        f"{new}attn.proj.weight": weight["proj"],
        f"{new}attn.proj.bias": bias["proj"],
        f"{new}ls1": graph.tensor(f"{old}layer_scale1.lambda1"),
        f"{new}norm2.weight": graph.tensor(f"{old}norm2.weight"),
        f"{new}norm2.bias": graph.tensor(f"{old}norm2.bias"),
        f"{new}mlp.fc1.weight": weight["fc1"],
        f"{new}mlp.fc1.bias": bias["fc1"],
        f"{new}mlp.fc2.weight": weight["fc2"],
        f"{new}mlp.fc2.bias": bias["fc2"],
        f"{new}ls2": graph.tensor(f"{old}layer_scale2.lambda1"),
    }


def _position(graph: _Graph) -> np.ndarray:
    """Join the class token's position and the grid's, which the export split: [1, 1 + P, D]."""
    import numpy as np

    class_position = graph.operand("/backbone/embeddings/Concat_6")
    grid_position = graph.operand("/backbone/embeddings/Reshape_1")
    return np.concatenate([class_position, grid_position], axis=1)


def read_onnx_vision(path: Path) -> OnnxVision:
    """Read every tensor of the embeddings and blocks.

    Raises:
        CheckpointError: the graph is not laid out as expected.
    """
    import numpy as np

    graph = _Graph(path)
    position = _position(graph)
    patch = graph.tensor("backbone.embeddings.patch_embeddings.projection.weight")
    tensors = {
        "vision_model.embeddings.class_embedding": graph.tensor("backbone.embeddings.cls_token"),
        "vision_model.embeddings.position_embedding": position,
        "vision_model.embeddings.patch_embedding.weight": patch,
        "vision_model.embeddings.patch_embedding.bias": graph.tensor(
            "backbone.embeddings.patch_embeddings.projection.bias"
        ),
    }
    num_layers = 0
    while graph.has(f"backbone.encoder.layer.{num_layers}.norm1.weight"):
        tensors |= _block(graph, num_layers)
        num_layers += 1
    grid_size = round((position.shape[1] - 1) ** 0.5)
    width = patch.shape[0]
    if not num_layers or position.shape != (1, 1 + grid_size**2, width):
        raise CheckpointError(
            f"{path}: {num_layers} blocks, positions {position.shape}, width {width}"
        )
    eps = float(graph.operand("/backbone/encoder/layer.0/norm1/Add"))
    return OnnxVision(
        tensors={name: np.ascontiguousarray(array) for name, array in tensors.items()},
        width=width,
        num_layers=num_layers,
        mlp_width=tensors["vision_model.encoder.layers.0.mlp.fc1.bias"].shape[0],
        grid_size=grid_size,
        patch_size=patch.shape[-1],
        norm_eps=float(f"{eps:.6g}"),
    )
