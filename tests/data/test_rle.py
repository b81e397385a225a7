"""COCO's run lengths: by hand, against pycocotools, and damaged."""

import numpy as np
import pytest

from tfseg.data.rle import decode_rle, encode_rle


def test_by_hand():
    """Down the columns, outside first: 1 out, 2 in, 3 out."""
    expected = [[False, True, False], [True, False, False]]
    mask = decode_rle({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)
    # small numbers are their own digits
    np.testing.assert_array_equal(decode_rle({"size": [2, 3], "counts": "123"}, (2, 3)), expected)
    # the fourth number is the difference to the second one: runs 1 2 1 1 1
    mask = decode_rle({"size": [2, 3], "counts": "121O0"}, (2, 3))
    np.testing.assert_array_equal(mask, [[False, True, True], [True, False, False]])


def test_all_inside():
    assert decode_rle({"size": [2, 2], "counts": [0, 4]}, (2, 2)).all()


@pytest.mark.parametrize("seed", range(20))
def test_against_pycocotools(seed):
    cocomask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    size = tuple(int(n) for n in rng.integers(1, 400, 2))
    mask = rng.random(size) < rng.random() ** 3
    rle = cocomask.encode(np.asfortranarray(mask, np.uint8))
    rle["counts"] = rle["counts"].decode()
    np.testing.assert_array_equal(decode_rle(rle, size), mask)
    own = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(own, size), mask)
    assert cocomask.frPyObjects(own, *size)["counts"].decode() == rle["counts"]


def test_encoding_by_hand():
    assert encode_rle(np.array([[0, 1, 0], [1, 0, 0]], bool)) == {
        "size": [2, 3],
        "counts": [1, 2, 3],
    }
    assert encode_rle(np.ones((2, 2), bool))["counts"] == [0, 4]
    assert encode_rle(np.zeros((2, 2), bool))["counts"] == [4]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [3, 2], "counts": "123"}, r"the RLE has size \[3, 2\], its image \[2, 3\]"),
        ({"counts": "123"}, "the RLE has size None"),
        ({"size": [2, 3]}, "counts must be a string or a list of integers"),
        ({"size": [2, 3], "counts": [1.0, 5]}, "counts must be a string or a list of integers"),
        ({"size": [2, 3], "counts": [1, 2]}, "runs do not fill 2 x 3 pixels"),
        ({"size": [2, 3], "counts": [1, 2, 4]}, "runs do not fill 2 x 3 pixels"),
        ({"size": [2, 3], "counts": [7, -1]}, "runs do not fill 2 x 3 pixels"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62, 6]}, "runs do not fill"),
        ({"size": [2, 3], "counts": [6, 2**64]}, "runs do not fill"),
        ({"size": [2, 3], "counts": "12"}, "runs do not fill 2 x 3 pixels"),
        ({"size": [2, 3], "counts": ""}, "string is damaged"),
        ({"size": [2, 3], "counts": "12\u00e4"}, "runs do not fill|string is damaged"),
        ({"size": [2, 3], "counts": "12S"}, "string is damaged"),  # another digit should follow
        ({"size": [2, 3], "counts": "1 3"}, "string is damaged"),
        ({"size": [2, 3], "counts": "oooooooo0"}, "number of more than 32 bits"),
    ],
)
def test_damage_is_found(rle, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(rle, (2, 3))
