"""The fully connected CRF that refines class probabilities along the image's edges.

Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials
(2011), as DeepLab v1 and v2 and DeconvNet use it.
"""

from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

from tfseg.predict.lattice import PermutohedralLattice
from tfseg.predict.predictor import ImagePredictor, Progress
from tfseg.registry import suggest

Filter = Literal["lattice", "exact"]
Normalization = Literal["symmetric", "after"]

#: Probabilities below are taken for this: the logarithm of 0 would forbid a class whatever the
#: neighbours say. It is the value of pydensecrf's unary_from_softmax.
CLIP = 1e-5

#: The exact filter's matrix has this many rows and columns at most: 400 MB.
EXACT_PIXELS = 10_000

#: DeepLab v1: the parameters of the released configs; v2: those of deeplab-pytorch, which
#: reproduces the published scores of ResNet-101; DeconvNet: generate_EDeconvNet_CRF_results.m.
PRESETS: dict[str, dict[str, float]] = {
    "deeplab_v1": {
        "gaussian_sigma": 3,
        "gaussian_weight": 3,
        "bilateral_sigma_xy": 50,
        "bilateral_sigma_rgb": 10,
        "bilateral_weight": 5,
    },
    "deeplab_v2": {
        "gaussian_sigma": 1,
        "gaussian_weight": 3,
        "bilateral_sigma_xy": 67,
        "bilateral_sigma_rgb": 3,
        "bilateral_weight": 4,
    },
    "deconvnet": {
        "gaussian_sigma": 3,
        "gaussian_weight": 3,
        "bilateral_sigma_xy": 20,
        "bilateral_sigma_rgb": 3,
        "bilateral_weight": 5,
    },
}

#: From class probabilities float32 (N, C) to those that the pixels' neighbours have on average.
_Kernel = Callable[[np.ndarray], np.ndarray]


