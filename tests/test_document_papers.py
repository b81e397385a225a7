"""The pages of the papers say of networks and experiments what code and files say."""

import document_papers
import pytest

from tfseg import models, registry

PAGES = sorted(document_papers.FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert document_papers.document(text) == text, "run python scripts/document_papers.py"


def test_every_network_has_a_page():
    models.register_all()
    blocks = [m for page in PAGES for m in document_papers.BLOCK.findall(page.read_text())]
    shown = {
        entry.name
        for _, kind, patterns, _ in blocks
        if kind == "options"
        for entry in document_papers.networks(patterns.split())
    }
    # Of these the pages say that they have another family's options.
    similar = ("cascade_rcnn_", "_sfpn")
    without = {
        entry.name
        for entry in registry.entries()
        if entry.task != "classification" and not any(part in entry.name for part in similar)
    }
    assert without <= shown


def test_a_docstring_explains_each_argument():
    def builder(num_classes, style="a"):
        """A network.

        Args:
            num_classes: classes.
            style: whose
                weights fit.

        Raises:
            ValueError: for others.
        """

    assert document_papers.explained(builder) == {
        "num_classes": "classes.",
        "style": "whose weights fit.",
    }


def test_defaults_name_their_networks():
    table = document_papers.options(["dilated_vgg16", "dilated8_vgg16", "dilated10_vgg16"])
    rows = dict(row[2:].split(" | ")[:2] for row in table.splitlines()[2:])
    assert rows["`base_filters`"] == "`64`"
    assert rows["`context_init`"] == "`'identity'`; not of `dilated_vgg16`"
    assert rows["`mean`"] == (
        "`'cityscapes'`; `'camvid'` of `dilated8_vgg16`; `'voc2012'` of `dilated_vgg16`"
    )


def test_expected_scores_are_of_the_head():
    head = (
        "# A network.\n#   tfseg train x\n# Expected by the paper: 63.6 mIoU\n# (table 2). More.\n"
    )
    assert document_papers.expected(head) == "by the paper: 63.6 mIoU (table 2)"
    with pytest.raises(ValueError, match="does not say what is expected"):
        document_papers.expected("# A network.\n")
    with pytest.raises(ValueError, match="no network fits"):
        document_papers.options(["nothing_*"])
    with pytest.raises(ValueError, match="no experiment file fits"):
        document_papers.experiments(["nothing_*"])
