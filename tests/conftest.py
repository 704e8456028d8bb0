import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the reference numbers; TESSERA_GOLDEN names another."""
    return (ROOT / os.environ.get("TESSERA_GOLDEN", "tests/golden")).resolve()
