cdef class _Second:
    cdef public object bytes
    cdef public object messages


cdef class Throughput:
    cdef public dict _seconds
    cdef public object bytes
    cdef public object messages
    cdef public double until

    cpdef begin_second(self, double now)
    cpdef add(self, double until, long long messages, long long size)


cdef class MessageCounter:
    cdef public long long bytes
    cdef public long long messages
    cdef public Throughput throughput
    cdef public double until

    cpdef begin_second(self, double now)


cdef class Counters:
    cdef public object failed_sends
    cdef public object late_replies
    cdef public object received
    cdef public object sent
