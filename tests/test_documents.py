"""The reader of documents: which documents it passes, and which it fails."""

from __future__ import annotations

import pytest

from tests.documents import Reader, blocks_of

pytestmark = pytest.mark.once

WRONG = {
    "a block that nothing runs": ("```python\n1 + 1\n```\n", "nothing runs this block"),
    "a text that nothing prints": ("```text\nhello\n```\n", "nothing runs this block"),
    "a program that prints something else": ("```python\n# a.py\nprint(2)\n# > 3\n```\n", "must print\n3"),
    "a command that prints something else": ("```console\n$ echo one\ntwo\n```\n", "must print\ntwo"),
    "a command that fails": ("```console\n$ false\n```\n", "false"),
    "a server that does not serve": ("```console\n$ twistd -n no-such\n```\n", "does not serve"),
    "a change that does not fit": (
        "```python\n# a.py\none = 1\n```\n```diff\n--- a.py\n+++ a.py\n@@\n-two = 2\n+two = 3\n```\n",
        "must be once in a.py",
    ),
    "a fragment that is no Python": ("<!-- fragment: part -->\n```python\ndef\n```\n", "invalid syntax"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_document_fails(text, said, tmp_path):
    """A document with a wrong block fails, with a text that says what is wrong."""
    with pytest.raises((pytest.fail.Exception, AssertionError, SyntaxError), match=said):
        Reader(tmp_path).follow(text)


CORRECT = """
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


def test_a_correct_document_passes(tmp_path):
    """A document whose files, changes and commands are correct passes, and its files are written."""
    Reader(tmp_path).follow(CORRECT)
    assert (tmp_path / "folder" / "a.py").read_text() == "# folder/a.py\none = 1\ntwo = 3\n\n\nprint(one, two)\n"


def test_a_block_knows_its_line():
    """A block has the number of its first line."""
    assert [block.line for block in blocks_of(CORRECT)] == [2, 8, 13, 22, 31]


def test_a_command_that_serves_uses_a_free_port(tmp_path):
    """`twistd tcpapp` without --listen gets a free port, because another program can use the default port."""
    reader = Reader(tmp_path)
    served = reader.on_a_free_port("twistd -n --pidfile= tcpapp --app echo")
    assert served == "twistd -n --pidfile= tcpapp --app echo --listen tcp:0:interface=127.0.0.1"
    assert reader.on_a_free_port("twistd -n other") == "twistd -n other"


def test_a_tac_file_is_served_on_a_free_port(tmp_path):
    """The port 7007 in a ``.tac`` file is replaced by a free port."""
    tac = tmp_path / "app.tac"
    tac.write_text('endpoint = "tcp:7007:interface=127.0.0.1"\n')
    assert Reader(tmp_path).on_a_free_port("twistd -n -y app.tac") == "twistd -n -y app.tac"
    assert tac.read_text() == 'endpoint = "tcp:0:interface=127.0.0.1"\n'
