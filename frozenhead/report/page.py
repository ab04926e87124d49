"""The report as one HTML file that asks for nothing: one style sheet, one script, and the evidence as escaped JSON.

Imports figures (its type), page_view, truncation, words and labels. The words and the layout are in `templates/`; this
module gives them filters, writes the data of the row browser, and shuts every door that the page does not need.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from frozenhead.labels import shown
from frozenhead.report.cautions import copies_advice
from frozenhead.report.figures import Figures
from frozenhead.report.page_view import browser_rows, view
from frozenhead.report.truncation import fate, in_windows, longer, longer_share
from frozenhead.report.words import (
    SPLIT_NAMES,
    count,
    excess,
    many,
    p_is,
    p_value,
    percent,
    score,
    seconds,
    signed,
    signed_span,
    span,
)

# What must not stand in the page as it is: what could end the script tag or open a comment, what JavaScript of old took
# for the end of a line, halves of surrogate pairs, which UTF-8 cannot hold, and marks that turn the text's direction.
_UNSAFE = re.compile("[<>&\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")


def render(evidence: Mapping[str, Any], figures: Figures) -> str:
    """Return the report page.

    Parameters
    ----------
    evidence : mapping
        What `gather` returned: the content of report.json, format 2.
    figures : Figures
        What `draw` made of it. A figure that is None is left out.

    Returns
    -------
    str
        One HTML document, to be written as UTF-8. Every string of the evidence is escaped.
    """
    style, script = _source("page.css"), _source("page.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            view(evidence, figures),
            policy=content_policy(style, script),
            style=style,
            script=script,
            browser_data=json_island(browser_rows(evidence)),
        )
    )


@cache
def _environment() -> Environment:
    """The templates' surroundings, made once: to compile the templates takes longer than to fill them."""
    environment = Environment(
        loader=PackageLoader("frozenhead.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=score, percent=percent, count=count, seconds=seconds, shown=shown)
    environment.filters.update(copies_advice=copies_advice)
    environment.filters.update(span=span, signed=signed, signed_span=signed_span, p_value=p_value, p_is=p_is)
    environment.filters.update(split_name=SPLIT_NAMES.__getitem__, excess=excess)
    environment.globals.update(many=many)
    environment.filters.update(fate=fate, longer=longer, longer_share=longer_share)
    environment.tests.update(in_windows=in_windows)
    return environment


def content_policy(style: str, script: str) -> str:
    """Return the content security policy of a page with this one style sheet and this one script.

    Style attributes are allowed because matplotlib writes the colours of its SVG elements as such; no other sheet is.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{_digest(script)}'",
            f"style-src-elem 'sha256-{_digest(style)}'",
            "style-src-attr 'unsafe-inline'",
            "img-src data:",  # a large confusion table is a picture within its SVG
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def json_island(value: Any) -> str:
    r"""Return JSON that may stand in a script tag: no string in it can end the tag, open a comment or turn the text.

    >>> json_island(["</script><!--"])
    '["\\u003c/script\\u003e\\u003c!--"]'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Only strings hold such characters, so the escape is JSON's own.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _source(name: str) -> str:
    return resources.files("frozenhead.report").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
