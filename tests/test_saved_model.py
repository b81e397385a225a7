import threading

import pytest

from tfseg.saved_model import write_version


def versions(folder):
    """What TensorFlow Serving takes for versions: folders whose names are numbers."""
    return sorted(p.name for p in folder.iterdir() if p.name.isdecimal())


def test_a_server_that_polls_sees_whole_versions_alone(tmp_path):
    seen, done = set(), threading.Event()

    def poll():
        while not done.is_set():
            for name in versions(tmp_path):
                files = {p.name for p in (tmp_path / name).iterdir()}
                seen.add((name, "saved_model.pb" in files and "fingerprint.pb" in files))

    def write(folder):
        (folder / "saved_model.pb").write_bytes(bytes(1000))
        assert versions(tmp_path) == written  # the new one is not yet there
        (folder / "fingerprint.pb").write_bytes(bytes(1000))

    server, written = threading.Thread(target=poll), []
    server.start()
    try:
        for number in range(1, 31):
            path = write_version(tmp_path, None, write)
            assert path == tmp_path / str(number)
            written = versions(tmp_path)
    finally:
        done.set()
        server.join()
    assert all(whole for _, whole in seen)
    assert len(written) == 30
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".partial-")]


def test_two_exports_at_once_do_not_write_one_version(tmp_path):
    def slow(folder):
        (folder / "saved_model.pb").write_text("slow")
        write_version(tmp_path, 3, lambda other: (other / "saved_model.pb").touch())

    with pytest.raises(FileExistsError, match="3 exists"):
        write_version(tmp_path, 3, slow)
    assert (tmp_path / "3" / "saved_model.pb").read_text() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["3"]


def test_an_interrupted_export_leaves_nothing(tmp_path):
    def interrupted(folder):
        (folder / "saved_model.pb").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_version(tmp_path, None, interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [0, -1])
def test_versions_are_positive(tmp_path, version):
    with pytest.raises(ValueError, match="positive integer"):
        write_version(tmp_path, version, lambda _: None)
