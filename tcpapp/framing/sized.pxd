# No types: framings of users are subclasses of these classes.
