from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tessera.errors import CheckpointError, ConfigError
from tessera.processing.sentencepiece_convert import SPACE
from tessera.processing.sentencepiece_model import (
    BPE,
    SentencePieceModel,
    read_sentencepiece_model,
)
from tessera.processing.tokenizer import TextStream, Tokenizer
from tests.unit.processing.tokenizer_tools import (
    ADDED,
    CHAT_CASES,
    CONTROL,
    plain_pieces,
    random_texts,
    train_small,
    write_directory,
)


@pytest.fixture(scope="session")
def golden_model(golden: Path) -> bytes:
    return (golden / "chat-6b-yi" / "tokenizer.model").read_bytes()


@pytest.fixture(scope="session")
def tokenizers(golden: Path) -> dict[str, Tokenizer]:
    return {case: Tokenizer.from_directory(golden / case) for case in CHAT_CASES}


# Rules of the releases -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CHAT_CASES)
def test_every_added_token_is_found_by_name(tokenizers: dict[str, Tokenizer], case: str) -> None:
    tokenizer = tokenizers[case]
    ids = [tokenizer.token_id(name) for name in ADDED]
    assert ids == list(range(ids[0], ids[0] + 9))
    assert tokenizer.vocab_size == ids[-1] + 1


def test_an_unknown_token_name_is_an_error_with_the_nearest(
    tokenizers: dict[str, Tokenizer],
) -> None:
    with pytest.raises(ConfigError, match=r"no token '<IMG_CONTXT>'.*Did you mean '<IMG_CONTEXT>'"):
        tokenizers["chat-6b-yi"].token_id("<IMG_CONTXT>")


def test_begin_tokens_and_leading_blanks_follow_the_release(
    tokenizers: dict[str, Tokenizer],
) -> None:
    rules = {case: (t.bos_id, t.eos_id, t.prefix_places) for case, t in tokenizers.items()}
    assert rules == {
        "chat-300m-internlm2": (1, 2, "every"),
        "chat-6b-internlm2": (1, 2, "every"),
        "chat-6b-yi": (None, 2, "every"),
        "chat-300m-phi3": (1, 2, "first"),
    }


def test_the_leading_blank_stands_where_the_reference_puts_it(
    tokenizers: dict[str, Tokenizer],
) -> None:
    every, first = tokenizers["chat-6b-yi"], tokenizers["chat-300m-phi3"]
    blank = every.encode("the", place="start")
    bare = every.encode("the", place="after_text")
    assert blank != bare
    assert every.encode("the", place="after_token") == blank
    assert first.encode("the", place="start") == blank
    assert first.encode("the", place="after_token") == bare
    ref = every.token_id("<ref>")
    assert every.encode("<ref>the") == [ref, *blank]
    assert first.encode("<ref>the") == [first.token_id("<ref>"), *bare]


def test_control_names_in_text_are_encoded_as_their_letters(
    tokenizers: dict[str, Tokenizer],
) -> None:
    for tokenizer in tokenizers.values():
        for name in CONTROL:
            ids = tokenizer.encode(f"a {name} b")
            assert not tokenizer.control_ids & set(ids), name
            assert tokenizer.decode(ids) == f"a {name} b"


def test_grounding_markup_keeps_its_tokens_unless_told_otherwise(
    tokenizers: dict[str, Tokenizer],
) -> None:
    for tokenizer in tokenizers.values():
        text = "the <ref>red sign</ref><box>[[1, 2, 3, 4]]</box> here <quad>x</quad>"
        ids = tokenizer.encode(text)
        assert [i for i in ids if i in tokenizer.markup_ids] == [
            tokenizer.token_id(name)
            for name in ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
        ]
        assert tokenizer.decode(ids) == text
        plain = tokenizer.encode(text, markup=False)
        assert not tokenizer.markup_ids & set(plain)
        assert tokenizer.decode(plain) == text


def test_pieces_renamed_to_control_tokens_cannot_be_typed(tmp_path: Path) -> None:
    unused = [f"[UNUSED_TOKEN_{n}]" for n in range(4)]
    symbols = [*unused, "<|im_start|>", "good"]
    data = train_small(tmp_path, user_defined_symbols=symbols)
    ids = read_sentencepiece_model(data, where="model").ids
    added = {"<|im_end|>": ids[unused[0]], "<IMG_CONTEXT>": ids[unused[1]]}
    directory = write_directory(tmp_path / "release", data, added=added)
    for fast in (False, True):
        tokenizer = Tokenizer.from_directory(directory, fast=fast)
        for name in (*symbols[:-1], "<|im_end|>", "<IMG_CONTEXT>"):
            typed = tokenizer.encode(f"x{name}y")
            assert not set(typed) & {ids[s] for s in symbols[:-1]}, name
            assert tokenizer.decode(typed) == f"x{name}y"
        assert ids["good"] in tokenizer.encode("all good")
        assert tokenizer.token_id("<|im_end|>") == ids[unused[0]]
        assert tokenizer.decode([ids[unused[0]]], skip_special=False) == "<|im_end|>"


