"""First part of the default model's training, without the language model: projector and ViT.

Pooled visual tokens are matched contrastively (InfoNCE, arXiv 1807.03748) to the mean word
embedding of their answer, and two linear heads, dropped afterwards, tell kinds apart: one on the
pooled visual tokens, one on the pooled patches. The projector learns, and low-rank adapters (arXiv
2106.09685) in the last blocks of the vision encoder: stage 1 of arXiv 2404.16821 trains MLP and
ViT too.

The frozen blocks below ran once; where no block is left to learn, the projector learns alone. A
step sees a random part of each picture (FLIP, arXiv 2212.00794): patches that the pixel shuffle
makes one token of stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tessera.config import ModelConfig
from tessera.models.chat import ChatModel
from tessera.models.projector import Projector, pixel_shuffle
from tessera.training.caption import keep_tokens
from tessera.training.steps import Steps


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How projector and vision adapters are warmed up."""

    steps: int
    first_block: int  # of those that learn; what is below ran before
    cells_kept: int = 32  # visual tokens of a picture that a step sees
    projector_lr: float = 1e-3
    vision_lr: float = 1e-3
    temperature: float = 0.05  # of the softmax over the batch
    label_smoothing: float = 0.1  # of the kinds


class WarmUpTrainer:
    """Trains on hidden states of the frozen blocks."""

    def __init__(
        self, model: ChatModel, recipe: WarmUp, *, targets_ND: Tensor, kinds_N: Tensor
    ) -> None:
        """Start a run.

        Args:
            model: its vision encoder has adapters in blocks from `first_block` on.
            recipe: steps, sizes and rates.
            targets_ND: mean word embedding of each picture's answer.
            kinds_N: number of each picture's kind.
        """
        self.model, self.recipe = model, recipe
        self.targets_ND, self.kinds_N = targets_ND, kinds_N
        self.centre_D = targets_ND.mean(0)
        num_kinds = int(kinds_N.max()) + 1
        width = model.config.vision.width
        self.heads = nn.ModuleDict(
            {
                "visual": nn.Linear(targets_ND.shape[1], num_kinds),
                "patches": nn.Sequential(nn.Dropout(0.3), nn.Linear(width, num_kinds)),
            }
        )
        model.requires_grad_(False)
        self.blocks = model.vision.blocks[recipe.first_block : model.config.num_vision_blocks_used]
        vision = {n: p for n, p in _named(self.blocks, "blocks").items() if "lora_" in n}
        others = {**_named(model.projector, "projector"), **_named(self.heads, "heads")}
        for parameter in (*vision.values(), *others.values()):
            parameter.requires_grad_(True)
        self.run = Steps(
            [(recipe.vision_lr, vision), (recipe.projector_lr, others)],
            steps=recipe.steps, warmup=20, weight_decay=0.05,
        )  # fmt: skip

    def train_step(self, hidden_NPD: Tensor, rows: Tensor, generator: torch.Generator) -> float:
        """Learn from hidden states (class token first) of the pictures `rows`; return the loss."""
        tokens_NSD = shuffle_hidden(hidden_NPD, self.model.config)
        tokens_NSD = keep_tokens(tokens_NSD, self.recipe.cells_kept, generator)
        cell = (self.model.config.shuffle_factor**2, hidden_NPD.shape[-1])
        patches_NPD = tokens_NSD.unflatten(-1, cell).flatten(1, 2)
        patches_NPD = self._blocks(torch.cat([hidden_NPD[:, :1], patches_NPD], 1))[:, 1:]
        tokens_NSD = patches_NPD.unflatten(1, (-1, cell[0])).flatten(2)
        pooled_ND = self.model.projector(tokens_NSD).mean(1)
        kinds = self.kinds_N[rows]
        smoothing = self.recipe.label_smoothing
        loss = self._contrast(pooled_ND, self.targets_ND[rows])
        for name, x in (("visual", pooled_ND), ("patches", patches_NPD.mean(1))):
            loss = loss + F.cross_entropy(self.heads[name](x), kinds, label_smoothing=smoothing)
        return self.run.take(loss)

    def _blocks(self, hidden_NPD: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_NPD = block(hidden_NPD)
        return hidden_NPD

    def _contrast(self, pooled_ND: Tensor, targets_ND: Tensor) -> Tensor:
        pooled = F.normalize(pooled_ND - self.centre_D, dim=-1)
        target = F.normalize(targets_ND - self.centre_D, dim=-1)
        logits = pooled @ target.T / self.recipe.temperature
        # Equal answers in one batch are all right: the target is shared between them.
        same = (target @ target.T > 0.999).float()
        wanted = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2

    @torch.no_grad()
    def finish(self, hidden_NPD: Tensor) -> Tensor:
        """Run the learnt blocks over whole pictures, [N, 1 + P, D] in and out."""
        return self._blocks(hidden_NPD)


def shuffle_hidden(hidden_NPD: Tensor, config: ModelConfig) -> Tensor:
    """Turn hidden states (class token first) into what the projector reads, [N, S, 4 D]."""
    side = config.tile_size // config.vision.patch_size
    return pixel_shuffle(
        hidden_NPD[:, 1:].unflatten(1, (side, side)),
        factor=config.shuffle_factor,
        version=config.shuffle_version,
    )


@torch.no_grad()
def rescale(projector: Projector, features_TSD: Tensor, *, size: float) -> None:
    """Bring visual tokens to a root-mean-square size, that of word embeddings."""
    tokens = projector(features_TSD)
    factor = size / float(tokens.square().mean().sqrt())
    projector.down.weight.mul_(factor)
    projector.down.bias.mul_(factor)


def _named(module: nn.Module, prefix: str) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": parameter for name, parameter in module.named_parameters()}
