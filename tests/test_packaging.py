"""
The built packages: they have the right files, and twistd finds the plugin however tcpapp is installed.

The package is built and installed once, without a network. Each test has an environment of its own, which holds Twisted
as pip would have installed it, in the folder that gets tcpapp's plugin file, too.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.environments import NOT_SOURCE, ROOT, link_distribution, make_environment, run, write_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.once

# Building and installing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """The source folder of a build, and the built files."""

    source: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(source, wheel, sdist)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with Twisted in it, and an empty folder to work in."""

    folder: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def pip(self, *arguments: str | Path) -> None:
        """Run the tests' pip on this environment."""
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments, cwd=self.work)

    def commands(self, *prefix: str, cwd: Path | None = None, **environ: str) -> set[str]:
        """Return the commands that ``twistd --help`` lists."""
        listing = run(*prefix, self.folder / "bin" / "twistd", "--help", cwd=cwd or self.work, **environ)
        return set(re.findall(r"^    ([a-z][a-z-]*)\s", listing.partition("Commands:")[2], re.MULTILINE))

    def imported(self, cwd: Path | None = None, **environ: str) -> Path:
        """Return the file that ``import tcpapp`` loads."""
        printed = run(self.python, "-c", "import tcpapp; print(tcpapp.__file__)", cwd=cwd or self.work, **environ)
        return Path(printed.strip())


def new_environment(parent: Path) -> Environment:
    """Return a new environment with Twisted, as ``pip install twisted`` leaves it."""
    made = Environment(parent / "environment", parent / "work")
    made.work.mkdir()
    make_environment(made.folder)
    return made


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Give a virtual environment with Twisted."""
    return new_environment(tmp_path)


@pytest.fixture(scope="module")
def installed_once(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment in which pip has installed the wheel; the packages that the wheel requires were there."""
    made = new_environment(tmp_path_factory.mktemp("installed"))
    made.pip("install", "--quiet", built.wheel)
    return made


@pytest.fixture
def installed(installed_once: Environment, tmp_path: Path) -> Environment:
    """Give a copy of the environment in which the wheel is installed."""
    copy = Environment(tmp_path / "environment", tmp_path / "work")
    copy.work.mkdir()
    shutil.copytree(installed_once.folder, copy.folder, symlinks=True)
    write_script(copy.folder, "twistd")
    return copy


# The built files -----------------------------------------------------------------------------------------------------


def files_of(source: Path) -> set[str]:
    """Return those files of a source folder that belong into the package."""
    found = [path for path in (source / "tcpapp").rglob("*.p*") if path.suffix in (".py", ".pxd", ".pyx")]
    modules = {path.relative_to(source).as_posix() for path in found}
    plugins = {f"twisted/plugins/tcpapp_{name}.py" for name in ("plugin", "reactor")}
    return modules | plugins | {"tcpapp/py.typed"}


