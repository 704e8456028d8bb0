"""Recompute the numbers that lie beside a checkpoint and compare.

A directory may hold `golden.safetensors` and `golden.json`: what the reference implementation
computed from the same weights. Everything in them is computed again through the ordinary loader,
processor and engine; ids, labels and tiles must be equal, floats within `TOLERANCE`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tessera.errors import CheckpointError
from tessera.processing.conversation import Conversation, from_sharegpt

if TYPE_CHECKING:
    from tessera.assistant import Assistant

NUMBERS, DESCRIPTION = "golden.safetensors", "golden.json"
TOLERANCE = 1e-5  # absolute, float32 (golden/README.md)
MAX_TILES = 6  # of the recorded pictures
IGNORE = -100
_RECORDED_ONLY = "published."  # what the published label masking gives, kept to show the difference
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One recorded entry against ours."""

    name: str
    difference: float  # largest absolute one; for ids, labels and tiles how many differ
    exact: bool  # whether nothing may differ
    note: str = ""

    @property
    def agrees(self) -> bool:
        """True within tolerance (NaN never is)."""
        return self.difference <= (0.0 if self.exact else TOLERANCE)


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Every comparison of a directory, and the entries that were only recorded."""

    directory: Path
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """True if there was something to compare and all of it agrees."""
        return bool(self.comparisons) and all(c.agrees for c in self.comparisons)

    def lines(self) -> list[str]:
        """Return the text of `tessera check`, largest differences first."""
        lines = [f"{self.directory}: {len(self.comparisons)} entries recomputed"]
        for item in sorted(self.comparisons, key=lambda c: (c.agrees, -c.difference)):
            lines.append(f"  {'ok  ' if item.agrees else 'FAIL'}  {item.name:<52}{_wording(item)}")
        if self.skipped:
            lines.append(f"  recorded only, not compared: {', '.join(self.skipped)}")
        bad = sum(not item.agrees for item in self.comparisons)
        lines.append(f"{bad} of {len(self.comparisons)} differ" if bad else "all agree")
        return lines


def _wording(item: Comparison) -> str:
    if item.note:
        return item.note
    if item.exact:
        return "equal" if item.agrees else f"{item.difference:,.0f} values differ"
    return f"largest difference {item.difference:.2e} (limit {TOLERANCE:.0e})"


def check_directory(directory: Path) -> CheckReport:
    """Recompute everything recorded in a checkpoint directory.

    Raises:
        CheckpointError: nothing is recorded there, or it cannot be read.
    """
    from tessera.assistant import load

    description = _read_description(directory)
    numbers = _read_numbers(directory)
    assistant = load(directory, precision="float32", device="cpu", image_mode="reference")
    checker = _Checker(assistant, directory, description, numbers)
    checker.picture()
    for index, prompt in enumerate(description.get("prompts", ())):
        checker.question(index, prompt["question"], prompt.get("greedy_text"))
    if "train_input_ids" in numbers:
        checker.training(_read_turns(directory, description))
    skipped = sorted(name for name in numbers if name.startswith(_RECORDED_ONLY))
    unknown = sorted(numbers.keys() - checker.seen - set(skipped))
    checker.comparisons += [
        Comparison(name=name, difference=1.0, exact=True, note="unknown entry, cannot recompute")
        for name in unknown
    ]
    return CheckReport(directory=directory, comparisons=checker.comparisons, skipped=skipped)


def _read_description(directory: Path) -> dict[str, Any]:
    for name in (NUMBERS, DESCRIPTION):
        if not (directory / name).is_file():
            raise CheckpointError(
                f"{directory} has no {name}: there is nothing recorded to compare with. "
                "`tessera check MODEL --report` describes a checkpoint without it"
            )
    try:
        description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise CheckpointError(f"{directory / DESCRIPTION} is not JSON") from None
    prompts = description.get("prompts", []) if isinstance(description, dict) else None
    if not isinstance(prompts, list) or not all(
        isinstance(prompt, dict) and isinstance(prompt.get("question"), str) for prompt in prompts
    ):
        raise CheckpointError(f"{directory / DESCRIPTION} must list prompts with a question each")
    return description


def _read_turns(directory: Path, description: dict[str, Any]) -> list[dict[str, str]]:
    turns = description.get("conversations")
    if not isinstance(turns, list):
        raise CheckpointError(f"{directory / DESCRIPTION} must list the conversations trained on")
    return turns


def _read_numbers(directory: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(directory / NUMBERS))
    except SafetensorError:
        raise CheckpointError(f"{directory / NUMBERS} is damaged: copy it again") from None


class _Checker:
    """Computes and compares; `seen` are the recorded entries that were used."""

    def __init__(
        self,
        assistant: Assistant,
        directory: Path,
        description: dict[str, Any],
        numbers: dict[str, Tensor],
    ) -> None:
        self.assistant = assistant
        self.model = assistant.model
        self.numbers = numbers
        self.description = description
        self.image = directory / Path(str(description.get("image", "image.png"))).name
        self.comparisons: list[Comparison] = []
        self.seen: set[str] = set()

    def _expected(self, name: str) -> Tensor:
        if name not in self.numbers:
            raise CheckpointError(f"{NUMBERS} lacks {name}")
        self.seen.add(name)
        return self.numbers[name]

    def _close(self, name: str, found: Tensor) -> None:
        expected = self._expected(name)
        if found.shape != expected.shape:
            shapes = f"shape {list(found.shape)} instead of {list(expected.shape)}"
            self._add(Comparison(name=name, difference=float("inf"), exact=False, note=shapes))
            return
        gap = (found.detach().double() - expected.double()).abs()
        difference = float(gap.max()) if gap.numel() else 0.0
        self._add(Comparison(name=name, difference=difference, exact=False))

    def _equal(self, name: str, found: Tensor) -> None:
        expected = self._expected(name)
        if found.shape != expected.shape:
            shapes = f"shape {list(found.shape)} instead of {list(expected.shape)}"
            self._add(Comparison(name=name, difference=float("inf"), exact=True, note=shapes))
            return
        self._add(Comparison(name=name, difference=float((found != expected).sum()), exact=True))

    def _add(self, comparison: Comparison) -> None:
        self.comparisons.append(comparison)

    @torch.no_grad()
    def picture(self) -> None:
        """Compare tiles, encoder output and visual tokens."""
        inputs = self.assistant.processor(
            [Conversation.user("?", [str(self.image)])], max_tiles=MAX_TILES
        )
        assert inputs.pixels is not None, "the question shows a picture"
        pixels, recorded = inputs.pixels, self._expected("pixel_values")
        self._close("pixel_values", pixels)
        if pixels.shape == recorded.shape:
            differing = float((_to_bytes(pixels) != _to_bytes(recorded)).sum())
            self._add(Comparison(name="tiles", difference=differing, exact=True))
        self._described(
            num_tiles=len(pixels),
            num_image_token=self.model.config.visual_tokens_per_tile,
            img_context_token_id=self.assistant.processor.visual_token_id,
        )
        hidden = self.model.vision(recorded, self.model.config.select_layer)
        self._close("vision_hidden", hidden)
        self._close("image_embeds", self.model.encode_tiles(recorded))

    def _described(self, **found: int) -> None:
        """Compare whole numbers with those of the description that has them."""
        for name, value in found.items():
            recorded = self.description.get(name)
            if recorded is not None:
                note = "" if recorded == value else f"{value} instead of {recorded!r:.40}"
                gap = float(recorded != value)
                self._add(Comparison(name=name, difference=gap, exact=True, note=note))

    @torch.no_grad()
    def question(self, index: int, text: str, greedy_text: str | None) -> None:
        """Compare ids, logits, greedy tokens and their text of one question."""
        conversation = Conversation.user(text, [str(self.image)])
        inputs = self.assistant.processor([conversation], max_tiles=MAX_TILES)
        ids_BL = self._expected(f"input_ids_{index}").long()
        self._equal(f"input_ids_{index}", torch.tensor([inputs.ids[0]]))
        positions = self._expected(f"logit_positions_{index}").long()
        self._close(f"logits_{index}", self._logits(ids_BL)[0, positions])
        greedy = self._expected(f"greedy_{index}")
        self._equal(f"greedy_{index}", self._greedy(ids_BL, count=len(greedy)))
        if greedy_text is not None:
            decoded = self.assistant.tokenizer.decode(greedy.tolist())
            differs = float(decoded.strip() != greedy_text.strip())
            self._add(Comparison(name=f"greedy_text_{index}", difference=differs, exact=True))

    def _logits(self, ids_BL: Tensor) -> Tensor:
        visual_TSD = self.model.encode_tiles(self._expected("pixel_values"))
        visual_token_id = self.assistant.processor.visual_token_id
        embeds_BLD = self.model.embed(ids_BL, visual_TSD, visual_token_id=visual_token_id)
        return self.model(embeds_BLD)

    def _greedy(self, ids_BL: Tensor, *, count: int) -> Tensor:
        from tessera.engine.generate import GenerationOptions, generate

        steps = generate(
            self.model,
            ids_BL.tolist(),
            self._expected("pixel_values"),
            visual_token_id=self.assistant.processor.visual_token_id,
            stop_ids=self.assistant.processor.stop_ids,
            options=GenerationOptions(max_new_tokens=count),
        )
        return torch.tensor([step[0].id for step in steps if step[0] is not None])

    def training(self, turns: list[dict[str, str]]) -> None:
        """Compare ids, labels, loss and gradients of the training sample."""
        conversation = from_sharegpt(turns, [str(self.image)])
        inputs = self.assistant.processor([conversation], max_tiles=MAX_TILES)
        ids = torch.tensor([inputs.ids[0]])
        mask = torch.tensor([inputs.train_masks[0]])
        self._equal("train_input_ids", ids)
        self._equal("train_labels", torch.where(mask, ids, IGNORE))
        labels_BL = self._expected("train_labels")
        wanted = [name for name in self.numbers if name.startswith("grad.")]
        entries = self._gradient_entries(wanted)
        parameters = dict(self.model.named_parameters())
        used = [parameters[ours].requires_grad_(True) for ours, _ in entries.values()]
        logits_BLV = self._logits(self._expected("train_input_ids"))
        loss = F.cross_entropy(
            logits_BLV[:, :-1].flatten(0, 1), labels_BL[:, 1:].flatten(), ignore_index=IGNORE
        )
        self._close("train_loss", loss)
        if not used:
            return
        gradients = torch.autograd.grad(loss, used)
        for (name, (_, rows)), gradient in zip(entries.items(), gradients, strict=True):
            self._close(name, gradient[rows])

    def _gradient_entries(self, names: list[str]) -> dict[str, tuple[str, list[int]]]:
        """Map `grad.<released key>` to our parameter and the rows of it that the key fills."""
        from tessera.checkpoint.names import weight_table

        table = {entry.released: entry for entry in weight_table(self.model.config)}
        found = {}
        for name in names:
            entry = table.get(name.removeprefix("grad."))
            if entry is not None:
                rows = [row for start, stop in entry.spans for row in range(start, stop)]
                found[name] = (entry.ours, rows)
        return found


def _to_bytes(pixels_TCYX: Tensor) -> Tensor:
    """Undo the normalising: the uint8 values that were cut from the picture."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return ((pixels_TCYX * std + mean) * 255).round().to(torch.int16)
