"""The chat model: tiles to visual tokens, visual tokens among the words, words to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessera.config import ModelConfig
from tessera.errors import PromptError
from tessera.models.cache import KVCache
from tessera.models.language import Decoder
from tessera.models.projector import Projector, pixel_shuffle
from tessera.models.vision import VisionEncoder


class ChatModel(nn.Module):
    """InternVL-Chat (arXiv 2404.16821 section 3.1): ViT, pixel shuffle, MLP, decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionEncoder(config.vision)
        self.projector = Projector(
            config.vision.width * config.shuffle_factor**2, config.language.width
        )
        self.language = Decoder(config.language)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.language.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of its activations; linears may hold theirs in another form."""
        return self.language.norm.weight.dtype

    def encode_tiles(self, pixels_TCYX: Tensor) -> Tensor:
        """Turn normalised tiles into visual tokens, [T, S, D] with D the decoder's width."""
        return self.projector(self.shuffled_patches(pixels_TCYX))

    def shuffled_patches(self, pixels_TCYX: Tensor) -> Tensor:
        """Encode tiles up to the projector's input: [T, S, 4 x vision width]."""
        config = self.config
        hidden_TPD = self.vision(pixels_TCYX, config.select_layer)[:, 1:]
        rows, columns = (side // config.vision.patch_size for side in pixels_TCYX.shape[-2:])
        grid_TYXD = hidden_TPD.unflatten(1, (rows, columns))
        return pixel_shuffle(
            grid_TYXD, factor=config.shuffle_factor, version=config.shuffle_version
        )

    def embed(self, ids_BL: Tensor, visual_TSD: Tensor | None, *, visual_token_id: int) -> Tensor:
        """Embed ids and put visual tokens at their placeholders, in order over the whole batch.

        Raises:
            PromptError: placeholders and visual tokens differ in number.
        """
        embeds_BLD = self.language.embedding(ids_BL)
        is_visual_BL = ids_BL == visual_token_id
        num_places = int(is_visual_BL.sum())
        num_visual = 0 if visual_TSD is None else visual_TSD.shape[0] * visual_TSD.shape[1]
        if num_places != num_visual:
            raise PromptError(
                f"the prompt holds {num_places} placeholders for visual tokens but the pictures "
                f"give {num_visual}: render the prompt with the tile counts of these pictures"
            )
        if visual_TSD is None or num_visual == 0:
            return embeds_BLD
        visual = visual_TSD.flatten(0, 1).to(embeds_BLD.dtype)
        return embeds_BLD.masked_scatter(is_visual_BL[..., None], visual)

    def forward(
        self,
        embeds_BLD: Tensor,
        *,
        segments_BL: Tensor | None = None,
        cache: KVCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Score the next token of every position, or of the last one only.

        Returns:
            [B, L, V], with `last_only` [B, 1, V].
        """
        hidden_BLD = self.language(embeds_BLD, segments_BL=segments_BL, cache=cache)
        return self.language.logits(hidden_BLD[:, -1:] if last_only else hidden_BLD)
