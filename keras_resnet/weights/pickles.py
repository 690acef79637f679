"""The pickles of PyTorch's checkpoints, read as data: no unpickler runs, so nothing can be executed.

A pickle is a program for a small stack machine. ``pickletools`` of the standard library decodes its
instructions; the machine below knows those that ``torch.save`` writes and builds dicts, lists, tuples,
strings and numbers of them. It looks up no class and calls nothing that a file names: a global becomes a
`Global`, which is only its name, and the few names of tensors become a `StoredTensor`.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from dataclasses import dataclass, field

from keras_resnet.weights.tensors import WeightsError, checked_shape, is_size, shown

# A checkpoint of ResNet-1202 with Adam and moving averages has 775,000 instructions in 2.2 MB.
MAX_BYTES = 16 << 20
MAX_INSTRUCTIONS = 1_000_000

STORAGES = {
    "torch.DoubleStorage": "float64", "torch.FloatStorage": "float32", "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16", "torch.LongStorage": "int64", "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16", "torch.CharStorage": "int8", "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}  # fmt: skip

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_VALUES = frozenset((
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that a pickle names, of which only the name is used."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The data of one or more tensors: its key in the file, its type, and how many items it has."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage; `first`, `shape` and `strides` are in items, and checked by `check_view`."""

    storage: Storage
    first: object
    shape: object
    strides: object


class Namespace(dict):
    """The arguments of a training script."""


