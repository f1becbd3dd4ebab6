cimport cython

cdef int HEARTBEAT, OVERDUE


cdef class Deadlines:
    cdef public double _both_silent_since
    cdef public double _first_since
    cdef public double _last_beat
    cdef public double _message_stopped
    cdef public Py_ssize_t _missed
    cdef public double _peer_silent_since
    cdef public Py_ssize_t _polls
    cdef public double _pressure_until
    cdef public bint _read_paused
    cdef public object _settler
    cdef public dict _started
    cdef public object _timer
    cdef public object _unfinished
    cdef public object _waits
    cdef public bint _was_handling
    cdef public double last_received
    cdef public double last_sent
    cdef public double opened
    cdef public bint paused_for_memory
    cdef public bint peer_spoke
    cdef public object seconds
    cdef public double stopped
    cdef public double timer_at
    cdef public bint wants_all

    cpdef start(self, str wait, double seconds, since=*)
    cpdef stop(self, str wait)
    cpdef dict own_started(self)
    @cython.locals(whole=cython.bint, unfinished=cython.bint)
    cpdef bytes_came(self, bint whole, bint unfinished)
