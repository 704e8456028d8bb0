"""What an assistant keeps between answers: encoded tiles, and keys and values of prompts.

    first question    system <img> ~~~~~~~~ </img> What is this?  A bird.
    second question   system <img> ~~~~~~~~ </img> What is this?  A bird.  Which one?
                      `-------- read already, its keys and values are kept -' `- read -'

A tile is known by a hash of its pixels that we compute, a prompt by its ids and its tiles' hashes.
Both keep what was used last, within a budget of bytes. One memory belongs to one model.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tessera.config import LanguageConfig
from tessera.models.cache import KVCache

TILE_BYTES = 256 * 2**20
PROMPT_BYTES = 2**31
LEAST_LENGTH = 4  # positions; fewer are read sooner than found
_CONTINUES = 0.8  # share of a kept prompt that a longer one repeats if it goes on with it
_SPARE = 1.25  # room for the next turn that may be kept, as a multiple of what was read


@dataclass(frozen=True)
class Prompt:
    """What was read: ids, and a hash for every tile whose visual tokens stand among them."""

    ids_L: Tensor
    tiles: tuple[bytes, ...]
    visual_token_id: int
    tokens_per_tile: int

    def common_length(self, other: Prompt) -> int:
        """Count the positions at the beginning that are the same in both, in whole tiles."""
        length = min(len(self.ids_L), len(other.ids_L))
        differs = (self.ids_L[:length] != other.ids_L[:length]).nonzero()
        length = int(differs[0]) if len(differs) else length
        same_tiles = 0
        for mine, theirs in zip(self.tiles, other.tiles, strict=False):
            if mine != theirs:
                break
            same_tiles += 1
        places = (self.ids_L[:length] == self.visual_token_id).nonzero().flatten()
        known = min(same_tiles, len(places) // self.tokens_per_tile) * self.tokens_per_tile
        return int(places[known]) if known < len(places) else length  # never inside a tile

    def reusable_length(self, other: Prompt) -> int:
        """Count the positions that `other` need not read if this was read: not its last one."""
        shorter = replace(other, ids_L=other.ids_L[:-1])
        return self.common_length(shorter)

    def tiles_before(self, length: int) -> int:
        """Count the tiles whose tokens stand before a position."""
        return int((self.ids_L[:length] == self.visual_token_id).sum()) // self.tokens_per_tile


class TileMemory:
    """Visual tokens by the hash of their tile."""

    def __init__(self, max_bytes: int = TILE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def encode(
        self, pixels_TCYX: Tensor, hashes: tuple[bytes, ...], encode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the visual tokens of tiles, [T, S, D]; equal and known tiles are not encoded."""
        with self._lock:
            found = {key: self._kept[key] for key in hashes if key in self._kept}
        first = {key: index for index, key in reversed(list(enumerate(hashes)))}
        new = [key for key in dict.fromkeys(hashes) if key not in found]
        if new:
            encoded_TSD = encode(pixels_TCYX[[first[key] for key in new]])
            found |= {key: tokens.clone() for key, tokens in zip(new, encoded_TSD, strict=True)}
        self._keep(found)
        return torch.stack([found[key] for key in hashes])

    def _keep(self, tiles: dict[bytes, Tensor]) -> None:
        with self._lock:
            for key, tokens_SD in tiles.items():
                if key not in self._kept:
                    self.num_bytes += tokens_SD.nbytes
                self._kept[key] = tokens_SD
                self._kept.move_to_end(key)
            while self.num_bytes > self.max_bytes:
                self.num_bytes -= self._kept.popitem(last=False)[1].nbytes


class PromptMemory:
    """Keys and values of what was read, one row each."""

    def __init__(self, max_bytes: int = PROMPT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: list[tuple[Prompt, KVCache]] = []  # used last: at the end
        self._lock = threading.Lock()

    def take(self, prompt: Prompt) -> KVCache | None:
        """Return keys and values of the longest beginning that is known, None if it is short.

        They belong to the caller: what continues is taken out, what branches off is copied, so
        several conversations can be kept. At least the last id of the prompt is left to be read.
        """
        with self._lock:
            lengths = [kept.reusable_length(prompt) for kept, _ in self._kept]
            best = max(lengths, default=0)
            if best < LEAST_LENGTH:
                return None
            place = lengths.index(best)
            kept, cache = self._kept.pop(place)
            if best < _CONTINUES * len(kept.ids_L):
                self._kept.append((kept, cache))
                return cache.copy(best)
        cache.truncate(best)
        return cache

    def put(self, prompt: Prompt, cache: KVCache) -> None:
        """Keep keys and values of a prompt; who puts them in does not use them any more."""
        if cache.capacity > _SPARE * cache.length:
            cache = cache.copy(cache.length)
        if cache.num_bytes > self.max_bytes:
            return
        with self._lock:
            self._kept.append((prompt, cache))
            while sum(cache.num_bytes for _, cache in self._kept) > self.max_bytes:
                self._kept.pop(0)


class Memory:
    """Both memories of one model."""

    def __init__(self, *, tile_bytes: int = TILE_BYTES, prompt_bytes: int = PROMPT_BYTES) -> None:
        self.tiles = TileMemory(tile_bytes)
        self.prompts = PromptMemory(prompt_bytes)


def hash_tile(pixels_CYX: Tensor) -> bytes:
    """Hash a tile over its type, shape and content."""
    frame = f"{pixels_CYX.dtype} {tuple(pixels_CYX.shape)} ".encode()
    content = pixels_CYX.contiguous().cpu().view(torch.uint8).numpy().data
    return hashlib.blake2b(content, digest_size=32, key=frame[:64]).digest()


def reusable_length(config: LanguageConfig) -> int:
    """Count the positions up to which a key's turn does not depend on what comes later."""
    rope = config.rope
    if rope.original_max_positions is not None:
        return rope.original_max_positions
    return config.max_positions
