"""The tutorial is typed as it stands: from an empty folder to a service that ``twistd`` runs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.documents import Reader
from tests.environments import NOT_SOURCE, ROOT, make_environment, write_script

pytestmark = pytest.mark.once

PAGE = ROOT / "docs" / "tutorial" / "test-first.md"


class Learner(Reader):
    """
    A reader that types what the tutorial says, without a network: packages that pip would fetch are there already.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environ["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        del self.environ["PYTHONPATH"]

    def replaced(self, command: str) -> str:
        if command == "python3 -m venv .venv":
            environment = self.folder / ".venv"
            make_environment(environment, "pip", "setuptools", "pytest", "pytest-twisted", "hypothesis", "trustme")
            write_script(environment, "pip")
            write_script(environment, "pytest")
            return "true"
        if command.startswith("twistd -n"):
            return f"{command} --listen tcp:0:interface=127.0.0.1"
        return command.replace("pip install", "pip install --no-build-isolation")


def test_the_tutorial_ends_with_a_service_that_runs(tmp_path: Path) -> None:
    """A reader who follows the tutorial in an empty folder ends with a service that twistd runs."""
    shutil.copytree(ROOT, tmp_path / "tcpapp", ignore=NOT_SOURCE)
    folder = tmp_path / "project"
    folder.mkdir()
    Learner(folder).follow(PAGE.read_text(encoding="utf-8"))
    assert (folder / ".venv" / "bin" / "twistd").exists()


def test_the_tutorial_has_twelve_steps() -> None:
    """The tutorial has twelve numbered sections in order, and the section after them deploys the service."""
    heads = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(head.split(".")[0]) for head in heads[:12]] == list(range(1, 13))
    assert heads[12] == "Deploy it"
