"""What a folder's sentence-transformers files say: where its transformer is, and how it makes one vector of a text.

Such a folder has a modules.json that lists a Transformer, a Pooling and what follows them. It is read as data: nothing
that it names is imported, and its paths may not leave the folder. Format: sentence-transformers 2 to 6.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from frozenhead.embedder.pooling import Pooling
from frozenhead.errors import EncoderUnfit, EncoderUntrusted

MODULES = "modules.json"
MODEL_CONFIG = "config_sentence_transformers.json"
# Old versions named the transformer's settings by its architecture; the first that is there counts.
_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TRANSFORMER_CONFIGS = tuple(f"sentence_{kind}_config.json" for kind in _KINDS)

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLINGS: dict[Any, Pooling] = {"cls": "cls", "max": "max", "mean": "mean"}

# Settings of the transformer with the only values that leave its last states as they are.
_PLAIN_SETTINGS: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
_HONOURED_SETTINGS = {"max_seq_length", "do_lower_case", "unpad_inputs", *_PLAIN_SETTINGS}
_WAY_OUT = "--pooling mean (or cls) gives the encoder's own states without what these files add."


@dataclass(frozen=True, kw_only=True)
class SentenceModules:
    """How sentence-transformers would make a vector of a text.

    Attributes
    ----------
    pooling : {"cls", "mean", "max"}
    normalize : bool
        Whether vectors are scaled to length 1.
    max_length : int or None
        Tokens kept, special tokens included; None is the encoder's own limit.
    prefix : str
        Put before every text: the folder's default prompt.
    refusal : str or None
        Why frozenhead cannot give these vectors. The other fields then mean nothing.
    """

    pooling: Pooling = "mean"
    normalize: bool = False
    max_length: int | None = None
    prefix: str = ""
    refusal: str | None = None


def transformer_folder(folder: Path, model: str) -> Path:
    """Where the transformer's config, weights and tokenizer are: `folder`, or the folder in it that modules.json names.

    Raises
    ------
    EncoderUntrusted
        A path in modules.json leaves the folder.
    """
    try:
        modules = _read_modules(folder)
    except EncoderUnfit:
        return folder  # modules.json is damaged; where the transformer is, the folder itself may show
    paths = [_inside(module.get("path"), folder, model) for module in modules]
    if not modules or _kind(modules[0]) != "Transformer" or not (folder / paths[0] / "config.json").is_file():
        return folder
    return folder / paths[0]


def read_modules(folder: Path, model: str) -> SentenceModules | None:
    """What the sentence-transformers files of `folder` say; None if it has no modules.json."""
    if not (folder / MODULES).exists():
        return None
    transformer = transformer_folder(folder, model)  # first: no path below may leave the folder
    try:
        pooling, normalize = _follow(_read_modules(folder), folder)
        length, prefix = _length(transformer), _default_prompt(folder)
        return SentenceModules(pooling=pooling, normalize=normalize, max_length=length, prefix=prefix)
    except EncoderUnfit as refused:
        return SentenceModules(refusal=f"{model}: {refused}.\n{_WAY_OUT}")


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    """The entries of modules.json; none if there is no such file. Raises `EncoderUnfit` if it is damaged."""
    if not (folder / MODULES).exists():
        return []
    modules = _read_json(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise EncoderUnfit(f"its {MODULES} is not a list of modules")
    return modules


def _follow(modules: list[dict[str, Any]], folder: Path) -> tuple[Pooling, bool]:
    """The pooling, and whether it is normalised, of a Transformer, a Pooling and any number of Normalize."""
    kinds = [_kind(module) for module in modules]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise EncoderUnfit(f"its {MODULES} has a module {unknown[0]}, which frozenhead does not compute")
    if kinds[:2] != ["Transformer", "Pooling"] or "Pooling" in kinds[2:] or "Transformer" in kinds[2:]:
        raise EncoderUnfit(f"its {MODULES} lists {', '.join(kinds) or 'nothing'}, not one Transformer and one Pooling")
    for module in modules[2:]:
        config = _optional(folder / str(module.get("path")) / "config.json")
        for key in ("module_input_name", "module_output_name"):
            if config.get(key) not in (None, "sentence_embedding"):
                raise EncoderUnfit(f"its module Normalize works on {config[key]}, not on the vector")
    return _pooling(folder / str(modules[1].get("path")) / "config.json"), len(modules) > 2


def _pooling(path: Path) -> Pooling:
    config = _object(_read_json(path), path)
    modes = config.get("pooling_mode", [mode for flag, mode in _FLAGS.items() if config.get(flag)] or "mean")
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or str(modes[0]) not in _POOLINGS:
        raise EncoderUnfit(f"its module Pooling takes {' and '.join(map(str, modes))}, not one of cls, mean and max")
    if config.get("include_prompt") is False:
        raise EncoderUnfit("its module Pooling leaves the prompt's tokens out (include_prompt)")
    return _POOLINGS[str(modes[0])]


def _length(folder: Path) -> int | None:
    """The length in the transformer's settings. Raises `EncoderUnfit` if others of them change its states."""
    path = next((folder / name for name in TRANSFORMER_CONFIGS if (folder / name).exists()), None)
    if path is None:
        return None
    settings = _object(_read_json(path), path)
    changed = [key for key, value in settings.items() if key not in _HONOURED_SETTINGS and value]
    changed += [key for key, value in _PLAIN_SETTINGS.items() if settings.get(key, value) != value]
    if changed:
        raise EncoderUnfit(f"its {path.name} sets {changed[0]}, which frozenhead does not follow")
    if settings.get("do_lower_case") and not _lower_cases(folder):
        raise EncoderUnfit(f"its {path.name} wants texts in lower case (do_lower_case), and its tokenizer leaves them")
    length = settings.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise EncoderUnfit(f"its {path.name} has max_seq_length {length!r}")
    return length


