"""What an experiment adds to the samples of its detector: semantic labels and proposals."""

from typing import Any

from tfseg import config, registry
from tfseg.data.proposals import ProposedRegions
from tfseg.data.sample import ObjectReader
from tfseg.data.semantic_labels import with_semantic_labels


def extended(experiment: config.Experiment, reader: ObjectReader, split: str) -> ObjectReader:
    """The split with the semantic labels and the proposals that the experiment asks for.

    Raises:
        ConfigError: `with_labels` and `with_proposals` say of what.
        DataError: what is wrong with the proposals' file.
    """
    return with_proposals(experiment, with_labels(experiment, reader, split), split)


def with_labels(experiment: config.Experiment, reader: ObjectReader, split: str) -> ObjectReader:
    """The split with the semantic labels that the network's branch learns, if it has one.

    Networks with a semantic branch are those of an option ``semantic_classes``; it may be None,
    for the classes and a background. Panoptic networks have labels of their own.

    Raises:
        ConfigError: labels without a branch or a branch without labels, a reader that cannot give
            them, or another number of them than the model has.
    """
    name, source = experiment.model.name, experiment.data.semantic_labels
    options: dict[str, Any] = registry.entry(name).options() | experiment.model.options
    if "semantic_classes" not in options:
        if source is not None:
            raise config.ConfigError(
                f"data.semantic_labels is {source!r}, but {name!r} has no semantic branch that "
                "learns from them"
            )
        return reader
    if source is None:
        raise config.ConfigError(
            f"{name!r} has a semantic branch: set data.semantic_labels to 'instances', labels "
            "made from the objects, or to 'masks', the reader's own"
        )
    try:
        labelled = with_semantic_labels(reader, source)
    except ValueError as e:
        raise config.ConfigError(f"data.semantic_labels {source!r}, data.{split}: {e}") from None
    wanted, what = options["semantic_classes"], "model.options.semantic_classes is"
    if wanted is None:
        wanted, what = experiment.model.num_classes + 1, "model.num_classes + 1 is"
    names = labelled.semantic_classes
    if len(names) != wanted:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise config.ConfigError(
            f"{what} {wanted}, but with data.semantic_labels {source!r} data.{split} has "
            f"{len(names)} semantic classes: {shown}"
        )
    return labelled


def with_proposals(experiment: config.Experiment, reader: ObjectReader, split: str) -> ObjectReader:
    """The split with the proposals of its file, if it names one.

    Raises:
        ConfigError: proposals for nothing that learns from them, or beside a proposer.
        DataError: what is wrong with the file.
    """
    section: config.Split = getattr(experiment.data, split)
    if section.proposals is None:
        return reader
    rcnn = experiment.train.rcnn
    if "heads" not in rcnn.learn:
        raise config.ConfigError(
            f"data.{split}.proposals are for heads, but train.rcnn.learn is {rcnn.learn}"
        )
    if rcnn.proposer is not None:
        raise config.ConfigError(
            f"the heads learn from data.{split}.proposals or from train.rcnn.proposer, not both"
        )
    return ProposedRegions(reader, section.proposals, section.max_proposals)
