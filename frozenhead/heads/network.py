"""The network of a dense head: the sizes of its layers, where each parameter lies, and what it starts from.

    z_l = a_l W_l + b_l ;  a_{l+1} = activation(z_l) ;  the last z are the scores

In training all parameters of a head lie in one row of float32 numbers. Every size in it is rounded up to 16 numbers, 64
bytes: then every matrix of every head begins where a cache line does, and a product has the same bits wherever
in a stack the head stands (without it torch's batched products do not). The added weights are 0 and stay 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LINE = 16
"""Float32 numbers in a cache line."""

ABSENT = -1e30
"""Score of the classes that rounding up adds: their probability is exactly 0."""


def rounded(n: int) -> int:
    """The next multiple of `LINE`."""
    return -(-n // LINE) * LINE


@dataclass(frozen=True)
class Network:
    """Sizes of a network: D, the hidden layers', K."""

    sizes: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The sizes in training."""
        return tuple(map(rounded, self.sizes))

    @property
    def places(self) -> list[tuple[slice, slice]]:
        """Of each layer: where its weights (padded in, padded out) and its biases lie in a row of parameters."""
        places, at = [], 0
        for inputs, outputs in pairwise(self.padded):
            between = at + inputs * outputs
            places.append((slice(at, between), slice(between, between + outputs)))
            at = between + outputs
        return places

    @property
    def length(self) -> int:
        """Numbers in a row of parameters."""
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.padded))

    def packed(self, parameters: Sequence["Tensor"]) -> "Tensor":
        """W1, b1, W2, b2, ... as one row (length,)."""
        import torch

        row = torch.zeros(self.length)
        for number, (weights, biases) in enumerate(self.places):
            W, b = parameters[2 * number : 2 * number + 2]
            row[weights].view(-1, self.padded[number + 1])[: W.shape[0], : W.shape[1]] = W
            row[biases][: len(b)] = b
        row[self.places[-1][1]][self.sizes[-1] :] = ABSENT
        return row

    def unpacked(self, row: "Tensor") -> list[NDArray[np.float32]]:
        """Copies of W1, b1, W2, b2, ... from one row (length,)."""
        parameters: list[NDArray[np.float32]] = []
        for number, (weights, biases) in enumerate(self.places):
            inputs, outputs = self.sizes[number : number + 2]
            W = row[weights].view(-1, self.padded[number + 1])[:inputs, :outputs]
            parameters += [W.numpy().copy(), row[biases][:outputs].numpy().copy()]
        return parameters


def initial_parameters(sizes: Sequence[int], generator: "torch.Generator") -> list["Tensor"]:
    """W1, b1, W2, b2, ... drawn as torch's `Linear` draws them: uniform in +-1/sqrt(inputs)."""
    import torch

    parameters = []
    for inputs, outputs in pairwise(sizes):
        bound = 1 / math.sqrt(inputs)
        drawn = [torch.rand(shape, generator=generator) for shape in ((inputs, outputs), (outputs,))]
        parameters += [values * (2 * bound) - bound for values in drawn]
    return parameters


def scores(X: NDArray[np.float32], parameters: Sequence[NDArray[np.float32]], activation: str) -> NDArray[np.float32]:
    """Scores (N, K) of vectors (N, D), without dropout."""
    values: NDArray[Any] = X
    for number in range(0, len(parameters), 2):
        values = values @ parameters[number] + parameters[number + 1]  # (N, units)
        if number + 2 < len(parameters):
            values = activated(values, activation)
    return values


def activated(values: NDArray[Any], activation: str) -> NDArray[Any]:
    """The activation of each value."""
    if activation == "relu":
        return np.asarray(np.maximum(values, 0))
    if activation == "tanh":
        return np.asarray(np.tanh(values))
    from scipy.special import erf

    return np.asarray(values * (1 + erf(values / values.dtype.type(math.sqrt(2)))) / 2)
