"""A page as its words and tags."""

import re
from html.parser import HTMLParser
from typing import Any

from frozenhead.report.page import render
from tests.report.drawing_examples import make_figures


class Reader(HTMLParser):
    """Tags, attributes and words of a page; what stands in scripts and styles is kept apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.sources: dict[str, list[str]] = {"script": [], "style": []}
        self._within = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._within = tag if tag in self.sources else ""

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        (self.sources[self._within] if self._within else self.words).append(data)

    @property
    def attributes(self) -> list[tuple[str, str]]:
        return [attribute for _, attributes in self.tags for attribute in attributes.items()]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(evidence: dict[str, Any]) -> str:
    return render(evidence, make_figures(evidence))


def section(page: str, name: str) -> str:
    """The words of one section, without what stands in its figures."""
    found = re.search(rf'<(section|header) id="{name}">.*?</\1>', page, re.DOTALL)
    assert found, f"no section {name}"
    return Reader(re.sub(r"<svg.*?</svg>", "", found[0], flags=re.DOTALL)).text
