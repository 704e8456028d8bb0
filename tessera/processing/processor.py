"""Conversations in, model inputs out: every picture is opened once, cut, counted and placed.

The same object serves training, evaluation and answering. Pictures share no budget: each may take
`max_tiles` tiles (its own limit, the call's, or the model's). A video becomes frames of one tile
each, labelled as the published recipe does (`Frame1: <image>`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tessera.config import ModelConfig
from tessera.errors import ConfigError, PromptError
from tessera.processing.conversation import (
    Conversation,
    Message,
    Part,
    Picture,
    Text,
    Video,
)
from tessera.processing.image import ImageMode, open_image
from tessera.processing.template import VISUAL_TOKEN, find_template, render
from tessera.processing.tiling import cut, normalise, pad_to_square, tile_limits
from tessera.processing.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """What a model eats, in the order of the conversations and, in each, of its pictures."""

    ids: list[list[int]]
    train_masks: list[list[bool]]  # True where a model learns to write the id
    pixels: torch.Tensor | None  # [T, 3, S, S] float32, None without pictures
    tile_counts: list[list[int]]  # per conversation, per picture, thumbnail included
    sizes: list[list[tuple[int, int]]]  # (width, height) of the upright originals

    @property
    def num_tiles(self) -> list[int]:
        """Tiles of each conversation."""
        return [sum(counts) for counts in self.tile_counts]


class Processor:
    """Turns conversations into `ModelInputs` as one model wants them.

    Raises:
        ConfigError: when template, tokenizer and model do not belong together.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, *, image_mode: ImageMode = "upright"
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.image_mode = image_mode
        self.template = find_template(config.template)
        self.visual_token_id = tokenizer.token_id(VISUAL_TOKEN)
        end_id = tokenizer.token_id(self.template.end_token)
        eos_ids = () if tokenizer.eos_id in (None, end_id) else (tokenizer.eos_id,)
        self.stop_ids: tuple[int, ...] = (end_id, *eos_ids)
        if tokenizer.vocab_size > config.language.vocab_size:
            raise ConfigError(
                f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model "
                f"{config.language.vocab_size} embeddings; take both from one release"
            )

    def __call__(
        self, conversations: Sequence[Conversation], *, max_tiles: int | None = None
    ) -> ModelInputs:
        """Process a batch.

        Args:
            conversations: of any length, with any number of pictures.
            max_tiles: of every picture that names no limit of its own; None takes the model's.

        Raises:
            PromptError: when a conversation cannot be rendered.
            ImageError: when a picture cannot or may not be opened.
        """
        if isinstance(conversations, Conversation):
            raise PromptError(
                "one conversation was given where a list is expected; write [conversation]"
            )
        if max_tiles is not None and max_tiles < 1:
            raise PromptError(f"max_tiles is {max_tiles}; a picture takes at least one tile")
        ids, masks, tiles, counts, sizes = [], [], [], [], []
        for conversation in conversations:
            unfolded = unfold_videos(conversation, image_mode=self.image_mode)
            shown = [
                self.cut(picture, max_tiles=max_tiles)
                for picture in unfolded.pictures
                if isinstance(picture, Picture)
            ]
            tiles += [cut_tiles for cut_tiles, _ in shown]
            counts.append([len(cut_tiles) for cut_tiles, _ in shown])
            sizes.append([size for _, size in shown])
            rendered = render(
                unfolded,
                template=self.template,
                tokenizer=self.tokenizer,
                tile_counts=counts[-1],
                visual_tokens_per_tile=self.config.visual_tokens_per_tile,
                system_message=self.config.system_message,
            )
            ids.append(rendered.ids)
            masks.append(rendered.train_mask)
        return ModelInputs(
            ids=ids,
            train_masks=masks,
            pixels=normalise(np.concatenate(tiles)) if tiles else None,
            tile_counts=counts,
            sizes=sizes,
        )

    def cut(
        self, picture: Picture, *, max_tiles: int | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Open a picture; return its uint8 tiles [T, S, S, 3] and (width, height) of the original.

        Raises:
            ImageError: when it cannot or may not be opened.
        """
        image = open_image(picture.source, mode=self.image_mode)
        size = image.size
        if self.config.pad_to_square:
            image = pad_to_square(image)
        least, most = tile_limits(self.config, picture.max_tiles or max_tiles)
        tiles = cut(
            image,
            tile_size=self.config.tile_size,
            min_tiles=least,
            max_tiles=most,
            use_thumbnail=self.config.use_thumbnail,
        )
        return tiles, size


def unfold_videos(conversation: Conversation, *, image_mode: ImageMode = "upright") -> Conversation:
    """Replace every video by its labelled frames, one tile each."""
    if not any(isinstance(picture, Video) for picture in conversation.pictures):
        return conversation
    messages = []
    for message in conversation.messages:
        parts: list[Part] = []
        for part in message.parts:
            parts += _frames(part, image_mode) if isinstance(part, Video) else [part]
        messages.append(Message(message.role, tuple(parts)))
    return Conversation(tuple(messages))


def _frames(video: Video, image_mode: ImageMode) -> list[Part]:
    from tessera.processing.media import video_frames

    parts: list[Part] = []
    frames = video_frames(video.source, video.num_frames, mode=image_mode)
    for number, frame in enumerate(frames, start=1):
        parts += [Text(f"Frame{number}: "), Picture(frame, max_tiles=1), Text("\n")]
    return parts
