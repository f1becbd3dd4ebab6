"""How many examples Hypothesis tries in the tests that profit from many."""

import os

MANY = 600 if os.environ.get("CI") else 150
"""Examples of one test. On a developer's machine the tests run often, and each run tries other examples."""
