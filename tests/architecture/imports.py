"""Who imports whom, and who may: the arrows of the design."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from tests.architecture.source import PACKAGE, Module

LEAVES = ("config", "presets", "errors", "remote", "pages")

# part -> what it may import besides the leaves and itself; "*" is everything.
ARROWS: Mapping[str, tuple[str, ...]] = {
    "__main__": ("cli",),
    "cli": ("*",),
    "diagnostics": (
        "assistant",
        "models",
        "processing",
        "checkpoint",
        "engine",
        "training.objectives",
    ),
    "assistant": ("bundled", "checkpoint", "models", "processing", "engine"),
    "bundled": ("checkpoint",),
    "surgery": ("models", "checkpoint"),
    "training": ("models", "data", "checkpoint"),
    "evaluation": ("processing",),
    "serving": ("processing",),
    "data": ("processing",),
    "engine": ("models",),
    "models": (),
    "processing": (),
    "checkpoint": (),
    **{leaf: () for leaf in LEAVES},
}

# The package itself only names the homes of its public names.
PUBLIC_HOMES = ("assistant", "config", "errors", "processing.conversation")


def imports(module: Module, known: set[str]) -> Iterator[tuple[str, int]]:
    """Yield (module of ours, line) of every import, those inside functions included."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            if base.split(".")[0] != PACKAGE:
                continue
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in known else base), node.lineno
        elif isinstance(node, ast.Call):
            yield from _spelled_import(node)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join(parts + ([node.module] if node.module else []))


def _spelled_import(node: ast.Call) -> Iterator[tuple[str, int]]:
    """`import_module("tessera.x")` and `__import__("tessera.x")`."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in ("import_module", "__import__") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and str(first.value).split(".")[0] == PACKAGE:
            yield str(first.value), node.lineno


def _within(target: str, allowed: str) -> bool:
    return target == allowed or target.startswith(allowed + ".")


def arrow_violations(modules: Sequence[Module]) -> list[str]:
    """Return every import that no arrow allows."""
    known = {module.name for module in modules}
    found = []
    for module in modules:
        if module.part and module.part not in ARROWS:
            found.append(f"{module.path}: the design has no part {module.part!r}")
            continue
        allowed = PUBLIC_HOMES if not module.part else ARROWS[module.part]
        if module.part not in LEAVES:
            allowed = (*allowed, module.part)
        for target, line in imports(module, known):
            inner = target.removeprefix(PACKAGE).removeprefix(".")
            # The root holds the version and nothing else that could be imported at run time.
            if not inner or "*" in allowed or any(_within(inner, leaf) for leaf in LEAVES):
                continue
            if not any(_within(inner, name) for name in allowed):
                found.append(
                    f"{module.path}:{line}: {module.part or PACKAGE} may not import {target}"
                )
    return found


def cycles(modules: Sequence[Module]) -> list[list[str]]:
    """Return groups of modules that import each other, lazily or not (Tarjan's components)."""
    known = {module.name for module in modules}
    graph = {
        module.name: {
            target
            for target, _ in imports(module, known)
            if target in known and target not in (module.name, PACKAGE)
        }
        for module in modules
        if module.part
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return groups
