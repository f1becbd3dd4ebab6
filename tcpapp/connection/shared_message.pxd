cdef int MEMORY_SHORT


cdef class SharedMessage:
    cdef public object _budget
    cdef public bint _gathered
    cdef public dict _waiting
    cdef public bytes data
    cdef public object message
