"""A source opened; its bytes, unpacked and hashed as they are read; and their text, line by line.

What is wrong with them is told with the words that reading a source whole uses. Imports errors and files.
"""

import codecs
import gzip
import hashlib
import io
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from frozenhead.errors import DataError
from frozenhead.files import storage_errors

GZIP = b"\x1f\x8b"

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_PIECE = 2**20
_IN_MEMORY = 64 * 2**20


@contextmanager
def opened(source: str | Path) -> Iterator[BinaryIO]:
    """A file that can be read again from its beginning; what comes once, such as a pipe, is kept for as long.

    Raises
    ------
    DataError
        It cannot be opened or read.
    StorageError
        There is no room to keep it in.
    """
    with ExitStack() as stack:
        if str(source) == "-":
            if sys.stdin is None:  # so Python says that it was closed before
                raise DataError("standard input is closed. Pass the path of a file, or pipe a table into the command.")
            yield stack.enter_context(kept(sys.stdin.buffer, source))
            return
        with file_errors(source):
            file = stack.enter_context(Path(source).open("rb"))
            again = file.seekable()
        yield file if again else stack.enter_context(kept(file, source))


@contextmanager
def kept(stream: BinaryIO, source: str | Path) -> Iterator[BinaryIO]:
    """All that a stream gives, in memory while it is little, else in a temporary file. Raises as `opened`."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        while True:
            with file_errors(source):
                data = stream.read(_PIECE)
            if not data:
                break
            with storage_errors(Path(tempfile.gettempdir()), "write into"):
                file.write(data)
        yield cast("BinaryIO", file)  # which it is, and is not declared as


@contextmanager
def file_errors(source: str | Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be opened or read into a `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file. Check the path; it is looked up from the current folder.") from error
    except PermissionError as error:
        if Path(source).is_dir():  # Windows says so of folders
            raise DataError(_folder(source)) from error
        raise DataError(f"{source}: no permission to read it. Change its mode or owner, or pass a copy.") from error
    except IsADirectoryError as error:
        raise DataError(_folder(source)) from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}. Expected the path of a readable file.") from error


def _folder(source: str | Path) -> str:
    return f"{source} is a folder. Expected a file: csv, tsv, jsonl or parquet, each also as .gz."


class Unpacked(io.RawIOBase):
    """A file from its beginning, unpacked if it is gzip.

    Parameters
    ----------
    file
        Its position is taken to its beginning, and belongs to this reader from then on.
    source
        Its name in messages.

    Attributes
    ----------
    sha256
        Of the bytes read so far, as they are stored.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        file.seek(0)
        start = file.read(len(GZIP))
        self._source, self._pushed = source, b""
        self._file = Hashed(file)
        self.sha256 = self._file.sha256
        self._packed = start == GZIP
        if start and not self._packed and source.lower().endswith(".gz"):
            raise DataError(not_gzip(source))
        self._stream: BinaryIO = gzip.GzipFile(fileobj=self._file) if self._packed else self._file  # type: ignore[assignment]

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Fill `buffer` but at the end; raise `DataError` if the gzip stream is broken."""
        size = len(buffer)
        data, self._pushed = self._pushed[:size], self._pushed[size:]
        if len(data) < size:
            with file_errors(self._source):
                try:
                    data += self._stream.read(size - len(data))
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    raise DataError(broken_gzip(self._source, error)) from error
        buffer[: len(data)] = data
        return len(data)

    def push_back(self, data: bytes) -> None:
        """Let `data`, which was read, come again."""
        self._pushed = data + self._pushed


class Hashed(io.RawIOBase):
    """A file from its beginning, hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def text_lines(
    file: BinaryIO, stream: Unpacked, source: str, *, encoding: str, any_break: bool, before: int = 0
) -> Iterator[str]:
    """The lines of what is left of a stream, with their ends as they stand.

    Parameters
    ----------
    file
        What the stream reads, so that a byte that is no text can be placed.
    any_break
        Whether a carriage return ends a line as a line feed does.
    before
        Lines of the source that were read before.

    Raises
    ------
    DataError
        A byte is not of the encoding, or NUL, or there is no such encoding.
    """
    codec = _codec(encoding, stream)
    lines = io.TextIOWrapper(io.BufferedReader(stream, _PIECE), encoding=codec, newline="" if any_break else "\n")
    try:
        for line in lines:
            if "\0" in line:
                raise DataError(holds_nul(source, before + last_line(line[: line.index("\0")])))
            before += 1 if any_break or "\r" not in line else len(_LINE_BREAK.findall(line))
            yield line
    except UnicodeDecodeError as error:
        raise DataError(_misplaced(file, source, encoding, codec)) from error
    except UnicodeError as error:
        raise DataError(f"{source} is not {encoding} ({error}). Pass its own with `--encoding`.") from error


