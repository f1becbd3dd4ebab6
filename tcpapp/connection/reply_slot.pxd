cdef class Slot:
    cdef public object dropped
    cdef public object failure
    cdef public object replies
    cdef public object reply
    cdef public object since
    cdef public object size
    cdef public object stream
    cdef public object weight
