"""Former option names: each place that reads options names the new option, and none accepts the old one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tcpapp import MessageServerFactory, Policies, Timeouts
from tcpapp.apps import echo
from tcpapp.limits.renamed import RENAMED, new_name
from tcpapp.plugin import Options
from tcpapp.process.configuration.options import OPTIONS
from tcpapp.process.configuration.sources import from_environment, from_file

pytestmark = pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=RENAMED)


def dashed(name: str) -> str:
    return name.replace("_", "-")


def set_of(new: str) -> Any:
    """Return the dataclass that has this field."""
    return Timeouts if new in {each.name for each in fields(Timeouts)} else Policies


def test_the_new_name_is_an_option_and_the_old_name_is_not(old: str, new: str) -> None:
    """The table `RENAMED` leads from names that are no options any more to names of options."""
    assert (dashed(new) in OPTIONS, dashed(old) in OPTIONS) == (True, False)
    assert (new_name(old), new_name(new)) == (new, None)


def test_the_command_line_names_the_new_option(old: str, new: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A former option on the command line ends the command with one line on stderr, which names the new option."""
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions([f"--{dashed(old)}=1"])
    said = f"twistd tcpapp: --{dashed(old)} is now --{dashed(new)}\n"
    assert (ended.value.code, capfd.readouterr().err) == (1, said)


@pytest.mark.parametrize("table", ["", "limits", "policies", "timeouts"])
def test_the_options_file_names_the_new_key(
    old: str, new: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A former key in any table of the options file, in either spelling, is reported with the new key."""
    monkeypatch.chdir(tmp_path)
    prefix = table and f"{table}."
    for spelled, other in ((old, new), (dashed(old), dashed(new) if "_" in old else new)):
        Path("app.toml").write_text(f"[{table}]\n{spelled} = 1" if table else f"{spelled} = 1")
        assert from_file("app.toml") == ({}, [f"app.toml: {prefix}{spelled} is now {other}"])


def test_the_environment_names_the_new_variable(old: str, new: str) -> None:
    """A former variable is a warning, as a misspelt variable is: other programs can use the same prefix."""
    found, doubts = from_environment({f"TCPAPP_{old.upper()}": "1"}, "TCPAPP_")
    assert (found, doubts) == ({}, [f"TCPAPP_{old.upper()} is now TCPAPP_{new.upper()}"])


def test_a_keyword_names_the_new_field(old: str, new: str) -> None:
    """The constructor and `dataclasses.replace` raise TypeError for a former field, and name the new one."""
    kind = set_of(new)
    for call in (lambda: kind(**{old: 1}), lambda: replace(kind(), **{old: 1})):
        with pytest.raises(TypeError, match=rf"^{kind.__name__}\({old}=\.\.\.\): {old} is now {new}$"):
            call()


def test_a_keyword_of_the_other_set_is_unknown(old: str, new: str) -> None:
    """A former field of `Policies` is just unknown to `Timeouts`, and the other way round."""
    kind = Policies if set_of(new) is Timeouts else Timeouts
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{old}'"):
        kind(**{old: 1})


def test_a_change_names_the_new_setting(old: str, new: str) -> None:
    """`change` with a former name raises TypeError with the new name, and changes nothing."""
    factory = MessageServerFactory(echo)
    with pytest.raises(TypeError, match=f"^{old} is now {new}$"):
        factory.change(**{old: 1})
    assert (factory.settings.timeouts, factory.settings.policies) == (Timeouts(), Policies())
