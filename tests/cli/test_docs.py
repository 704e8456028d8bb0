"""Pages keep what they promise: links lead somewhere, named functions and tests exist."""

import re
from pathlib import Path

import pytest

from tessera.data.sources import clipart, emoji, gcompris, splits, stamps
from tests.architecture.imports import ARROWS
from tests.architecture.source import ROOT
from tests.cli import markdown

PAGES = [path.relative_to(ROOT).as_posix() for path in markdown.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    assert markdown.broken_links(ROOT / page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "code.py").write_text("LIMIT = 1\nclass A:\n    def run(self): ...\n")
    page.write_text(
        "# A title, really\n[x](#a-title-really) [`A.run`](code.py) [`LIMIT`](code.py)\n"
        "[code](code.py) [out](https://example.org)\n```sh\n[no](nolink.md)\n```\n"
    )
    assert markdown.broken_links(page) == []
    page.write_text("[x](#no) [`A.walk`](code.py) [x](gone.md)\n")
    assert len(markdown.broken_links(page)) == 3


def test_the_architecture_page_links_the_functions_of_every_part_on_the_way() -> None:
    targets = {target for _, target in markdown.links(ROOT / "docs" / "architecture.md")}
    for part in ("assistant", "bundled", "checkpoint", "engine", "models", "processing", "cli"):
        assert any(target.startswith(f"../tessera/{part}") for target in targets), part


def test_the_arrows_on_the_architecture_page_are_those_that_are_enforced() -> None:
    drawn = {}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for left, right in re.findall(r"^([a-z, ]+?) +-> (.*)$", text, re.MULTILINE):
        for part in left.split(", "):
            none_or_all = {"leaves only": (), "everything": ("*",)}
            drawn[part.strip()] = none_or_all.get(right.strip(), tuple(right.strip().split(", ")))
    assert len(drawn) >= 11
    for part, targets in drawn.items():
        assert sorted(ARROWS[part]) == sorted(targets), part


def test_every_row_of_the_threat_model_links_a_test_that_exists() -> None:
    page = ROOT / "docs" / "threat-model.md"
    rows = [row for row in markdown.rows(page.read_text(encoding="utf-8")) if len(row) == 4]
    assert len(rows) >= 20
    for row in rows:
        linked = re.findall(r"\[`(test_\w+)`\]\((\.\./tests/[\w/]+/test_\w+\.py)\)", row[3])
        assert linked, f"no test: {row[1]}"
        assert re.sub(r"\[`test_\w+`\]\([^)]*\)", "", row[3]).strip(" ,") == "", row[3]


def test_the_notice_names_every_set_of_pictures_with_its_version_and_licence() -> None:
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    learned, _, measured = text.partition("Only to measure what was learned")
    for hand, package in emoji.HANDS.items():
        section = measured if hand == splits.HELD_OUT_HAND else learned
        head = f"{package.name} {package.version} "
        (line,) = [line for line in section.splitlines() if line.strip().startswith(head)]
        assert line.strip().removeprefix(head).split()[0] == package.licence
    flat = " ".join(learned.split())
    assert f"{emoji.LABELS.name} {emoji.LABELS.version} ({emoji.LABELS.licence})" in flat
    assert f"{clipart.PACKAGE.name} ({clipart.PACKAGE.licence})" in flat
    for package in (stamps.PACKAGE, gcompris.PACKAGE):
        assert f"{package.name} ({package.licence})" in measured


def test_the_notice_names_the_wheels_of_the_default_model() -> None:
    from tessera.bundled import LANGUAGE_WHEEL, VISION_WHEEL

    text = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    for wheel in (VISION_WHEEL, LANGUAGE_WHEEL):
        assert f"{wheel.package} {wheel.version}" in text


def test_the_weights_page_names_every_published_model() -> None:
    from tessera.presets import PRESETS, VISION_PRESETS

    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = " ".join(row[0] for row in markdown.rows(text))
    for name in PRESETS:
        assert name in rows or name.replace("InternVL-Chat-", "") in rows, name
    for name in VISION_PRESETS:
        for word in re.split(r"(?<=6B|0M)-", name)[0].split() + name.split("-")[3:]:
            assert word in rows, name


def test_every_golden_folder_on_the_weights_page_exists(golden: Path) -> None:
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    names = set(re.findall(r"golden `([\w-]+)`", text))
    assert len(names) == 4
    for name in names:
        assert (golden / name).is_dir()


def test_the_changelog_has_a_section_for_the_present_version() -> None:
    import tessera

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{tessera.__version__}]" in text
