import pytest

from tests.architecture import checks
from tests.architecture.source import ROOT, Module, package, read_files

# (file, what it calls) -> why it may.
ALLOWED_DANGER: dict[tuple[str, str], str] = {}

# Files outside the command line that may hand the terminal on -> why.
ALLOWED_TERMINAL = {
    "tessera/checkpoint/formats/fetch.py": "pip draws its own progress bar on our stderr",
}


# Files that may catch every error and go on -> why.
ALLOWED_BROAD = {
    "tessera/cli/main.py": "the edge; raises what is no mistake in the command line",
    "tessera/processing/tokenizer_json.py": "the tokenizers library raises plain Exception",
}


def _module(text: str) -> Module:
    return Module("tessera.bad", "tessera/bad.py", text, False)


def _everything() -> list[Module]:
    folders = ("tessera", "tests", "dev", "examples", "benchmarks")
    return [module for folder in folders for module in read_files(ROOT, folder)]


def _may_print(module: Module) -> bool:
    return module.part == "cli" or module.name == "tessera.training.report"


def test_no_file_is_longer_than_its_budget() -> None:
    assert checks.too_long_files(_everything()) == []


def test_no_function_is_longer_than_its_budget() -> None:
    assert checks.too_long_functions(_everything()) == []


def test_no_function_body_exists_twice() -> None:
    assert checks.twins(package()) == []


def test_only_the_command_line_and_the_training_report_print() -> None:
    found = checks.prints([module for module in package() if not _may_print(module)])
    assert [line for line in found if line.split(":")[0] not in ALLOWED_TERMINAL] == []
    for path in ALLOWED_TERMINAL:
        assert [line.split(": ")[1] for line in found if line.startswith(path)] == [
            "sys.stderr outside the command line"
        ]


def test_every_module_says_what_is_in_it() -> None:
    assert checks.missing_docstrings(package()) == []


def test_nothing_is_left_open() -> None:
    assert checks.open_ends(package()) == []


def test_nothing_can_run_what_a_file_holds() -> None:
    modules = [module for module in _everything() if not module.path.startswith("tests/")]
    assert checks.dangerous(modules, ALLOWED_DANGER) == []


def test_errors_are_caught_by_name() -> None:
    found = {line.split(":")[0] for line in checks.broad_catches(package())}
    assert found == set(ALLOWED_BROAD)


def test_the_guards_of_pillow_stay_as_they_are() -> None:
    assert checks.switched_guards(package()) == []


def test_a_broad_catch_and_a_switched_guard_are_found() -> None:
    handler = "try:\n    f()\nexcept {}:\n    {}\n"
    for kind, body in (("Exception", "pass"), ("(ValueError, Exception) as e", "raise X from e")):
        assert len(checks.broad_catches([_module(handler.format(kind, body))])) == 1
    assert len(checks.broad_catches([_module("try:\n    f()\nexcept:\n    pass\n")])) == 1
    for kind, body in (("ValueError", "pass"), ("BaseException", "raise")):
        assert checks.broad_catches([_module(handler.format(kind, body))]) == []
    assert len(checks.switched_guards([_module("Image.MAX_IMAGE_PIXELS = None")])) == 1
    assert checks.switched_guards([_module("limit = Image.MAX_IMAGE_PIXELS")]) == []


def test_a_file_and_a_function_beyond_the_budget_are_found() -> None:
    long_file = _module("x = 1\n" * 401)
    assert checks.too_long_files([long_file]) == ["tessera/bad.py: 401 lines, the budget is 400"]
    body = "    x = 1\n" * 100
    long_method = _module(f"class A:\n  def f(self):\n{body}\ndef g():\n{body[:-10]}")
    assert checks.too_long_functions([long_method]) == [
        "tessera/bad.py:2: A.f has 101 lines, the budget is 100"
    ]


TWIN = '''
def {name}({a}: {kind}, limit: int) -> list:
    """{doc}"""
    {b} = []
    for {c} in {a}:
        if {c} is not None and {c} < limit:
            {b}.append({c} * 2 + 1)
    return sorted({b}, reverse=True)
'''


def test_a_function_copied_under_other_names_is_found() -> None:
    first = TWIN.format(name="f", a="values", b="out", c="value", kind="list", doc="Do.")
    second = TWIN.format(name="g", a="rows", b="kept", c="row", kind="tuple", doc="Do other.")
    assert checks.twins([_module(first + second)]) == ["tessera/bad.py:2 f = tessera/bad.py:10 g"]
    assert checks.twins([_module(first + second.replace("* 2", "* 3"))]) == []


@pytest.mark.parametrize(
    "text",
    [
        "print('x')",
        "def f():\n    print('x')",
        "import sys\nsys.stdout.write('x')",
        "from rich import print",
        "import typer",
    ],
)
def test_printing_outside_the_command_line_is_found(text: str) -> None:
    assert len(checks.prints([_module(text)])) == 1


def test_a_module_without_a_docstring_and_a_note_of_open_work_are_found() -> None:
    bad = _module("# TODO: everything\ndef f():\n    raise NotImplementedError\n")
    assert checks.missing_docstrings([bad]) == ["tessera/bad.py"]
    assert len(checks.open_ends([bad])) == 2


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal as m",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import torch as t\nt.load(path)",
        "from torch import load as read\nread(path)",
        "import yaml\nyaml.load(text)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "subprocess.run(line, shell=True)",
        "import os\nos.system(line)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_what_could_run_the_contents_of_a_file_is_found(text: str) -> None:
    assert len(checks.dangerous([_module(text)], {})) == 1


def test_harmless_namesakes_are_not_mistaken_for_danger() -> None:
    text = "model.eval()\njson.load(file)\nsubprocess.run(args, shell=False)\nself.exec(x)\n"
    assert checks.dangerous([_module(text)], {}) == []


def test_an_allowed_use_is_not_reported_and_every_allowance_is_used() -> None:
    bad = _module("eval('1')")
    assert checks.dangerous([bad], {("tessera/bad.py", "eval"): "an example"}) == []
    without = checks.dangerous(_everything(), {})
    for path, name in ALLOWED_DANGER:
        assert any(line.startswith(path) and line.endswith(name) for line in without)
