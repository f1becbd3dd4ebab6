cimport cython

from tcpapp.connection.dispatcher cimport Dispatcher
from tcpapp.connection.inbox cimport Inbox
from tcpapp.connection.outbox cimport Outbox
from tcpapp.connection.throttle cimport Throttle

cdef int BODY_CAME, MEMORY_SHORT, NOTHING


cdef class BufferedBytes:
    cdef public object _budget
    cdef public Dispatcher _dispatcher
    cdef public bint _ended
    cdef public Inbox _inbox
    cdef public Outbox _outbox
    cdef public object _read_control
    cdef public object _settler
    cdef public Throttle _throttle
    cdef public object bodies
    cdef public object framing
    cdef public long long reported
    cdef public object rewind

    cpdef int note_chunk(self) except -1
    @cython.locals(held_bytes=cython.longlong)
    cpdef update(self)
