"""Training on several hosts: joining, what all must agree on, and what a lost one means."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseg.cluster import VARIABLE, cluster_size
from tfseg.data.pipeline import Share

#: seconds that a worker waits at the start for all others to be there
PATIENCE = 600.0

#: what TensorFlow raises where another worker does not answer
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
)


class WorkerLost(RuntimeError):
    """Another worker has died or cannot be reached: all must be started again."""


def join() -> tf.distribute.Strategy:
    """The strategy of all workers that ``TF_CONFIG`` names, once they are all there.

    TensorFlow wants it before anything else is computed. Where some worker does not come within
    `PATIENCE` seconds the process ends with a message and exit status 1: TensorFlow's waiting
    cannot be interrupted otherwise.

    Raises:
        ValueError: no ``TF_CONFIG``, or one that is not understood.
        WorkerLost: the workers did not come together.
    """
    size = cluster_size(os.environ)
    if not os.environ.get(VARIABLE):
        raise ValueError(
            f"train.strategy multi_worker needs {VARIABLE}, or `tfseg train --workers "
            "host:port,... --worker INDEX`"
        )
    waiting = threading.Timer(PATIENCE, _give_up, (size,))
    waiting.daemon = True
    waiting.start()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except _LOST as e:
        raise WorkerLost(f"the {size} workers did not come together: {_reason(e)}") from e
    finally:
        waiting.cancel()


def _give_up(size: int) -> None:
    print(
        f"Error: not all of the {size} workers were there after {PATIENCE:.0f} s; see that each "
        f"is started with the same {VARIABLE} (or --workers) and can reach the others' ports",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def own_share(strategy: tf.distribute.Strategy) -> Share:
    """Which of the workers this process is; the chief is the first."""
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict() if resolver is not None else {}
    if not jobs:
        return Share()
    index = resolver.task_id + (resolver.task_type == "worker" and len(jobs.get("chief", ())))
    return Share(index, sum(len(addresses) for addresses in jobs.values()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    return own_share(strategy).index == 0


@contextmanager
def own_folder(strategy: tf.distribute.Strategy, run_dir: Path) -> Iterator[Path]:
    """The run's folder for the chief; for other workers a temporary one, deleted at the end."""
    if is_chief(strategy):
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="tfseg-worker-") as folder:
        yield Path(folder)


def _reason(e: tf.errors.OpError) -> str:
    """What TensorFlow says happened, without where in the graph it was noticed."""
    text = e.message.partition("Collective ops is aborted by: ")[2] or e.message
    return text.partition("\nThe error could be from")[0].strip()


@contextmanager
def losses_told(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """TensorFlow's errors about other workers become `WorkerLost`."""
    try:
        yield
    except _LOST as e:
        if own_share(strategy).count == 1:
            raise
        raise WorkerLost(
            f"another worker has died or cannot be reached: {_reason(e)}\n"
            "Its log says why. Start all workers again with --resume: they go on from the last "
            "checkpoint"
        ) from e


class Council:
    """What the workers tell each other beside gradients.

    Every worker must make the same calls in the same order; each waits for all.

    Args:
        strategy: of `join`; under any other there is one worker, who asks nobody.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy, self._alone = strategy, own_share(strategy).count == 1
        self._total = tf.function(self._sum, autograph=False)

    def _sum(self, votes: tf.Tensor) -> tf.Tensor:
        def replica(votes: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The copy is on the replica's device, as TensorFlow wants it.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(votes))

        totals = self._strategy.run(replica, args=(votes,))
        return self._strategy.experimental_local_results(totals)[0]

    def any(self, votes: Sequence[bool]) -> list[bool]:
        """For each question, whether any worker says yes."""
        if self._alone:
            return list(votes)
        total = self._total(tf.constant([float(vote) for vote in votes]))
        return [bool(count > 0) for count in total.numpy()]

    def wait(self) -> None:
        """Waits until all workers are here."""
        self.any([True])

    def adopt(self, variables: Sequence[tf.Variable]) -> None:
        """Gives all replicas of all workers the values of the chief's first one."""
        if self._alone:
            return
        kinds = sorted({v.dtype for v in variables}, key=lambda dtype: dtype.name)
        for dtype in kinds:
            tf.function(self._adopt, autograph=False)([v for v in variables if v.dtype == dtype])

    def _adopt(self, variables: list[Any]) -> None:
        def replica() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            first = context.replica_id_in_sync_group == 0
            mine = [tf.convert_to_tensor(v) for v in variables]
            spoken = [tf.where(first, value, tf.zeros_like(value)) for value in mine]
            return list(context.all_reduce(tf.distribute.ReduceOp.SUM, spoken))

        for variable, value in zip(variables, self._strategy.run(replica), strict=True):
            if isinstance(variable, tf.distribute.DistributedValues):
                self._strategy.extended.update(
                    variable, lambda v, x: v.assign(x), args=(value,), group=False
                )
            else:
                variable.assign(self._strategy.experimental_local_results(value)[0])
