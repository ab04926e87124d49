"""Which head of a run a command works with."""

from frozenhead.commands.belonging import checked_description
from frozenhead.errors import HeadNotFound
from frozenhead.heads.registry import nearest
from frozenhead.labels import shown
from frozenhead.runs import Run, StoredHead


def choose_head(run: Run, *, head: str | None = None, feature: str | None = None) -> StoredHead:
    """The head asked for; of several that fit, the best on validation.

    Raises
    ------
    HeadNotFound
        None fits; what there is is named, the nearest right name first.
    RunDamaged
        A head that fits is not the one that its place says, or its files are not what was written.
    """
    there = run.heads()
    fitting = [h for h in there if head in (None, h.head) and feature in (None, h.feature)]
    if not fitting:
        raise HeadNotFound(_lacking(run, there, head, feature))
    return min(fitting, key=lambda stored: _rank(run, stored))


def _rank(run: Run, stored: StoredHead) -> tuple[float, float]:
    """Best first: validation macro F1, then lower log loss. The test split chooses nothing."""
    checked_description(run, stored)
    val = stored.metrics().get("val")
    return (-val["macro_f1"], val["log_loss"]) if val else (0.0, 0.0)


def _lacking(run: Run, there: list[StoredHead], head: str | None, feature: str | None) -> str:
    names = ", ".join(f"{shown(h.head)} on {shown(h.feature)}" for h in there)
    wanted = f" {head or 'head'}{f' on {feature}' if feature else ''}"
    right = {h.head: None for h in there}, {h.feature: None for h in there}
    wrong = [(name, known) for name, known in zip((head, feature), right, strict=True) if name and name not in known]
    near = nearest(*wrong[0]) if wrong else ""
    has = f"It has: {names}." if there else "It has none yet."
    return f"{run.folder} has no trained{wanted}{near}. {has} Train one: frozenhead fit {run.folder}"
