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


def test_what_serves_is_given_a_free_port(tmp_path):
    """In the place of the default, which another program may have."""
    reader = Reader(tmp_path)
    served = reader.on_a_free_port("twistd -n --pidfile= tcpapp --app echo")
    assert served == "twistd -n --pidfile= tcpapp --app echo --listen tcp:0:interface=127.0.0.1"
    assert reader.on_a_free_port("twistd -n other") == "twistd -n other"


def test_a_tac_file_is_served_on_a_free_port(tmp_path):
    tac = tmp_path / "app.tac"
    tac.write_text('endpoint = "tcp:7007:interface=127.0.0.1"\n')
    assert Reader(tmp_path).on_a_free_port("twistd -n -y app.tac") == "twistd -n -y app.tac"
    assert tac.read_text() == 'endpoint = "tcp:0:interface=127.0.0.1"\n'
