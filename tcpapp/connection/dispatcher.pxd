cimport cython

from tcpapp.connection.conversation cimport RunningConversation
from tcpapp.connection.streamed_replies cimport StreamedReplies

cdef int APP_IDLE, AWAITING_TURN, CONNECTION_CLOSED, CONNECTION_CLOSING, HANDLING, NOTHING, NO_MORE_INPUT
cdef int PAUSED, RECEIVE_ONLY, SWITCHING


cdef class Dispatcher(StreamedReplies):
    cdef public object _conversation
    cdef public bint _has_turn
    cdef public bint slow

    cpdef int dispatch(self, list messages) except -1
    @cython.locals(outcome=cython.int)
    cpdef int handle(self, list messages) except -1
    @cython.locals(began=cython.double)
    cpdef int continue_handling(self) except -1
    @cython.locals(outcome=cython.int, working=cython.int)
    cpdef int _queue_messages(self, list messages) except -1
    @cython.locals(talk=RunningConversation)
    cpdef take_now(self)
    cpdef cork_chunk(self, bint on)
