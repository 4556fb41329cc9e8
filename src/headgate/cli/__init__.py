"""The command line: ``headgate serve | worker | submit | runs | check | …``. Needs the extra ``[server]``."""
