"""
``python -m tests.fuzz SECONDS [NAME ...]``: run each target for this many seconds under atheris, two at a time.

``RUNS=10000000`` in the environment runs each target this many times instead. An input that breaks a target is kept in
the target's corpus and named, and the exit code is 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
AT_ONCE = 2

ONE = """
import sys
import atheris
with atheris.instrument_imports(include=["tcpapp"]):
    from tests.fuzz.targets import TARGETS
name = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[name])
atheris.Fuzz()
"""


def fuzz(name: str, seconds: str) -> tuple[str, int, str]:
    """Run one target, and return its name, its exit code, and the last lines of libFuzzer's output."""
    corpus = HERE / "corpora" / name
    words = HERE / "dictionaries" / f"{name}.dict"
    runs = os.environ.get("RUNS")
    limit = f"-runs={runs}" if runs else f"-max_total_time={seconds}"
    with tempfile.TemporaryDirectory() as found:  # a new input is kept in the corpus only if it breaks the target
        command = [sys.executable, "-c", ONE, name, found, str(corpus), limit, "-max_len=600", "-timeout=10"]
        command += [f"-artifact_prefix={corpus}/broke-", *([f"-dict={words}"] if words.exists() else [])]
        ran = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    lines = ran.stderr.splitlines()
    return name, ran.returncode, "\n".join(lines[-30:] if ran.returncode else lines[-1:])


def main() -> int:
    """Return 0 if no input broke a target, else 1."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.stderr.write(f"atheris is not there for Python {sys.version.split()[0]}: pip install 'tcpapp[fuzz]'\n")
        return 1
    from tests.fuzz.targets import TARGETS

    seconds, *names = sys.argv[1:] or ["30"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda name: fuzz(name, seconds), names or TARGETS))
    for name, code, said in results:
        sys.stdout.write(f"{name:10} {'BROKE' if code else 'holds'}  {said}\n")
    return int(any(code for _, code, _ in results))


if __name__ == "__main__":
    raise SystemExit(main())
