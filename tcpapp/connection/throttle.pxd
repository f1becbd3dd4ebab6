cimport cython

from tcpapp.connection.deadlines cimport Deadlines
from tcpapp.connection.dispatcher cimport Dispatcher

cdef int ALL_RELEASED, BUFFERED_CHANGED, CONNECTION_CLOSING, NOTHING, TOO_MANY_BYTES, TOO_MANY_MESSAGES


cdef class Throttle:
    cdef public bint _busy
    cdef public object _byte_rate
    cdef public object _clock
    cdef public double _cost
    cdef public Deadlines _deadlines
    cdef public Dispatcher _dispatcher
    cdef public object _least_read
    cdef public object _limits
    cdef public object _message_rate
    cdef public Py_ssize_t _messages_per_turn
    cdef public bint _new
    cdef public long long _quick_bytes
    cdef public object _read_control
    cdef public object _settler
    cdef public object _usual_read
    cdef public bint _waiting
    cdef public bint _waits_for_rate
    cdef public double budget
    cdef public Py_ssize_t dropped
    cdef public object fair_share
    cdef public Py_ssize_t free_share
    cdef public bint measures
    cdef public list pending
    cdef public long long size

    @cython.locals(count=cython.Py_ssize_t, used=cython.int)
    cpdef int receive(self, list messages, Py_ssize_t skipped, Py_ssize_t size) except -1
    cpdef int note_chunk(self, Py_ssize_t size, Py_ssize_t messages, double seconds) except -1
