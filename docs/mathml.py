"""Makes MathML of the equations of the site: a hook of MkDocs.

pymdownx.arithmatex finds `$…$` and `$$…$$` in a page, and this replaces them. Browsers show MathML
by themselves, so the site needs no script and no fonts for its equations.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[([](.*?)\\[)\]]</\1>', re.DOTALL)
FUNCTION = re.compile(r"<m[io][^>]*>(\w\w+)</m[io]>(<mo)?")  # such as log, and a bracket after it


def on_page_content(html: str, **about: Any) -> str:
    """The HTML of a page with its equations as MathML."""
    return EQUATION.sub(mathml, html)


def mathml(equation: re.Match[str]) -> str:
    """An equation as MathML.

    Raises:
        ValueError: it has a command that is not known.
    """
    kind, latex = equation[1], unescape(equation[2])
    made = convert(latex, display="block" if kind == "div" else "inline")
    if "\\" in made:
        raise ValueError(f"an equation must have commands that latex2mathml knows, got {latex}")
    return FUNCTION.sub(spaced, made)


def spaced(function: re.Match[str]) -> str:
    """The name of a function, with the spaces round it that TeX sets."""
    name, bracket = function[1], function[2] or ""
    after = "0" if bracket else "0.17em"
    return f'<mo form="prefix" lspace="0.17em" rspace="{after}">{name}</mo>{bracket}'
