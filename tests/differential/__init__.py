"""Our reading of requests beside that of h11 and of llhttp (by way of httptools): docs/differential.md."""
