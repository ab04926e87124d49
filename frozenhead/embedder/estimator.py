"""`Embedder`: texts in, cached vectors out, as a scikit-learn transformer."""

import functools
import os
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from frozenhead.cache import VectorCache, distinct_keys, text_keys
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.compute import embed_texts
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.settings import EmbedSettings, decide, follow_folder, space_of
from frozenhead.errors import CacheDamaged, DataError, SpaceMismatch


class Embedder(TransformerMixin, BaseEstimator):
    """Frozen encoder as a transformer: each text is embedded once, ever, and read from the cache after that.

    Parameters
    ----------
    model : str or path
        `minilm`, a checkpoint folder, or a hub id.
    pooling : {"pooler", "cls", "mean", "max", "last4", "auto"}
        `pooler` is `pooler_output`, `cls` is `last_hidden_state[:, 0]`: different numbers. `last4` joins the last four
        layers' [CLS] states. `auto` does what the folder's sentence-transformers files say.
    layer : int
        Which layer's states are pooled: -1 the last, -2 the one before, ...; 0 the embeddings.
    max_length : int, optional
        Tokens kept, special tokens included; default the encoder's own limit.
    prefix : str, optional
        Put before every text, such as `query: `; default none, or with pooling `auto` the folder's default prompt.
    normalize : bool, optional
        Scale vectors to length 1; default no, or with pooling `auto` what the folder says.
    long : {"cut", "windows"}
        Longer texts are cut, or read in overlapping windows whose vectors are averaged.
    precision : {"auto", "fp32", "bf16", "fp16"}
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    backend : {"auto", "torch", "openvino"}
    cache_dir : path or URL, optional
        Default: `FROZENHEAD_CACHE_DIR`, else the user's cache folder.
    space : str, optional
        The id of the space that a head was trained on: vectors of another one are refused, whatever made it another.

    Notes
    -----
    `__init__` only stores, and `fit` learns nothing: the encoder is loaded when a vector is first missing.
    Copies made by `clone` or pickling carry no weights.

    Examples
    --------
    >>> from frozenhead import DenseHead, Embedder      # doctest: +SKIP
    >>> Pipeline([("embed", Embedder("minilm", pooling="mean")), ("head", DenseHead())])   # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        pooling: str = "pooler",
        layer: int = -1,
        max_length: int | None = None,
        prefix: str | None = None,
        normalize: bool | None = None,
        long: str = "cut",
        precision: str = "auto",
        device: str = "auto",
        backend: str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        space: str | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.layer = layer
        self.max_length = max_length
        self.prefix = prefix
        self.normalize = normalize
        self.long = long
        self.precision = precision
        self.device = device
        self.backend = backend
        self.cache_dir = cache_dir
        self.space = space

    def fit(self, X: Iterable[str], y: ArrayLike | None = None) -> "Embedder":  # noqa: ARG002 (scikit-learn's signature)
        """Check that X holds texts. Nothing is learned and no encoder is loaded."""
        check_texts(X)
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Vectors of texts.

        Parameters
        ----------
        X : iterable of str (N,)
            List, tuple, object array, pandas Series, pyarrow array, or a table of one column.

        Returns
        -------
        float32 array (N, D)

        Raises
        ------
        TypeError
            X is a bare string, a mapping, a set or a table of several columns, or a row is not a string, such as a
            missing one (its index is named).
        DataError
            A row holds half a surrogate pair, which no tokenizer reads (its index is named).
        SpaceMismatch
            The vectors would be of another space than `space`.
        EncoderError, StorageError
            See `frozenhead.errors`.
        """
        texts = check_texts(X)
        checkpoint = find_checkpoint(self.model)
        settings = decide(self._settings(), checkpoint)
        cache = self._cache()
        store = cache.space(space_of(checkpoint, settings.poolings[0], settings))
        if self.space is not None and self.space != store.space.id:
            raise SpaceMismatch(
                f"The vectors of {self.model} are of the space {store.space.id[:12]}, expected {self.space[:12]}: its "
                "files or the settings changed.\nBring them back, or use a head that was trained on these vectors."
            )
        every = text_keys(texts, prefix=settings.prefix or "")
        first, inverse = distinct_keys(every)
        keys = every[first]
        lookup = store.lookup(keys)
        if not lookup.found.all():
            encoder = functools.partial(self._encoder, checkpoint, settings)
            embed_texts(checkpoint, texts, keys=every, settings=settings, cache=cache, encoder=encoder)
            lookup = store.lookup(keys)
        if lookup.vectors is None or not lookup.found.all():
            raise CacheDamaged(f"Vectors just written to {cache.folder} cannot be read back. Check that disk.")
        return lookup.vectors.astype(np.float32, copy=False)[inverse]

    def fit_transform(self, X: Iterable[str], y: ArrayLike | None = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Return `transform(X)`, reading X once, so that it may be a generator."""
        return self.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """`embedder0` ... `embedder<D-1>`."""
        checkpoint = find_checkpoint(self.model)
        dim = checkpoint.dim_of(follow_folder(self._settings(), checkpoint).poolings[0])
        return np.asarray([f"embedder{i}" for i in range(dim)], dtype=object)

    def _settings(self) -> EmbedSettings:
        return EmbedSettings(
            poolings=(self.pooling,),  # type: ignore[arg-type]  # checked by EmbedSettings
            layer=self.layer,
            max_length=self.max_length,
            prefix=self.prefix,
            normalize=self.normalize,
            long=self.long,  # type: ignore[arg-type]
            precision=self.precision,  # type: ignore[arg-type]
            device=self.device,
            backend=self.backend,  # type: ignore[arg-type]
        )

    def _cache(self) -> VectorCache:
        """One cache object per folder, so that a shard is verified once per estimator and not once per call."""
        known: VectorCache | None = self.__dict__.get("_open_cache")
        wanted = VectorCache(self.cache_dir)
        if known is None or known.folder != wanted.folder:
            known = self._open_cache = wanted
        return known

    def _encoder(self, checkpoint: Checkpoint, settings: EmbedSettings) -> Encoder:
        """The loaded encoder, loaded again if the checkpoint's files or the settings are not what they were."""
        loaded: tuple[Any, Encoder] | None = self.__dict__.get("_loaded")
        wanted = (checkpoint.files, settings)
        if loaded is None or loaded[0] != wanted:
            loaded = self._loaded = (wanted, Encoder(checkpoint, settings, cache_folder=self._cache().folder))
        return loaded[1]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_loaded", "_open_cache")}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def check_texts(X: Iterable[str]) -> list[str]:
    """Texts as a list.

    Raises `TypeError` for what is not one column of texts and for a row that is no string, `DataError` for one that
    has no UTF-8 form; the first such row is named.
    """
    if isinstance(X, str | bytes):
        raise TypeError("X is one string; pass a list of texts: [text].")
    column = _one_column(X)
    if isinstance(X, Mapping | Set) or not isinstance(column, Iterable):
        raise TypeError(f"X is a {type(X).__name__}, not rows in an order; pass a list of texts.")
    # Rows of pyarrow's arrays are its own scalars; its lists hold strings.
    texts = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Row {i} of X is {text!r} ({type(text).__name__}); every row must be a string.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"Row {i} of X is not Unicode: half a surrogate pair, {text[error.start]!r}, at character "
                f"{error.start + 1}. Remove it, or decode the text again."
            ) from error
    return texts


def _one_column(X: Any) -> Any:
    """X itself if it has one dimension; the column of a table that has one."""
    shape: tuple[int, ...] = getattr(X, "shape", (0,))
    if len(shape) == 1:
        return X
    if len(shape) != 2 or shape[1] != 1:
        raise TypeError(f"X has the shape {tuple(shape)}; pass one column of texts.")
    if hasattr(X, "iloc"):  # pandas
        return X.iloc[:, 0]
    return X.column(0) if hasattr(X, "column") else X[:, 0]  # pyarrow, numpy
