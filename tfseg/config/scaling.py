"""One schedule for all batch sizes."""

from tfseg.config.sections import Experiment


def scaled(experiment: Experiment) -> Experiment:
    """The experiment as its batch wants it, which is not the one its schedule was made for.

    The linear scaling rule (Goyal et al., "Accurate, Large Minibatch SGD", 2017), as detectron2's
    ``auto_scale_workers`` applies it: the learning rate times batch_size / reference_batch; steps,
    milestones, warm-up and ``validate_every`` divided by it, to the nearest whole number. So many
    images are seen at each rate as in the original. ``checkpoint_every`` stays.

    Args:
        experiment: with ``train.reference_batch`` or, to be left as it is, without.

    Returns:
        The experiment with ``reference_batch`` equal to its batch: scaled again it stays the same.
    """
    train = experiment.train
    if train.reference_batch is None:
        return experiment
    factor = train.batch_size / train.reference_batch
    rate = train.optimizer.learning_rate * factor
    schedule = train.schedule
    changed = {
        "reference_batch": train.batch_size,
        "steps": _fewer(train.steps, factor),
        "validate_every": train.validate_every and _fewer(train.validate_every, factor),
        "optimizer": train.optimizer.model_copy(update={"learning_rate": rate}),
        "schedule": schedule.model_copy(
            update={
                "milestones": [_fewer(step, factor) for step in schedule.milestones],
                "warmup_steps": round(schedule.warmup_steps / factor),
            }
        ),
    }
    return experiment.model_copy(update={"train": train.model_copy(update=changed)})


def _fewer(steps: int, factor: float) -> int:
    """As many images in batches that are ``factor`` as large; one step at least."""
    return max(1, round(steps / factor))
