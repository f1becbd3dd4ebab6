cimport cython

from tcpapp.connection.outbox cimport Outbox
from tcpapp.framing.loops cimport total_length

cdef int APP_FAILED, AWAITING_REPLY, CONNECTION_CLOSING, HANDLING, RECEIVE_ONLY, SWITCHING


cdef class Replies:
    cdef public object _codec
    cdef public object _next
    cdef public Outbox _outbox
    cdef public list _replies
    cdef public object _settler
    cdef public object framing
    cdef public int pauses

    @cython.locals(messages=cython.Py_ssize_t)
    cpdef flush(self)
    @cython.locals(replies=list)
    cpdef bytes _framed(self, Py_ssize_t count)
    cpdef _end_switch(self)
