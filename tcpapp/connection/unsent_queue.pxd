from tcpapp.telemetry.counters cimport MessageCounter


cdef class UnsentQueue(MessageCounter):
    cdef public list _handed
    cdef public object _lifecycle
    cdef public object _limits
    cdef public object _queue
    cdef public Py_ssize_t _sends
    cdef public object _settler
    cdef public long long _shared
    cdef public bint blocked
    cdef public long long unsent
    cdef public Py_ssize_t write_high
