"""Makes detectron.pkl, as Detectron does: with Python 2.7 and its NumPy (1.16)."""

import os

import cPickle as pickle
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))

blobs = {
    "conv1_w": np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1),
    "conv1_w_momentum": np.ones((2, 3, 2, 1), np.float32),
    "res_conv1_bn_s": np.array([0.5, -2.0], np.float32),
    "fpn_inner_res5_2_sum_w".decode("ascii"): np.arange(6, dtype=np.float32).reshape(3, 2).T,
    "double_big_endian": np.array([1.5, 1e300], ">f8"),
    "steps": np.array(2**40),
}
with open(os.path.join(HERE, "detectron.pkl"), "wb") as file:
    pickle.dump({"blobs": blobs, "cfg": "MODEL:\n  TYPE: x\n"}, file, pickle.HIGHEST_PROTOCOL)
