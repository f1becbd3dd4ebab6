cimport cython

from tcpapp.framing.loops cimport find_in, size_of

cdef object DONE, END


cdef class MessageReader:
    cdef public object _asked
    cdef public list _box
    cdef public object _driver
    cdef public Py_ssize_t _empty
    cdef public Py_ssize_t _empty_at
    cdef public object _send
    cdef public Py_ssize_t at
    cdef public Py_ssize_t begin
    cdef public object body_end
    cdef public Py_ssize_t dropped
    cdef public Py_ssize_t enough
    cdef public object held
    cdef public object mark
    cdef public Py_ssize_t max
    cdef public object new_body
    cdef public object open_body_end
    cdef public Py_ssize_t room
    cdef public Py_ssize_t searched
    cdef public object stream
    cdef public object want
    cdef public bint whole

    @cython.locals(begin=cython.Py_ssize_t, end=cython.Py_ssize_t, buffer=bytes)
    cpdef receive(self, bytes chunk, list messages)
    @cython.locals(
        at=cython.Py_ssize_t,
        begin=cython.Py_ssize_t,
        delimiter=bytes,
        end=cython.Py_ssize_t,
        last=cython.Py_ssize_t,
        length=cython.Py_ssize_t,
        most=cython.Py_ssize_t,
        raw=cython.p_char,
        reach=cython.Py_ssize_t,
        size=cython.Py_ssize_t,
        stop=cython.Py_ssize_t,
    )
    cdef Py_ssize_t _read(self, bytes buffer, list messages) except -2
    cdef Py_ssize_t _wait(self, want, Py_ssize_t begin, Py_ssize_t at, Py_ssize_t enough, mark) except -2
    cdef Py_ssize_t _end(self, bytes buffer, Py_ssize_t begin, Py_ssize_t end, list messages) except -2
    cdef _add(self, buffer, Py_ssize_t begin, Py_ssize_t end, list messages)
    cdef _look(self, want, bytes buffer, Py_ssize_t begin, Py_ssize_t at)


@cython.locals(reader=MessageReader)
cpdef list receive(framing, bytes chunk)
