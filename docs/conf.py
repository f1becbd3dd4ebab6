"""How Sphinx builds the documentation. It needs no network: nothing is looked up in other projects' documentation."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.metadata import version as installed
from pydoc import locate
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective
from zope.interface.interface import InterfaceClass

from tcpapp.process.configuration.options import OPTIONS

if TYPE_CHECKING:
    from docutils.nodes import Element, Node
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
html_js_files = ["wide.js"]
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


class Numbers(SphinxDirective):
    """
    ``numbers:: tcpapp.limits.Limits``: a table of the numbers of a class, or of its choices, made of its fields.

    A number that has an option is shown by that; others, which are of clients alone, by their names.
    """

    required_arguments = 1

    def run(self) -> list[Node]:
        """Docutils calls it."""
        rows = [self.row(each) for each in fields(locate(self.arguments[0]))]
        lines = [".. list-table::", "   :header-rows: 1", "   :class: numbers", ""]
        for row in [("name", "default", "what", "why" if rows[0][3] else "instead"), *rows]:
            lines += [f"   {' ' if number else '*'} - {cell}" for number, cell in enumerate(row)]
        return self.parse_text_to_nodes("\n".join(lines))

    def row(self, field: Any) -> tuple[str, str, str, str]:
        """What a field is called, its default, what it is, and where the number comes from or what else there is."""
        what = field.metadata
        option = field.name.replace("_", "-")
        name = f"--{option}" if option in OPTIONS and OPTIONS[option].field is field else field.name
        if choices := what.get("choices"):
            words = {True: "on", False: "off"}
            others = ", ".join(f"``{words.get(each, each)}``" for each in choices if each != field.default)
            return f"``{name}``", f"``{words.get(field.default, field.default)}``", plain(what["what"]), others
        default = f"{field.default:,} {what['unit']}".replace(".0 ", " ")
        zero = f" (0: {what['zero']})" if what["zero"] else ""
        return f"``{name}``", default, plain(what["what"] + zero), plain(what["why"])


def plain(text: str) -> str:
    """A text in which reStructuredText finds no markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.add_directive("numbers", Numbers)
    app.connect("missing-reference", link_by_last_name)
