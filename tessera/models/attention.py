"""One attention call and the masks of the decoder.

segments   1 1 1 2 2        a row that packs two sequences; 0 marks padding, wherever it stands

           k: 1 1 1 2 2
q: 1          x . . . .     a position sees itself and what came before it
   1          x x . . .     in its own segment
   1          x x x . .
   2          . . . x .
   2          . . . x x
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    q_BLHE: Tensor,
    k_BLGE: Tensor,
    v_BLGE: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Attend with grouped heads; query head h reads key head h // (H // G).

    Args:
        q_BLHE: queries.
        k_BLGE: keys, possibly more positions than there are queries.
        v_BLGE: values.
        mask: boolean [B, 1, L, keys], True where a query may look; None: everything.
        causal: plain causal mask; only without `mask` and with as many keys as queries.

    Returns:
        [B, L, H * E].
    """
    out_BHLE = F.scaled_dot_product_attention(
        q_BLHE.transpose(1, 2),
        k_BLGE.transpose(1, 2),
        v_BLGE.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=q_BLHE.shape[2] != k_BLGE.shape[2],
    )
    return out_BHLE.transpose(1, 2).flatten(2)


def segment_positions(segments_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Count positions within each run of equal segments; padding counts 0.

    Returns:
        positions_BL, and lengths_BL: how long the segment of each position is (1 for padding).
    """
    length = segments_BL.shape[1]
    index_BL = torch.arange(length, device=segments_BL.device).expand_as(segments_BL)
    changes = segments_BL[:, 1:] != segments_BL[:, :-1]
    edge = torch.ones_like(segments_BL[:, :1], dtype=torch.bool)
    is_first_BL, is_last_BL = torch.cat([edge, changes], 1), torch.cat([changes, edge], 1)
    first_BL = torch.where(is_first_BL, index_BL, 0).cummax(1).values
    last_BL = torch.where(is_last_BL, index_BL, length).flip(1).cummin(1).values.flip(1)
    real_BL = segments_BL != 0
    positions_BL = torch.where(real_BL, index_BL - first_BL, 0)
    return positions_BL, torch.where(real_BL, last_BL - first_BL + 1, 1)


def causal_mask(
    segments_BL: Tensor | None, *, length: int, window: int | None, device: torch.device
) -> Tensor | None:
    """Build the mask [B or 1, 1, L, L] of a whole sequence, or None where plain causal does.

    Padding sees itself, so that no row of the softmax is empty.
    """
    windowed = window is not None and length > window
    if segments_BL is None and not windowed:
        return None
    index_L = torch.arange(length, device=device)
    distance_LL = index_L[:, None] - index_L[None, :]
    mask = (distance_LL >= 0)[None]
    if window is not None:
        mask = mask & (distance_LL < window)[None]
    if segments_BL is not None:
        same_BLL = segments_BL[:, :, None] == segments_BL[:, None, :]
        mask = mask & same_BLL & (segments_BL != 0)[:, None, :]
        mask = mask | torch.eye(length, dtype=torch.bool, device=device)[None]
    return mask[:, None]
