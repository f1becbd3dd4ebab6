# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The loops of `loops.py` over single messages, in C. They stop at the same frames, and do not look for runs: a frame of
any length costs the same here.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Callable

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

__all__ = [
    "Pack",
    "Unpack",
    "cut_counted",
    "cut_netstrings",
    "cut_varints",
    "find_in",
    "frame_counted",
    "frame_varints",
    "size_of",
    "total_length",
]

Unpack = Callable[[bytes, int], tuple[int]]
Pack = Callable[[int], bytes]
LONGEST_IN_RUN = 1024
cdef Py_ssize_t FURTHEST = PY_SSIZE_T_MAX // 4


cpdef Py_ssize_t find_in(bytes data, bytes wanted, Py_ssize_t begin, Py_ssize_t end) except -2:
    """Where `data` has `wanted`, at the first place from `begin` up to `end`, and all of it before `end`; or -1."""
    cdef const char *at = PyBytes_AS_STRING(data)
    cdef const char *of = PyBytes_AS_STRING(wanted)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(wanted)
    cdef const char *found
    cdef Py_ssize_t last
    if end > PyBytes_GET_SIZE(data):
        end = PyBytes_GET_SIZE(data)
    last = end - length
    if not length:
        return begin if begin <= end else -1
    while begin <= last:
        found = <const char *> memchr(at + begin, of[0], last - begin + 1)
        if found is NULL:
            return -1
        begin = found - at
        if memcmp(found, of, length) == 0:
            return begin
        begin += 1
    return -1


cpdef Py_ssize_t size_of(number) except? -1:
    """`number`, or a number beyond all sizes on the same side of 0."""
    cdef int beyond = 0
    cdef long long size = PyLong_AsLongLongAndOverflow(number, &beyond)
    if beyond > 0 or size > FURTHEST:
        return FURTHEST
    return -FURTHEST if beyond < 0 or size < -FURTHEST else size


cpdef Py_ssize_t total_length(list messages) except -2:
    """The number of bytes that `messages` have together; -1 if one of them has no length."""
    cdef Py_ssize_t size = 0
    for message in messages:
        if PyBytes_CheckExact(message):
            size += PyBytes_GET_SIZE(message)
            continue
        try:
            size += len(message)
        except TypeError:
            return -1
    return size


cdef Py_ssize_t _bounded(number, Py_ssize_t bound) except -1:
    """`number`, which can be of any length, or `bound` if that is less."""
    cdef object least = bound
    return number if number < least else bound


# A length of fixed width ---------------------------------------------------------------------------------------------


def cut_counted(bytes chunk, begin, int width, most, unpack, pack, alike, list messages):
    """Cut frames as the function of `loops.py` does. No run is looked for: the second number is -1."""
    cdef const unsigned char *at = <const unsigned char *> PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    cdef Py_ssize_t longest = _bounded(most, size)
    cdef Py_ssize_t start = _bounded(begin, size)
    cdef Py_ssize_t length
    cdef bint big
    if start == size:
        return begin, -1
    if width != 1 and width != 2 and width != 4:
        return _cut_by_unpacking(chunk, start, width, longest, unpack, messages), -1
    big = pack(1)[0] == 0 if width > 1 else True
    while start + width <= size:
        if width == 4:
            if big:
                length = (<Py_ssize_t> at[start] << 24) | (at[start + 1] << 16) | (at[start + 2] << 8) | at[start + 3]
            else:
                length = (<Py_ssize_t> at[start + 3] << 24) | (at[start + 2] << 16) | (at[start + 1] << 8) | at[start]
        elif width == 2:
            length = (at[start] << 8) | at[start + 1] if big else (at[start + 1] << 8) | at[start]
        else:
            length = at[start]
        if length > longest or length > size - width - start:
            break
        messages.append(PyBytes_FromStringAndSize(<const char *> at + start + width, length))
        start += width + length
    return start, -1


