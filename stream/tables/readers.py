"""Tables as people have them: CSV, Parquet, JSON lines and a JSON array of objects; gzip too.

Rows are read one after another, as often as somebody needs them. CSV gives texts, the others typed values; what a
column of texts means is decided over the whole column (``stream.tables.columns``), never here.
"""

import csv
import gzip
import io
import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

import msgspec

from learners.extras import install
from stream.errors import CommandError

csv.field_size_limit(16 * 2**20)
#: characters that separate columns, the most usual first
_DELIMITERS = ",;\t|"
_JSON = (".jsonl", ".json", ".ndjson")
_EVERY = 500
_YEAR = re.compile(r"(19|20)\d\d")
#: how many names are shown of a line that looks like a row
_SHOWN = 6
#: lines, or rows of JSON, that the names of columns are looked for in
_FEW = 1000
_GZIP = b"\x1f\x8b"
_SEPARATED = re.compile(r"sep=(.)\s*")
#: longer than any event may be; and an array, which has to be read as a whole
_LONGEST, _LARGEST_ARRAY = 32 * 2**20, 2**30
_object = msgspec.json.Decoder(dict[str, Any])
Row = dict[str, Any]


class Table:
    """A file of rows. ``names`` are its columns (of JSON: of the first row); ``typed`` tells whether cells have types.

    ``headless`` says that the first line of a CSV looks like a row and not like names; empty when it does not.

    Raises :class:`CommandError` for a file of another kind, and while it is read for what cannot be.
    """

    def __init__(self, path: Path, *, encoding: str = "utf-8-sig", delimiter: str | None = None) -> None:
        self.path = path
        self.kind = _kind_of(path)
        self.typed = self.kind != ".csv"
        self.encoding = encoding
        self.delimiter = delimiter
        self.names: list[str] = []
        self.headless = ""
        self._spaced = self._separated = False
        if self.kind == ".csv":
            self._head()
        else:
            some = itertools.islice(self.rows(), _FEW if self.kind in _JSON else 1)
            self.names = list(dict.fromkeys(name for row in some for name in row))

    def rows(self, progress: Callable[[int, int], None] = lambda _rows, _bytes: None) -> Iterator[Row]:
        """Every row, as a dict by column; ``progress`` is told how many, and how many bytes of the file were read."""
        done = 0
        try:
            with self.path.open("rb") as file:
                for row in self._rows(file):
                    yield row
                    done += 1
                    if done % _EVERY == 0:
                        progress(done, file.tell())
        except UnicodeDecodeError as cause:
            raise self._undecoded(done, cause) from cause
        except (csv.Error, EOFError, OSError, zlib.error, LookupError, UnicodeError) as cause:
            raise CommandError(f"{self.path} cannot be read after row {done}: {cause}") from cause
        progress(done, self.path.stat().st_size)

    def _head(self) -> None:
        """Find the names of a CSV's columns, and what separates them when that was not said."""
        try:
            with self.path.open("rb") as file, self._text(file) as text:
                lines = list(itertools.islice((line for line in text if line.strip()), _FEW))
        except UnicodeDecodeError as cause:
            raise self._undecoded(0, cause) from cause
        except (UnicodeError, EOFError, OSError, zlib.error, LookupError) as cause:
            raise CommandError(f"{self.path} cannot be read: {cause}") from cause
        if not lines:
            raise CommandError(f"{self.path} is empty: its first line names the columns")
        if lines and (said := _SEPARATED.fullmatch(lines[0])):  # as Excel writes it above the names
            self.delimiter, self._separated, lines = self.delimiter or said[1], True, lines[1:]
        if self.delimiter is None:
            self.delimiter = max(_DELIMITERS, key=lambda one: (_width(lines, one), -_DELIMITERS.index(one)))
        self.names, cells = _first_two(lines, self.delimiter)
        self._spaced = len(self.names) > 1 and all(name.startswith(" ") for name in self.names[1:])
        self.names = [name.strip() for name in self.names] if self._spaced else self.names
        if are_data(self.names, cells):
            shown = ", ".join(self.names[:_SHOWN]) + ", …" * (len(self.names) > _SHOWN)
            self.headless = (
                f"the first line of {self.path} looks like a row ({shown}), and it has to name the columns: write a "
                "line with their names above it"
            )
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice and self.headless:
            raise CommandError(self.headless)
        if twice:
            raise CommandError(f"{self.path} has the column {', '.join(map(repr, sorted(twice)))} twice")

    def _undecoded(self, done: int, cause: UnicodeDecodeError) -> CommandError:
        if cause.object[:2] == _GZIP:
            return CommandError(f"{self.path} is packed: name it {self.path.name}.gz")
        return CommandError(
            f"{self.path} cannot be read after row {done}: {cause}. Name how it is written: --encoding utf-8, cp1252, "
            "latin-1 or utf-16"
        )

    def _rows(self, file: IO[bytes]) -> Iterator[Row]:
        if self.kind == ".csv":
            with self._text(file) as text:
                yield from self._csv_rows(text)
        elif self.kind == ".parquet":
            yield from self._parquet_rows(file)
        else:
            for number, raw in enumerate(json_values(self.path, self._plain(file)), 1):
                try:
                    yield _object.decode(raw)
                except msgspec.DecodeError as cause:
                    way = ". Each line is a row, or the file is one array of rows" if number == 1 else ""
                    raise CommandError(f"{self.path}: row {number} is not a JSON object: {cause}{way}") from cause

    def _plain(self, file: IO[bytes]) -> IO[bytes]:
        return plain(self.path, file)

    def _text(self, file: IO[bytes]) -> io.TextIOWrapper:
        return io.TextIOWrapper(self._plain(file), self.encoding, newline="")

    def _csv_rows(self, text: io.TextIOWrapper) -> Iterator[Row]:
        lines = _lines(self.path, text)
        if self._separated:
            next((line for line in lines if line.strip()), None)
        reader = csv.reader(lines, delimiter=self.delimiter or ",", skipinitialspace=self._spaced)
        names, width = self.names, len(self.names)
        next((line for line in reader if line), None)
        for cells in reader:
            if len(cells) == width:
                yield dict(zip(names, cells, strict=True))
            elif cells:
                raise CommandError(
                    f"{self.path}: line {reader.line_num} has another number of values ({len(cells)}) than there are "
                    f"columns ({width}); columns are separated by {self.delimiter!r}: if that is wrong, --delimiter"
                )

    def _parquet_rows(self, file: IO[bytes]) -> Iterator[Row]:
        try:
            from pyarrow import ArrowException, BufferReader, parquet  # noqa: PLC0415  an optional extra
        except ImportError:
            raise CommandError(f"Parquet needs pyarrow: {install('parquet')}") from None
        source = BufferReader(self._plain(file).read()) if self.path.suffix == ".gz" else file
        try:
            for batch in parquet.ParquetFile(source).iter_batches(use_threads=False):  # see Archive._table
                yield from map(_objects, _in_microseconds(batch).to_pylist())
        except (ArrowException, ValueError) as cause:
            raise CommandError(f"{self.path} cannot be read: {cause}") from cause


