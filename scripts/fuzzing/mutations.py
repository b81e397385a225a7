"""What accidents and attackers do to a file, as functions of a seed."""

import random
import re
from collections.abc import Sequence

#: Numbers at which code breaks: signs, widths, counts that overflow.
_EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -1]
_WORDS = [
    *("-1", "0", "1e400", "-1e400", "NaN", "Infinity", "99999999999999999999", "1e-400"),
    *("2147483648", "4294967296", "9223372036854775808", "9" * 5000, "null", "true", "[]", "{}"),
    *('""', '"x"', "2024-13-45", "0x", "1_0", ".inf", "!!python/object/apply:os.abort []"),
]
_NESTS = [(b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b""), (b"]\x94", b"")]


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    """Random bytes, few or many."""
    start = rng.randrange(len(data))
    data[start : start + rng.choice((1, 2, 4, 32))] = rng.randbytes(rng.choice((1, 2, 4, 32)))


def _extreme(data: bytearray, rng: random.Random) -> None:
    """A binary number becomes an extreme one."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = rng.choice(_EXTREMES) % 256**width
    start = rng.randrange(max(1, len(data) - width))
    data[start : start + width] = number.to_bytes(width, order)


def _word(data: bytearray, rng: random.Random) -> None:
    """A number or a name of a text becomes an extreme one."""
    places = [m.span() for m in re.finditer(rb"-?[\d.]+|\"[^\"]*\"|\w+", data)]
    if places:
        start, end = rng.choice(places)
        data[start:end] = rng.choice(_WORDS).encode()


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randint(1, 256)]
    data[start:start] = part * rng.choice((1, 2, 100))


def _nest(data: bytearray, rng: random.Random) -> None:
    opening, closing = rng.choice(_NESTS)
    depth, start = rng.choice((10, 1000, 30000)), rng.randrange(len(data))
    data[start:start] = opening * depth + closing * (depth if rng.random() < 0.5 else 0)


_KINDS = [_flip, _flip, _overwrite, _extreme, _extreme, _word, _truncate, _cut, _repeat, _nest]


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """A valid input after one to three mishaps; one time in ten it is spliced of two.

    Args:
        seeds: valid inputs.
        rng: decides all.
    """
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.1:
        other = rng.choice(seeds)
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((1, 1, 2, 3))):
        if data:
            rng.choice(_KINDS)(data, rng)
    return bytes(data)
