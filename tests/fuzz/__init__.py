"""
Fuzzing: what a stranger's bytes may do to each reader of bytes.

::

    targets        what is fed, and what has to hold whatever it is fed
    corpora/       a few inputs of each, made by hand from the protocols' documents; and all that ever broke one
    dictionaries/  the words of each protocol
    __main__       ``make fuzz``: each target for a while, under atheris
    RECORD.md      what was run, and what was found
"""
