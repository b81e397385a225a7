"""The manifest of released files."""

import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from tfseg import models, registry
from tfseg.weights import maps, released
from tfseg.weights.released import RELEASES

ROOT = Path(__file__).resolve().parents[2]
ORIGINS = {".caffemodel": "caffe", ".pth": "torchvision"}
WHOLE = [release for release in RELEASES if release.part == "model"]
TRUNKS = [release for release in RELEASES if release.part == "backbone"]


@pytest.fixture(scope="module")
def known():
    models.register_all()
    return {entry.name: entry for entry in registry.entries()}


def _origin(release):
    """Of the two Detectrons' files, trunks have the first one's names."""
    default = "detectron2" if release.part == "model" else "detectron"
    own = ORIGINS.get(Path(release.file).suffix)
    return own or release.options.get("style", default)


def _stub(name, options):
    """What a name map asks of a model."""
    return SimpleNamespace(spec=SimpleNamespace(name=name, options=options), layers=[])


def test_every_release_has_its_network_and_a_name_map(known):
    for release in WHOLE:
        entry = known[release.model]
        assert set(release.options) <= set(entry.options()), release.file
        assert release.num_classes > 0, release.file
        options = {**entry.options(), **release.options}
        # Raises if there is no map, or it is one of another style.
        maps.layer_names(_stub(release.model, options), _origin(release))


def test_every_trunk_file_has_networks_that_take_it(known):
    assert {release.part for release in RELEASES} == {"model", "backbone"}
    for release in TRUNKS:
        fitting = fnmatch.filter(known, release.model)
        assert fitting, release.file
        for name in fitting:
            stub = _stub(name, known[name].options())
            maps.backbone_layer_names(stub, _origin(release))


def test_no_two_releases_are_the_same():
    keys = [(release.file, release.model) for release in RELEASES]
    assert len(set(keys)) == len(keys)
    for release in RELEASES:
        assert release.page.startswith(("http://", "https://")), release.file
        assert release.score, release.file


def test_find():
    assert released.find("pspnet101_cityscapes.caffemodel").num_classes == 19
    # The released net for VOC is the one with the large context module.
    assert released.find("dilation8_pascal_voc.caffemodel").model == "dilated8_large_vgg16"
    twice = "train_iter_20000.caffemodel"
    with pytest.raises(ValueError, match=r"several .* called train_iter_20000.*: name the model"):
        released.find(twice)
    assert released.find(twice, "deeplab_aspp_vgg16").page.endswith("DeepLabv2_vgg.html")
    with pytest.raises(ValueError, match=r"did you mean 'fcn8s-heavy-pascal\.caffemodel'"):
        released.find("fcn8-heavy-pascal.caffemodel")
    with pytest.raises(ValueError, match=r"no released file of unet is called"):
        released.find(twice, "unet")


def test_the_document_has_the_manifest(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import document_weights

    text = document_weights.DOCUMENT.read_text(encoding="utf-8")
    assert document_weights.document(text) == text, "run python scripts/document_weights.py"
    assert all(release.file in text for release in RELEASES)
