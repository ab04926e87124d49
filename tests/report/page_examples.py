"""Evidence of format 2 with every block filled, made from a seed: what the page's tests draw from.

The numbers need not be right, only complete and told apart: the page scores nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.report.examples import HOSTILE
from tests.report.head_examples import make_entry
from tests.report.row_examples import make_conflicts, make_copies, make_label_issues, make_map, make_mistakes

HEADS = ("logreg", "dense", "tfidf", "majority")


Json = dict[str, Any]


def make_evidence(
    classes: Sequence[str] = ("ham", "spam"),
    *,
    heads: Sequence[str] = HEADS,
    rows: int = 400,
    mistakes: int = 60,
    texts: Sequence[str] = ("win a prize now", "see you at ten", "call me back please"),
    name: str = "minilm.pooler",
    source: str = "messages.csv",
    seed: int = 0,
) -> Json:
    """A whole report.json: `rows` rows, of which a quarter is the test split, and `mistakes` rows to look through."""
    rng = np.random.default_rng(seed)
    counts = {label: rows // len(classes) for label in classes}
    judged = sum(max(n // 4, 1) for n in counts.values())
    features = [name if head not in {"tfidf", "majority"} else "text" for head in heads]
    entries = [
        make_entry(rng, classes, judged, head=head, feature=feature, rank=rank)
        for rank, (head, feature) in enumerate(zip(heads, features, strict=True))
    ]
    names = [{"feature": entry["feature"], "head": entry["head"]} for entry in entries]
    baseline = next((one for one in names if one["head"] == "tfidf"), None)
    return {
        "format": 2,
        "dataset": _dataset(rng, classes, counts, judged, feature=name, source=source),
        "selected": names[0],
        "baseline": baseline,
        "heads": entries,
        "comparisons": _comparisons(rng, names, baseline, judged),
        "comparisons_without_copies": _comparisons(rng, names, baseline, judged - 9),
        "copies": make_copies(classes, judged, texts, feature=name),
        "conflicts": make_conflicts(classes, texts),
        "mistakes": make_mistakes(rng, classes, texts, mistakes, name=names[0], heads=len(heads)),
        "label_issues": make_label_issues(classes, texts, names[0]),
        "map": make_map(rng, classes, name),
        "advice": {
            "baselines": "frozenhead fit run --head tfidf,majority",
            "group": f"frozenhead embed '{source}' --out run-grouped --group-duplicates",
        },
        "run": {
            "command": f"frozenhead embed '{source}' --out run",
            "created": "2026-05-04T10:11:12Z",
            "versions": {"python": "3.11.9", "frozenhead": "0.1.0"},
            "columns": {"text": texts[0], "label": classes[0]},
            "options": {"precision": "fp32", "max_length": 25},
            "report_command": "frozenhead report run",
        },
        "vectors": {"feature": name, "reason": None},
    }


def _dataset(
    rng: np.random.Generator,
    classes: Sequence[str],
    counts: dict[str, int],
    judged: int,
    *,
    feature: str,
    source: str,
) -> Json:
    per_split = {
        label: {"train": n // 2, "val": n // 4, "test": max(n // 4, 1), "all": n} for label, n in counts.items()
    }
    cut = {
        label: {"rows": n, "truncated": n // (2 + k), "share": 1 / (2 + k)}
        for k, (label, n) in enumerate(counts.items())
    }
    total = sum(counts.values())
    truncation = {"max_length": 25, "rows": total, "truncated": total // 3, "share": 1 / 3, "per_class": cut}
    return {
        "rows": total,
        "classes": list(classes),
        "class_counts": per_split,
        "split_counts": {split: sum(n[split] for n in per_split.values()) for split in ("train", "val", "test")},
        "split_rule": "two stratified draws, 0.7/0.15/0.15, seed 2018",
        "judged_split": "test",
        "class_weights": {label: float(0.5 + rng.random()) for label in classes},
        "duplicates": {"distinct_texts": total - 12, "duplicate_rows": 12, "conflicting_texts": 1},
        "leakage": {
            "test_rows": judged,
            "test_rows_in_train": 4,
            "val_rows": judged,
            "val_rows_in_train": 3,
            "per_class": {label: {"test_rows": n["test"], "in_train": 1} for label, n in per_split.items()},
        },
        "truncation": {feature: truncation},
        "lengths": {
            f"{source}@25": {
                "encoder": feature,
                "max_length": 25,
                "features": [feature],
                "truncation": truncation,
                "per_class": {label: {"10": n // 2, "30": n - n // 2} for label, n in counts.items()},
            }
        },
        "sources": [{"path": source, "sha256": "5f" * 32, "role": "data", "rows": total}],
    }


def _comparisons(rng: np.random.Generator, names: Sequence[Json], baseline: Json | None, rows: int) -> Json | None:
    if len(names) < 2:
        return None

    def pair(a: Json, b: Json, against: str) -> Json:
        difference = -0.004 - 0.01 * float(rng.random())
        scores = {"a": 0.95, "b": 0.95 - difference, "difference": difference, "interval": [difference - 0.01, 0.002]}
        said = f"No difference between {a['head']} on {a['feature']} and {b['head']} that {rows} rows could show."
        return {
            "a": a,
            "b": b,
            "against": against,
            "accuracy": scores,
            "macro_f1": scores,
            "only_a_right": 4,
            "only_b_right": 9,
            "p_value": 0.27,
            "p_adjusted": 0.81,
            "verdict": "no difference",
            "sentence": said,
        }

    pairs = [pair(other, names[0], "best") for other in names[1:]]
    if baseline is not None:
        pairs += [pair(other, baseline, "baseline") for other in names if other not in (baseline, names[0])]
    settings = {"split": "test", "rows": rows, "level": 0.95, "draws": 2000, "seed": 2018, "correction": "holm"}
    return {**settings, "tests": len(pairs), "p_values_valid": True, "note": None, "pairs": pairs}


def hostile_page_evidence() -> Json:
    """Evidence in which every string that comes from outside is out to do harm."""
    bad = HOSTILE[0]
    evidence = make_evidence(
        HOSTILE, heads=(bad, "dense", "tfidf", "majority"), rows=400, texts=HOSTILE, name=HOSTILE[4], source=HOSTILE[5]
    )
    evidence["run"] = {"command": bad, "created": bad, "versions": {bad: bad}, "options": {bad: [bad]}}
    evidence["dataset"].update(split_rule=bad)
    evidence["dataset"]["sources"] = [{"path": f"{bad}\udcff", "sha256": bad, "role": bad, "rows": 1}]
    evidence["advice"] = {"baselines": bad, "group": bad}
    return evidence