def test_old_directories_take_strip_rules_from_the_special_tokens_map(
    tmp_path: Path, golden: Path
) -> None:
    source = golden / "chat-300m-phi3"
    for name in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json"):
        shutil.copy(source / name, tmp_path / name)
    config = json.loads((source / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    old, new = Tokenizer.from_directory(tmp_path), Tokenizer.from_directory(source)
    assert old.added["<|end|>"].rstrip
    assert {n: t for n, t in new.added.items() if t.id >= 3000} == old.added
    assert old.control_ids == new.control_ids


# Text of ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CHAT_CASES)
def test_generated_ids_read_as_the_reference_reads_them(
    golden: Path, tokenizers: dict[str, Tokenizer], case: str
) -> None:
    expected = json.loads((golden / case / "golden.json").read_text())["prompts"]
    numbers = load_file(golden / case / "golden.safetensors")
    for index, prompt in enumerate(expected):
        ids = numbers[f"greedy_{index}"].ravel().tolist()
        assert tokenizers[case].decode(ids) == prompt["greedy_text"]


def test_decoding_gives_back_what_was_encoded(
    tokenizers: dict[str, Tokenizer], golden_model: bytes
) -> None:
    pieces = plain_pieces(read_sentencepiece_model(golden_model, where="model"))
    for text in random_texts(11, 1_500, pieces):
        expected = text.replace(SPACE, " ")  # SentencePiece knows no other blank
        for tokenizer in tokenizers.values():
            assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_streamed_pieces_joined_are_the_decoded_text(tokenizers: dict[str, Tokenizer]) -> None:
    rng = random.Random(3)
    for tokenizer in tokenizers.values():
        for _ in range(300):
            ids = rng.choices(range(-2, tokenizer.vocab_size + 9), k=rng.randint(1, 30))
            for skip in (True, False):
                stream = TextStream(tokenizer, skip_special=skip)
                pieces = [stream.push(index) for index in ids] + [stream.finish()]
                assert "".join(pieces) == tokenizer.decode(ids, skip_special=skip)


def test_a_stream_holds_a_character_back_until_it_is_whole(
    tokenizers: dict[str, Tokenizer],
) -> None:
    for tokenizer in tokenizers.values():
        stream = TextStream(tokenizer)
        ids = tokenizer.encode("a👩‍👩‍👧\U00020000", place="after_text")
        pieces = [stream.push(index) for index in ids]
        assert "".join(pieces) == "a👩‍👩‍👧\U00020000"
        assert not any("\ufffd" in piece for piece in pieces)
        unfinished = TextStream(tokenizer)
        assert "".join(unfinished.push(index) for index in ids[:-1]) == "a👩‍👩‍👧"
        assert unfinished.finish() == "\ufffd"


def test_lone_surrogates_and_zero_characters_are_encoded(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        assert tokenizer.decode(tokenizer.encode("a\ud800b\0c")) == "a\ufffdb\0c"
        assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "\U0001f600"
        assert tokenizer.encode("") == []


# Directories that are wrong --------------------------------------------------------------------


def test_an_empty_directory_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer.model nor tokenizer.json"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.model", b"", "holds no pieces"),
        ("tokenizer.model", b"version https://git-lfs", "not a readable SentencePiece model"),
        ("tokenizer_config.json", b"[]", "holds list, not an object"),
        ("tokenizer_config.json", b"{", "not valid JSON"),
        ("tokenizer_config.json", b"[" * 100_000, "not valid JSON"),
        (
            "tokenizer_config.json",
            b'{"legacy": "yes", "tokenizer_class": "LlamaTokenizer"}',
            "legacy",
        ),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {"content": "a"}}}', "token id"),
        (
            "tokenizer_config.json",
            b'{"added_tokens_decoder": {"99999999": {"content": "a"}}}',
            "id",
        ),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"7": "a"}}', "added token 7"),
        ("added_tokens.json", b'{"<img>": 17}', "keep one"),
        ("added_tokens.json", b'{"<other>": 3006}', "keep one"),
    ],
)
def test_a_damaged_directory_is_an_error_that_names_the_file(
    tmp_path: Path, golden: Path, file: str, content: bytes, message: str
) -> None:
    shutil.copytree(golden / "chat-300m-internlm2", tmp_path / "m")
    (tmp_path / "m" / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer.from_directory(tmp_path / "m")
    assert file in str(caught.value)


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(out))
        kind = rng.random()
        if kind < 0.6:
            out[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind < 0.8:
            del out[place : place + rng.randint(1, 40)]
        else:
            out[place:place] = out[place : place + rng.randint(1, 40)]
    return bytes(out[: rng.randrange(1, len(out))] if rng.random() < 0.1 else out)


def fuzz_directory(golden: Path, folder: Path, count: int) -> None:
    rng = random.Random(8)
    shutil.copytree(golden / "chat-300m-phi3", folder)
    names = (
        "tokenizer.model",
        "tokenizer_config.json",
        "added_tokens.json",
        "special_tokens_map.json",
    )
    originals = {name: (folder / name).read_bytes() for name in names}
    # a small model leaves the changes where they matter
    original = read_sentencepiece_model(originals["tokenizer.model"], where="model")
    small = [*original.pieces[:300], *(p for p in original.pieces[300:] if len(p.text) == 1)]
    cut = SentencePieceModel(
        pieces=tuple(small), model_type=BPE, byte_fallback=True, normalizer_name="identity"
    )
    originals["tokenizer.model"] = cut.to_bytes(add_dummy_prefix=True)
    for _ in range(count):
        name = rng.choice(names)
        for other, data in originals.items():
            (folder / other).write_bytes(mutate(rng, data) if other == name else data)
        try:
            tokenizer = Tokenizer.from_directory(folder)
        except CheckpointError:
            continue
        ids = tokenizer.encode("the <ref>red</ref> 书\n<|end|> </s>")
        assert not tokenizer.control_ids & set(ids)
        assert all(0 <= index < tokenizer.vocab_size for index in ids)
        tokenizer.decode(ids)


def test_damaged_files_give_checkpoint_errors_only(golden: Path, tmp_path: Path) -> None:
    fuzz_directory(golden, tmp_path / "fuzzed", 150)


@pytest.mark.stress
def test_damaged_files_give_checkpoint_errors_only_20000_times(
    golden: Path, tmp_path: Path
) -> None:
    fuzz_directory(golden, tmp_path / "fuzzed", 20_000)
