"""Files that are programs: what tfseg reads of them is data, and the rest is not run.

Each attack is shown to be one: what it is aimed at runs it.
"""

import os
import pickle
import zipfile

import keras
import numpy as np
import pytest
import yaml

from tfseg import config
from tfseg.data import DataError, open_reader
from tfseg.weights import WeightsError, read_weights


@pytest.fixture
def mark(tmp_path):
    """A file that only an attack makes."""
    return tmp_path / "mark"


class Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def ran(mark):
    """Whether the file is there; afterwards it is not."""
    there = mark.exists()
    mark.unlink(missing_ok=True)
    return there


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "name", ["net.pkl", "net.pth", "net.pt", "net.npz", "net.caffemodel", "net.h5", "net.npy"]
)
def test_a_bare_pickle_of_any_name(tmp_path, mark, protocol, name):
    data = pickle.dumps({"model": {"w": Touch(mark)}}, protocol)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)
    assert not ran(mark)
    pickle.loads(data)
    assert ran(mark)


def test_an_attack_behind_good_arrays(tmp_path, mark):
    tree = {"model": {"a": np.ones(3), "w": [Touch(mark)]}, "optimizer": []}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(WeightsError, match=r"asks for \w+\.system, which is refused"):
        read_weights(tmp_path / "net.pkl")
    assert not ran(mark)


def object_npz(path, mark):
    np.savez(path, a=np.array([Touch(mark)], object))
    np.load(path, allow_pickle=True)["a"]
    assert ran(mark)


def test_object_arrays_as_weights(tmp_path, mark):
    object_npz(tmp_path / "net.npz", mark)
    with pytest.raises(WeightsError, match="object, not numbers"):
        read_weights(tmp_path / "net.npz")
    assert not ran(mark)


def test_object_arrays_as_proposals(tmp_path, mark):
    from fuzzing import data_seeds

    data_seeds.voc(tmp_path)
    object_npz(tmp_path / "proposals.npz", mark)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        open_reader("voc_proposals", root=tmp_path, proposals=tmp_path / "proposals.npz")
    assert not ran(mark)


@pytest.fixture
def lambda_model(mark):
    """A model whose Lambda layer makes the file whenever it is called."""
    path = str(mark)
    image = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="dense")(image)
    # Keras saves the code of lambdas alone.
    attack = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(path).touch(), x)[1])
    model = keras.Model(image, attack(hidden))
    assert ran(mark)
    return model


def test_a_keras_file_with_a_lambda(tmp_path, mark, lambda_model):
    lambda_model.save(tmp_path / "net.keras")
    ran(mark)
    with pytest.raises(WeightsError, match=r"net\.keras"):
        read_weights(tmp_path / "net.keras")
    assert not ran(mark)
    keras.models.load_model(tmp_path / "net.keras", safe_mode=False)
    assert ran(mark)


def test_a_keras_file_that_is_a_pickle_inside(tmp_path, mark):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as file:
        file.writestr("net/data.pkl", pickle.dumps({"w": Touch(mark)}, 2))
    with pytest.raises(WeightsError, match="which is refused"):
        read_weights(tmp_path / "net.keras")
    assert not ran(mark)


def test_an_h5_model_with_a_lambda_gives_its_weights(tmp_path, mark, lambda_model):
    lambda_model.save(tmp_path / "net.h5")
    ran(mark)
    arrays, _ = read_weights(tmp_path / "net.h5")
    assert arrays.keys() == {"dense/kernel", "dense/bias"}
    assert not ran(mark)
    keras.models.load_model(tmp_path / "net.h5", safe_mode=False)
    assert ran(mark)


TAGS = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/object/apply:subprocess.check_call [['touch', '{mark}']]",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags(tmp_path, mark, tag):
    value = tag.format(mark=mark)
    path = tmp_path / "experiment.yaml"
    path.write_text(f"name: {value}\n")
    for read in (config.load, config.load_stages):
        with pytest.raises(config.ConfigError, match=r"experiment\.yaml is no YAML"):
            read(path)
    path.write_text("name: x\n")
    with pytest.raises(config.ConfigError, match="the value is no YAML"):
        config.load(path, [f"name={value}"])
    assert not ran(mark)
    yaml.unsafe_load(value)
    assert ran(mark)


def test_the_process_that_reads_h5_files_takes_no_module_from_where_it_is_run(
    tmp_path, mark, monkeypatch
):
    """Neither from the working folder nor from beside the weights."""
    for name in ("json.py", "h5py.py", "numpy.py", "resource.py"):
        (tmp_path / name).write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(WeightsError, match=r"net\.h5"):
        read_weights("net.h5")
    assert not ran(mark)
