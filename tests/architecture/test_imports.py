from pathlib import Path

from tests.architecture.imports import ARROWS, LEAVES, arrow_violations, cycles
from tests.architecture.source import Module, package, read_files


def _module(name: str, text: str, *, is_package: bool = False) -> Module:
    return Module(name, name.replace(".", "/") + ".py", text, is_package)


def test_imports_go_only_along_the_arrows_of_the_design() -> None:
    assert arrow_violations(package()) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert cycles(package()) == []


def test_the_arrows_themselves_have_no_cycle() -> None:
    def reachable(part: str, seen: frozenset[str]) -> set[str]:
        assert part not in seen, f"{part} reaches itself"
        targets = [name.split(".")[0] for name in ARROWS[part] if name != "*"]
        return set(targets).union(*(reachable(name, seen | {part}) for name in targets))

    for part in ARROWS:
        assert part not in reachable(part, frozenset())


def test_an_import_against_the_arrows_is_found_also_inside_a_function() -> None:
    bad = _module("tessera.models.vision", "def f():\n    from tessera.engine import sampling\n")
    assert arrow_violations([bad]) == [
        "tessera/models/vision.py:2: models may not import tessera.engine"
    ]


def test_a_relative_import_and_a_spelled_import_are_found() -> None:
    relative = _module("tessera.models.vision", "from ..engine import sampling\n")
    package_relative = _module("tessera.models", "from ..engine import generate\n", is_package=True)
    spelled = _module(
        "tessera.data.mixture", "import importlib\nimportlib.import_module('tessera.cli')\n"
    )
    assert len(arrow_violations([relative, package_relative, spelled])) == 3


def test_a_leaf_may_import_leaves_and_nothing_else() -> None:
    good = _module("tessera.presets", "from tessera.config import ModelConfig\n")
    bad = _module("tessera.errors", "import tessera.models.vision\n")
    assert arrow_violations([good]) == []
    assert len(arrow_violations([bad])) == 1
    assert all(ARROWS[leaf] == () for leaf in LEAVES)


def test_diagnostics_may_see_the_objectives_of_training_but_not_its_loop() -> None:
    text = "from tessera.training.{} import x\n"
    allowed = _module("tessera.diagnostics.bench", text.format("objectives"))
    refused = _module("tessera.diagnostics.bench", text.format("loop"))
    assert arrow_violations([allowed]) == []
    assert len(arrow_violations([refused])) == 1


def test_a_part_that_the_design_does_not_know_is_found() -> None:
    assert arrow_violations([_module("tessera.utils", "")]) == [
        "tessera/utils.py: the design has no part 'utils'"
    ]


def test_a_cycle_through_a_lazy_import_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "tessera" / "models"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("from tessera.models import b\n")
    (folder / "b.py").write_text("def f():\n    from . import c\n")
    (folder / "c.py").write_text("import tessera.models.a\n")
    modules = read_files(tmp_path, "tessera")
    names = [f"tessera.models.{name}" for name in "abc"]
    assert cycles(modules) == [names]