def test_the_wheel_holds_the_package_the_plugin_and_nothing_else(built: Built) -> None:
    """The wheel has no tests, no benchmarks, and no ``__init__.py`` that would overwrite Twisted's own."""
    names = set(zipfile.ZipFile(built.wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == files_of(built.source)
    assert built.wheel.name.endswith("-py3-none-any.whl")
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_holds_all_that_a_build_needs(built: Built) -> None:
    """The sdist has the package, its license, and all files that a build reads."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of(built.source) | {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py"} <= names


# Compiling -----------------------------------------------------------------------------------------------------------

VERSION = [sys.executable, "-m", "twisted", "tcpapp", "--version"]


def built_in_place(built: Built, folder: Path, **environ: str) -> tuple[str, str]:
    """Compile a copy of the source folder in place. Returns what that printed, and the version of the result."""
    source = shutil.copytree(built.source, folder / "source", ignore=NOT_SOURCE)
    default = {"TCPAPP_ACCELERATED": ""}
    printed = run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=source, **{**default, **environ})
    return printed, run(*VERSION, cwd=source, PYTHONPATH=str(source), **default)


def test_without_a_compiler_one_line_says_that_the_sources_are_used(built: Built, tmp_path: Path) -> None:
    """The installation succeeds all the same."""
    printed, version = built_in_place(built, tmp_path, CC="no-such-compiler")
    lines = [line for line in printed.splitlines() if line.startswith("tcpapp is not compiled")]
    assert len(lines) == 1
    assert "no-such-compiler" in lines[0]
    assert re.match(r"tcpapp \S+, from its Python sources; ", version)


def test_a_build_that_must_compile_fails_without_a_compiler(built: Built, tmp_path: Path) -> None:
    """With ``TCPAPP_ACCELERATED=1`` the build fails, and says why."""
    with pytest.raises(AssertionError, match="tcpapp is not compiled"):
        built_in_place(built, tmp_path, CC="no-such-compiler", TCPAPP_ACCELERATED="1")


# The commands that twistd lists --------------------------------------------------------------------------------------


def test_without_tcpapp_twistd_does_not_list_it(environment: Environment) -> None:
    """In an environment without tcpapp, twistd lists its own commands, and not tcpapp."""
    commands = environment.commands()
    assert "web" in commands
    assert "tcpapp" not in commands


def test_twistd_lists_an_installed_wheel(installed: Environment) -> None:
    """After the wheel is installed, twistd lists tcpapp and its own commands."""
    assert installed.imported() == installed.site / "tcpapp" / "__init__.py"
    assert {"tcpapp", "web", "ftp"} <= installed.commands()


def test_the_installed_command_says_what_it_takes(installed: Environment) -> None:
    """
    ``twistd tcpapp --help`` works with the wheel and the packages that the wheel requires.

    It prints the usage once, at the beginning, and exits with 0.
    """
    printed = run(installed.folder / "bin" / "twistd", "tcpapp", "--help", cwd=installed.work)
    assert re.match(r"Usage: twistd \[options\] tcpapp \[options\]\nServes ", printed)
    assert printed.count("Usage:") == 1
    assert "--listen" in printed


def test_twistd_lists_an_editable_install(environment: Environment, built: Built) -> None:
    """After an editable install, twistd lists tcpapp from the source folder."""
    link_distribution("setuptools", environment.site)
    environment.pip("install", "--quiet", "--no-build-isolation", "--editable", built.source)
    assert environment.imported() == built.source / "tcpapp" / "__init__.py"
    assert {"tcpapp", "web", "ftp"} <= environment.commands()


def test_twistd_lists_the_source_folder(environment: Environment, built: Built) -> None:
    """``PYTHONPATH=. twistd`` lists tcpapp in a checkout that is not installed."""
    place = {"cwd": built.source, "PYTHONPATH": "."}
    assert environment.imported(**place) == built.source / "tcpapp" / "__init__.py"
    assert {"tcpapp", "web", "ftp"} <= environment.commands(**place)


@pytest.fixture
def read_only(installed: Environment, requires_program: Callable[[str], str]) -> Iterator[list[str]]:
    """
    Make the site-packages read-only, and give the start of a command that cannot write there.

    Root can write to read-only folders, so a command of root is started without this capability.
    """
    folders = [installed.site, *(path for path in installed.site.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o555)
    yield [requires_program("setpriv"), "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    for folder in folders:
        folder.chmod(0o755)


def test_twistd_lists_the_plugin_in_a_read_only_folder(installed: Environment, read_only: list[str]) -> None:
    """In a read-only folder, twistd lists tcpapp without a cache of plugins."""
    plugins = installed.site / "twisted" / "plugins"
    run(*read_only, "sh", "-c", '! touch "$0/written"', plugins, cwd=installed.work)
    assert {"tcpapp", "web", "ftp"} <= installed.commands(*read_only)
    assert not (plugins / "dropin.cache").exists()


def test_an_uninstall_leaves_twisted_as_it_was(installed: Environment) -> None:
    """After an uninstall, only twistd's own cache of plugins is left, and tcpapp is not in it."""
    installed.commands()
    installed.pip("uninstall", "--quiet", "--yes", "tcpapp")
    commands = installed.commands()
    assert {"web", "ftp"} <= commands
    assert "tcpapp" not in commands
    assert list(installed.site.rglob("*tcpapp*")) == []
    assert b"tcpapp" not in (installed.site / "twisted" / "plugins" / "dropin.cache").read_bytes()
