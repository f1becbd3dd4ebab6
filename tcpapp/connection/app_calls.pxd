cimport cython

from tcpapp.connection.inbox cimport Inbox
from tcpapp.connection.matching cimport Matching
from tcpapp.connection.outbox cimport Outbox

cdef int HANDLING, NOTHING, NO_MORE_INPUT, RECEIVE_ONLY


cdef class AppCalls(Matching):
    cdef public object _connection
    cdef public object _handlers
    cdef public Inbox _inbox
    cdef public object _received
    cdef public object _received_all
    cdef public object _taking

    @cython.locals(outbox=Outbox, data=bytes)
    cpdef int _handle_one(self, message) except -1
    cpdef _handle_messages(self, messages)
    @cython.locals(replies=list, mark=cython.Py_ssize_t, unframed=cython.Py_ssize_t)
    cpdef _handle_each(self, messages, received)
    @cython.locals(replies=list, mark=cython.Py_ssize_t)
    cpdef _run_each(self, reply, message, source, received, Py_ssize_t unframed)
    @cython.locals(messages=cython.Py_ssize_t, data=bytes)
    cpdef _end_handling(self)
    cpdef _call_failed(self, failure)
