# No types: its functions take what decoders give.