def _lower_cases(folder: Path) -> bool:
    """Whether a tokenizer's own files say that it lower-cases, none of them otherwise."""
    asked = _optional(folder / "tokenizer_config.json").get("do_lower_case")
    path = folder / "tokenizer.json"
    done = _has_lowercase(_optional(path).get("normalizer")) if path.exists() else None
    return True in (asked, done) and False not in (asked, done)


def _has_lowercase(normalizer: Any) -> bool:
    if not isinstance(normalizer, dict):
        return False
    parts = normalizer.get("normalizers")
    if isinstance(parts, list):
        return any(map(_has_lowercase, parts))
    return normalizer.get("type") == "Lowercase" or normalizer.get("lowercase") is True


def _default_prompt(folder: Path) -> str:
    """The text that is put before every other unless one is asked for."""
    config = _optional(folder / MODEL_CONFIG)
    if config.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise EncoderUnfit(f"its {MODEL_CONFIG} says that it is a {config['model_type']}")
    if config.get("truncate_dim") is not None:
        raise EncoderUnfit(f"its {MODEL_CONFIG} cuts vectors (truncate_dim), which frozenhead does not")
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    if not isinstance(prompt, str):
        raise EncoderUnfit(f"its {MODEL_CONFIG} names {name!r} as default prompt, and has none of that name")
    return prompt


def _kind(module: dict[str, Any]) -> str:
    """`Pooling` for `sentence_transformers.models.Pooling`; another package's class by its whole name."""
    name = str(module.get("type"))
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _inside(path: Any, folder: Path, model: str) -> str:
    """`path` if it leads nowhere outside `folder`, by its words: the hub's cache itself is made of links."""
    if isinstance(path, str):
        windows = PureWindowsPath(path)
        if not (windows.anchor or PurePosixPath(path).anchor or ".." in windows.parts or "\0" in path):
            return path
    raise EncoderUntrusted(
        f"{folder / MODULES} names the path {path!r}: a module's files must be in the folder of {model} itself.\n"
        f"Remove {MODULES} to use the encoder without it, or download the checkpoint again."
    )


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file."""
    return _object(_read_json(path), path) if path.exists() else {}


def _object(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise EncoderUnfit(f"its {path.name} is not a JSON object")
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderUnfit(f"its {path.parent.name}/{path.name} cannot be read ({error})") from error
