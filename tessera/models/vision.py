"""The only vision encoder: InternViT 6B, 300M and every ViT of their layout.

arXiv 2312.14238 section 3.2 (InternViT-6B); the 300M of arXiv 2404.16821. Pre-norm blocks with
LayerScale, exact GELU, optional QK-norm over the full width before the heads are split, no norm
after the last block. Several released heads read an earlier layer, so any layer can be asked for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tessera.config import VisionConfig
from tessera.models.attention import attend
from tessera.models.layers import DropPath, RMSNorm, make_norm


class VisionAttention(nn.Module):
    """Self-attention over the patches of one tile."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.head_width = config.head_width
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.out = nn.Linear(config.width, config.width)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if config.qk_norm:
            self.q_norm = RMSNorm(config.width, config.norm_eps)
            self.k_norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, x_TPD: Tensor) -> Tensor:
        """Mix the patches of each tile; [T, P, D] in and out."""
        q, k, v = self.qkv(x_TPD).chunk(3, -1)
        heads = (-1, self.head_width)
        q, k = self.q_norm(q).unflatten(-1, heads), self.k_norm(k).unflatten(-1, heads)
        return self.out(attend(q, k, v.unflatten(-1, heads)))


class VisionMLP(nn.Module):
    """Two linears around an exact GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)

    def forward(self, x_TPD: Tensor) -> Tensor:
        """Transform each patch; [T, P, D] in and out."""
        return self.down(F.gelu(self.up(x_TPD)))


class VisionBlock(nn.Module):
    """x + scale1 * attention(norm1 x), then x + scale2 * mlp(norm2 x)."""

    def __init__(self, config: VisionConfig, drop_path_prob: float) -> None:
        super().__init__()
        self.norm1 = make_norm(config.norm, config.width, config.norm_eps)
        self.attention = VisionAttention(config)
        self.norm2 = make_norm(config.norm, config.width, config.norm_eps)
        self.mlp = VisionMLP(config)
        self.scale1 = nn.Parameter(torch.full((config.width,), config.layer_scale_init))
        self.scale2 = nn.Parameter(torch.full((config.width,), config.layer_scale_init))
        self.drop_path = DropPath(drop_path_prob)

    def forward(self, x_TPD: Tensor) -> Tensor:
        """One block; [T, P, D] in and out."""
        x_TPD = x_TPD + self.drop_path(self.scale1 * self.attention(self.norm1(x_TPD)))
        return x_TPD + self.drop_path(self.scale2 * self.mlp(self.norm2(x_TPD)))


class VisionEncoder(nn.Module):
    """Tiles to patch features."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        num_positions = 1 + config.grid_size**2
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position = nn.Parameter(torch.zeros(1, num_positions, config.width))
        self.patch = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        steps = max(config.num_layers - 1, 1)
        self.blocks = nn.ModuleList(
            VisionBlock(config, config.drop_path_prob * index / steps)
            for index in range(config.num_layers)
        )

    def forward(self, pixels_TCYX: Tensor, select_layer: int = -1) -> Tensor:
        """Encode normalised tiles.

        Args:
            pixels_TCYX: ImageNet-normalised RGB; sides are multiples of the patch size.
            select_layer: index into [embeddings, block 1, .., last block]; later blocks do not run.

        Returns:
            [T, 1 + P, D]: the class token, then the patches row by row.
        """
        patches_TDYX = self.patch(pixels_TCYX)
        x_TPD = patches_TDYX.flatten(2).transpose(1, 2)
        x_TPD = torch.cat([self.class_token.expand(len(x_TPD), -1, -1), x_TPD], 1)
        x_TPD = x_TPD + self._position_for(*patches_TDYX.shape[-2:])
        num_blocks = select_layer if select_layer >= 0 else len(self.blocks) + 1 + select_layer
        for block in self.blocks[:num_blocks]:
            x_TPD = block(x_TPD)
        return x_TPD

    def _position_for(self, rows: int, columns: int) -> Tensor:
        """Position embedding of a grid, interpolated in float32 (bicubic) where it differs."""
        side = self.config.grid_size
        if (rows, columns) == (side, side):
            return self.position
        grid_DYX = self.position[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        grid_DYX = F.interpolate(
            grid_DYX, size=(rows, columns), mode="bicubic", align_corners=False
        )
        grid_PD = grid_DYX.flatten(2).transpose(1, 2).to(self.position.dtype)
        return torch.cat([self.position[:, :1], grid_PD], 1)
