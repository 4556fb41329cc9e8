"""The nouns. They import nothing but the standard library's pure parts, `clock` and `errors`."""
