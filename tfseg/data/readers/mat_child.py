"""Reads the class labels of SBD's .mat files, in a process of its own.

SciPy trusts what a file says of itself: damaged ones make it crash. This program, which
`tfseg.data.readers.mat` starts, is what then ends. It imports nothing of tfseg.

On its standard input: paths, as lines of JSON. To each it answers on its standard output a line of
JSON, {"dtype", "shape"}, and the array's bytes, or {"refused": reason}.
"""

import json
import resource
import sys

import numpy as np
from scipy.io import loadmat


class Refused(Exception):
    """A file without the labels."""


def labels(path):
    """``GTcls.Segmentation`` of a file, an array of integers (H, W)."""
    try:
        found = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except NotImplementedError:
        raise Refused("is an HDF5 file of MATLAB 7.3; save it with -v7 as the release is") from None
    # SciPy's reader raises errors of many types on damaged files, and documents none.
    except Exception as error:
        raise Refused(f"is damaged or has no GTcls.Segmentation: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "iu":
        raise Refused("has a GTcls.Segmentation that is no matrix of integers")
    return np.ascontiguousarray(found, found.dtype.newbyteorder("<"))


def main(stream, out):
    """Answers until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in stream:
        try:
            found = labels(json.loads(line))
        except Refused as error:
            out.write(json.dumps({"refused": str(error)}).encode() + b"\n")
        else:
            told = {"dtype": found.dtype.str, "shape": found.shape}
            out.write(json.dumps(told).encode() + b"\n" + found.tobytes())
        out.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