class Source:
    """A file from which at most `limit` bytes are read, whatever lengths it declares."""

    def __init__(self, file, path: str, limit: int = MAX_BYTES):
        self.file, self.path, self.left = file, path, limit

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        return self._counted(self.file.read(min(size, self.left + 1)))

    def readline(self) -> bytes:
        """The rest of a line."""
        return self._counted(self.file.readline(self.left + 1))

    def _counted(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise WeightsError(f"{self.path}: its pickles have more than {MAX_BYTES} bytes.")
        return data


def read_pickle(source: Source, storages: dict[str, Storage] | None = None):
    """The value of one pickle, as plain data with `StoredTensor` in it.

    Args:
        source: is left after the end of the pickle.
        storages: filled with the storages that the pickle refers to, by key.

    Raises:
        WeightsError: the pickle is damaged, has an instruction that ``torch.save`` does not write, or
            names a class or function other than those of tensors.
    """
    machine = _Machine(source.path, {} if storages is None else storages)
    try:
        with warnings.catch_warnings():
            # Of text with an invalid escape, in an instruction that is refused once it is decoded.
            warnings.simplefilter("ignore")
            for count, (instruction, argument, _) in enumerate(pickletools.genops(source)):
                if count > MAX_INSTRUCTIONS:
                    raise WeightsError(f"{source.path}: a pickle has over {MAX_INSTRUCTIONS} instructions.")
                machine.step(instruction.name, argument)
        (value,) = machine.stack
    except WeightsError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise WeightsError(f"{source.path}: the pickle is damaged: {str(error)[:200]}.") from None
    return value


@dataclass
class _Machine:
    """The stack machine of pickle, without the instructions that act on objects."""

    path: str
    storages: dict
    stack: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    memo: dict = field(default_factory=dict)

    def step(self, name, argument):
        """Carry out one instruction."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.marks.append(len(stack) - int(name[-1]))
            stack.append(tuple(self._since_mark()))
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._step_on_values(name, argument)

    def _step_on_values(self, name, argument):
        pop = self.stack.pop
        if name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [pop(), pop()][::-1]
            self._target(dict).update(_with_text_keys(items[::2], items[1::2]))
        elif name in ("APPEND", "APPENDS"):
            items = self._since_mark() if name == "APPENDS" else [pop()]
            self._target(list).extend(items)
        elif name == "GLOBAL":
            self.stack.append(self._global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = pop(), pop()
            self.stack.append(self._global(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = pop(), pop()
            self.stack.append(self._made(function, arguments))
        elif name == "BINPERSID":
            self.stack.append(self._storage(pop()))
        elif name == "BUILD":
            # The state of an object, such as _metadata of a state dict: only arguments have any here.
            state, target = pop(), self.stack[-1]
            if type(target) is Namespace and type(state) is dict:
                target.update(state)
            elif type(target) not in (dict, Namespace, type(None)):
                raise WeightsError(f"{self.path}: the pickle sets attributes of something that has none.")
        else:
            detail = f" ({argument[:100]!r})" if isinstance(argument, str) else ""
            raise WeightsError(f"{self.path}: pickle instruction {name}{detail} is not of torch.save.")

    def _since_mark(self):
        start = self.marks.pop()
        if not 0 <= start <= len(self.stack):
            raise IndexError("a mark outside the stack")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _target(self, kind):
        if type(self.stack[-1]) is not kind:
            raise WeightsError(
                f"{self.path}: the pickle puts items into something that is no {kind.__name__}."
            )
        return self.stack[-1]

    def _global(self, module, attribute):
        name = f"{module}.{attribute}" if type(module) is type(attribute) is str else "?"
        if name not in STORAGES and name not in _MADE:
            raise WeightsError(
                f"{self.path}: names {shown(name)}, which is no part of a state dict: a whole module or "
                "another Python object was saved, which is code and was not executed. If you trust the file, "
                "open it with torch.load(..., weights_only=False) and save the model's state_dict()."
            )
        return Global(name)

    def _made(self, function, arguments):
        """What the function of a pickle stands for, given its arguments."""
        if type(function) is not Global or function.name not in _MADE or type(arguments) is not tuple:
            raise WeightsError(f"{self.path}: the pickle calls something that is no function of torch.")
        return _MADE[function.name](*arguments)

    def _storage(self, identity):
        # ("storage", type, key, device, numel) and in the legacy format, where views of storages were
        # once stored too, a sixth that is None.
        if (
            type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage"
            or any(view is not None for view in identity[5:])
        ):  # fmt: skip
            raise WeightsError(f"{self.path}: refers to something that is no storage of torch.")
        kind, key, _, numel = identity[1:5]
        if (
            type(kind) is not Global
            or kind.name not in STORAGES
            or type(key) is not str
            or not is_size(numel)
        ):
            raise WeightsError(f"{self.path}: a storage has no type, key or size that is read.")
        storage = Storage(key, STORAGES[kind.name], numel)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"{self.path}: storage {shown(key)} is declared in two ways.")
        return storage


def _with_text_keys(keys, values):
    # Only strings name tensors. Others (optimizers count their parameters) are left out, as hashing a
    # tuple of tuples of tuples can take for ever.
    return [(key, value) for key, value in zip(keys, values, strict=True) if type(key) is str]


def _ordered_dict(pairs=None):
    # Python 2 stored the items as an argument. The list is emptied, as a file of a few kilobytes could
    # have a long one copied many thousand times.
    items = [(key, value) for key, value in pairs or ()]
    if items:
        pairs.clear()
    return dict(_with_text_keys(*zip(*items, strict=True))) if items else {}


def _tensor(storage, first, shape, strides, *_flags):
    if type(storage) is not Storage:
        raise ValueError("a tensor without a storage")
    return StoredTensor(storage, first, shape, strides)


def _parameter(tensor, *_flags):
    return tensor


def _size(values=()):
    return values


def _namespace(*_arguments):
    return Namespace()


_MADE = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    # What training scripts keep beside the state dict as "args"; only a name here, as the others.
    "argparse.Namespace": _namespace,
}


def check_view(tensor: StoredTensor, where: str) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """``(shape, strides, extent)`` of a tensor, all in items, where it lies inside its storage.

    Raises:
        WeightsError: it does not, or has more items than its storage: a shape of terabytes needs
            no data where a stride is zero.
    """
    shape, strides = checked_shape(tensor.shape, where), checked_shape(tensor.strides, where)
    if len(shape) != len(strides) or not is_size(tensor.first):
        raise WeightsError(f"{where} has strides or an offset that do not fit its shape {shape}.")
    count = math.prod(shape)
    # Along an axis of one item the stride is never used, and may be anything.
    strides = tuple(stride if size > 1 and count else 0 for size, stride in zip(shape, strides, strict=True))
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
    if tensor.first + extent > tensor.storage.numel or count > tensor.storage.numel:
        raise WeightsError(
            f"{where} of shape {shape} needs more than the {tensor.storage.numel} items that are stored."
        )
    return shape, strides, extent
