"""A directory for `sys.path`, not a package: see `wsgi_server.user_module`."""
