cimport cython

from tcpapp.connection.deadlines cimport Deadlines
from tcpapp.connection.unsent_queue cimport UnsentQueue

cdef int BUFFERED_CHANGED, HANDED_OVER, NOTHING, TOO_MUCH_UNSENT, WRITE_BLOCKED, WRITE_RESUMED


cdef class Outbox(UnsentQueue):
    cdef public list _corked
    cdef public Py_ssize_t _corked_messages
    cdef public long long _corked_size
    cdef public Deadlines _deadlines
    cdef public bint _has_socket
    cdef public bint _is_corked
    cdef public double _progress
    cdef public bint _writes_later
    cdef public bint stays_corked
    cdef public object transport

    cpdef cork(self)
    cpdef uncork(self, bytes last=*, Py_ssize_t messages=*)
    @cython.locals(size=cython.longlong)
    cpdef write(self, bytes data, Py_ssize_t messages=*)
    @cython.locals(size=cython.longlong)
    cpdef send(self, bytes data)
    cpdef _flush(self, bint at_once=*)
    cpdef _put(self, bytes data, Py_ssize_t messages, shared=*, bint at_once=*)
    @cython.locals(size=cython.Py_ssize_t, now=cython.double, deadlines=Deadlines)
    cpdef hand_over(self, bytes data, Py_ssize_t messages, bint at_once=*)
