"""
The settings of an operator: the options, their sources, and their checks.

::

    options     every option: its name, its default, its meaning, its reader. New here: an option is an entry
    readers     turn the texts of one option into its value
    app_target  imports the app that --app names
    sources     the options file, the environment and the command line; later ones take precedence
    checking    turns all texts into a configuration, or into all errors
    problems    the exception that lists all errors
    showing     the pages: --help, --show-config, --show-limits
"""
