"""What `import wsgi` finds in a process that serves a user's module of that name: see `wsgi_server.user_module`."""

from wsgi_server.user_module import load

load()
