"""What is on disk: the spool of one user, and the cards neighbours publish. Does not know what should run."""
