"""What `doctor` looks for is what the project declares."""

import re

from tessera.diagnostics import doctor
from tests.architecture.source import ROOT


def names(block: str) -> set[str]:
    return set(re.findall(r'"([a-z][\w-]*)[>=<]', block))


def test_doctor_knows_every_declared_dependency() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    core = text.split("dependencies = [")[1].split("]")[0]
    assert names(core) == set(doctor.CORE)
    for extra, packages in doctor.EXTRAS.items():
        line = re.search(rf"^{extra} = \[(.*)\]", text, re.MULTILINE)
        assert line is not None, extra
        assert names(line[1]) == set(packages)
