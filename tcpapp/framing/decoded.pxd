cdef class Decoded:
    cdef public object message
    cdef public object value


cdef class Streamed(Decoded):
    cdef public object body
