from tcpapp.connection.replies cimport Replies

cdef int APP_ANSWERED, APP_WAITS, AWAITING_REPLY, CONNECTION_CLOSED, CONNECTION_CLOSING, HANDLING


cdef class Answers(Replies):
    cdef public object _reply
    cdef public long long handling_bytes

    cpdef int continue_handling(self) except -1
