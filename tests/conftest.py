import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the reference numbers; TESSERA_GOLDEN names another."""
    return (ROOT / os.environ.get("TESSERA_GOLDEN", "tests/golden")).resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", help="write outcome and seconds of every test to this JSON file")


class Recorder:
    """Keeps what `make stress` measured, for the file that is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, object]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            entry = {"outcome": report.outcome, "seconds": round(report.duration, 1)}
            self.tests[report.nodeid] = entry | dict(report.user_properties)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Iterator[None]:
        summary = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "python": platform.python_version(),
            "tests": self.tests,
        }
        self.path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        return (yield)


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--record"):
        config.pluginmanager.register(Recorder(Path(path)), "recorder")
