"""What comes from other servers: options, configuration files of gunicorn, hooks."""
