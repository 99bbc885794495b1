"""Reading NumPy's `.npz` archives that anybody may have made, in bounded memory.

`numpy.load` evaluates headers as Python, and allocates what they claim before it reads. Here only
what NumPy writes is understood, and sizes must agree with those of the file before memory is taken.
"""

import math
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from slowpoints._core.files import open_regular

LARGEST_RATIO = 1032
"""Deflate stores at most 258 bytes in 2 bits. So no honest archive unpacks to more than this many
times its size, and some, such as those of Jacobians that are all zero, come close."""

_BLOCK = 1 << 20  # bytes that are unpacked at a time
_ENCRYPTED = 0x1  # a flag of a member
_MAGIC = b"\x93NUMPY\x01\x00"  # the first format; NumPy takes another for headers above 64 KiB only
_HEADER = re.compile(
    r"\{'descr': '([<>|]([a-zA-Z])\d{1,9}(?:\[\d{0,9}[a-zA-Z]{1,2}\])?)', "  # with a date's unit
    r"'fortran_order': (True|False), "
    r"'shape': \(((?:\d+, ?)*\d*)\), \} *\n"
)
_LAST_CHARACTER = 0x10FFFF  # of Unicode


def read_npz(path: str | os.PathLike[str], kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the arrays of an archive that `kinds` names, as far as it has them.

    Nothing in the file is executed, and at most `LARGEST_RATIO` times its size is allocated.

    Args:
        path: the archive.
        kinds: the names, and for each the `dtype.kind`s that it may have, such as `"iu"`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not such an archive, or an array is of another kind.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = [(m.filename.removesuffix(".npy"), m) for m in archive.infolist()]
                members = [(name, member) for name, member in found if name in kinds]
                if len(dict(members)) < len(members):
                    raise ValueError("two arrays have the same name")
                # Members may share their bytes, and each of them would be unpacked.
                if sum(m.compress_size for _, m in members) > os.fstat(file.fileno()).st_size:
                    raise ValueError("it claims to be larger than it is")
                return {name: _read_array(archive, member, kinds[name]) for name, member in members}
        except Exception as error:  # zipfile and zlib raise errors of ten types for damaged bytes
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{os.fspath(path)!r} is not a readable .npz archive: {reason}"
            ) from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, kinds: str) -> np.ndarray:
    name = info.filename
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise ValueError(f"{name!r} is encrypted, or packed by no method that NumPy uses")
    if info.file_size > LARGEST_RATIO * info.compress_size:
        raise ValueError(f"{name!r} claims more bytes than its packed ones can hold")
    member: Any  # zipfile calls it an IO[bytes], but it has `readinto`
    with archive.open(info) as member:
        dtype, fortran_order, shape, length = _read_header(member, name, kinds)
        n_bytes = dtype.itemsize * math.prod(shape)
        if n_bytes != info.file_size - length:
            raise ValueError(f"{name!r} has shape {shape} and type {dtype}, but another size")
        content = np.empty(n_bytes, np.uint8)
        for start in range(0, n_bytes, _BLOCK):
            block = content[start : start + _BLOCK]
            if member.readinto(block) != block.size:
                raise ValueError(f"{name!r} is cut off")
        member.read(1)  # checks the sum of the bytes, also where there are none
    values: Any = content.view(dtype)
    if dtype.kind == "b" and content.max(initial=0) > 1:
        raise ValueError(f"{name!r} holds bytes that are neither True nor False")
    if dtype.kind == "U":
        characters = content.view(np.dtype("u4").newbyteorder(dtype.byteorder))
        if characters.max(initial=0) > _LAST_CHARACTER:
            raise ValueError(f"{name!r} holds characters that do not exist")
    return values.reshape(shape, order="F" if fortran_order else "C")


def _read_header(member: Any, name: str, kinds: str) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Return the type, the order, the shape, and the number of bytes before the values."""
    start = member.read(len(_MAGIC) + 2)
    header = member.read(int.from_bytes(start[-2:], "little"))
    match = _HEADER.fullmatch(header.decode("latin-1"))
    if not start.startswith(_MAGIC) or match is None:
        raise ValueError(f"{name!r} has no header that NumPy writes for an array of numbers")
    descr, _, order, sizes = match.groups()
    dtype = np.dtype(descr)
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise ValueError(f"{name!r} is of type {dtype}")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    return dtype, order == "True", shape, len(start) + len(header)