class DenseCRF:
    """Mean field inference in a CRF that joins every pair of pixels.

    A labelling x costs ``sum_i -log p_i(x_i) + sum_{i<j} m(x_i, x_j) k_ij``. The kernel k is the
    sum of a Gaussian of the pixels' distance and a bilateral one of their distance and colour
    difference, each times its weight; m is 1 for unlike labels unless it was learned. Each
    iteration updates all pixels at once (algorithm 1), a pixel's own term included, as in all
    released code.
    """

    def __init__(
        self,
        *,
        gaussian_sigma: float,
        gaussian_weight: float,
        bilateral_sigma_xy: float,
        bilateral_sigma_rgb: float,
        bilateral_weight: float,
        iterations: int = 10,
        compatibility: np.ndarray | None = None,
        normalization: Normalization = "symmetric",
        filter: Filter = "lattice",
    ):
        """Checks the parameters.

        Args:
            gaussian_sigma: standard deviation of the distance alone, pixels.
            gaussian_weight: of that kernel.
            bilateral_sigma_xy: standard deviation of the distance beside colours, pixels.
            bilateral_sigma_rgb: standard deviation of the colours, of 0..255.
            bilateral_weight: of that kernel.
            iterations: mean field updates.
            compatibility: float (C, C), the cost m of a pair of labels; None: Potts. Of a matrix
                that is not symmetric its symmetric part counts, as in the released code.
            normalization: "symmetric": kernels are divided by the square roots of both pixels'
                sums, as in Krähenbühl's code of 2013 and in pydensecrf; "after": by the receiving
                pixel's sum, as in his code of 2011, which DeepLab's release contains.
            filter: "lattice": the permutohedral lattice approximates the Gaussians, as all
                released code does; "exact": all pairs are summed, for up to EXACT_PIXELS pixels.

        Raises:
            ValueError: a sigma that is not positive, a negative weight, no iterations, an unknown
                normalization or filter, or a compatibility that is no finite square matrix.
        """
        sigmas = (gaussian_sigma, bilateral_sigma_xy, bilateral_sigma_rgb)
        if not all(0 < sigma < np.inf for sigma in sigmas):
            raise ValueError(f"standard deviations must be positive, not {sigmas}")
        weights = (gaussian_weight, bilateral_weight)
        if not all(0 <= weight < np.inf for weight in weights):
            raise ValueError(f"weights must be 0 or more, not {weights}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {iterations!r}")
        for value, known in ((normalization, Normalization), (filter, Filter)):
            if value not in get_args(known):
                raise ValueError(f"unknown {value!r}; {suggest(value, get_args(known))}")
        self._gaussian_sigma, self._gaussian_weight = gaussian_sigma, gaussian_weight
        self._bilateral_sigmas = (bilateral_sigma_xy, bilateral_sigma_rgb)
        self._bilateral_weight = bilateral_weight
        self._iterations = iterations
        self._compatibility = None if compatibility is None else _symmetric_part(compatibility)
        self._normalization, self._filter = normalization, filter

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The CRF of a publication.

        Args:
            name: one of PRESETS: "deeplab_v1", "deeplab_v2" or "deconvnet".
            changes: parameters that differ from it.

        Raises:
            ValueError: for an unknown name, or as the constructor.
        """
        if name not in PRESETS:
            raise ValueError(f"unknown CRF preset {name!r}; {suggest(name, PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Refines the class probabilities of one image.

        Args:
            image: uint8 (H, W, 3) RGB, or (H, W, 1) gray, which is taken as three equal channels.
            probabilities: float (H, W, C); below CLIP they are taken for CLIP.

        Returns:
            float32 (H, W, C), summing to 1 over the classes.

        Raises:
            ValueError: wrong shapes or dtypes, probabilities beyond 0..1, a compatibility of
                another number of classes, or too many pixels for the exact filter.
        """
        self._check(image, probabilities)
        classes = probabilities.shape[2]
        energy = -np.log(np.maximum(probabilities.reshape(-1, classes), CLIP, dtype=np.float32))
        kernels = self._kernels(image)
        refined = _softmax(-energy)
        for _ in range(self._iterations):
            message = kernels[0](refined)
            for kernel in kernels[1:]:
                message += kernel(refined)
            # Of Potts' matrix 1 - I, the 1 adds the same to all classes, which softmax ignores.
            if self._compatibility is not None:
                message = message @ -self._compatibility
            message -= energy
            refined = _softmax(message)
        return refined.reshape(probabilities.shape)

    def check_classes(self, classes: int) -> None:
        """Raises a ValueError if the compatibility is of another number of classes."""
        matrix = self._compatibility
        if matrix is not None and len(matrix) != classes:
            raise ValueError(
                f"the CRF's compatibility is of {len(matrix)} classes, the probabilities are of "
                f"{classes}"
            )

    def _check(self, image: np.ndarray, probabilities: np.ndarray) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ValueError(
                "the CRF's image is uint8 (H, W, 3) or (H, W, 1), this one "
                f"{image.dtype} {image.shape}"
            )
        found = f"{probabilities.dtype} {probabilities.shape}"
        if not np.issubdtype(probabilities.dtype, np.floating) or probabilities.ndim != 3:
            raise ValueError(f"the CRF's probabilities are float (H, W, C), these {found}")
        if probabilities.shape[:2] != image.shape[:2] or not probabilities.size:
            raise ValueError(f"the CRF's image is {image.shape}, but its probabilities are {found}")
        low, high = probabilities.min(), probabilities.max()
        if not (low >= 0 and high <= 1 + 1e-3):
            raise ValueError(f"probabilities are within 0..1, these reach from {low} to {high}")
        self.check_classes(probabilities.shape[2])
        pixels = image.shape[0] * image.shape[1]
        if self._filter == "exact" and pixels > EXACT_PIXELS:
            raise ValueError(
                f"the exact filter takes up to {EXACT_PIXELS} pixels, not {pixels}: use the lattice"
            )

    def _kernels(self, image: np.ndarray) -> list[_Kernel]:
        height, width = image.shape[:2]
        y, x = np.indices((height, width), np.float32).reshape(2, -1)
        colors = np.broadcast_to(image, (height, width, 3)).reshape(-1, 3).T.astype(np.float32)
        positions = np.stack([x, y])
        sigma_xy, sigma_rgb = map(np.float32, self._bilateral_sigmas)
        terms = [
            (positions / np.float32(self._gaussian_sigma), self._gaussian_weight),
            (np.concatenate([positions / sigma_xy, colors / sigma_rgb]), self._bilateral_weight),
        ]
        if self._filter == "lattice":
            return [_lattice_kernel(*term, self._normalization) for term in terms]
        matrix = sum(_exact_matrix(*term, self._normalization) for term in terms)
        return [lambda values: matrix @ values]


