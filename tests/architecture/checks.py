"""Rules about single files: budgets, twins, printing, docstrings, and what may never be called."""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.architecture.source import Function, Module, dotted, functions

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 100
TWIN_NODES = 40  # syntax nodes; smaller bodies (properties, one-line wrappers) may agree

FORBIDDEN_MODULES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal")
FORBIDDEN_CALLS = (
    "eval",
    "exec",
    "__import__",
    "builtins.eval",
    "builtins.exec",
    "torch.load",
    "torch.serialization.load",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
)
FORBIDDEN_KEYWORDS = ("trust_remote_code", "shell", "allow_pickle")  # unless they say False


def too_long_files(modules: Sequence[Module]) -> list[str]:
    """Return files beyond the budget."""
    counts = {module.path: len(module.text.splitlines()) for module in modules}
    return [
        f"{path}: {lines} lines, the budget is {MAX_FILE_LINES}"
        for path, lines in counts.items()
        if lines > MAX_FILE_LINES
    ]


def too_long_functions(modules: Sequence[Module]) -> list[str]:
    """Return functions beyond the budget, docstring included, decorators not."""
    found = []
    for module in modules:
        for name, node in functions(module.tree):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                found.append(
                    f"{module.path}:{node.lineno}: {name} has {lines} lines, "
                    f"the budget is {MAX_FUNCTION_LINES}"
                )
    return found


class _Rename(ast.NodeTransformer):
    """Give arguments and local variables numbers in the order in which they appear."""

    def __init__(self, local: set[str]) -> None:
        self.local = local
        self.numbers: dict[str, str] = {}

    def _number(self, name: str) -> str:
        if name not in self.local:
            return name
        return self.numbers.setdefault(name, f"v{len(self.numbers)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._number(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._number(node.arg), None)


def _fingerprint(node: Function) -> tuple[str, int]:
    """Describe a body whatever its names, docstring, types and place; and count its nodes."""
    body = node.body
    if ast.get_docstring(node) is not None:
        body = body[1:]
    shell = ast.Module(body=body, type_ignores=[])
    local = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
    local |= {
        name.id
        for name in ast.walk(shell)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    renamed = _Rename(local).visit(ast.parse(ast.unparse(shell)))
    size = sum(1 for _ in ast.walk(renamed))
    return hashlib.sha256(ast.dump(renamed).encode()).hexdigest(), size


def twins(modules: Sequence[Module]) -> list[str]:
    """Return groups of functions whose bodies are the same but for names."""
    groups: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for name, node in functions(module.tree):
            body_hash, size = _fingerprint(node)
            if size >= TWIN_NODES:
                groups[body_hash].append(f"{module.path}:{node.lineno} {name}")
    return [" = ".join(group) for group in groups.values() if len(group) > 1]


def prints(modules: Sequence[Module]) -> list[str]:
    """Return places that write to the terminal themselves."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            name = ""
            if isinstance(node, ast.Call) and dotted(node.func) in ("print", "rich.print"):
                name = dotted(node.func)
            elif isinstance(node, ast.Attribute) and dotted(node) in ("sys.stdout", "sys.stderr"):
                name = dotted(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                name = next(
                    (n for n in _imported(node) if n.split(".")[0] in ("rich", "typer")), ""
                )
            if name:
                found.append(f"{module.path}:{node.lineno}: {name} outside the command line")
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def missing_docstrings(modules: Sequence[Module]) -> list[str]:
    """Return files that do not say what is in them."""
    return [module.path for module in modules if not ast.get_docstring(module.tree)]


def open_ends(modules: Sequence[Module]) -> list[str]:
    """Return notes about work not done, and bodies that only say so."""
    found = []
    for module in modules:
        for number, line in enumerate(module.text.splitlines(), 1):
            comment = line.partition("#")[2]
            if any(word in comment.split() for word in ("TODO", "TODO:", "FIXME", "FIXME:", "XXX")):
                found.append(f"{module.path}:{number}: {comment.strip()}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
                found.append(f"{module.path}:{node.lineno}: NotImplementedError")
    return found


def dangerous(modules: Sequence[Module], allowed: Mapping[tuple[str, str], str]) -> list[str]:
    """Return uses of what can run code that a file holds; `allowed`: (path, name) -> reason."""
    found = []
    for module in modules:
        aliases: dict[str, str] = {}
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                aliases.update(_aliases(node))
        for node in ast.walk(module.tree):
            for name in _dangerous_names(node, aliases):
                if (module.path, name) not in allowed:
                    found.append(f"{module.path}:{node.lineno}: {name}")
    return found


def broad_catches(modules: Sequence[Module]) -> list[str]:
    """Return handlers that swallow any error, and so hide defects; to raise it again is fine."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            is_broad = any(
                kind is None or dotted(kind) in ("Exception", "BaseException") for kind in kinds
            )
            ends = node.body[-1]
            if is_broad and not (isinstance(ends, ast.Raise) and ends.exc is None):
                found.append(f"{module.path}:{node.lineno}: catches everything")
    return found


def switched_guards(modules: Sequence[Module]) -> list[str]:
    """Return places that change a guard of Pillow for the whole process."""
    return [
        f"{module.path}:{node.lineno}: {node.attr}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr in ("MAX_IMAGE_PIXELS", "LOAD_TRUNCATED_IMAGES")
    ]


def _aliases(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    if isinstance(node, ast.Import):
        return {alias.asname: alias.name for alias in node.names if alias.asname}
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}


def _dangerous_names(node: ast.AST, aliases: Mapping[str, str]) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [name for name in _imported(node) if name.split(".")[0] in FORBIDDEN_MODULES][:1]
    if not isinstance(node, ast.Call):
        return []
    head, _, tail = dotted(node.func).partition(".")
    full = aliases.get(head, head) + (f".{tail}" if tail else "")
    names = [full] if full in FORBIDDEN_CALLS else []
    for keyword in node.keywords:
        is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg in FORBIDDEN_KEYWORDS and not is_off:
            names.append(f"{keyword.arg}=")
    return names
