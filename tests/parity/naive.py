"""Both towers once more in float64 numpy: one sequence, one head, one loop at a time.

Written from the papers and the published description, sharing no code with the package: slow and
plain. Weights are dictionaries of arrays under our own names.
"""

from __future__ import annotations

import math

import numpy as np

from tessera.config import LanguageConfig, RopeConfig, VisionConfig

Weights = dict[str, np.ndarray]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def softmax(row: np.ndarray) -> np.ndarray:
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def frequencies(rope: RopeConfig, head_width: int, max_positions: int, length: int) -> np.ndarray:
    """Angle per position of each pair of channels, for a sequence that is `length` long."""
    steps = np.arange(head_width // 2) * 2 / head_width
    base = rope.theta
    if rope.kind == "dynamic" and length > max_positions:
        stretch = rope.factor * length / max_positions - (rope.factor - 1)
        base = base * stretch ** (head_width / (head_width - 2))
    turns = base**-steps
    if rope.kind in ("su", "yarn"):
        is_long = length > rope.original_max_positions
        turns = turns / np.array(rope.long_factor if is_long else rope.short_factor)
    return turns


def attention_scale(rope: RopeConfig, max_positions: int) -> float:
    if rope.kind not in ("su", "yarn"):
        return 1.0
    ratio = max_positions / rope.original_max_positions
    if ratio <= 1:
        return 1.0
    if rope.kind == "yarn":
        return 0.1 * math.log(ratio) + 1.0
    return math.sqrt(1 + math.log(ratio) / math.log(rope.original_max_positions))


def turn(vector: np.ndarray, angles: np.ndarray, scale: float) -> np.ndarray:
    """Rotate channel i against channel i + half as a complex number."""
    half = len(vector) // 2
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles) * scale
    return np.concatenate([turned.real, turned.imag])


