"""The experiment files that ship are valid."""

import inspect
from pathlib import Path

import pytest

import tfseg
from tfseg import config, registry
from tfseg.data import list_readers, readers
from tfseg.data.transforms import make_transforms

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config(path):
    head = path.read_text().split("name:")[0]
    assert f"tfseg train configs/{path.name}" in head
    assert "xpected" in head
    for experiment in config.load_stages(path):
        assert experiment.name.partition("/")[0] == path.stem
        assert experiment.model.name in tfseg.list_models(task="semantic")
        known = registry.entry(experiment.model.name).options()
        assert set(experiment.model.options) <= set(known)
        make_transforms(experiment.data.transforms)
        for split in (experiment.data.train, experiment.data.validation):
            assert split.reader in list_readers()
            reader = inspect.signature(readers.base._READERS[split.reader])
            assert set(split.options) <= set(reader.parameters)
            required = {n for n, p in reader.parameters.items() if p.default is p.empty}
            assert required <= set(split.options)
