"""Reads pickles without unpickling them: a table of data opcodes, and no class is ever looked up.

``pickle.Unpickler`` with a restricted ``find_class`` still calls ``__setstate__`` and can be made
to allocate at will; here a global is a key into the caller's table of functions, attribute
assignments are dropped, and memory grows at most linearly with the file.
"""

import io
import mmap
import pickletools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

#: What pickle protocols 2 to 5 write for plain data; 0 and 1, which are older than torch, not.
#: Python 2's strings (BINSTRING) come as text whose code points are their bytes.
_PUSH_ARGUMENT = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_FRESH: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = ("BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("BINGET", "LONG_BINGET")
_IGNORED = ("PROTO", "FRAME", "STOP")

#: A checkpoint takes some thirty opcodes an array; each takes up to some hundred bytes of memory.
_MAX_OPCODES = 2**22


class PickleError(Exception):
    """A pickle that is malformed or holds more than data."""


class RefusedGlobal(PickleError):
    """A pickle that names a function or class outside the table.

    Attributes:
        name: the "module.name" it asks for.
    """

    def __init__(self, name: str):
        super().__init__(f"it asks for {name}")
        self.name = name


class Stateful(ABC):
    """What a function of the caller's table may return if its attributes are to be kept."""

    @abstractmethod
    def set_state(self, state: Any) -> None:
        """Takes the attributes that the pickle gives the object, whatever they are.

        Raises:
            PickleError: if they are malformed.
        """


def are_extents(values: Any) -> bool:
    """Whether these are an array's extents or strides: at most 32 numbers, none negative."""
    if not isinstance(values, tuple) or len(values) > 32:
        return False
    return all(type(n) is int and n >= 0 for n in values)


def ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """What ``collections.OrderedDict`` stands for; Python 2 passes its items, 3 stores them.

    Raises:
        PickleError: if the items are no list of pairs.
    """
    entries: dict[Any, Any] = {}
    pairs = isinstance(items, list | tuple) and all(isinstance(i, list | tuple) for i in items)
    if not pairs or any(len(item) != 2 for item in items):
        raise PickleError("an OrderedDict is made of something other than pairs")
    for item in items:
        _store(entries, list(item))
    return entries


def _store(target: Any, pairs: list[Any]) -> None:
    """Dictionary entries; keys of other types than text and numbers could nest without end."""
    if not isinstance(target, dict):
        raise PickleError("an entry is stored in what is no dictionary")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(key, str | int | float | None):
            raise PickleError(f"a key of a dictionary is a {type(key).__name__}")
        target[key] = value


class _Machine:
    """The stack machine that a pickle is a program of."""

    def __init__(
        self, functions: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]
    ):
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise PickleError("the stack is empty")
        return self.stack.pop()

    def find(self, module: Any, name: Any) -> Callable[..., Any]:
        full = f"{module}.{name}"
        if full not in self.functions:
            raise RefusedGlobal(full)
        return self.functions[full]

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not any(function is known for known in self.functions.values()):
            raise PickleError("it calls what is no function")
        if not isinstance(arguments, tuple):
            raise PickleError("the arguments of a call are no tuple")
        self.stack.append(function(*arguments))

    def step(self, code: str, argument: Any) -> None:
        """Runs one opcode."""
        if code in _PUSH_ARGUMENT:
            self.stack.append(argument)
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in _FRESH:
            self.stack.append(_FRESH[code]())
        elif code in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[code])]
            self.stack.append(tuple(reversed(items)))
        elif code in _PUTS:
            self.memo[len(self.memo) if code == "MEMOIZE" else argument] = self.stack[-1]
        elif code in _GETS:
            self.stack.append(self.memo[argument])
        elif code not in _IGNORED:
            self.step_structure(code, argument)

    def step_structure(self, code: str, argument: Any) -> None:
        """Runs an opcode that takes from the stack."""
        match code:
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                self.stack.append(tuple(self.since_mark()))
            case "APPEND":
                item = self.pop()
                self.extend([item])
            case "APPENDS" | "ADDITEMS":
                self.extend(self.since_mark())
            case "SETITEM":
                value, key = self.pop(), self.pop()
                _store(self.stack[-1], [key, value])
            case "SETITEMS":
                pairs = self.since_mark()
                _store(self.stack[-1], pairs)
            case "GLOBAL":
                self.stack.append(self.find(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                self.stack.append(self.find(module, name))
            case "REDUCE" | "NEWOBJ":
                self.call()
            case "BUILD":
                state = self.pop()
                if isinstance(self.stack[-1], Stateful):
                    self.stack[-1].set_state(state)
            case "BINPERSID":
                self.stack.append(self.persistent(self.pop()))
            case _:
                raise PickleError(f"it uses {code}, which no plain data needs")

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise PickleError("an item is appended to what is no list")
        self.stack[-1].extend(items)


def no_persistent(entry: Any) -> Any:
    """Refuses persistent ids, for pickles that need none."""
    raise PickleError("it refers to something outside the pickle")


def load(
    source: bytes | io.BytesIO | mmap.mmap,
    functions: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any] = no_persistent,
) -> Any:
    """The object that a pickle describes, of plain data alone.

    Args:
        source: the pickle, or what stands at its start and is left behind its end. (A file
            opened as such would allocate whatever length an opcode claims before it reads.)
        functions: what "module.name" globals stand for; nothing else is ever called.
        persistent: what a persistent id stands for.

    Returns:
        Dictionaries, lists (sets too), tuples, text, bytes, numbers, and what ``functions`` and
        ``persistent`` return. Attributes that the pickle sets on them are dropped, unless they
        are `Stateful`. Strings of Python 2 are text, decoded as Latin-1.

    Raises:
        RefusedGlobal: for a global that is not in ``functions``.
        PickleError: if the pickle is malformed.
    """
    machine = _Machine(functions, persistent)
    opcodes = pickletools.genops(cast(IO[bytes], source))
    try:
        for count, (opcode, argument, _) in enumerate(opcodes):
            if count >= _MAX_OPCODES:
                raise PickleError(f"it has more than {_MAX_OPCODES} opcodes")
            machine.step(opcode.name, argument)
        return machine.pop()
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise PickleError(f"it is malformed ({error})") from error
