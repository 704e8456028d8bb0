"""Keys and values of what was read so far."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from tessera.config import LanguageConfig

_LEAST_GROWTH = 128  # positions


class KVCache:
    """Static key/value storage of one batch; grows by a quarter when it is full.

    Rows may be padded on the left: `valid_BL` says which stored positions are real, `num_real_B`
    how many there are, which is also the next position of each row.
    """

    def __init__(
        self,
        config: LanguageConfig,
        batch_size: int,
        *,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch_size, capacity, config.num_kv_heads, config.head_width)
        self.keys = [
            torch.empty(shape, dtype=dtype, device=device) for _ in range(config.num_layers)
        ]
        self.values = [torch.empty_like(keys) for keys in self.keys]
        self.valid_BL = torch.zeros((batch_size, capacity), dtype=torch.bool, device=device)
        self.num_real_B = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.has_padding = False
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions that fit before the storage grows."""
        return self.valid_BL.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of all keys and values, room that is not used yet included."""
        return 2 * sum(keys.nbytes for keys in self.keys)

    def truncate(self, length: int) -> None:
        """Forget what was read after the first `length` positions; for rows without padding."""
        assert not self.has_padding, "rows end at different positions"
        self.length = length
        self.valid_BL[:, length:] = False
        self.num_real_B = torch.full_like(self.num_real_B, length)

    def copy(self, length: int) -> KVCache:
        """Copy the first `length` positions, without any room behind them."""
        other = copy.copy(self)
        other._resize(length)
        other.truncate(length)
        return other

    def _resize(self, capacity: int) -> None:
        kept = min(self.length, capacity)

        def moved(stored: Tensor) -> Tensor:
            new = stored.new_zeros(stored.shape[0], capacity, *stored.shape[2:])
            new[:, :kept] = stored[:, :kept]
            return new

        self.keys = [moved(keys) for keys in self.keys]
        self.values = [moved(values) for values in self.values]
        self.valid_BL = moved(self.valid_BL)

    def reserve(self, real_BL: Tensor) -> None:
        """Make room for the next positions and note which of them are real."""
        end = self.length + real_BL.shape[1]
        if self.capacity < end:
            self._resize(max(end, self.capacity + max(self.capacity // 4, _LEAST_GROWTH)))
        self.valid_BL[:, self.length : end] = real_BL
        self.num_real_B = self.num_real_B + real_BL.sum(1)
        self.has_padding = self.has_padding or not bool(real_BL.all())

    def write(self, layer: int, k_BLGE: Tensor, v_BLGE: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values; return all of them, old and new."""
        end = self.length + k_BLGE.shape[1]
        self.keys[layer][:, self.length : end] = k_BLGE
        self.values[layer][:, self.length : end] = v_BLGE
        return self.keys[layer][:, :end], self.values[layer][:, :end]

    def advance(self, count: int) -> None:
        """Count new positions as read, after every layer wrote them."""
        self.length += count

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch, in this order."""
        index = torch.tensor(rows, dtype=torch.long, device=self.valid_BL.device)
        self.keys = [keys[index] for keys in self.keys]
        self.values = [values[index] for values in self.values]
        self.valid_BL = self.valid_BL[index]
        self.num_real_B = self.num_real_B[index]
