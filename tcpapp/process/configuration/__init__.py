"""
The settings of an operator: the options, their sources, and their checks.

::

    options     every option: its name, its default, what it means, what reads it; a new one is an entry
    readers     from the texts of one option to its value
    app_target  the app that --app names, imported
    sources     the options file, the environment, the command line, one above the other
    checking    from all texts to what is served
    problems    the error, with all that is wrong
    showing     the pages: --help, --show-config, --show-limits
"""
