from tcpapp.connection.inbox cimport Inbox

cdef int APP_FAILED, BUFFERED_CHANGED, CONVERSATION_ENDED


cdef class RunningConversation:
    cdef public double _budget
    cdef public object _clock
    cdef public object _coroutine
    cdef public object _fair_share
    cdef public Inbox _inbox
    cdef public object _running
    cdef public object _seconds
    cdef public object _settler
    cdef public bint notified
    cdef public object receives
    cdef public double turn_began
    cdef public double waits_since
