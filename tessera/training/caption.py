"""Second part of the default model's training: through the frozen language model.

Next-token loss on the answer; the projector and optional LoRA (arXiv 2106.09685) learn.

Features are the shuffled patches of the vision encoder as the first part (`warm_up`) left it, so a
picture is encoded once. A step may keep a random subset of a picture's visual tokens, in order
(FLIP, arXiv 2212.00794): tokens are what costs time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tessera.models.chat import ChatModel
from tessera.training.steps import Steps


@dataclass(frozen=True, kw_only=True)
class CaptionSample:
    """A rendered conversation; one placeholder stands for all visual tokens of its picture."""

    ids: tuple[int, ...]
    train_mask: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """Padded on the right, where a causal model needs no mask."""

    ids_BL: Tensor
    train_mask_BL: Tensor
    features_TSD: Tensor | None  # None: words only


def keep_tokens(features_TSD: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Keep `count` random visual tokens of each picture, in their order."""
    tiles, tokens = features_TSD.shape[:2]
    if count >= tokens:
        return features_TSD
    chosen = torch.rand(tiles, tokens, generator=generator).topk(count).indices.sort().values
    return features_TSD.gather(1, chosen[..., None].expand(-1, -1, features_TSD.shape[2]))


def collate(
    samples: Sequence[CaptionSample], features_TSD: Tensor | None, *, visual_token_id: int
) -> CaptionBatch:
    """Expand each sample's placeholder to its visual tokens and pad to the longest."""
    num_visual = 0 if features_TSD is None else features_TSD.shape[1]
    rows, masks = [], []
    for sample in samples:
        repeats = [num_visual if id_ == visual_token_id else 1 for id_ in sample.ids]
        counts = torch.tensor(repeats)
        rows.append(torch.tensor(sample.ids).repeat_interleave(counts))
        masks.append(torch.tensor(sample.train_mask).repeat_interleave(counts))
    pad = torch.nn.utils.rnn.pad_sequence
    return CaptionBatch(
        ids_BL=pad(rows, batch_first=True),
        train_mask_BL=pad(masks, batch_first=True),
        features_TSD=features_TSD,
    )


def caption_loss(model: ChatModel, batch: CaptionBatch, *, visual_token_id: int) -> Tensor:
    """Compute the next-token loss of each trained token, [number of trained tokens]."""
    features_TSD = batch.features_TSD
    visual_TSD = None if features_TSD is None else model.projector(features_TSD)
    embeds_BLD = model.embed(batch.ids_BL, visual_TSD, visual_token_id=visual_token_id)
    hidden_BLD = model.language(embeds_BLD[:, :-1])
    trained_BL = batch.train_mask_BL[:, 1:]
    logits = model.language.logits(hidden_BLD[trained_BL])
    return F.cross_entropy(logits.float(), batch.ids_BL[:, 1:][trained_BL], reduction="none")


class CaptionTrainer:
    """Train the projector (and LoRA, where the model has it) through the frozen language model."""

    def __init__(
        self, model: ChatModel, *, visual_token_id: int, steps: int, lr: float, lora_lr: float
    ) -> None:
        self.model = model
        self.visual_token_id = visual_token_id
        model.requires_grad_(False)
        named = dict(model.named_parameters())
        projector = {n: p for n, p in named.items() if n.startswith("projector.")}
        lora = {n: p for n, p in named.items() if n.startswith("language.") and "lora_" in n}
        for parameter in (*projector.values(), *lora.values()):
            parameter.requires_grad_(True)
        self.run = Steps(
            [(lr, projector), (lora_lr, lora)], steps=steps, warmup=30, weight_decay=0.01
        )

    def train_step(self, batch: CaptionBatch) -> float:
        """Take one optimiser step; return the mean loss of its trained tokens.

        Raises:
            FloatingPointError: the loss is not finite; nothing was changed.
        """
        loss = caption_loss(self.model, batch, visual_token_id=self.visual_token_id)
        return self.run.take(loss.mean())
