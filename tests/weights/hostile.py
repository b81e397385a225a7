"""Weight files that attackers and accidents make."""

import re

import numpy as np
import pytest

from tfseg.weights import WeightsError, read_weights


class Attack:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def assert_damage_is_refused(path, data, *, step, seed):
    """Files cut off at every ``step``-th byte raise, and mutated ones raise nothing else."""
    for end in range(0, len(data), step):
        path.write_bytes(data[:end])
        with pytest.raises(WeightsError, match=re.escape(path.name)):
            read_weights(path)
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(150):
        mutated = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            mutated[place] = random.integers(0, 256)
        path.write_bytes(mutated)
        try:
            read_weights(path)
        except WeightsError:
            refused += 1
    assert refused > 40
