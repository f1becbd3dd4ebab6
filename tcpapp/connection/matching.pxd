from tcpapp.connection.answers cimport Answers

cdef int LATE_REPLY, NOTHING, UNANSWERED


cdef class Matching(Answers):
    cdef public object _sorting
    cdef public list _unsorted
    cdef public object requests

    cpdef int handle(self, list messages) except -1
    cpdef int _sort(self, list messages) except -1
