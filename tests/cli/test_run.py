"""`tessera run`: many pictures, one line each, started again as often as need be."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """Two pictures, one of them deeper, one that is none, and files that are not asked about."""
    place = tmp_path / "pictures"
    (place / "deeper").mkdir(parents=True)
    (place / ".hidden").mkdir()
    image = golden / "chat-300m-internlm2" / "image.png"
    for name in ("b.png", "deeper/a.PNG", ".hidden/c.png"):
        shutil.copy(image, place / name)
    (place / "bad.jpg").write_text("words")
    (place / "notes.txt").write_text("words")
    return place


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_picture_of_a_folder_gets_a_line_and_bad_ones_an_error(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out.jsonl"
    ran = tessera("run", folder, "--ask", "What?", "-o", out, *model)
    assert ran.code == 0, ran
    assert f"2 answered, 1 errors, in {out}" in ran.err
    rows = {row["id"]: row for row in lines(out)}
    assert sorted(rows) == ["b.png", "bad.jpg", "deeper/a.PNG"]
    assert "is text, not a picture" in str(rows["bad.jpg"]["error"])
    assert rows["b.png"]["question"] == "What?"
    assert rows["b.png"]["answer"] == rows["deeper/a.PNG"]["answer"]
    assert rows["b.png"]["model"] == model[1]


def test_answers_do_not_depend_on_how_many_are_asked_together(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    texts = []
    for batch in (1, 3):
        out = tmp_path / f"{batch}.jsonl"
        tessera("run", folder, "--ask", "What?", "-o", out, *model, "--batch", batch)
        texts.append(sorted(str(row.get("answer")) for row in lines(out)))
    assert texts[0] == texts[1]


def test_a_second_run_goes_on_where_the_first_was_killed(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ("run", folder, "--ask", "What?", "-o", out, *model, "--batch", 1)
    tessera(*words)
    complete = out.read_bytes()
    first, second, third = complete.splitlines(keepends=True)
    out.write_bytes(first + second[: len(second) // 2])
    ran = tessera(*words)
    assert f"{out} holds 1 of 3 already" in ran.err
    assert out.read_bytes() == complete
    assert "nothing left to do" in tessera(*words).err
    assert out.read_bytes() == complete


def test_errors_are_tried_again_only_when_asked(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ("run", folder, "--ask", "What?", "-o", out, *model)
    tessera(*words)
    shutil.copy(folder / "b.png", folder / "bad.jpg")
    assert "nothing left to do" in tessera(*words).err
    assert "1 answered, 0 errors" in tessera(*words, "--retry-errors").err
    assert [row["id"] for row in lines(out)].count("bad.jpg") == 2


def test_jsonl_lines_bring_their_own_questions(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    source = folder / "in.jsonl"
    rows: list[object] = [
        {"image": "b.png", "id": 7, "question": "Why?"},
        {"image": ["b.png", "deeper/a.PNG"]},
        {"question": "No picture?"},
        {"image": "b.png", "conversations": [{"from": "human", "value": "<image>\nHow?"}]},
        {"image": 3},
        {"image": []},
        ["no object"],
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\nnot json\n"
    source.write_text(text, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    ran = tessera("run", source, "--ask", "What?", "-o", out, *model)
    assert "4 answered, 4 errors" in ran.err
    by_id = {row["id"]: row for row in lines(out)}
    assert by_id["7"]["question"] == "Why?"
    assert by_id["in.jsonl:2"]["image"] == ["b.png", "deeper/a.PNG"]
    assert by_id["in.jsonl:3"]["answer"] is not None
    assert by_id["in.jsonl:4"]["question"] == "<image>\nHow?"
    assert by_id["in.jsonl:5"]["error"] == "in.jsonl:5: image must be a path or a list of paths"
    assert by_id["in.jsonl:6"]["error"] == "in.jsonl:6: image is empty"
    assert by_id["in.jsonl:7"]["error"] == "in.jsonl:7 is not a JSON object"
    assert by_id["in.jsonl:9"]["error"] == "in.jsonl:9 is not JSON"
    assert "nothing left to do" in tessera("run", source, "--ask", "What?", "-o", out, *model).err


def test_one_prompt_that_is_too_long_does_not_cost_its_neighbours(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    source = folder / "in.jsonl"
    long = "word " * 100_000
    rows = [{"id": "a", "question": "Hi"}, {"id": "b", "question": long}]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    tessera("run", source, "-o", out, *model)
    found = {row["id"]: row for row in lines(out)}
    assert "answer" in found["a"]
    assert "tokens long" in str(found["b"]["error"])


def test_nothing_answered_is_exit_1(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "b.png").unlink()
    (folder / "deeper" / "a.PNG").unlink()
    assert tessera("run", folder, "--ask", "?", "-o", tmp_path / "o.jsonl", *model).code == 1


def test_a_line_without_any_question_is_an_error_of_that_line(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "in.jsonl").write_text('{"image": "b.png"}\n')
    out = tmp_path / "out.jsonl"
    assert tessera("run", folder / "in.jsonl", "-o", out, *model).code == 1
    assert "has no question: add one, or give --ask" in str(lines(out)[0]["error"])


def test_mistakes_are_one_line_and_leave_nothing(
    tessera: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "none").mkdir()
    for words, message in [
        ((folder, "-o", out), "is a folder: give the question with --ask"),
        ((tmp_path / "gone", "-o", out, "--ask", "?"), "does not exist: give a folder of pictures"),
        ((folder / "notes.txt", "-o", out, "--ask", "?"), "neither a folder nor a .jsonl file"),
        ((tmp_path / "none", "-o", out, "--ask", "?"), "holds no pictures (.jpg, "),
        ((folder, "-o", folder, "--ask", "?"), "is a folder: name a .jsonl file with -o"),
        ((folder, "--ask", "?"), "Missing option '--output' / '-o'"),
        ((folder, "-o", out, "--ask", "?", "--model", "/no/where"), "/no/where"),
    ]:
        assert message in tessera("run", *words).complaint
        assert not out.exists()


def test_a_file_that_is_no_output_of_this_model_is_not_touched(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ("run", folder, "--ask", "What?", "-o", out, *model)
    for content, message in [
        ('{"some": "thing"}\n', "is not a line of `tessera run`: choose another file with -o"),
        ('{"id": "x", "question": "?", "model": "y"}\n', "is by the model 'y', not"),
    ]:
        out.write_text(content)
        assert message in tessera(*words).complaint
        assert out.read_text() == content


@pytest.mark.parametrize("content", ["my notes, no line feed", '{"id": 5, "mine": true}'])
def test_a_file_of_somebody_else_without_a_line_feed_is_not_emptied(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path, content: str
) -> None:
    out = tmp_path / "notes.txt"
    out.write_text(content)
    ran = tessera("run", folder, "--ask", "What?", "-o", out, *model)
    assert "notes.txt:1 is not a line of `tessera run`" in ran.complaint
    assert out.read_text() == content


def test_an_empty_file_that_was_there_before_is_not_removed(
    tessera: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.touch()
    assert tessera("run", folder, "--ask", "What?", "-o", out, "--model", "gone").code == 2
    assert out.is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of Unix")
def test_what_is_not_an_ordinary_file_is_refused_and_stays(
    tessera: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pipe"
    os.mkfifo(out)
    ran = tessera("run", folder, "--ask", "What?", "-o", out, "--model", "gone")
    assert "is not an ordinary file" in ran.complaint
    assert out.is_fifo()
    ran = tessera("run", folder, "--ask", "What?", "-o", "-", "--model", "gone")
    assert "answers cannot go to stdout" in ran.complaint


def test_a_last_line_that_lost_its_line_feed_is_kept(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["run", folder, "--ask", "What?", "-o", out, *model]
    assert tessera(*words).code == 0
    before = out.read_bytes()
    out.write_bytes(before[:-1])
    assert "nothing left to do" in tessera(*words).err
    assert out.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_answered_once(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "b.png", os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    out = tmp_path / "out.jsonl"
    words = ["run", folder, "--ask", "What?", "-o", out, *model]
    assert tessera(*words).code == 0
    assert "\udcff.png" in [row["id"] for row in lines(out)]
    assert "nothing left to do" in tessera(*words).err


def test_files_that_are_left_out_are_told_and_broken_links_are_errors(
    tessera: Run, model: list[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    out = tmp_path / "out.jsonl"
    ran = tessera("run", folder, "--ask", "What?", "-o", out, *model)
    assert "left out, not named like pictures: 1 of the folder's files ('notes.txt')" in ran.err
    errors = {row["id"]: row.get("error") for row in lines(out)}
    assert "does not exist" in str(errors["broken.png"])


def test_a_picture_under_another_name_is_not_ignored(
    tessera: Run, model: list[str], picture: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "ask.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": None, "images": [str(picture)], "question": "What?"},
        {"image": "https://example.com/a.png", "question": "What?"},
        {"question": "Hi"},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tessera("run", source, "-o", out, *model).code == 0
    found = {row["id"]: row.get("error") for row in lines(out)}
    assert "pictures belong under 'image'" in str(found["ask.jsonl:1"])
    assert "is an address, not a file" in str(found["ask.jsonl:2"])
    assert found["ask.jsonl:3"] is None
    source.write_text(json.dumps({"question": "x" * 2**20}))
    ran = tessera("run", source, "-o", tmp_path / "long.jsonl", *model)
    assert "ask.jsonl:1 is longer than 1 MiB" in ran.complaint
