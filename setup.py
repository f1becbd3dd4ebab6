"""
What setup.cfg cannot say: how the path of a message is compiled, where there is a C compiler.

`tcpapp.compiled` names the modules. Cython makes C of each, and all become one extension, ``tcpapp._core``. Where that
fails, tcpapp is installed without it, and one line says why. ``TCPAPP_ACCELERATED=0`` prevents it. With
``TCPAPP_ACCELERATED=1`` it must not fail.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from runpy import run_path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
COMPILED = run_path(str(ROOT / "tcpapp" / "compiled.py"))

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # the .pxd files have the types
    "auto_pickle": False,
}


CHOICES = ["-O1", "-g0"]
"""
Takes half the time of ``-O2``, and makes code that is as fast: most of it calls Python. ``CFLAGS`` overrides it.
"""


class BuildCore(build_ext):
    """Compiles the extension."""

    def build_extension(self, extension: Any) -> None:
        """Compile and link it. Setuptools passes over the failure of an extension that is optional."""
        try:
            self._build(extension)
        except Exception as error:
            # A compiler writes pages: the last line of them, and what was tried, say enough.
            reason = str(error).strip().rpartition("\n")[2]
            print(f"tcpapp is not compiled, and will run from its Python sources: {reason}", file=sys.stderr)  # noqa: T201
            raise

    def _build(self, extension: Any) -> None:
        made = Path(self.build_temp) / "core"
        made.mkdir(parents=True, exist_ok=True)
        objects = self._compile(_identity(made))  # first: where there is no compiler, this fails at once
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for each in threads.map(self._compile, _translated(made)):
                objects += each
        self.mkpath(str(Path(self.get_ext_fullpath(extension.name)).parent))
        self.compiler.link_shared_object(objects, self.get_ext_fullpath(extension.name), target_lang="c")

    def _compile(self, path: str) -> list[str]:
        arguments = [] if self.compiler.compiler_type == "msvc" or "CFLAGS" in os.environ else CHOICES
        return self.compiler.compile([path], self.build_temp, include_dirs=self.include_dirs, extra_postargs=arguments)


def _translated(made: Path) -> list[str]:
    """Let Cython make a C file of each module, in the folder `made`. Returns their names."""
    from Cython.Build import cythonize

    extensions = [
        Extension(each, [str(COMPILED["source_of"](each, ROOT).relative_to(ROOT))]) for each in COMPILED["MODULES"]
    ]
    found = cythonize(extensions, build_dir=str(made), compiler_directives=DIRECTIVES, quiet=True, force=True)
    return [source for each in found for source in each.sources]


def _identity(made: Path) -> str:
    """A C file of the module ``tcpapp._core`` itself, which says what it was made from."""
    from Cython.Build import cythonize

    path = made / "_core.pyx"
    path.write_text(f'DIGEST = "{COMPILED["digest"](ROOT)}"\n', encoding="ascii")
    (found,) = cythonize(Extension("tcpapp._core", [str(path)]), compiler_directives=DIRECTIVES, quiet=True, force=True)
    return str(found.sources[0])


def extensions() -> list[Extension]:
    """The extension, unless the environment says that there is none."""
    wanted = os.environ.get("TCPAPP_ACCELERATED")
    return [] if wanted == "0" else [Extension("tcpapp._core", [], optional=wanted != "1")]


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCore})
