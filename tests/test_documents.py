"""The reader of documents finds what is not so."""

from __future__ import annotations

import pytest

from tests.documents import Reader, blocks_of

pytestmark = pytest.mark.once

NOT_SO = {
    "a block that nothing runs": ("```python\n1 + 1\n```\n", "nothing runs this block"),
    "a text that nothing prints": ("```text\nhello\n```\n", "nothing runs this block"),
    "a program that prints something else": ("```python\n# a.py\nprint(2)\n# > 3\n```\n", "is to print\n3"),
    "a command that prints something else": ("```console\n$ echo one\ntwo\n```\n", "is to print\ntwo"),
    "a command that fails": ("```console\n$ false\n```\n", "false"),
    "a server that does not serve": ("```console\n$ twistd -n no-such\n```\n", "does not serve"),
    "a change that does not fit": (
        "```python\n# a.py\none = 1\n```\n```diff\n--- a.py\n+++ a.py\n@@\n-two = 2\n+two = 3\n```\n",
        "not once in a.py",
    ),
    "a fragment that is no Python": ("<!-- fragment: part -->\n```python\ndef\n```\n", "invalid syntax"),
}


@pytest.mark.parametrize(("text", "said"), NOT_SO.values(), ids=NOT_SO)
def test_what_is_not_so_fails(text, said, tmp_path):
    with pytest.raises((pytest.fail.Exception, AssertionError, SyntaxError), match=said):
        Reader(tmp_path).follow(text)


SO = """
```python
# folder/a.py
one = 1
two = 2
```

```python
# folder/a.py, continued
print(one, two)
```

```diff
--- folder/a.py
+++ folder/a.py
@@
 one = 1
-two = 2
+two = 3
```

```console
$ python folder/a.py && echo "more" \\
    && echo 12345
1 3
more
...5
```

<!-- fragment: the rest is above -->
```python
return_nothing()
```
"""


def test_what_is_so_passes(tmp_path):
    Reader(tmp_path).follow(SO)
    assert (tmp_path / "folder" / "a.py").read_text() == "# folder/a.py\none = 1\ntwo = 3\n\n\nprint(one, two)\n"


def test_a_block_knows_its_line():
    assert [block.line for block in blocks_of(SO)] == [2, 8, 13, 22, 31]
