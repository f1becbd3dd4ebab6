cdef class WaitingBytes:
    cdef public object data
    cdef public Py_ssize_t given
    cdef public Py_ssize_t messages
    cdef public object shared
    cdef public object stream
    cdef public object waiter
