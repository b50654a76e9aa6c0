"""Worker processes: a supervisor that starts and restarts them, and the life of a worker."""
