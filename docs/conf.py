"""How Sphinx builds the documentation. It needs no network: nothing is looked up in other projects' documentation."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from zope.interface.interface import InterfaceClass

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "tcpapp"
author = "tcpapp contributors"
copyright = author
version = release = installed("tcpapp")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tcpapp {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
highlight_language = "text"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings name things in single backticks: a link where there is such a thing, and code where there is not.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # names of arguments, and of what is documented elsewhere: code, and no link
    ("py:class", ".*"),  # types in signatures, Twisted's and others', which are documented elsewhere
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

LINKED = {"class", "exception", "function", "data"}
"""What a bare name in a docstring may stand for, from anywhere: what is public at the top of a module."""

LINKED_WORDS = {"simulate", "faults", "replay"}
"""Functions whose names are plain words, and still mean the function wherever they stand in single backticks."""


def link_by_last_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element) -> Any:
    """A link from a bare name, as `Wire`, to the one public thing that is called so, whatever module it is in."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or "." in name:
        return None
    if node["reftype"] == "obj" and name == name.lower() and "_" not in name and name not in LINKED_WORDS:
        return None  # an argument, most likely
    domain = env.domains.python_domain
    public = {full for full, each in domain.objects.items() if each.objtype in LINKED and not each.aliased}
    found = [full for full in public if full.endswith(f".{name}")]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, shown)


def name_of_interface(interface: InterfaceClass) -> str:
    """As a class is written: autodoc writes a type that is no class as `repr` does, and cannot read that again."""
    return f"{interface.__module__}.{interface.__name__}"


InterfaceClass.__repr__ = name_of_interface


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.connect("missing-reference", link_by_last_name)
