"""Read a package as syntax trees, so that its structure can be checked without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "tessera"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file; `name` is dotted, a package is named without `__init__`."""

    name: str
    path: str  # relative to the root it was read from
    text: str
    is_package: bool

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text, self.path)

    @property
    def part(self) -> str:
        """The first name below the package: `models` of `tessera.models.vision`, "" of the root."""
        return (self.name.split(".") + [""])[1]


@cache
def _parse(text: str, path: str) -> ast.Module:
    return ast.parse(text, path)


@cache
def read_files(root: Path, folder: str) -> tuple[Module, ...]:
    """Read every Python file below `root/folder`; the golden folders hold foreign code."""
    modules = []
    for path in sorted((root / folder).rglob("*.py")):
        relative = path.relative_to(root)
        if "golden" in relative.parts or "__pycache__" in relative.parts:
            continue
        is_package = relative.name == "__init__.py"
        names = relative.parent.parts if is_package else relative.with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        modules.append(Module(".".join(names), relative.as_posix(), text, is_package))
    return tuple(modules)


def package() -> tuple[Module, ...]:
    """Read our package."""
    return read_files(ROOT, PACKAGE)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield every function with its dotted name, methods and inner functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def names_of(text: str) -> set[str]:
    """Return what a reader may link to: functions, classes, methods, constants of a source file."""
    tree = ast.parse(text)
    found = {name for name, _ in functions(tree)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def dotted(node: ast.AST) -> str:
    """Spell `a.b.c` of a chain of attributes; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""
