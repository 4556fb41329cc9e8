"""The rules of the house, kept by machine. `checks` judges one file at a time; the tests run it over the tree."""
