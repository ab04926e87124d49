"""Which heads there is memory for, said before anything is computed."""

from collections.abc import Sequence

from frozenhead.commands.choices import Choice
from frozenhead.commands.gathering import FeatureRows
from frozenhead.commands.memory import gibibytes, machine_memory
from frozenhead.commands.tables import text_bytes
from frozenhead.heads import SoftmaxHead
from frozenhead.runs import Run

PART = 2
"""A head may take one part in so many of memory."""

TEXT_FACTOR = 30
"""Bytes that `tfidf` takes for each byte of text, about: 31 and 50 were measured on 400,000 and 100,000 texts of 90
bytes at random, in which hardly any pair of words stands twice. So it is refused only beyond all of memory."""

INSTEAD = {
    "logreg": "softmax has the same objective and reads vectors by blocks",
    "svm": "softmax and ridge are linear too and read vectors by blocks",
    "knn": "centroid reads vectors by blocks",
    "softmax": "dense and ridge take less for many classes",
    "tfidf": "softmax or dense on the vectors read them by blocks",
}


def without_room(choices: Sequence[Choice], feature: FeatureRows, *, train: int, classes: int) -> dict[str, str]:
    """Heads on vectors that would not fit memory, each with the reason; vectors that do fit it refuse none.

    Parameters
    ----------
    choices : sequence of Choice
    feature : FeatureRows
    train : int
        Training rows.
    classes : int
        K.
    """
    if not feature.large:
        return {}
    reasons = {}
    for choice in choices:
        head, name = choice.candidates[0], choice.name
        needed = 4 * train * feature.dim * head.copies
        if isinstance(head, SoftmaxHead):
            needed = 8 * train * (1 if classes == 2 else classes)
        if choice.takes == "vectors" and needed > machine_memory() // PART:
            what = f"{train:,} x {feature.dim} vectors" if head.copies else f"the scores of {train:,} rows"
            found = f"needs {gibibytes(needed)} in memory for {what}, more than half of {gibibytes(machine_memory())}"
            reasons[name] = f"{name} {found}; {INSTEAD[name]}."
    return reasons


def texts_without_room(choices: Sequence[Choice], run: Run) -> dict[str, str]:
    """The same for heads that read the texts."""
    names = [choice.name for choice in choices if choice.name == "tfidf"]
    needed = TEXT_FACTOR * text_bytes(run) if names else 0
    if needed <= machine_memory():
        return {}
    found = f"needs about {gibibytes(needed)} in memory for its words, more than {gibibytes(machine_memory())}"
    return {name: f"{name} {found}; {INSTEAD[name]}." for name in names}
