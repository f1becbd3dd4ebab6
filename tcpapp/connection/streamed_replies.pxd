from tcpapp.connection.app_calls cimport AppCalls
from tcpapp.connection.deadlines cimport Deadlines

cdef int APP_WAITS, CONNECTION_CLOSED, HANDLING


cdef class StreamedReplies(AppCalls):
    cdef public double _budget
    cdef public Deadlines _deadlines
    cdef public object _fair_share
    cdef public dict _streams
