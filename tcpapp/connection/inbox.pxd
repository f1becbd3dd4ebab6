cimport cython

cdef int NOTHING, REFUSED


cdef class Inbox:
    cdef public object _lifecycle
    cdef public object _messages
    cdef public bint _over_high_mark
    cdef public object _read_control
    cdef public object _waiters
    cdef public object codec
    cdef public bint in_use
    cdef public object limits
    cdef public Py_ssize_t lost
    cdef public Py_ssize_t older
    cdef public object refusal
    cdef public long long size
    cdef public long long taken
    cdef public bint watched

    cpdef take(self)
    @cython.locals(size=cython.Py_ssize_t)
    cpdef take_now(self)
