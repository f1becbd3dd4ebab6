"""
Fuzzing: each reader of bytes gets random bytes, and its promises are checked.

::

    targets        the functions that get the bytes, with the checks that must hold for any bytes
    corpora/       a few inputs of each target, made by hand from the protocols' documents, and inputs that broke one
    dictionaries/  the words of each protocol
    __main__       ``make fuzz``: each target for some time, under atheris
    RECORD.md      what was run, and what was found
"""
