"""Train the default model's projector on cached picture features: the smallest honest loop.

Two steps, both restartable from their state dict:

1. `warm_up` without the language model: pooled visual tokens are matched contrastively (InfoNCE,
   arXiv 1807.03748) to the mean word embedding of their answer.
2. `CaptionTrainer` through the frozen language model: next-token loss on the answer, projector and
   optional LoRA (arXiv 2106.09685) learn.

Features are the shuffled patches of the frozen vision encoder, so a picture is encoded once. A step
may keep a random subset of a picture's visual tokens, in order (FLIP, arXiv 2212.00794): tokens are
what costs time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tessera.models.chat import ChatModel
from tessera.models.projector import Projector

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How the projector is warmed up without the language model."""

    steps: int
    batch_size: int = 512  # pictures a step
    tokens_kept: int = 16  # visual tokens of a picture that a step sees
    lr: float = 1e-3  # peak, cosine to zero
    temperature: float = 0.05  # of the softmax over the batch
    seed: int = 0


def warm_up(
    projector: Projector,
    features_NSD: Tensor,
    targets_ND: Tensor,
    *,
    recipe: WarmUp,
    scale: float,
) -> list[float]:
    """Match pooled visual tokens to answer embeddings; return the loss of every step.

    Args:
        projector: trained in place; at the end its output is rescaled.
        features_NSD: cached features, any float type.
        targets_ND: mean word embedding of each picture's answer.
        recipe: steps, sizes and rates.
        scale: root-mean-square that a visual token shall have at the end (that of word embeddings).
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    projector.requires_grad_(True)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=recipe.lr, weight_decay=0.05)
    centre = targets_ND.mean(0)
    losses = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _cosine(step, recipe.steps, warmup=20)
        rows = torch.randperm(len(features_NSD), generator=generator)[: recipe.batch_size]
        kept = keep_tokens(features_NSD[rows], recipe.tokens_kept, generator).float()
        pooled = F.normalize(projector(kept).mean(1) - centre, dim=-1)
        target = F.normalize(targets_ND[rows] - centre, dim=-1)
        logits = pooled @ target.T / recipe.temperature
        # Equal answers in one batch are all right: the target is shared between them.
        same = (target @ target.T > 0.999).float()
        wanted = same / same.sum(1, keepdim=True)
        loss = F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 100 == 0:
            _log.info("warm-up step %d of %d, loss %.3f", step, recipe.steps, losses[-1])
    with torch.no_grad():
        tokens = projector(features_NSD[:256].float())
        factor = scale / float(tokens.square().mean().sqrt())
        projector.down.weight.mul_(factor)
        projector.down.bias.mul_(factor)
    return losses


def _cosine(step: int, steps: int, *, warmup: int) -> float:
    """Rise linearly, then fall to zero along half a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class CaptionTrainer:
    """Train the projector (and LoRA, where the model has it) through the frozen language model."""

    def __init__(
        self, model: ChatModel, *, visual_token_id: int, steps: int, lr: float, lora_lr: float
    ) -> None:
        self.model = model
        self.visual_token_id = visual_token_id
        self.steps = steps
        self.step = 0
        trained = {"projector.": lr, "lora_": lora_lr}
        groups: dict[str, list[torch.nn.Parameter]] = {key: [] for key in trained}
        for name, parameter in model.named_parameters():
            key = next((key for key in trained if key in name), None)
            parameter.requires_grad_(key is not None)
            if key is not None:
                groups[key].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": groups[key], "lr": rate, "peak": rate}
                for key, rate in trained.items()
                if groups[key]
            ],
            weight_decay=0.01,
            betas=(0.9, 0.98),
        )

    def train_step(self, batch: CaptionBatch) -> float:
        """Take one optimiser step; return the mean loss of its trained tokens.

        Raises:
            FloatingPointError: the loss is not finite; nothing was changed.
        """
        loss = caption_loss(self.model, batch, visual_token_id=self.visual_token_id).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {float(loss.detach())} at step {self.step}")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([parameter for _, parameter in self._trained()], 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * _cosine(self.step, self.steps, warmup=30)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def state(self) -> dict[str, Tensor]:
        """Collect everything that `restore` needs to go on exactly, as flat named tensors."""
        state = {"step": torch.tensor(self.step)}
        for name, parameter in self._trained():
            state[f"parameter/{name}"] = parameter.detach()
            for key, value in self.optimizer.state[parameter].items():
                state[f"{key}/{name}"] = torch.as_tensor(value)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`; model and recipe must be those it was saved with."""
        self.step = int(state["step"])
        for name, parameter in self._trained():
            with torch.no_grad():
                parameter.copy_(state[f"parameter/{name}"])
            self.optimizer.state[parameter] = {
                key.split("/")[0]: value.clone()
                for key, value in state.items()
                if key.endswith(f"/{name}") and not key.startswith("parameter/")
            }

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
