cpdef Py_ssize_t find_in(bytes data, bytes wanted, Py_ssize_t begin, Py_ssize_t end) except -2
cpdef Py_ssize_t size_of(number) except? -1
cpdef Py_ssize_t total_length(list messages) except -2
