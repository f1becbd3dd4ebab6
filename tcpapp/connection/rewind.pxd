cdef int AWAITING_REPLY, HANDLING, RECEIVE_ONLY


cdef class Rewind:
    cdef public object _bytes
    cdef public object _count
    cdef public object _dispatcher
    cdef public object _gaps
    cdef public object _in_body
    cdef public object _inbox
    cdef public object _inside
    cdef public object _mark
    cdef public object _mark_at
    cdef public object _read_control
    cdef public object _room
    cdef public object _throttle
    cdef public object chunks
    cdef public object framing