def _first_two(lines: list[str], delimiter: str) -> tuple[list[str], list[str]]:
    """The first two rows of a CSV; a name in quotes may hold anything, ends of lines too."""
    rows = (row for row in csv.reader(iter(lines), delimiter=delimiter) if row)
    return next(rows, []), next(rows, [])


def _width(lines: list[str], delimiter: str) -> tuple[bool, int]:
    """How well a delimiter fits: whether the first two rows have as many cells, and how many names there are."""
    try:
        names, cells = _first_two(lines, delimiter)
    except csv.Error:
        return False, 0
    return len(names) > 1 and len(names) == len(cells), len(names)


def _in_microseconds(batch: Any) -> Any:
    """Moments and durations by nanosecond, which Python has none of, without their last three digits."""
    schema = batch.schema
    for place, field in enumerate(schema):
        if "[ns" in str(field.type):
            schema = schema.set(place, field.with_type(_coarser(field.type)))
    return batch if schema is batch.schema else batch.cast(schema, safe=False)


def _coarser(kind: Any) -> Any:
    """An Arrow type with microseconds in place of nanoseconds, at any depth."""
    import pyarrow as pa  # noqa: PLC0415  an optional extra

    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(_coarser(one.type)) for one in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _coarser(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_coarser(kind.value_type)))
    if pa.types.is_dictionary(kind):
        return _coarser(kind.value_type)
    if pa.types.is_time64(kind) or pa.types.is_duration(kind):
        return pa.time64("us") if pa.types.is_time64(kind) else pa.duration("us")
    return pa.timestamp("us", tz=kind.tz) if pa.types.is_timestamp(kind) else kind


