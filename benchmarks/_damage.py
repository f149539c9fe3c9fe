"""One error for whatever goes wrong inside a reader: a damaged file breaks in places that nobody thought of."""

from __future__ import annotations

__all__ = ["reading"]

import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleError

from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, TauzeroError

#: What libraries raise over damaged content, besides `OSError`. Arrow's exceptions are among their subclasses.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    PickleError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def reading(source: Path, kind: str) -> Iterator[None]:
    """Turn errors over content into `BenchmarkFormatError`, with their cause; let all others pass.

    Parameters
    ----------
    source
        The file or folder that is read.
    kind
        Name of its format.
    """
    try:
        yield
    except InvalidGenotypeError as error:
        raise BenchmarkFormatError(f"'{source}' holds an architecture that its space does not have. {error}") from error
    except TauzeroError:
        raise
    except OSError as error:
        # Damaged numbers make libraries seek to impossible places; bzip2 reports damage without a number.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise _damaged(source, kind, error) from error
    except DAMAGE as error:
        raise _damaged(source, kind, error) from error
    except Exception as error:
        if not type(error).__module__.startswith(("pyarrow", "lzma", "_lzma")):
            raise
        raise _damaged(source, kind, error) from error


def _damaged(source: Path, kind: str, error: Exception) -> BenchmarkFormatError:
    if isinstance(error, MemoryError):
        reason = "it asks for more memory than there is"
    else:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return BenchmarkFormatError(
        f"'{source}' was taken for {kind} and cannot be read ({reason}): it is damaged, or made by another program. "
        "Get the file again."
    )
