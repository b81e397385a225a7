import subprocess
import sys

import pytest

import tfseg
from tfseg import registry
from tfseg.registry import Preprocessing

GRAY = Preprocessing("gray", (0.0,), (1.0,))


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'psp_resnet101'"):
        tfseg.build("psp_resnet_101")


def test_unknown_option_names_the_nearest():
    with pytest.raises(ValueError, match=r"no option 'base_filter'; did you mean 'base_filters'"):
        tfseg.build("unet", base_filter=8)


@pytest.mark.parametrize("count", [0, -1, 2.0, True])
def test_number_of_classes_is_checked(count):
    with pytest.raises(ValueError, match="num_classes must be a positive integer"):
        tfseg.build("unet", num_classes=count)


def test_list_models_by_task_and_pattern():
    assert tfseg.list_models(match="psp_*") == [
        "psp_mobilenet_v2",
        "psp_resnet101",
        "psp_resnet50",
    ]
    assert "resnet50" in tfseg.list_models(task="classification")
    assert "resnet50" not in tfseg.list_models(task="semantic")
    with pytest.raises(ValueError, match="did you mean 'semantic'"):
        tfseg.list_models(task="sematic")


def test_registering_twice_raises():
    def add():
        registry.register(
            "test_twice", task="semantic", paper="", num_classes=1, preprocessing=GRAY
        )(lambda num_classes: None)

    add()
    try:
        with pytest.raises(ValueError, match="registered twice"):
            add()
    finally:
        del registry._ENTRIES["test_twice"]


def test_spec_records_every_option():
    model = tfseg.build("unet", base_filters=2, num_classes=3)
    assert model.name == model.spec.name == "unet"
    assert model.spec.num_classes == 3
    assert model.spec.options == {
        "in_channels": 1,
        "base_filters": 2,
        "padding": "valid",
        "dropout": 0.5,
    }
    assert model.spec.preprocessing == Preprocessing("gray", (127.5,), (255.0,))


def test_preprocessing_needs_a_value_a_channel():
    with pytest.raises(ValueError, match="3 values"):
        Preprocessing("rgb", (0.0,), (1.0,))


def test_submodules_need_no_import_of_their_own():
    program = "import tfseg; print(tfseg.losses.SparseCrossEntropy.__name__, hasattr(tfseg, 'x'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["SparseCrossEntropy", "False"], done.stderr


def test_seeded_weights_do_not_depend_on_what_was_imported():
    """Networks' modules draw no numbers when they are imported, which is on the first build."""
    code = """
import random, keras, tfseg
before = random.getstate()
tfseg.list_models()
assert random.getstate() == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
