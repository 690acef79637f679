"""Files that grow row by row: a row is there whole or not at all, and an interrupted file goes on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from keras_resnet.files import BusyError, flocked
from keras_resnet.printing import show

# A cell that begins with one of these is a formula to a spreadsheet, which may run commands
# (https://owasp.org/www-community/attacks/CSV_Injection); full-width ones count in East Asia.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_QUOTE = "'"
# Bytes of a last row that was cut off; more is no row of ours.
_LONGEST = 1 << 20


class _Rows:
    """A file of which the first `size` bytes are good; what cannot be appended is taken back.

    Other processes are kept away from it while it is open.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = self._open()
        try:
            self.size = self._whole_bytes()
            self._file.truncate(self.size)
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def _open(self):
        try:
            if self.path.exists() and not self.path.is_file() and not self.path.is_dir():
                raise ValueError(f"{show(self.path)} cannot be written: it is not a regular file.")
            file = open(self.path, "r+b" if self.path.exists() else "x+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        if flocked(file) is False:
            file.close()
            raise BusyError(
                f"{show(self.path)} is being written by another process; wait for its end or choose another "
                "file."
            )
        return file

    def _whole_bytes(self) -> int:
        """How much of the file is whole."""
        raise NotImplementedError

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
        return ValueError(f"{show(self.path)} cannot be written: {error.strerror or error}.")

    def __enter__(self):
        """The file itself."""
        return self

    def __exit__(self, *error):
        """Close the file."""
        self._file.close()


class CsvRows(_Rows):
    """A CSV file, UTF-8, one record for each row; it is made, or goes on where it ended.

    Text that a spreadsheet would take for a formula, and text that begins with an apostrophe, gets an
    apostrophe in front, which is dropped when it is read; a line break is quoted. See `text_of`.

    Args:
        path: The file. A last row that is not whole is removed.
        header: Names of the columns.

    Attributes:
        known: The first cell of each row that was there.
        last: The last row that was there, or ``None``.

    Raises:
        BusyError: another process is writing the file.
        ValueError: the file cannot be written, or is another one than `header` says.
    """

    def __init__(self, path, header: list[str]):
        self.known: set[str] = set()
        self.last: list[str] | None = None
        self._names = header
        super().__init__(path)
        if self.size == 0:
            self._write_first(_lines([header]))

    def _write_first(self, line):
        try:
            self._append(line)
        except BaseException:
            self._file.close()
            self.path.unlink(missing_ok=True)
            raise

    def _whole_bytes(self):
        size = 0
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for number, record in enumerate(_records(file, self.path)):
                row = self._parse(record, number)
                if number > 0:
                    self.last = row
                    self.known.add(row[0])
                size += len(record)
        return size

    def _parse(self, record, number):
        row = _cells(record)
        if number == 0 and row != self._names:
            found = show(record[:200].decode("utf-8", "replace").strip())
            raise ValueError(
                f"{show(self.path)} begins with {found!r}, where {','.join(self._names)!r} belongs: it was "
                "not made by this command with these options; choose another file, or remove it."
            )
        if row is None or len(row) != len(self._names):
            raise ValueError(
                f"{show(self.path)}: row {number} has not the {len(self._names)} cells of the others: the "
                "file is damaged or was edited; choose another file, or remove it."
            )
        return row

    def append(self, rows: list[list]) -> None:
        """Write rows; raises ``ValueError``, and writes none of them, if they cannot be written."""
        self._append(_lines(rows))


class NpyRows(_Rows):
    """A ``.npy`` file of float32 rows, of which the first `count` are kept if it exists.

    Raises:
        ValueError: the file cannot be written, or has fewer rows, or rows of another width.
    """

    def __init__(self, path, width: int, count: int):
        self._width, self._count = width, count
        # numpy leaves room in the header for the first axis to grow.
        self._begin = len(self._header(0))
        if count and not Path(path).exists():
            raise ValueError(f"{show(path)}: there is no such file, but {count} rows belong into it.")
        super().__init__(path)
        self._finish()

    def _whole_bytes(self):
        size, there = self._begin + 4 * self._width * self._count, self.path.stat().st_size
        if there == 0 and not self._count:
            return size
        try:
            shape = np.load(self.path, mmap_mode="r", allow_pickle=False).shape[1:]
        # The reader of numpy raises whatever it likes on a file that is none.
        except Exception as error:
            raise ValueError(f"{show(self.path)} is no array of rows to go on with: {error}") from error
        if shape != (self._width,) or there < size:
            raise ValueError(
                f"{show(self.path)} does not hold {self._count} rows of {self._width} numbers; remove both "
                "files."
            )
        return size

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


def text_of(cell: str) -> str:
    """What a cell of text said before it was written: without the apostrophe in front.

    Every cell of text that is written with one in front has got it from `CsvRows`.
    """
    return cell.removeprefix(_QUOTE)


def _neutral(cell):
    return _QUOTE + cell if cell.startswith((*_FORMULA, _QUOTE)) else cell


def _lines(rows):
    """Rows as records. Bytes of names that are no UTF-8 become escapes: the file is text."""
    lines = (
        ",".join(_quoted(_neutral(cell)) if isinstance(cell, str) else str(cell) for cell in row)
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _quoted(cell):
    # Unlike the `csv` module of some versions of Python, "\r" too.
    return '"{}"'.format(cell.replace('"', '""')) if set(cell) & set('",\r\n') else cell


def _records(file, path):
    """The records of a CSV file that are whole, as bytes; a quoted cell may hold line breaks."""
    lines, quotes, size = [], 0, 0
    for line in file:
        lines.append(line)
        quotes, size = quotes + line.count(b'"'), size + len(line)
        if line.endswith(b"\n") and quotes % 2 == 0:
            yield b"".join(lines)
            lines, quotes, size = [], 0, 0
        elif size > _LONGEST:
            raise ValueError(f"{show(path)} is not a CSV file that this command wrote; choose another file.")


def _cells(record):
    """The cells of a record, or ``None`` where it is none."""
    try:
        (row,) = csv.reader(io.StringIO(record.decode("utf-8"), newline=""), strict=True)
    except (ValueError, csv.Error):
        return None
    return list(map(text_of, row))
