cimport cython


cdef class Transfer:
    cdef public bint _has_read
    cdef public bint _is_lent
    cdef public bint _is_plain
    cdef public object _log_context
    cdef public object _log_name
    cdef public bint _queued
    cdef public bint _receiving
    cdef public Py_ssize_t _size
    cdef public object _stream
    cdef public list _tempDataBuffer
    cdef public Py_ssize_t _tempDataLen
    cdef public bint _writing
    cdef public object logstr
    cdef public object reactor


@cython.locals(data=bytes)
cpdef receive(Transfer stream, bytes data)

@cython.locals(pieces=list)
cpdef send(Transfer stream)

cpdef call_writer(Transfer stream)
