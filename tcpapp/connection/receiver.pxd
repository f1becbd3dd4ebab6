cimport cython

from tcpapp.connection.buffered_bytes cimport BufferedBytes
from tcpapp.connection.deadlines cimport Deadlines
from tcpapp.connection.dispatcher cimport Dispatcher
from tcpapp.connection.throttle cimport Throttle
from tcpapp.telemetry.counters cimport MessageCounter

cdef int BUFFERED_CHANGED, MESSAGES_SKIPPED, NOTHING, NOT_RECEIVING


cdef class Receiver(MessageCounter):
    cdef public BufferedBytes _buffered
    cdef public bytes _chunk
    cdef public Py_ssize_t _count
    cdef public Deadlines _deadlines
    cdef public Dispatcher _dispatcher
    cdef public Throttle _throttle
    cdef public object framing
    cdef public object successor

    @cython.locals(
        dispatcher=Dispatcher, deadlines=Deadlines, throttle=Throttle, messages=list, outcome=cython.int,
        now=cython.double, worked=cython.double, unfinished=cython.bint, skipped=cython.Py_ssize_t,
        whole=cython.Py_ssize_t, count=cython.Py_ssize_t,
    )
    cpdef int receive(self, bytes data) except -1
    cpdef keep_chunk(self)
    cpdef _note_chunk(self, bint unfinished)
