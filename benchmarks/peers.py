"""What others do with the same texts. Each function loads a model and gives a function: texts -> float32 (N, D)."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[list[str]], NDArray[np.float32]]


def sentence_transformers(folder: Path, *, max_length: int, device: str, precision: str, batch: int) -> Encode:
    """`SentenceTransformer(folder).encode(texts, batch_size=batch)`. It sorts texts by their number of characters."""
    import torch
    from sentence_transformers import SentenceTransformer

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype}, local_files_only=True)
    model.max_seq_length = max_length

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(texts, batch_size=batch, show_progress_bar=False), np.float32)

    return encode


def pipeline(folder: Path, *, max_length: int, device: str, batch: int) -> Encode:
    """transformers' `pipeline("feature-extraction")`, in the given order. It gives no mask, so the state of [CLS]."""
    import torch
    import transformers

    cut = {"truncation": True, "max_length": max_length}
    extract = transformers.pipeline(
        "feature-extraction", model=str(folder), device=device, dtype=torch.float32, tokenize_kwargs=cut
    )

    def encode(texts: list[str]) -> NDArray[np.float32]:
        states = extract(texts, batch_size=batch, return_tensors=True)  # of each text (1, T, D), padded
        return np.stack([one[0, 0].numpy() for one in states])

    return encode


def padded_to_longest(folder: Path, *, max_length: int, device: str, batch: int) -> Encode:
    """The notebook's way: all texts padded to the longest of all, then batches of rows; `pooler_output`."""
    import torch

    model, tokenizer = _load(folder, "fp32", device)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        ids = tokenizer(texts, padding="longest", truncation=True, max_length=max_length, return_tensors="pt")
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch):
                part = {name: table[start : start + batch].to(device) for name, table in ids.items()}
                found.append(model(**part).pooler_output.cpu().numpy())
        return np.concatenate(found)

    return encode


def plain(folder: Path, *, max_length: int, device: str, precision: str, batch: int) -> Encode:
    """A transformers model over batches in the given order, each padded to its own longest; the mean of its tokens."""
    import torch

    model, tokenizer = _load(folder, precision, device)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch):
                ids = tokenizer(
                    texts[start : start + batch], padding=True, truncation=True, max_length=max_length,
                    return_tensors="pt",
                ).to(device)  # fmt: skip
                hidden = model(**ids).last_hidden_state.float()  # (B, T, D)
                found.append(_mean(hidden, ids["attention_mask"]).cpu().numpy())
        return np.concatenate(found)

    return encode


def onnxruntime(
    folder: Path, *, max_length: int, device: str, model: Path, batch: int | None = None, budget: int | None = None
) -> Encode:
    """onnxruntime on the exported model: batches of rows in the given order, or of `budget` tokens sorted by length."""
    import onnxruntime as ort
    from transformers import AutoTokenizer

    assert device == "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def encode(texts: list[str]) -> NDArray[np.float32]:
        rows = tokenizer(texts, truncation=True, max_length=max_length)
        found = None
        for part in _parts([len(ids) for ids in rows["input_ids"]], batch, budget):
            some = tokenizer.pad({name: [rows[name][i] for i in part] for name in rows}, return_tensors="np")
            (vectors,) = session.run(None, {name: some[name] for name in names})
            if found is None:
                found = np.empty((len(texts), vectors.shape[1]), np.float32)
            found[part] = vectors
        assert found is not None
        return found

    return encode


def _parts(lengths: list[int], batch: int | None, budget: int | None) -> list[list[int]]:
    if batch:
        return [list(range(i, min(i + batch, len(lengths)))) for i in range(0, len(lengths), batch)]
    assert budget
    parts: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if parts[-1] and lengths[i] * (len(parts[-1]) + 1) > budget:
            parts.append([])
        parts[-1].append(i)
    return parts


def export_onnx(folder: Path, path: Path) -> None:
    """The encoder with mean pooling as an ONNX model of any batch and length, by torch's exporter."""
    import torch

    model, _ = _load(folder, "fp32", "cpu")

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return _mean(output.last_hidden_state, attention_mask)

    ids, ones = torch.full((2, 9), 5), torch.ones(2, 9, dtype=torch.int64)
    ones[1, 7:] = 0
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=512)}
    logging.disable(logging.WARNING)  # what the exporter says about itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled().eval(), (ids, ones, torch.zeros_like(ids)), path, dynamo=True, verbose=False,
            input_names=["input_ids", "attention_mask", "token_type_ids"], dynamic_shapes=(axes, axes, axes),
        )  # fmt: skip
    logging.disable(logging.NOTSET)


def reference(folder: Path, texts: list[str], *, max_length: int, device: str) -> dict[str, NDArray[np.float32]]:
    """Vectors of each text alone, fp32: what all others are compared with, for each pooling."""
    import torch

    model, tokenizer = _load(folder, "fp32", device)
    found: dict[str, list[Any]] = {"mean": [], "cls": [], "pooler": []}
    with torch.inference_mode():
        for text in texts:
            output = model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt").to(device))
            found["mean"].append(output.last_hidden_state[0].mean(dim=0))
            found["cls"].append(output.last_hidden_state[0, 0])
            found["pooler"].append(output.pooler_output[0])
    return {pooling: torch.stack(rows).cpu().numpy() for pooling, rows in found.items()}


def threads() -> int:
    """As many as torch takes."""
    import torch

    return torch.get_num_threads()


def _load(folder: Path, precision: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True).eval().to(device)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _mean(hidden: Any, mask: Any) -> Any:
    real = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * real).sum(dim=1) / real.sum(dim=1)  # (B, D)
