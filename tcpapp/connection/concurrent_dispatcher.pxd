from tcpapp.connection.dispatcher cimport Dispatcher

cdef int APP_ANSWERED, APP_WAITS, AWAITING_REPLY, BUFFERED_CHANGED, CONNECTION_CLOSED, CONNECTION_CLOSING
cdef int HANDLING, TOO_MUCH_UNSENT


cdef class ConcurrentDispatcher(Dispatcher):
    cdef public object _app
    cdef public object _failing
    cdef public object _in_order
    cdef public object _late_failures
    cdef public object _max_unsent
    cdef public object _most
    cdef public object _oldest
    cdef public object _releasing
    cdef public object _slots
    cdef public object _unanswered
    cdef public object _waiting_size

    cpdef _call_failed(self, failure)
