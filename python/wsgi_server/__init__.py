"""What must be importable whatever else is called `wsgi`: the way in for the command, and `user_module`.

Nothing here imports the package `wsgi`, which imports from here, except `__main__`, which starts it.
"""
