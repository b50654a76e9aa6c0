"""Code that must be importable even if another module is called `wsgi`: the entry point of the command, and
`user_module`. Nothing here but `__main__` imports the package `wsgi`.
"""