def has_mark(encoding: str) -> bool:
    """Whether texts of this encoding may begin with a byte order mark, which is dropped."""
    return codecs.lookup(encoding).name.startswith("utf")


def check_encoding(encoding: str, source: str) -> None:
    """Refuse, with a `DataError`, an encoding that Python does not know, or that is none of text."""
    try:
        with suppress(UnicodeError):
            b"a".decode(encoding)
    except LookupError as error:
        raise DataError(
            f"{source}: there is no text encoding {encoding!r}. Pass one that Python knows: "
            "`--encoding utf-8`, `latin-1`, `cp1252`, `utf-16`, ..."
        ) from error


def undecodable(byte: int, line: int, encoding: str, source: str, start: bytes) -> str:
    """What to say of a byte that is not of the encoding; `start` is how the file begins."""
    found = f"{source}, line {line}: byte 0x{byte:02x} is not {encoding}."
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{found} The file begins with a UTF-16 byte order mark: pass `--encoding utf-16`."
    if start.startswith(b"PAR1"):
        return f"{found} The file begins as Parquet does: pass `--format parquet`."
    if codecs.lookup(encoding).name == "utf-8":
        return f"{found} Save the file as UTF-8, or pass its own encoding, often `--encoding latin-1`."
    return f"{found} Pass the encoding that the file was written in with `--encoding`."


def holds_nul(source: str, line: int) -> str:
    """What to say of a NUL byte."""
    return (
        f"{source}, line {line}: found a NUL byte. Expected text: "
        "a UTF-16 file needs `--encoding utf-16`, another was damaged and must be written again."
    )


def not_gzip(source: str) -> str:
    """What to say of a name that promises gzip."""
    return f"{source} is not gzip, though its name ends in .gz. Compress it, or rename it."


def broken_gzip(source: str, error: Exception) -> str:
    """What to say of a gzip stream that cannot be read to its end."""
    if isinstance(error, EOFError):
        return f"{source} is cut short: its gzip stream has no end. Copy or download it again."
    reason = str(error).partition(" 0x")[0]  # the two ways of unpacking word it differently
    return f"{source} is broken gzip ({reason}). Copy or download it again."


def last_line(text: str) -> int:
    """The number of the last line of a text."""
    return len(_LINE_BREAK.findall(text)) + 1


def _codec(encoding: str, stream: Unpacked) -> str:
    """The codec to read with: without a mark, UTF-16 and UTF-32 are in this machine's order, as when read whole."""
    name = codecs.lookup(encoding).name
    marks = {"utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}
    if name not in marks:
        return encoding
    start = stream.read(4) or b""
    stream.push_back(start)
    return encoding if start.startswith(marks[name]) else f"{name}-{'le' if sys.byteorder == 'little' else 'be'}"


def _misplaced(file: BinaryIO, source: str, encoding: str, codec: str) -> str:
    """What to say of the first byte that is not of the encoding, which is looked for from the beginning."""
    decoder, stream, fed = codecs.getincrementaldecoder(codec)(), Unpacked(file, source), 0
    byte = start = 0
    while True:
        piece = stream.read(_PIECE) or b""
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            byte, start = error.object[error.start], fed + len(piece) - len(error.object) + error.start
            break
        fed += len(piece)
    lenient = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec)(errors="replace"), translate=True)
    stream, line, fed = Unpacked(file, source), 1, 0
    while fed < start:
        piece = stream.read(min(_PIECE, start - fed)) or b""
        fed += len(piece)
        line += lenient.decode(piece, final=fed == start).count("\n")
    return undecodable(byte, line, encoding, source, Unpacked(file, source).read(4) or b"")
