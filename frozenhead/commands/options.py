"""What `embed` is asked to do: given by name, else by a recipe, else by default."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frozenhead.corpus import CorpusOptions
from frozenhead.embedder import EmbedSettings
from frozenhead.embedder.pooling import POOLINGS
from frozenhead.errors import UsageError
from frozenhead.fleet import RayOptions, Share

LONGEST_NAME = 64  # it becomes a file name
MOST_VIEWS = 10_000

DEFAULT_MODEL = "minilm"
LOCAL = "local"
ENGINES = (LOCAL, "ray")
AUTO = "auto"

# What the published notebook fixes; options given by name win over it.
RECIPES: dict[str, dict[str, Any]] = {
    "notebook": {
        "model": "bert-base-uncased",
        "pooling": "pooler",
        "max_length": 25,
        "precision": "fp32",
        "split": "0.7/0.15/0.15",
        "seed": 2018,
    }
}


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """What `embed` is asked to do.

    Parameters
    ----------
    data : str
        Path of the table, or `-`.
    out : Path
        The run folder.
    corpus : CorpusOptions
    model : str
        `minilm`, a checkpoint folder, or a hub id.
    revision : str, optional
    name : str, optional
        What the encoder is called in this run; default from `model`.
    settings : EmbedSettings
    auto_length : bool
        Choose `max_length` by the texts: the shortest power of two that cuts under 1 % of them.
    views : int
        Dropout views of the training rows, computed beside the eval-mode vectors.
    view_seed : int, optional
        Of their masks; default that of the views the run has, else that of the split.
    cache_dir : path or URL, optional
    worker : Share, optional
        Embed the keys of this share alone, and make no run.
    ray : RayOptions, optional
        Have Ray compute what the cache lacks.
    devices : tuple of str
        Several devices, one process on each; empty: in this process, on that of the settings.
    recipe : str, optional
        Recorded in the run.
    overwrite : bool
        Replace a run that holds other data.
    dry_run : bool
        Say what would be computed, and compute and write nothing.
    stream : bool, optional
        Read the data part by part, in little memory; default: if it is large.
    command : str
        The command line, recorded in the run.
    """

    data: str
    out: Path
    corpus: CorpusOptions = field(default_factory=CorpusOptions)
    model: str = DEFAULT_MODEL
    revision: str | None = None
    name: str | None = None
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    auto_length: bool = False
    views: int = 0
    view_seed: int | None = None
    cache_dir: str | Path | None = None
    worker: Share | None = None
    devices: tuple[str, ...] = ()
    ray: RayOptions | None = None
    recipe: str | None = None
    overwrite: bool = False
    dry_run: bool = False
    stream: bool | None = None
    command: str = "frozenhead embed"

    def __post_init__(self) -> None:
        if self.name is not None and len(self.name) > LONGEST_NAME:
            raise UsageError(f"--name has {len(self.name)} characters; at most {LONGEST_NAME}.")
        if self.name is not None and not self.name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"--name {self.name!r}: use letters, digits, - and _ only.")
        self._check_views()
        self._check_fleet()

    def _check_fleet(self) -> None:
        if self.views and self.worker is not None:
            raise UsageError(
                "Workers compute no dropout views. Leave --views to the `embed` that makes the run, after them."
            )
        if self.ray is not None and "-" in (self.data, str(self.corpus.val), str(self.corpus.test)):
            raise UsageError(
                "Engine ray reads files, folders and URLs, which every worker can open; not standard input."
            )
        if self.ray is not None and (self.worker is not None or self.devices or self.settings.device != AUTO):
            raise UsageError(
                "Engine ray chooses workers and devices itself: leave --worker and --device out. "
                "--gpus-per-worker 0 computes on CPUs."
            )
        for device in self.devices:
            if device == AUTO:
                raise UsageError("A list of devices has no auto: name each, as --device cuda:0,cuda:1.")
            replace(self.settings, device=device)  # raises for what is no device

    def _check_views(self) -> None:
        if not 0 <= self.views <= MOST_VIEWS:
            raise UsageError(f"--views is {self.views}; it takes 0 (none) to {MOST_VIEWS:,} dropout views.")
        if self.view_seed is not None and not self.views:
            raise UsageError("--view-seed is of dropout views, and none are asked for: give --views too.")
        if self.view_seed is not None and not 0 <= self.view_seed < 2**32:
            raise UsageError(f"--view-seed is {self.view_seed}; it takes a whole number from 0 to {2**32 - 1}.")
        if self.views and self.settings.backend == "openvino":
            raise UsageError(
                "Dropout views are computed by torch, not by openvino. Leave --backend out: the eval-mode vectors then "
                "still take the fastest, or pass --backend torch."
            )


def embed_options(
    *,
    data: str,
    out: Path | None,
    recipe: str | None,
    model: str | None,
    pooling: str | None,
    max_length: int | str | None,
    precision: str | None,
    backend: str,
    device: str,
    corpus: dict[str, Any],
    layer: int = -1,
    prefix: str | None = None,
    normalize: bool | None = None,
    revision: str | None = None,
    name: str | None = None,
    cache_dir: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    long: str = "cut",
    views: int = 0,
    view_seed: int | None = None,
    stream: bool | None = None,
    worker: str | None = None,
    engine: str = LOCAL,
    ray: RayOptions | None = None,
    command: str = "frozenhead embed",
) -> EmbedOptions:
    """Options from what was given by name, then the recipe, then the defaults."""
    if recipe is not None and recipe not in RECIPES:
        raise UsageError(f"There is no recipe {recipe!r}; there is: {', '.join(RECIPES)}.")
    base = RECIPES.get(recipe or "", {})

    def chosen(option: str, given: Any, default: Any) -> Any:
        return given if given is not None else base.get(option, default)

    split = {k: chosen(k, corpus[k], d) for k, d in (("split", "0.7/0.15/0.15"), ("seed", 2018))}
    length = chosen("max_length", max_length, None)
    devices = tuple(part.strip() for part in device.split(","))
    return EmbedOptions(
        data=data,
        out=out or default_run(data),
        recipe=recipe,
        model=chosen("model", model, DEFAULT_MODEL),
        corpus=CorpusOptions(**{**corpus, **split}),
        settings=EmbedSettings(
            poolings=_poolings(chosen("pooling", pooling, "pooler")),
            layer=layer,
            prefix=prefix,
            normalize=normalize,
            max_length=None if length in (None, AUTO) else _tokens(length),
            long=long,  # type: ignore[arg-type]  # checked by EmbedSettings
            precision=chosen("precision", precision, "auto"),
            backend=backend,  # type: ignore[arg-type]  # checked by EmbedSettings
            device=devices[0],
        ),
        auto_length=length == AUTO,
        views=views,
        view_seed=view_seed,
        revision=revision,
        name=name,
        cache_dir=cache_dir,
        worker=None if worker is None else Share.parse(worker),
        ray=_ray(engine, ray),
        devices=devices if len(devices) > 1 else (),
        overwrite=overwrite,
        dry_run=dry_run,
        stream=stream,
        command=command,
    )


def _ray(engine: str, options: RayOptions | None) -> RayOptions | None:
    """The options of engine ray; None for the local one, which has none."""
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}; choose {' or '.join(ENGINES)}.")
    if engine == LOCAL and options not in (None, RayOptions()):
        raise UsageError(
            "--address, --workers, --gpus-per-worker and --cpus-per-worker are of --engine ray: add it, or leave them."
        )
    return None if engine == LOCAL else options or RayOptions()


def _poolings(named: str) -> tuple[Any, ...]:
    """`pooler, mean` as the poolings; EmbedSettings checks their names."""
    poolings = tuple(part.strip() for part in named.split(","))
    if "" in poolings:
        raise UsageError(
            f"--pooling {named!r} leaves a name out. Give one, or several with commas between them: "
            f"{', '.join(POOLINGS)}, or {AUTO} alone."
        )
    return poolings


def _tokens(length: int | str) -> int:
    try:
        return int(length)
    except ValueError as error:
        raise UsageError(f"--max-length is {length!r}; give a number of tokens, or {AUTO}.") from error


def default_run(data: str) -> Path:
    """`runs/<name of the data>`: `runs/spam` for `texts/spam.csv.gz`."""
    name = "stdin" if data == "-" else Path(data).name.split(".")[0]
    return Path("runs") / (name or "data")
