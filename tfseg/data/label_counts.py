"""How often each class is among a split's labels."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from tfseg.data.sample import Reader


def count_labels(reader: Reader, *, progress: bool = True) -> np.ndarray:
    """Counts the pixels of each class; those that have the ignore label are left out.

    Args:
        reader: the samples; all of them have a mask.
        progress: show a progress bar.

    Returns:
        int64 (num_classes,).
    """
    count = len(reader.classes)

    def of_one(index: int) -> np.ndarray:
        mask = reader[index]["mask"]
        return np.bincount(mask[mask != reader.ignore_label], minlength=count)

    total = np.zeros(count, np.int64)
    with ThreadPoolExecutor() as pool:
        found = pool.map(of_one, range(len(reader)))
        bar = tqdm(found, "labels", len(reader), unit="image", disable=not progress, leave=False)
        for counts in bar:
            total += counts
    return total
