"""Files that grow row by row: a row is there whole or not at all, and an interrupted file goes on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np


class _Rows:
    """A file of which the first `size` bytes are good; what cannot be appended is taken back."""

    def __init__(self, path, size: int):
        self.path, self.size = Path(path), size
        try:
            mode = "r+b" if self.path.exists() else "x+b"
            self._file = open(self.path, mode, buffering=0)  # noqa: SIM115  __exit__ closes it
            self._file.truncate(size)
        except OSError as error:
            raise self._failed(error) from error

    def _append(self, data: bytes):
        try:
            self._file.seek(self.size)
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
        # Ctrl-C too.
        except BaseException as error:
            self._file.truncate(self.size)
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        self.size += len(data)

    def _failed(self, error):
        return ValueError(f"{self.path} cannot be written: {error.strerror or error}.")

    def __enter__(self):
        """The file itself."""
        return self

    def __exit__(self, *error):
        """Close the file."""
        self._file.close()


class CsvRows(_Rows):
    """A CSV file, UTF-8, one line for each row; it is made, or goes on where it ended.

    Args:
        path: The file. A last line that is not whole is removed.
        header: Names of the columns.

    Attributes:
        known: The first cell of each row that was there.
        last: The last row that was there, or ``None``.

    Raises:
        ValueError: the file cannot be written, or is another one than `header` says.
    """

    def __init__(self, path, header: list[str]):
        path = Path(path)
        self.known: set[str] = set()
        self.last: list[str] | None = None
        super().__init__(path, self._read(path, header) if path.is_file() else 0)
        if self.size == 0:
            self._append(_lines([header]))

    def _read(self, path, header):
        size = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                row = next(csv.reader([line.decode("utf-8", "replace")]))
                if number == 0 and row != header:
                    raise ValueError(
                        f"{path} begins with {line.decode('utf-8', 'replace').strip()!r}, where "
                        f"{','.join(header)!r} belongs: it was not made by this command with these "
                        "options; choose another file, or remove it."
                    )
                if number > 0:
                    self.last = row
                    self.known.add(row[0])
                size += len(line)
        return size

    def append(self, rows: list[list]) -> None:
        """Write rows; raises ``ValueError``, and writes none of them, if they cannot be written."""
        self._append(_lines(rows))


class NpyRows(_Rows):
    """A ``.npy`` file of float32 rows, of which the first `count` are kept if it exists.

    Raises:
        ValueError: the file cannot be written, or has fewer rows, or rows of another width.
    """

    def __init__(self, path, width: int, count: int):
        self._width = width
        # numpy leaves room in the header for the first axis to grow.
        self._begin = len(self._header(0))
        size = self._begin + 4 * width * count
        path = Path(path)
        if path.is_file() and path.stat().st_size > 0:
            try:
                there = np.load(path, mmap_mode="r", allow_pickle=False).shape[1:]
            except (ValueError, EOFError, OSError) as error:
                raise ValueError(f"{path} is no array of rows to go on with: {error}") from error
            if there != (width,) or path.stat().st_size < size:
                raise ValueError(f"{path} does not hold {count} rows of {width} numbers; remove both files.")
        elif count:
            raise ValueError(f"{path}: there is no such file, but {count} rows belong into it.")
        super().__init__(path, size)
        self._finish()

    def append(self, rows: np.ndarray) -> None:
        """Write ``(count, width)`` numbers, as `CsvRows.append` does."""
        self._append(np.ascontiguousarray(rows, "<f4").tobytes())
        self._finish()

    def _header(self, count):
        buffer = io.BytesIO()
        description = {"descr": "<f4", "fortran_order": False, "shape": (count, self._width)}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    def _finish(self):
        count = (self.size - self._begin) // (4 * self._width)
        try:
            self._file.seek(0)
            self._file.write(self._header(count))
        except OSError as error:
            raise self._failed(error) from error


def _lines(rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")