def decoder_logits(
    weights: Weights,
    config: LanguageConfig,
    embeds: np.ndarray,
    *,
    lengths: list[int] | None = None,
) -> np.ndarray:
    """Logits [L, V] of one sequence of embeddings [L, D].

    `lengths[t]` is how long the sequence was when position t was read; None: all at once.
    """
    length, width = len(embeds), config.head_width
    turns = [
        frequencies(config.rope, width, config.max_positions, present)
        for present in lengths or [length] * length
    ]
    scale = attention_scale(config.rope, config.max_positions)
    x = embeds.astype(np.float64)
    for layer in range(config.num_layers):
        w = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items()}
        normed = rms_norm(x, w["norm1.weight"], config.norm_eps)
        packed = normed @ w["attention.qkv.weight"].T
        if config.qkv_bias:
            packed = packed + w["attention.qkv.bias"]
        heads = packed.reshape(length, -1, width)
        mixed = np.zeros((length, config.num_heads, width))
        for head in range(config.num_heads):
            group = head // (config.num_heads // config.num_kv_heads)
            keys = heads[:, config.num_heads + group]
            values = heads[:, config.num_heads + config.num_kv_heads + group]
            keys = np.stack([turn(key, t * turns[t], scale) for t, key in enumerate(keys)])
            for t in range(length):
                first = (
                    0 if config.sliding_window is None else max(0, t + 1 - config.sliding_window)
                )
                query = turn(heads[t, head], t * turns[t], scale)
                scores = softmax(keys[first : t + 1] @ query / math.sqrt(width))
                mixed[t, head] = scores @ values[first : t + 1]
        x = x + mixed.reshape(length, -1) @ w["attention.out.weight"].T
        normed = rms_norm(x, w["norm2.weight"], config.norm_eps)
        gate, up = np.split(normed @ w["mlp.gate_up.weight"].T, 2, axis=-1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w["mlp.down.weight"].T
    head_weight = weights["embedding.weight" if config.tied_embeddings else "head.weight"]
    return rms_norm(x, weights["norm.weight"], config.norm_eps) @ head_weight.T


def cubic(distance: float) -> float:
    """The bicubic kernel with a = -0.75 (Keys 1981, the constant that torch uses)."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resize_matrix(old: int, new: int) -> np.ndarray:
    """[new, old]: how much each old sample gives to each new one; edges are repeated."""
    matrix = np.zeros((new, old))
    for target in range(new):
        centre = (target + 0.5) * old / new - 0.5
        for source in range(math.floor(centre) - 1, math.floor(centre) + 3):
            matrix[target, min(max(source, 0), old - 1)] += cubic(centre - source)
    return matrix


def vision_hidden(
    weights: Weights, config: VisionConfig, pixels: np.ndarray, select_layer: int
) -> np.ndarray:
    """Hidden states [1 + P, D] of one tile [3, Y, X] at an index into [embeddings, block 1, ..]."""
    size = config.patch_size
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    kernel = weights["patch.weight"].reshape(config.width, -1)
    patches = [
        kernel @ pixels[:, y * size : (y + 1) * size, x * size : (x + 1) * size].reshape(-1)
        + weights["patch.bias"]
        for y in range(rows)
        for x in range(columns)
    ]
    grid = weights["position"][0, 1:].reshape(config.grid_size, config.grid_size, -1)
    down, across = resize_matrix(config.grid_size, rows), resize_matrix(config.grid_size, columns)
    grid = np.einsum("yj,xi,jid->yxd", down, across, grid).reshape(rows * columns, -1)
    first = weights["class_token"][0] + weights["position"][0, :1]
    x = np.concatenate([first, np.stack(patches) + grid])
    states = [x]
    for layer in range(config.num_layers):
        w = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items()}
        x = x + w["scale1"] * vision_attention(w, config, norm(w, "norm1", config, x))
        inner = norm(w, "norm2", config, x) @ w["mlp.up.weight"].T + w["mlp.up.bias"]
        x = x + w["scale2"] * (gelu(inner) @ w["mlp.down.weight"].T + w["mlp.down.bias"])
        states.append(x)
    return states[select_layer]


def norm(w: Weights, name: str, config: VisionConfig, x: np.ndarray) -> np.ndarray:
    if config.norm == "rms_norm":
        return rms_norm(x, w[f"{name}.weight"], config.norm_eps)
    return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], config.norm_eps)


def vision_attention(w: Weights, config: VisionConfig, x: np.ndarray) -> np.ndarray:
    packed = x @ w["attention.qkv.weight"].T
    if config.qkv_bias:
        packed = packed + w["attention.qkv.bias"]
    q, k, v = np.split(packed, 3, axis=-1)
    if config.qk_norm:
        q = rms_norm(q, w["attention.q_norm.weight"], config.norm_eps)
        k = rms_norm(k, w["attention.k_norm.weight"], config.norm_eps)
    out = np.zeros_like(q)
    for head in range(config.num_heads):
        part = slice(head * config.head_width, (head + 1) * config.head_width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(config.head_width)
        out[:, part] = np.stack([softmax(row) for row in scores]) @ v[:, part]
    return out @ w["attention.out.weight"].T + w["attention.out.bias"]


def project(weights: Weights, patches: np.ndarray, side: int, version: str) -> np.ndarray:
    """Visual tokens [S, D] of one tile's patches [side * side, width]; factor 2."""
    grid = patches.reshape(side, side, -1)
    blocks = {
        (y, x): np.concatenate([grid[2 * y + i, 2 * x + j] for i in (0, 1) for j in (0, 1)])
        for y in range(side // 2)
        for x in range(side // 2)
    }
    order = sorted(blocks) if version == "v2" else sorted(blocks, key=lambda yx: (yx[1], yx[0]))
    tokens = np.stack([blocks[place] for place in order])
    tokens = layer_norm(tokens, weights["norm.weight"], weights["norm.bias"], 1e-5)
    inner = gelu(tokens @ weights["up.weight"].T + weights["up.bias"])
    return inner @ weights["down.weight"].T + weights["down.bias"]