def _lattice_kernel(features: np.ndarray, weight: float, normalization: Normalization) -> _Kernel:
    """The normalised kernel of features (d, N) times its weight, on the lattice.

    The factors are part of the matrices, so that filtering is nothing but their products.
    """
    lattice = PermutohedralLattice(features)
    sums = lattice.filter(np.ones((features.shape[1], 1), np.float32))[:, 0]
    before, after = _factors(sums, weight, normalization)
    splat = _scaled_rows(lattice.interpolation, before).T
    slice_ = _scaled_rows(lattice.interpolation, after * np.float32(lattice.scale))

    def kernel(values: np.ndarray) -> np.ndarray:
        values = splat @ values
        for blur in lattice.blurs:
            values = blur @ values
        result: np.ndarray = slice_ @ values
        return result

    return kernel


def _exact_matrix(features: np.ndarray, weight: float, normalization: Normalization) -> np.ndarray:
    """The normalised kernel of features (d, N) times its weight, float32 (N, N)."""
    points = features.T
    matrix = np.empty((len(points), len(points)), np.float32)
    for start in range(0, len(points), 1000):  # the distances are float64
        rows = slice(start, start + 1000)
        matrix[rows] = np.exp(-0.5 * cdist(points[rows], points, "sqeuclidean"))
    before, after = _factors(matrix.sum(axis=1), weight, normalization)
    matrix *= before
    matrix *= after[:, None]
    return matrix


def _factors(
    sums: np.ndarray, weight: float, normalization: Normalization
) -> tuple[np.ndarray, np.ndarray]:
    """What values are multiplied by before and after the filter, float32 (N,) each.

    Args:
        sums: float32 (N,), the filtered ones.
        weight: the kernel's.
        normalization: which of them is to divide.
    """
    inverse = 1 / (sums + np.float32(1e-20))
    if normalization == "after":
        return np.ones_like(inverse), np.float32(weight) * inverse
    root = np.sqrt(inverse)
    return root, np.float32(weight) * root


def _scaled_rows(matrix: sparse.csr_array, factors: np.ndarray) -> sparse.csr_array:
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, written over the logits (N, C)."""
    # A maximum over rows is several times faster than one over few columns, a copy included.
    logits -= np.ascontiguousarray(logits.T).max(axis=0)[:, None]
    np.exp(logits, out=logits)
    logits /= np.einsum("nc->n", logits)[:, None]
    return logits


def _symmetric_part(compatibility: np.ndarray) -> np.ndarray:
    matrix = np.asarray(compatibility, np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(
            f"compatibility is a finite square matrix (C, C), this one has shape {matrix.shape}"
        )
    symmetric: np.ndarray = (matrix + matrix.T) / 2
    return symmetric


class RefinedPredictor:
    """A predictor whose probabilities a CRF refines.

    Attributes:
        network: the predictor's.
        num_classes: channels of the result.
    """

    def __init__(self, predictor: ImagePredictor, crf: DenseCRF):
        """Takes any predictor of semantic models.

        Args:
            predictor: what predicts.
            crf: what refines.

        Raises:
            ValueError: if the CRF's compatibility is of another number of classes.
        """
        crf.check_classes(predictor.num_classes)
        self.network, self.num_classes = predictor.network, predictor.num_classes
        self._predictor, self._crf = predictor, crf

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The refined class probabilities of one image; see `Predictor.__call__`."""
        return self._crf(image, self._predictor(image, progress))
