"""Texts, vocabularies and oracles for the tokenizer tests."""

from __future__ import annotations

import gettext
import itertools
import json
import random
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import sentencepiece

from tessera.processing.sentencepiece_model import Kind, SentencePieceModel

CHAT_CASES = ("chat-300m-internlm2", "chat-6b-internlm2", "chat-6b-yi", "chat-300m-phi3")
ADDED = (
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
CONTROL = (
    "<img>", "</img>", "<IMG_CONTEXT>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>", "<|plugin|>",
    "<0x0A>", "<image>",
)  # fmt: skip
_SENTINEL = "\U0001f9ff"  # in no vocabulary of these tests, so nothing merges with it


def random_texts(seed: int, count: int, pieces: list[str]) -> Iterator[str]:
    """Chinese, English, emoji, blanks, control characters, pieces and added tokens, mixed."""
    rng = random.Random(seed)
    blanks = " \t\n\r\u3000\u00a0\u2581\v\f\x1c\x85\u200b"
    pools = [
        pieces,
        list("etaoin shrdlu -=*.,#_0123456789"),
        [chr(c) for c in range(0x4E00, 0x9FA6)] + list("，。！？、（）《》"),
        [chr(c) for c in range(0x1F300, 0x1FAFF)]
        + ["👩‍👩‍👧", "🇨🇳"]
        + ["é", "ﬁ", "Å", "\ufeff", "ʼn"],
        [chr(c) for c in range(32)] + ["\x7f", "\ufffd", "\U0010ffff", "\ue000"],
        list(blanks),
        [*ADDED, *CONTROL],
        [chr(c) for c in range(0x80, 0x2000) if not 0xD800 <= c < 0xE000],
    ]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.15:
            piece = rng.choice(pieces)
            yield piece * rng.randint(1, 6) + rng.choice(pieces)
        elif kind < 0.5:
            yield "".join(rng.choices(rng.choice(pools), k=rng.randint(1, 20)))
        else:
            chosen = rng.sample(pools, 3)
            yield "".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randint(1, 16)))


def plain_pieces(model: SentencePieceModel) -> list[str]:
    return [p.text.replace("\u2581", " ") for p in model.pieces if p.kind is Kind.NORMAL]


def library_ids(
    library: sentencepiece.SentencePieceProcessor, text: str, *, prefix: bool
) -> list[int]:
    """Ids by the untouched model; a foreign letter in front takes an unwanted leading blank."""
    if prefix:
        return library.encode(text)
    return library.encode(_SENTINEL + text)[len(library.encode(_SENTINEL)) :]


def published_ids(
    directory: Path, prompt: str, library: sentencepiece.SentencePieceProcessor
) -> list[int]:
    """The published slow tokenizers: split at added tokens, then SentencePiece."""
    config = json.loads((directory / "tokenizer_config.json").read_text())
    added = {
        entry["content"]: (int(i), entry) for i, entry in config["added_tokens_decoder"].items()
    }
    is_legacy = config["tokenizer_class"] != "LlamaTokenizer" or config.get("legacy", True)
    ids = [1] if config.get("add_bos_token", True) else []
    names = sorted(added, key=len, reverse=True)
    run, position, strip, at_start = "", 0, False, True
    while position <= len(prompt):
        name = next((n for n in names if prompt.startswith(n, position)), None)
        if name is None and position < len(prompt):
            run, position = run + prompt[position], position + 1
            continue
        run = run.lstrip() if strip else run
        if run:
            ids += library_ids(library, run, prefix=is_legacy or at_start)
        if name is None:
            break
        ids.append(added[name][0])
        run, position, strip, at_start = "", position + len(name), added[name][1]["rstrip"], False
    return ids


@cache
def corpus() -> tuple[str, ...]:
    """English from the standard library, Chinese from message catalogues and word lists.

    Where a machine has no Chinese catalogues, sentences are made of the 3,755 commonest characters,
    joined to words by a fixed seed, so that the vocabulary is as large everywhere.
    """
    english = [
        line
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-s]*.py"))
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines()
        if line.strip()
    ]
    chinese = []
    for path in sorted(Path("/usr/share/locale/zh_CN/LC_MESSAGES").glob("*.mo")):
        try:
            catalogue = gettext.GNUTranslations(path.open("rb"))
        except (OSError, UnicodeDecodeError, ValueError):
            continue
        texts = catalogue._catalog.values()  # type: ignore[attr-defined]
        chinese += [line for text in texts if isinstance(text, str) for line in text.splitlines()]
    return (*english, *(line for line in chinese if line.strip()), *_chinese_sentences())


def _chinese_sentences() -> Iterator[str]:
    rng = random.Random(5)
    letters = [
        bytes([high, low]).decode("gb2312")
        for high in range(0xB0, 0xD7)
        for low in range(0xA1, 0xFA)
    ]
    words = ["".join(rng.choices(letters, k=rng.choice((1, 2, 2, 3)))) for _ in range(6000)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(words))))
    for _ in range(12_000):
        yield "".join(rng.choices(words, cum_weights=weights, k=rng.randint(4, 14))) + rng.choice(
            "。，！？"
        )


def train(folder: Path, **options: object) -> bytes:
    """Train a model on the corpus; options go to SentencePiece."""
    settings = {
        "vocab_size": 30_500,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "character_coverage": 0.9995,
        "num_threads": 1,
        "minloglevel": 2,
    } | options
    lines = settings.pop("lines", corpus())
    prefix = folder / "trained"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(prefix), **settings
    )
    return prefix.with_suffix(".model").read_bytes()


def train_small(folder: Path, **options: object) -> bytes:
    """Train a model of 3,500 pieces, in a second."""
    small = {"vocab_size": 3_500, "lines": corpus()[::50], "character_coverage": 0.98}
    return train(folder, **(small | options))


def write_directory(
    folder: Path,
    model: bytes,
    *,
    added: dict[str, int] | None = None,
    rstrip: tuple[str, ...] = (),
    **config: object,
) -> Path:
    """Write a tokenizer directory as a release has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    decoder = {
        str(index): {"content": name, "rstrip": name in rstrip, "special": True}
        for name, index in (added or {}).items()
    }
    settings = {"tokenizer_class": "InternLM2Tokenizer", "added_tokens_decoder": decoder} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
