"""
What an operator may set, from where it comes, and whether it can be.

::

    options    every option: its name, its default, what it means
    sources    the options file, the environment, the command line, one above the other
    checking   from texts to what is served, with all that is wrong with them
    showing    the pages: --help, --show-config, --show-limits
"""
