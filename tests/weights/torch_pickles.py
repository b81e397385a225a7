"""Writes pickles that look like torch's, without torch."""

import io
import pickle


class Named:
    """Pickles as a global of any name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Storage:
    """Pickles as a persistent id."""

    def __init__(self, count, kind="FloatStorage", key="0", *more):
        self.id = ("storage", Named("torch", kind), key, "cpu", count, *more)


class _Pickler(pickle._Pickler):
    python2 = False

    def persistent_id(self, obj):
        return obj.id if isinstance(obj, Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, str) and self.python2:
            self.write(pickle.SHORT_BINSTRING + bytes([len(obj)]) + obj.encode("latin-1"))
        else:
            super().save(obj, save_persistent_id)


def dumps(tree, python2=False):
    """A pickle of protocol 2, with the strings of Python 2 if wanted."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol=2)
    pickler.python2 = python2
    pickler.dump(tree)
    return file.getvalue()


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(storage, offset, shape, strides):
    return Call(REBUILD, storage, offset, shape, strides, False, {})
