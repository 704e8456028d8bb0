from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece

from tessera.processing.sentencepiece_convert import SPACE, SentencePieceEncoder, why_not_fast
from tessera.processing.sentencepiece_model import (
    BPE,
    Kind,
    Piece,
    SentencePieceModel,
    read_sentencepiece_model,
)
from tests.unit.processing.tokenizer_tools import (
    library_ids,
    plain_pieces,
    random_texts,
    train,
    train_small,
)


@pytest.fixture(scope="session")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="session")
def golden_model(golden: Path) -> bytes:
    return (golden / "chat-6b-yi" / "tokenizer.model").read_bytes()


def assert_same_ids(data: bytes, *, seed: int, count: int) -> None:
    model = read_sentencepiece_model(data, where="model")
    encoder = SentencePieceEncoder(model, fast=True)
    assert encoder.is_fast
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in random_texts(seed, count, plain_pieces(model)):
        assert encoder.encode(text, prefix=True) == library.encode(text), repr(text)
        ids = library_ids(library, text, prefix=False)
        assert encoder.encode(text, prefix=False) == ids, repr(text)


def test_fast_ids_of_the_golden_vocabulary_are_those_of_sentencepiece(golden_model: bytes) -> None:
    assert_same_ids(golden_model, seed=1, count=3_000)


def test_fast_ids_of_a_large_vocabulary_are_those_of_sentencepiece(large_model: bytes) -> None:
    assert len(read_sentencepiece_model(large_model, where="model").pieces) >= 30_000
    assert_same_ids(large_model, seed=2, count=3_000)


@pytest.mark.stress
def test_fast_ids_are_those_of_sentencepiece_on_100000_strings(
    golden_model: bytes, large_model: bytes
) -> None:
    assert_same_ids(golden_model, seed=3, count=100_000)
    assert_same_ids(large_model, seed=4, count=100_000)


def test_fast_ids_agree_where_pieces_are_user_defined(tmp_path: Path) -> None:
    symbols = ["<|im_end|>", "[UNUSED_1]", "\n\n", "ab", "abc", "==", "\u2581\u2581"]
    data = train_small(tmp_path, user_defined_symbols=symbols)
    model = read_sentencepiece_model(data, where="model")
    encoder = SentencePieceEncoder(model, fast=True)
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    pieces = [*plain_pieces(model), *symbols * 40]
    for text in random_texts(6, 2_000, pieces):
        assert encoder.encode(text, prefix=True) == library.encode(text), repr(text)


def small_vocabulary(rng: random.Random) -> SentencePieceModel:
    """Pieces over two letters, shuffled scores: they split in many ways and overlap themselves."""
    names = {"a" * k for k in range(2, 7)} if rng.random() < 0.3 else set()
    for size in range(2, 6):
        words = map("".join, itertools.product("ab", repeat=size))
        names |= {word for word in words if rng.random() < 0.5}
    pieces = [Piece("<unk>", 0.0, Kind.UNKNOWN)]
    pieces += [Piece(f"<0x{value:02X}>", 0.0, Kind.BYTE) for value in range(256)]
    scores = rng.sample(range(200), len(names))
    pieces += [Piece(n, -float(s), Kind.NORMAL) for n, s in zip(sorted(names), scores, strict=True)]
    pieces += [Piece(letter, -300.0 - i, Kind.NORMAL) for i, letter in enumerate("ab" + SPACE)]
    return SentencePieceModel(
        pieces=tuple(pieces),
        model_type=BPE,
        byte_fallback=True,
        normalizer_name="identity",
        remove_extra_whitespaces=False,
        ids={piece.text: index for index, piece in enumerate(pieces)},
    )


def assert_small_vocabularies_agree(count: int) -> None:
    rng = random.Random(0)
    for _ in range(count):
        model = small_vocabulary(rng)
        fast, slow = SentencePieceEncoder(model, fast=True), SentencePieceEncoder(model)
        assert fast.is_fast
        assert not slow.is_fast
        for _ in range(40):
            text = "".join(rng.choices("ab", k=rng.randint(2, 24)))
            assert fast.encode(text, prefix=False) == slow.encode(text, prefix=False), text


def test_pieces_that_split_in_many_ways_merge_alike_in_both_libraries() -> None:
    assert_small_vocabularies_agree(60)


@pytest.mark.stress
def test_pieces_that_split_in_many_ways_merge_alike_20000_times() -> None:
    assert_small_vocabularies_agree(20_000)


def test_vocabularies_with_equal_scores_are_left_to_sentencepiece() -> None:
    model = small_vocabulary(random.Random(1))
    equal = tuple(replace(p, score=-1.0) if p.kind is Kind.NORMAL else p for p in model.pieces)
    assert why_not_fast(replace(model, pieces=equal)) == "two pieces have one score"


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"normalization_rule_name": "nmt_nfkc"},
        {"byte_fallback": False},
        {"remove_extra_whitespaces": True},
        {"treat_whitespace_as_suffix": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_models_that_the_fast_path_cannot_express_go_to_sentencepiece(
    tmp_path: Path, options: dict[str, object]
) -> None:
    data = train_small(tmp_path, **options)
    model = read_sentencepiece_model(data, where="model")
    assert why_not_fast(model) is not None
    encoder = SentencePieceEncoder(model, fast=True)
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in random_texts(7, 500, plain_pieces(model)):
        assert encoder.encode(text, prefix=True) == library.encode(text), repr(text)
