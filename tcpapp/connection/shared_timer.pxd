cimport cython

cdef double ROUNDING, RUNNING


cdef class SharedTimer:
    cdef public object _call
    cdef public double _call_at
    cdef public Py_ssize_t _count
    cdef public dict _later
    cdef public list _near
    cdef public double _near_until
    cdef public Py_ssize_t _order
    cdef public Py_ssize_t _running
    cdef public list _seconds
    cdef public object clock
    cdef public object seconds

    cpdef set(self, deadlines, double at)
    cpdef unset(self, deadlines)
    @cython.locals(found=list)
    cpdef _keep(self, deadlines, double at)
    cpdef _call_by(self, double at)
    @cython.locals(near=list, found=list)
    cpdef bint _has_near(self) except -1
    cpdef _sweep(self)
    cpdef _clear(self)