def _objects(cell: Any) -> Any:
    """A cell or row with objects where Arrow has maps, which it gives as lists of pairs."""
    if isinstance(cell, dict):
        return {name: _objects(inner) for name, inner in cell.items()}
    if isinstance(cell, list):
        pairs = bool(cell) and all(isinstance(one, tuple) for one in cell)
        return {str(name): _objects(inner) for name, inner in cell} if pairs else [_objects(one) for one in cell]
    return cell


def are_data(names: list[str], cells: list[str]) -> bool:
    """Tell whether a first line looks like a row: it has a number wherever the line below has one.

    Names such as 0, 1, 2 and years in order are names, and a line with nothing below it is one of names.

    >>> are_data(["5.1", "3.5", "a"], ["4.9", "3.0", "b"]), are_data(["39", "x", "0", "0"], ["50", "y", "0", "13"])
    (True, True)
    >>> are_data(["x", "2019", "2020"], ["1", "2", "3"]), are_data(["n", "0", "1", "2"], ["", "2", "2", "3"])
    (False, False)
    >>> are_data(["a", "2020"], ["x", "3"]), are_data(["a", "b"], ["x", "y"]), are_data(["1", "7"], [])
    (False, False, False)
    """
    there = [name for name, cell in zip(names, cells, strict=False) if _is_number(cell)]
    if not there or not all(map(_is_number, there)):
        return False
    if not all(name.strip().isdigit() for name in there):
        return True
    steps = {int(after) - int(before) for before, after in itertools.pairwise(there)}
    return len(steps) > 1 or min(steps, default=1) <= 0 or (len(there) == 1 and not _YEAR.fullmatch(there[0].strip()))


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def plain(path: Path, file: IO[bytes]) -> IO[bytes]:
    """The bytes of an open file, unpacked when its name ends in .gz."""
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[return-value]


def is_json(path: Path) -> bool:
    """Tell whether a file's name says that it holds JSON; raises :class:`CommandError` for an unknown ending."""
    return _kind_of(path) in _JSON


def _lines(path: Path, file: IO[AnyStr]) -> Iterator[AnyStr]:
    """Lines with their ends; one without an end is not read into memory for ever."""
    number = 0
    while line := file.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST:
            raise CommandError(f"{path}: line {number} is longer than {_LONGEST:,} characters: no row is")
        yield line


def json_values(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file of JSON lines, or the elements of its one array, as they stand there."""
    lines = (line.strip(b"\r\n") for line in _lines(path, file) if line.strip())
    first = next(lines, None)
    if first is None:
        return
    first = first.removeprefix(b"\xef\xbb\xbf")
    if not first.lstrip(b" \t").startswith(b"["):
        yield first
        yield from lines
        return
    whole = bytearray(first)
    for line in lines:
        whole += b"\n" + line
        if len(whole) > _LARGEST_ARRAY:
            raise CommandError(
                f"{path} is one JSON array of over {_LARGEST_ARRAY:,} bytes: make it a line for each event"
            )
    try:
        for element in msgspec.json.decode(whole, type=list[msgspec.Raw]):
            yield bytes(element)
    except msgspec.DecodeError as cause:
        raise CommandError(f"{path} begins with [, so it is one JSON array, and as such it is wrong: {cause}") from None


def _kind_of(path: Path) -> str:
    names = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = names[-1].lower() if names else ""
    kind = ".csv" if kind in (".tsv", ".tab") else kind
    if kind not in (".csv", ".parquet", *_JSON):
        raise CommandError(f"{path}: a file ends in .csv, .tsv, .parquet, .jsonl or .json (and .gz)")
    return kind