cdef Py_ssize_t _cut_by_unpacking(
    bytes chunk, Py_ssize_t start, Py_ssize_t width, Py_ssize_t longest, unpack, list messages
) except -1:
    """The same for the widths that are rare: the framing's own function reads a length."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    cdef Py_ssize_t length
    while start + width <= size:
        (found,) = unpack(chunk, start)
        if found > longest:
            break
        length = found
        if length > size - width - start:
            break
        messages.append(chunk[start + width:start + width + length])
        start += width + length
    return start


def frame_counted(list messages, most, pack):
    """Each of `messages` behind its length; `None` if one is not bytes, or longer than `most`."""
    cdef Py_ssize_t count = PyList_GET_SIZE(messages)
    cdef Py_ssize_t width, total, length, place
    cdef Py_ssize_t longest = _bounded(most, PY_SSIZE_T_MAX)
    cdef bytes framed, head
    cdef unsigned char *to
    cdef bint big
    if not count:
        return b""
    head = pack(1)
    width = PyBytes_GET_SIZE(head)
    total = width * count
    for place in range(count):
        message = <object> PyList_GET_ITEM(messages, place)
        if not PyBytes_CheckExact(message):
            return None
        length = PyBytes_GET_SIZE(message)
        if length > longest:
            return None
        total += length
    big = width == 1 or head[0] == 0
    framed = PyBytes_FromStringAndSize(NULL, total)
    to = <unsigned char *> PyBytes_AS_STRING(framed)
    for place in range(count):
        message = <object> PyList_GET_ITEM(messages, place)
        length = PyBytes_GET_SIZE(message)
        _write_length(to, width, length, big)
        memcpy(to + width, PyBytes_AS_STRING(message), length)
        to += width + length
    return framed


cdef inline void _write_length(unsigned char *to, Py_ssize_t width, Py_ssize_t length, bint big) noexcept:
    cdef Py_ssize_t place
    for place in range(width):
        to[width - 1 - place if big else place] = length & 0xFF
        length >>= 8


# A varint ------------------------------------------------------------------------------------------------------------


def cut_varints(bytes chunk, first, most, list messages):
    """Cut messages as the function of `loops.py` does."""
    cdef const unsigned char *at = <const unsigned char *> PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    cdef Py_ssize_t longest = _bounded(most, size)
    cdef Py_ssize_t start = _bounded(first, size)
    cdef Py_ssize_t length, begin
    if start == size:
        return first
    while start < size:
        length, begin = at[start], start + 1
        if length > 0x7F:
            if begin >= size or not 0 < at[begin] <= 0x7F:
                break
            length += (<Py_ssize_t> at[begin] << 7) - 0x80
            begin += 1
        if length > longest or length > size - begin:
            break
        messages.append(PyBytes_FromStringAndSize(<const char *> at + begin, length))
        start = begin + length
    return start


def frame_varints(list messages, most, pack):
    """Each of `messages` behind its length, as a varint; `None` if one is not bytes, or longer than `most`."""
    cdef Py_ssize_t longest = _bounded(most, PY_SSIZE_T_MAX)
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t length, place, count = PyList_GET_SIZE(messages)
    cdef bytes framed
    cdef unsigned char *to
    for place in range(count):
        message = <object> PyList_GET_ITEM(messages, place)
        if not PyBytes_CheckExact(message):
            return None
        length = PyBytes_GET_SIZE(message)
        if length > longest:
            return None
        total += length + 1
        while length > 0x7F:
            length >>= 7
            total += 1
    framed = PyBytes_FromStringAndSize(NULL, total)
    to = <unsigned char *> PyBytes_AS_STRING(framed)
    for place in range(count):
        message = <object> PyList_GET_ITEM(messages, place)
        length = PyBytes_GET_SIZE(message)
        while length > 0x7F:
            to[0] = (length & 0x7F) | 0x80
            length >>= 7
            to += 1
        to[0] = length
        to += 1
        length = PyBytes_GET_SIZE(message)
        memcpy(to, PyBytes_AS_STRING(message), length)
        to += length
    return framed


# A decimal number ----------------------------------------------------------------------------------------------------


def cut_netstrings(bytes chunk, first, most, list messages):
    """Cut netstrings of less than 1,000 bytes as the function of `loops.py` does."""
    cdef const unsigned char *at = <const unsigned char *> PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    cdef Py_ssize_t longest = _bounded(most, size)
    cdef Py_ssize_t start = _bounded(first, size)
    cdef Py_ssize_t length, begin
    if start == size:
        return first
    while start < size:
        length, begin = 0, start
        while begin < size and begin < start + 3 and 0x30 <= at[begin] <= 0x39:
            length = 10 * length + at[begin] - 0x30
            begin += 1
        if begin == start or begin >= size or at[begin] != 0x3A or (at[start] == 0x30 and begin > start + 1):
            break
        begin += 1
        if length > longest or length >= size - begin or at[begin + length] != 0x2C:
            break
        messages.append(PyBytes_FromStringAndSize(<const char *> at + begin, length))
        start = begin + length + 1
    return start
