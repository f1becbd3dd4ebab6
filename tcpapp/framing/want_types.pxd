# No types: the wants of users are subclasses of these classes.
