"""The workers of a training on several hosts, as ``TF_CONFIG`` tells TensorFlow of them."""

import json
from collections.abc import Mapping

#: where TensorFlow, Kubernetes' operators and cloud services put the cluster
VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker")


def tf_config(workers: str, index: int) -> str:
    """The ``TF_CONFIG`` of one of several workers.

    Args:
        workers: "host:port,host:port,...", the same in all processes; the first is the chief.
        index: which of them this process is, from 0.

    Raises:
        ValueError: an address without a port, one that is there twice, or no such index.
    """
    addresses = [address.strip() for address in workers.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"--workers: {address!r} is not host:port")
        if addresses.count(address) > 1:
            raise ValueError(f"--workers: {address} is there twice; each process has its own")
    if not 0 <= index < len(addresses):
        raise ValueError(
            f"--worker is {index}, but {len(addresses)} workers are numbered 0 to "
            f"{len(addresses) - 1}"
        )
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def cluster_size(environment: Mapping[str, str]) -> int:
    """How many workers ``TF_CONFIG`` names; 1 without it.

    Raises:
        ValueError: it is no JSON of a cluster of workers with this process among them.
    """
    text = environment.get(VARIABLE)
    if not text:
        return 1
    try:
        found = json.loads(text)
        cluster = {job: list(found["cluster"][job]) for job in found.get("cluster", {})}
        task = found.get("task", {"type": None, "index": None})
        job, index = task["type"], int(task["index"]) if cluster else 0
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise ValueError(
            f'{VARIABLE} must be {{"cluster": {{"worker": ["host:port", ...]}}, '
            f'"task": {{"type": "worker", "index": 0}}}}, not {text!r}'
        ) from e
    if not cluster:
        return 1
    strange = sorted(set(cluster) - set(_JOBS))
    if strange:
        raise ValueError(
            f"{VARIABLE} has tasks of the kind {', '.join(strange)}; tfseg trains on workers, one "
            "of which may be called chief"
        )
    if job not in cluster or not 0 <= index < len(cluster[job]):
        raise ValueError(f"{VARIABLE} says that this is {job} {index}, which its cluster lacks")
    return sum(len(addresses) for addresses in cluster.values())
